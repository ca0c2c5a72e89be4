"""The circuit breaker and the limits on a real Redis, and without one."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from sagas import breaker
from sagas import conf as configuration
from sagas.breaker import Breaker
from sagas.conf import BreakerRules, Conf, conf
from sagas.state import Done, Unknown
from stack.waiting import wait_until

CALL = timedelta(seconds=1)
RULES = BreakerRules(failures=3, window=timedelta(seconds=60), recovery=timedelta(milliseconds=300))
LIMITED = {"url": "http://x", "max_concurrent": 2}


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Conf]:
    """Short times, and a participant with a limit; circuits as on the first day."""
    changed = replace(conf(), breaker=RULES, participants={"frail": {"url": "http://x"}, "small": LIMITED})
    for module in (breaker, configuration):
        monkeypatch.setattr(module, "conf", lambda: changed)
    breaker.shared_state.cache_clear()
    yield changed
    breaker.shared_state().client.flushdb()
    breaker.shared_state.cache_clear()


def fail(circuit: Breaker, times: int) -> None:
    for number in range(times):
        assert circuit.admit(f"k{number}", CALL, force=False) is None
        circuit.note(f"k{number}", Unknown("no answer"))


@pytest.mark.usefixtures("rules")
def test_it_opens_after_failures_for_every_worker_and_one_probe_closes_it() -> None:
    here, elsewhere = Breaker("frail"), Breaker("frail")
    fail(here, 3)
    held = elsewhere.admit("k", CALL, force=False)
    assert held is not None
    assert held.circuit_open
    assert held.wait <= RULES.recovery
    assert elsewhere.admit("undo", CALL, force=True) is None
    assert wait_until(lambda: elsewhere.admit("probe", CALL, force=False) is None, 5)
    assert here.admit("second", CALL, force=False) is not None, "one probe at a time"
    elsewhere.note("probe", Done({}))
    assert here.admit("third", CALL, force=False) is None
    assert breaker.inspect()["frail"]["state"] == "closed"


@pytest.mark.usefixtures("rules")
def test_a_failed_probe_opens_it_again_and_an_operator_closes_it() -> None:
    circuit = Breaker("frail")
    fail(circuit, 3)
    assert wait_until(lambda: circuit.admit("probe", CALL, force=False) is None, 5)
    circuit.note("probe", Unknown("still nothing"))
    assert circuit.admit("k", CALL, force=False) is not None
    breaker.reset("frail")
    assert Breaker("frail").admit("k", CALL, force=False) is None


@pytest.mark.usefixtures("rules")
def test_a_limit_on_concurrent_calls_holds_over_all_workers() -> None:
    one, other = Breaker("small"), Breaker("small")
    assert one.admit("a", CALL, force=False) is None
    assert other.admit("b", CALL, force=False) is None
    held = one.admit("c", CALL, force=False)
    assert held is not None
    assert not held.circuit_open
    other.note("b", Done({}))
    assert one.admit("c", CALL, force=False) is None


@pytest.mark.usefixtures("rules")
def test_without_redis_each_process_decides_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    away = breaker.SharedState("redis://127.0.0.1:1/0")
    with monkeypatch.context() as patch:
        patch.setattr(breaker, "shared_state", lambda: away)
        circuit = Breaker("frail")
        fail(circuit, 3)
        assert circuit.admit("k", CALL, force=False) is not None
        assert circuit.admit("undo", CALL, force=True) is None
        assert wait_until(lambda: circuit.admit("k", CALL, force=False) is None, 5)
