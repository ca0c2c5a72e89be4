"""What was measured, as a table for people and as `build/bench.json`."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil
import psycopg
import redis

from tests.benchmarks.measure import CALLS, QUIET, Found, Round, Sizes

BARE = "bare-celery"
# (engine, case): what it has to reach of the bare chain's throughput, and of its median alone.
TARGETS = {
    ("chain", "completed"): (0.65, 2.0),
    ("inline", "completed"): (1.6, 1.0),
    ("inline", "compensated"): (1.8, None),
}


def percentiles(rounds: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """p50, p95 and p99 of all rounds together."""
    cuts = quantiles([value for one in rounds for value in one], n=100, method="inclusive")
    return round(cuts[49], 2), round(cuts[94], 2), round(cuts[98], 2)


def rows(found: Found, machine: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One object per engine and case."""
    return [row(engine, case, found, machine) for engine, case in found]


def row(engine: str, case: str, found: Found, machine: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one engine in one case: medians over rounds, percentiles over all sagas."""
    used = quiet(found[engine, case])
    alone = percentiles([one.lone_ms for one in used])
    steady = percentiles([one.open_loop_ms for one in used])
    bursts = [one.burst for one in used]
    cpu = {name: round(median(b.cpu_ms[name] for b in bursts), 2) for name in bursts[0].cpu_ms}
    return {
        "engine": engine,
        "case": case,
        "sagas_per_s": round(median(b.sagas_per_s for b in bursts), 1),
        **dict(zip(("p50_ms", "p95_ms", "p99_ms"), alone, strict=True)),
        **dict(zip(("open_loop_p50_ms", "open_loop_p95_ms", "open_loop_p99_ms"), steady, strict=True)),
        "cpu_ms_per_saga": {**cpu, "total": round(sum(cpu.values()), 2)},
        "statements_per_step": round(median(b.statements_per_step for b in bursts), 3),
        "statements_to_start": round(median(b.statements_to_start for b in bursts), 3),
        "connections_opened": sum(one.burst.connections for one in found[engine, case]),
        "calls_per_saga": CALLS[case],
        "rounds_used": len(used),
        "cpu_used_by_others": round(median(one.others for one in used), 3),
        **(ratios(found[engine, case], found[BARE, case]) if (BARE, case) in found else {}),
        "machine": machine,
    }


def quiet(rounds: Sequence[Round]) -> Sequence[Round]:
    """The rounds in which other processes left the machine alone; all of them if there was none."""
    return [one for one in rounds if one.others <= QUIET] or rounds


def ratios(rounds: Sequence[Round], bare: Sequence[Round]) -> dict[str, Any]:
    """This engine over the bare chain, round by round where both were quiet: median ratio and range."""
    pairs = list(zip(bare, rounds, strict=True))
    others = [max(one.others for one in pair) for pair in pairs]
    chosen = [index for index, share in enumerate(others) if share <= QUIET] or range(len(pairs))
    used = [pairs[index] for index in chosen]
    return {
        "cpu_used_by_others_in_pairs": round(median(others[index] for index in chosen), 3),
        "throughput_over_bare": spread([b.burst.sagas_per_s / a.burst.sagas_per_s for a, b in used]),
        "p50_over_bare": spread([median(b.lone_ms) / median(a.lone_ms) for a, b in used]),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {
        "median": round(median(values), 3),
        "least": round(min(values), 3),
        "greatest": round(max(values), 3),
    }


def machine(database: psycopg.Connection, redis_url: str, sizes: Sizes, *, durable: bool) -> dict[str, Any]:
    """The machine and the servers that the figures are of."""
    server = {
        name: database.execute("SELECT current_setting(%s)", [name]).fetchall()[0][0]
        for name in ("server_version", "fsync", "synchronous_commit", "full_page_writes")
    }
    with redis.Redis.from_url(redis_url) as client:
        broker: Any = client.info("server")
        appended: Any = client.config_get("appendonly")
    return {
        "cpus": os.cpu_count(),
        "cpu": processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "postgresql": server,
        "redis": {
            "version": broker.get("valkey_version", broker.get("redis_version")),
            "appendonly": appended["appendonly"],
        },
        "durable": durable,
        "sizes": {name: getattr(sizes, name) for name in Sizes.__slots__},
    }


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def write(path: Path, found: Sequence[Mapping[str, Any]]) -> None:
    """The figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")


HEAD = (
    f"{'engine':<12} {'case':<12} {'sagas/s':>8} {'alone p50':>10} {'p95':>6} {'p99':>6}"
    f" {'at 20/s p50':>12} {'p95':>6} {'p99':>6} {'CPU ms':>7} {'stmts/step':>11} {'start':>6} {'conns':>6}"
)


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Everything for people to read."""
    lines = [HEAD, "-" * len(HEAD)]
    for one in found:
        lines.append(
            f"{one['engine']:<12} {one['case']:<12} {one['sagas_per_s']:>8.1f}"
            f" {one['p50_ms']:>10.2f} {one['p95_ms']:>6.1f} {one['p99_ms']:>6.1f}"
            f" {one['open_loop_p50_ms']:>12.2f} {one['open_loop_p95_ms']:>6.1f}"
            f" {one['open_loop_p99_ms']:>6.1f}"
            f" {one['cpu_ms_per_saga']['total']:>7.2f} {one['statements_per_step']:>11.3f}"
            f" {one['statements_to_start']:>6.2f} {one['connections_opened']:>6}"
        )
    lines += ["", "CPU ms per saga by process:"]
    for one in found:
        parts = "  ".join(f"{name} {value:.2f}" for name, value in one["cpu_ms_per_saga"].items())
        lines.append(f"  {one['engine']:<12} {one['case']:<12} {parts}")
    lines += ["", "Over the bare chain, median of the rounds (least to greatest):"]
    lines += [line for one in found if one["engine"] != BARE for line in compared(one)]
    if (noisy := noise(found)) > QUIET:
        lines += [
            "",
            f"Others, or guests of the same host, used {noisy:.0%} of the CPUs: measure again when idle.",
        ]
    return "\n".join(lines)


def compared(one: Mapping[str, Any]) -> list[str]:
    """The ratios of one engine in one case, with what they have to be."""
    names = (f"{one['engine']:<12} {one['case']:<12}", f"{'':<12} {'':<12}")
    return [
        f"  {name} {what:<10} {shown(ratio)}{verdict(reached, target) if target else ''}"
        for name, (what, ratio, target, reached) in zip(names, judged(one), strict=False)
    ]


def judged(one: Mapping[str, Any]) -> list[tuple[str, Mapping[str, float], str, bool]]:
    """Each ratio of one engine in one case: name, values, target or "", and whether that is reached."""
    if "throughput_over_bare" not in one:
        return []
    least, most = TARGETS.get((one["engine"], one["case"]), (None, None))
    throughput, alone = one["throughput_over_bare"], one["p50_over_bare"]
    fast, soon = least is None or throughput["median"] >= least, most is None or alone["median"] < most
    return [
        ("throughput", throughput, "" if least is None else f"at least {least}", fast),
        ("p50 alone", alone, "" if most is None else f"under {most}", soon),
    ]


def noise(found: Sequence[Mapping[str, Any]]) -> float:
    """The share of the CPUs that others used in the rounds that count, where it was most."""
    names = ("cpu_used_by_others", "cpu_used_by_others_in_pairs")
    return max(float(one.get(name, 0)) for one in found for name in names)


def missed(found: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a target is missed on a machine that others left alone; if they did not, nothing is proved."""
    return noise(found) <= QUIET and not all(reached for one in found for *_, reached in judged(one))


def shown(ratio: Mapping[str, float]) -> str:
    """A ratio with its range."""
    return f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['greatest']:.2f})"


def verdict(reached: bool, target: str) -> str:
    """Whether a target is reached."""
    return f"   {'reached' if reached else 'MISSED'}: {target}"
