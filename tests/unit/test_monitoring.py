"""What Prometheus, Grafana, Alertmanager and the gateway are told agrees with what the project exports."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django_prometheus.middleware import Metrics
from flower.events import get_prometheus_metrics
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry
from ruamel.yaml import YAML

from sagas import metrics
from sagas.choreography import metrics as choreography
from sagas.conf import conf
from sagas.models import STUCK_AFTER
from stack.config import PORTS

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
DASHBOARDS = sorted((CONFIG / "grafana" / "dashboards").glob("*.json"))
PROMTOOL = shutil.which("promtool")
TARGET = {"job", "instance"}
WORDS = {"by", "without", "or", "and", "unless", "on", "ignoring", "bool", "offset"}
# What docs and dashboards of others rely on: exact names and labels.
PROMISED = {
    "saga_started_total": {"type"},
    "saga_completed_total": {"type"},
    "saga_failed_total": {"type", "reason", "step"},
    "saga_compensated_total": {"type"},
    "saga_compensations_total": {"type"},
    "saga_failures_total": {"type"},
    "saga_total": {"type", "status"},
    "saga_active_count": set(),
    "saga_stuck_count": set(),
    "saga_duration_seconds_bucket": {"type", "le"},
    "saga_step_duration_seconds_bucket": {"type", "step", "le"},
    "saga_steps_total": {"type", "step", "status"},
    "external_service_call_duration_seconds_bucket": {"service", "le"},
    "events_published_total": {"topic", "type"},
    "events_consumed_total": {"topic", "type", "consumer"},
    "event_latency_seconds_bucket": {"topic", "type", "le"},
    "saga_choreo_success_total": {"source"},
    "saga_choreo_failed_total": {"source"},
    "event_replay_duration_seconds_bucket": {"le"},
}


def loaded(path: Path) -> Any:
    return YAML(typ="safe").load(path)


def exported() -> dict[str, set[str]]:
    """Every series that a process of the project exports, with its labels."""
    found: dict[str, set[str]] = {
        "up": set(),
        "ALERTS": {"alertname", "alertstate", "severity"},
        **{family.name: set() for family in ProcessCollector(registry=CollectorRegistry()).collect()},
        "process_cpu_seconds_total": set(),
    }
    holders = (
        vars(metrics),
        vars(choreography),
        vars(Metrics.get_instance()),
        vars(get_prometheus_metrics()),
    )
    for one in (value for holder in holders for value in holder.values()):
        if isinstance(one, MetricWrapperBase):
            found.update(series(one._name, one._type, set(one._labelnames)))
    for file in ("sagas/metrics.py", "sagas/api/monitoring.py"):
        found.update(database_gauges(ROOT / file))
    return found


def series(name: str, kind: str | None, labels: set[str]) -> dict[str, set[str]]:
    if kind == "counter":
        return {f"{name}_total": labels}
    if kind == "histogram":
        return {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
    return {name: labels}


def database_gauges(file: Path) -> Iterator[tuple[str, set[str]]]:
    """The gauges that are made at each scrape, as the source names them."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "GaugeMetricFamily":
            labels = [ast.literal_eval(word.value) for word in node.keywords if word.arg == "labels"]
            yield ast.literal_eval(node.args[0]), set(*labels)


def recorded() -> dict[str, set[str]]:
    """The series that recording rules make; the first part of a name says by what they are summed."""
    rules = loaded(CONFIG / "prometheus" / "rules" / "recording.yml")["groups"][0]["rules"]
    return {rule["record"]: {rule["record"].split(":")[0]} - {"saga"} for rule in rules}


KNOWN = {**exported(), **recorded()}


def rules() -> Iterator[tuple[str, str]]:
    for name in ("recording", "alerts"):
        for group in loaded(CONFIG / "prometheus" / "rules" / f"{name}.yml")["groups"]:
            for rule in group["rules"]:
                yield rule.get("alert") or rule["record"], rule["expr"]


def panels() -> Iterator[tuple[str, str, str]]:
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"], target["legendFormat"]


def wrongs(expression: str, legend: str = "") -> list[str]:
    """What in a PromQL expression, or the legend of its curves, is not as the project exports it."""
    plain = re.sub(r"\[[^]]*\]|offset \w+", "", expression)
    sums = [label for group in re.findall(r"\bby \(([^)]*)\)", plain) for label in group.split(", ")]
    plain = re.sub(r"\bby \([^)]*\)", "", plain)
    matchers = re.findall(r"([A-Za-z_:][\w:]*)?\{([^}]*)\}", plain)
    bare = re.sub(r"\{[^}]*\}", " ", plain)
    names = set(re.findall(r"[A-Za-z_:][\w:]*(?![\w:]|\s*\()", bare)) - WORDS
    found = [f"no metric {name}" for name in names - KNOWN.keys()]
    labels = {label for name in names & KNOWN.keys() for label in KNOWN[name]} | TARGET
    found += [f"no label {label} to sum by" for label in sums if label not in labels]
    found += [
        f"no label {label} for a legend"
        for label in re.findall(r"\{\{(\w+)}}", legend)
        if label not in labels
    ]
    for name, conditions in matchers:
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', conditions)):
            if label not in KNOWN.get(name, set()) | TARGET:
                found.append(f"{name} has no label {label}")
    return found


@pytest.mark.parametrize(
    ("expression", "legend", "wrong"),
    [
        ("sum by (type) (rate(saga_started_total[5m])) > 0", "{{type}}", []),
        ('max(saga_total{status=~"parked|x"}) or vector(0)', "", []),
        ("rate(saga_begun_total[5m])", "", ["no metric saga_begun_total"]),
        ("sum by (kind) (saga_total)", "", ["no label kind to sum by"]),
        ('saga_total{kind="x"}', "", ["saga_total has no label kind"]),
        ("saga_total", "{{kind}}", ["no label kind for a legend"]),
    ],
)
def test_a_wrong_query_is_seen(expression: str, legend: str, wrong: list[str]) -> None:
    assert wrongs(expression, legend) == wrong


@pytest.mark.parametrize(("name", "labels"), list(PROMISED.items()))
def test_a_promised_metric_is_exported(name: str, labels: set[str]) -> None:
    assert KNOWN[name] == labels


@pytest.mark.parametrize(("name", "expression"), list(rules()))
def test_a_rule_asks_for_what_is_exported(name: str, expression: str) -> None:
    assert not wrongs(expression)


@pytest.mark.parametrize(("name", "expression", "legend"), list(panels()))
def test_a_panel_asks_for_what_is_exported(name: str, expression: str, legend: str) -> None:
    assert not wrongs(expression, legend)


def test_no_exported_label_is_hidden_by_one_of_the_scrape() -> None:
    assert not {name: labels & TARGET for name, labels in KNOWN.items() if labels & TARGET}


def test_dashboards_can_be_told_apart_and_ask_the_provisioned_source() -> None:
    source = loaded(CONFIG / "grafana" / "provisioning" / "datasources" / "prometheus.yml")["datasources"][0]
    read = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({one["uid"] for one in read}) == len({one["title"] for one in read}) == len(read) == 9
    for one in read:
        assert len({panel["id"] for panel in one["panels"]}) == len(one["panels"])
        assert {panel["datasource"]["uid"] for panel in one["panels"]} == {source["uid"]}


def test_every_alert_says_how_bad_it_is_and_what_mends_it() -> None:
    routed = {"critical", "warning", "info"}
    for group in loaded(CONFIG / "prometheus" / "rules" / "alerts.yml")["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in routed
            assert {"summary", "mend"} <= rule["annotations"].keys()
    routes = loaded(CONFIG / "alertmanager" / "alertmanager.yml")["route"]["routes"]
    critical = next(route for route in routes if route["matchers"] == ['severity="critical"'])
    assert critical["receiver"] == "on-call"


# --- When alerts go off -------------------------------------------------------------------------------


def alerts() -> dict[str, tuple[str, str, str]]:
    """Of each alert: what must hold, for how long, and how bad that is."""
    return {
        rule["alert"]: (" ".join(rule["expr"].split()), rule.get("for", ""), rule["labels"]["severity"])
        for group in loaded(CONFIG / "prometheus" / "rules" / "alerts.yml")["groups"]
        for rule in group["rules"]
    }


def test_a_saga_is_stuck_after_5_minutes_without_a_transition() -> None:
    assert timedelta(minutes=5) == STUCK_AFTER
    assert alerts()["SagaStuck"] == ("max(saga_stuck_count) > 0", "1m", "warning")
    assert alerts()["SagaStuckForLong"] == ("max(saga_stuck_count) > 0", "15m", "critical")


def test_more_than_a_tenth_of_broken_sagas_in_5_minutes_calls_whoever_is_on_call() -> None:
    assert alerts()["SagaFailureRateHigh"] == ("saga:broken:ratio5m > 0.1", "1m", "critical")
    expressions = dict(rules())
    counted = [name for name in expressions if name.endswith("increase5m") and name.startswith("type:")]
    assert len(counted) == 3
    for name in counted:
        assert set(re.findall(r"\[(.*?)]|offset (\w+)", expressions[name])) == {("5m", ""), ("", "5m")}


def test_a_saga_that_waits_for_a_person_is_an_alert_and_one_that_cannot_be_undone_a_critical_one() -> None:
    of_status = "sum by (type) (max by (type, status) (saga_total{{status={}}})) > 0"
    assert alerts()["SagaParked"] == (of_status.format('"parked"'), "1m", "warning")
    assert alerts()["SagaCompensationFailed"] == (of_status.format('"compensation_failed"'), "", "critical")


def test_late_scans_and_a_deaf_worker_are_seen_before_a_saga_counts_as_stuck() -> None:
    for alert in ("WorkerDeaf", "ScanLate"):
        expression, lasting, severity = alerts()[alert]
        limits = {int(seconds) for seconds in re.findall(r"> (\d+)", expression)}
        assert (lasting, severity) == ("1m", "critical")
        assert max(limits) <= STUCK_AFTER.total_seconds()
        slowest = max(conf().timeout_period, conf().recovery_period).total_seconds()
        assert min(limits) >= 2 * slowest, "a scan that runs as it should must not alert"


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on the PATH")
def test_the_alerts_tell_the_scenarios_of_their_own_tests_apart() -> None:
    for words in (
        ["test", "rules", "rules.test.yml"],
        ["check", "config", "--syntax-only", "prometheus.yml"],
    ):
        ran = subprocess.run(
            [str(PROMTOOL), *words], cwd=CONFIG / "prometheus", capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


# --- Business refusals are told from faults by the reasons that the engine itself gives ---------------


def own_reasons() -> set[str]:
    """The literal reasons for which the engine gives a step up or turns a saga."""
    found: set[str] = set()
    for file in (ROOT / "sagas").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            name = getattr(node.targets[0], "id", "") if isinstance(node, ast.Assign) else ""
            if isinstance(node, ast.Assign) and name == "code":
                found |= texts(node.value)
            if isinstance(node, ast.Assign) and name == "error":
                found |= set(codes(node))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr == "failed" and len(node.args) == 5:
                    found |= texts(node.args[2])
                if node.func.attr == "turn":
                    found |= set(codes(node))
    return found


def texts(node: ast.AST) -> set[str]:
    return {
        one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)
    }


def codes(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Dict):
            for key, value in zip(one.keys, one.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "code" and isinstance(value, ast.Constant):
                    yield str(value.value)


def reasons(record: str) -> set[str]:
    expression = dict(rules())[record]
    matched = re.search(r'reason(?:=~|!~)"([^"]*)"', expression)
    assert matched
    return set(matched[1].split("|"))


def test_every_reason_of_the_engine_is_a_fault_or_a_wish_of_a_person() -> None:
    broken, not_refused = reasons("type:saga_broken:increase5m"), reasons("type:saga_refused:increase5m")
    wished = {"compensation_requested", "retry_from"}
    assert not_refused == broken | wished
    # A person who does not approve refuses as a participant does.
    assert own_reasons() - {"rejected"} == not_refused


def test_the_reasons_told_apart_are_bounded_and_keep_the_engines_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_reasons", set(metrics.OWN_REASONS))
    made_up = [f"order_{number}_is_late" for number in range(2 * metrics.MOST_REASONS)]
    labels = {metrics.reason(code) for code in made_up}
    assert len(labels) <= metrics.MOST_REASONS
    assert metrics.reason(made_up[0]) == made_up[0]
    assert metrics.reason(made_up[-1]) == metrics.reason("x" * 1000) == metrics.OTHER
    assert {metrics.reason(code) for code in own_reasons()} == own_reasons()


# --- Where to scrape, and where to send ---------------------------------------------------------------


def services() -> dict[str, Any]:
    found: dict[str, Any] = loaded(ROOT / "docker-compose.yml")["services"]
    return found


def targets(file: str) -> Iterator[str]:
    for job in loaded(CONFIG / "prometheus" / file)["scrape_configs"]:
        for group in job.get("static_configs", []):
            yield from group["targets"]
        for group in job.get("dns_sd_configs", []):
            yield from (f"{name}:{group['port']}" for name in group["names"])


def ports(names: Iterable[str]) -> set[str]:
    return {str(PORTS[name]) for name in names}


def test_every_process_of_make_up_that_counts_is_scraped() -> None:
    counting = {name for name in PORTS if name not in ("PORT_POSTGRES", "PORT_REDIS")}
    assert {target.split(":")[1] for target in targets("local.yml")} == ports(counting)


def test_every_container_that_counts_is_scraped() -> None:
    silent = {"postgres", "redis", "prepare", "tending", "beat", "prometheus", "alertmanager", "grafana"}
    scraped = [target.split(":")[0] for target in targets("prometheus.yml")]
    assert sorted(scraped) == sorted(services().keys() - silent)
    for target in targets("prometheus.yml"):
        name, port = target.split(":")
        if name.startswith("api"):
            assert name in services()[name]["environment"]["DJANGO_ALLOWED_HOSTS"]
        if name not in ("kong", "flower"):
            assert f":{port}/" in str(services()[name]["healthcheck"]["test"])


def test_both_files_scrape_every_15_seconds_and_read_the_same_rules() -> None:
    for file in ("local.yml", "prometheus.yml"):
        read = loaded(CONFIG / "prometheus" / file)
        assert read["global"]["scrape_interval"] == "15s"
        assert read["rule_files"] == ["rules/*.yml"]


def test_the_gateway_spreads_over_two_instances_and_waits_for_both() -> None:
    gateway = loaded(CONFIG / "kong" / "kong.yml")
    spread = [one["target"] for one in gateway["upstreams"][0]["targets"]]
    assert spread == ["api:8000", "api-2:8000"]
    awaited = services()["kong"]["depends_on"]
    for name in ("api", "api-2", "worker", "maintenance"):
        assert awaited[name] == {"condition": "service_healthy"}


def test_plain_compose_up_stays_lean() -> None:
    profiles = {name: service.get("profiles", []) for name, service in services().items()}
    assert {name for name, chosen in profiles.items() if chosen} == {
        *("kong", "api-2"),
        *("prometheus", "alertmanager", "grafana"),
    }
    lean = [service for name, service in services().items() if not profiles[name]]
    assert not {need for one in lean for need in one.get("depends_on", {}) if profiles[need]}
