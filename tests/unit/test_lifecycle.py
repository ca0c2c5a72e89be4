"""What a worker does at its start and end, without a worker."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import urllib3
from kombu.exceptions import OperationalError
from pytest_django.fixtures import Settings
from structlog.testing import capture_logs

from sagas import lifecycle, tasks
from stack.ports import free_port


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that can be listened to: one that was used keeps the processors of then."""
    monkeypatch.setattr(lifecycle, "log", structlog.get_logger())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the children's counts."""
    monkeypatch.setenv(lifecycle.FOLDER, str(tmp_path))
    return tmp_path


def use_port(settings: Settings, port: int) -> None:
    """Have workers serve their metrics there."""
    settings.SAGAS = {**settings.SAGAS, "WORKER_METRICS_PORT": port}


def test_what_an_earlier_worker_counted_is_forgotten(folder: Path) -> None:
    own, others = f"counter_{os.getpid()}.db", ("counter_1.db", "gauge_liveall_1.db")
    for name in (own, *others, "notes.txt"):
        (folder / name).touch()
    lifecycle.empty_metrics_folder()
    assert {path.name for path in folder.iterdir()} == {own, "notes.txt"}


def test_the_gauges_of_a_child_end_with_it(folder: Path) -> None:
    for name in ("counter_77.db", "gauge_liveall_77.db", "gauge_liveall_78.db"):
        (folder / name).touch()
    lifecycle.forget_process(pid=77)
    assert {path.name for path in folder.iterdir()} == {"counter_77.db", "gauge_liveall_78.db"}


def test_metrics_are_served_where_asked_for(folder: Path, settings: Settings) -> None:
    port = free_port()
    use_port(settings, port)
    server = lifecycle.serve_metrics()
    assert server is not None
    try:
        with urllib3.PoolManager(retries=False) as http:
            assert http.request("GET", f"http://127.0.0.1:{port}/metrics", timeout=5).status == 200
    finally:
        server.shutdown()
        server.server_close()


def test_no_metrics_are_served_unless_asked_for(folder: Path, settings: Settings) -> None:
    use_port(settings, 0)
    assert lifecycle.serve_metrics() is None


def test_a_worker_without_a_folder_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.delenv(lifecycle.FOLDER, raising=False)
    use_port(settings, free_port())
    with capture_logs() as logs:
        assert lifecycle.serve_metrics() is None
    assert "set PROMETHEUS_MULTIPROC_DIR" in logs[0]["event"]


def test_a_port_that_is_taken_stops_no_worker(folder: Path, settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        use_port(settings, taken.getsockname()[1])
        with capture_logs() as logs:
            assert lifecycle.serve_metrics() is None
    assert logs[0]["log_level"] == "error"


def test_a_worker_asks_for_the_scans_and_the_canary_as_it_starts() -> None:
    sent: list[str] = []
    consumer = SimpleNamespace(app=SimpleNamespace(send_task=lambda name, **_: sent.append(name)))
    lifecycle.ring_for_scans(consumer)
    assert sent == [tasks.recover.name, tasks.expire.name, tasks.canary.name]


def test_a_worker_starts_without_a_broker_to_ask() -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OperationalError("nobody there")

    with capture_logs() as logs:
        lifecycle.ring_for_scans(SimpleNamespace(app=SimpleNamespace(send_task=refuse)))
    assert logs[0]["log_level"] == "warning"
