"""The circuit breaker and the limits on a real Redis, and without one."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sagas import breaker, engine
from sagas import conf as configuration
from sagas.breaker import Breaker
from sagas.conf import BreakerRules, Conf, conf
from sagas.definition import CALL_TIMEOUT, USUAL, Call, Participant, Retry, SagaDefinition, SagaView, step
from sagas.remote import classify
from sagas.state import Accepted, Done, Outcome, Unknown
from stack.waiting import wait_until
from tests.engine import deliver, hasten, kinds, registered
from tests.scripted import LOST_REQUEST, Scripted

CALL = timedelta(seconds=1)
RULES = BreakerRules(failures=3, window=timedelta(seconds=60), recovery=timedelta(milliseconds=300))
FAILURES = 5
LIMITED = {"url": "http://x", "max_concurrent": 2}
PER_SECOND = 4
BURST = 40


class Insistent(SagaDefinition, register=False):
    """One step that is not given up soon."""

    type = "insistent"

    @step(retry=Retry(attempts=10))
    def only(self, saga: SagaView) -> Call:
        return Participant("shop").post("only")


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[Conf]:
    """Short times, and a participant with a limit; circuits as on the first day."""
    slow = {"max_per_second": PER_SECOND}
    places: dict[str, Any] = {"frail": {}, "small": LIMITED, "slow": slow, "both": LIMITED | slow}
    changed = replace(conf(), breaker=RULES, participants=places)
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
def test_a_circuit_that_closed_long_ago_costs_no_round_trip_again() -> None:
    fail(Breaker("frail"), 3)
    assert wait_until(lambda: Breaker("frail").admit("probe", CALL, force=False) is None, 5)
    Breaker("frail").note("probe", Done({}))

    def asks_no_more() -> bool:
        circuit = Breaker("frail")
        circuit.admit("k", CALL, force=False)
        return circuit.healthy_until > 0

    assert not asks_no_more(), "calls come in a trickle at first"
    assert wait_until(asks_no_more, 5)


@pytest.mark.usefixtures("rules")
def test_failures_that_left_the_window_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    Breaker("frail").note("k", Unknown("no answer"))
    assert breaker.inspect()["frail"]["failures"] == 1
    soon = replace(conf(), breaker=replace(RULES, window=timedelta(0)), participants={"frail": {}})
    monkeypatch.setattr(breaker, "conf", lambda: soon)
    assert breaker.inspect()["frail"]["failures"] == 0


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
def test_a_circuit_closed_by_hand_forgets_no_call_that_is_under_way() -> None:
    for ticket in ("a", "b"):
        assert Breaker("small").admit(ticket, CALL, force=False) is None
    breaker.reset("small")
    assert Breaker("small").admit("c", CALL, force=False) is not None


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


def admitted(circuit: str) -> tuple[int, float, float]:
    """How many of a burst of calls, by two workers in turn, are admitted within one second of Redis.

    And how long after the circuit closed it began and ended, by Redis' clock.
    """
    workers, redis = (Breaker(circuit), Breaker(circuit)), breaker.shared_state().client
    for _ in range(50):
        for key in redis.keys(f"{workers[0].keys['rate']}*"):
            redis.delete(key)
        closed = float(redis.hget(workers[0].keys["state"], "closed_at") or 0)
        began = redis.time()
        held = [workers[n % 2].admit(f"k{n}", CALL, force=False) for n in range(BURST)]
        ended = redis.time()
        if began[0] == ended[0]:
            assert not any(one.circuit_open for one in held if one is not None)
            since, until = (second + micro / 1e6 - closed for second, micro in (began, ended))
            return held.count(None), since, until
    raise AssertionError(f"{BURST} questions to Redis never fit into a second")


@pytest.mark.usefixtures("rules")
def test_a_limit_on_calls_a_second_holds_over_all_workers_and_for_a_second() -> None:
    assert admitted("slow")[0] == PER_SECOND
    held = Breaker("slow").admit("more", CALL, force=False)
    if held is not None:  # else a new second has begun
        assert held.wait <= timedelta(seconds=1)
    assert wait_until(lambda: Breaker("slow").admit("later", CALL, force=False) is None, 5)


def spent(circuit: str) -> int:
    """How many calls of the last few seconds count towards the limit on calls a second."""
    redis = breaker.shared_state().client
    return sum(int(redis.get(key) or 0) for key in redis.keys(f"{Breaker(circuit).keys['rate']}*"))


@pytest.mark.usefixtures("rules")
def test_calls_beyond_those_of_a_second_are_not_counted() -> None:
    admitted("slow")
    assert spent("slow") <= PER_SECOND


@pytest.mark.parametrize(("circuit", "trickles"), [("both", False), ("small", True)])
def test_a_call_held_back_by_those_under_way_takes_no_place_of_the_second(
    rules: Conf, monkeypatch: pytest.MonkeyPatch, circuit: str, trickles: bool
) -> None:
    patient = replace(rules, breaker=replace(RULES, recovery=timedelta(seconds=30)))
    monkeypatch.setattr(breaker, "conf", lambda: patient)
    worker, long = Breaker(circuit), timedelta(minutes=1)
    if trickles:
        fail(worker, 3)
        pass_by(circuit, open_until=30)
        assert worker.admit("probe", CALL, force=False) is None
        worker.note("probe", Done({}))
    for ticket in ("a", "b"):
        assert worker.admit(ticket, long, force=False) is None
    for number in range(BURST):
        assert worker.admit(f"k{number}", CALL, force=False) is not None
    assert spent(circuit) <= 2
    worker.note("a", Done({}))
    assert worker.admit("c", CALL, force=False) is None


@pytest.mark.parametrize(("circuit", "limit"), [("frail", BURST), ("slow", PER_SECOND)])
def test_behind_a_closed_circuit_calls_come_in_a_trickle_that_grows(
    rules: Conf, monkeypatch: pytest.MonkeyPatch, circuit: str, limit: int
) -> None:
    patient = replace(rules, breaker=replace(RULES, recovery=timedelta(seconds=30)))
    monkeypatch.setattr(breaker, "conf", lambda: patient)
    fail(Breaker(circuit), 3)
    pass_by(circuit, open_until=30)
    assert Breaker(circuit).admit("probe", CALL, force=False) is None
    Breaker(circuit).note("probe", Done({}))
    for later in (0, 3):
        pass_by(circuit, closed_at=later)
        count, began, ended = admitted(circuit)
        assert began >= later
        assert min(int(5 * (1 + began)), limit) <= count <= min(5 * (1 + ended), limit)
    pass_by(circuit, closed_at=27)
    assert admitted(circuit)[0] == limit


def pass_by(circuit: str, **seconds: int) -> None:
    """Let a time of a circuit lie so much further back."""
    for name, span in seconds.items():
        breaker.shared_state().client.hincrbyfloat(Breaker(circuit).keys["state"], name, -span)


def test_the_numbers_are_those_that_are_promised() -> None:
    assert conf().breaker == BreakerRules(5, window=timedelta(seconds=60), recovery=timedelta(seconds=30))
    assert timedelta(seconds=30) == CALL_TIMEOUT
    assert (USUAL.attempts, USUAL.pause(1).seconds, USUAL.pause(2).seconds) == (3, 2, 4)


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


@pytest.mark.usefixtures("rules")
def test_a_probe_that_a_limit_holds_back_takes_no_others_turn() -> None:
    circuit, long = Breaker("small"), timedelta(minutes=1)
    for ticket in ("a", "b"):
        assert circuit.admit(ticket, long, force=False) is None
    for number in range(3):
        circuit.note(f"k{number}", Unknown("no answer"))

    def at_its_limit() -> bool:
        held = circuit.admit("probe", long, force=False)
        return held is not None and not held.circuit_open

    assert wait_until(at_its_limit, 5)
    circuit.note("a", Unknown("no answer"))
    assert circuit.admit("probe", long, force=False) is None
    circuit.note("b", Unknown("no answer"))


@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize(
    "answer",
    [Accepted("callback"), classify(425, {}, b""), classify(429, {"Retry-After": "9"}, b"")],
    ids=str,
)
def test_a_participant_that_is_busy_answers(answer: Outcome) -> None:
    circuit = Breaker("frail")
    for number in range(3):
        circuit.note(f"k{number}", answer)
    assert circuit.admit("k", CALL, force=False) is None


@pytest.mark.usefixtures("rules")
def test_a_participant_that_is_out_of_service_fails() -> None:
    circuit = Breaker("frail")
    for number in range(3):
        circuit.note(f"k{number}", classify(503, {"Retry-After": "9"}, b""))
    assert circuit.admit("k", CALL, force=False) is not None


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("bells")
def test_every_failed_attempt_counts_though_they_share_a_key(scripted: Scripted) -> None:
    scripted.will("only", *[LOST_REQUEST] * FAILURES)
    with registered(Insistent):
        state = engine.start("insistent", {}).state
        for _ in range(FAILURES + 1):
            hasten(state.id)
            deliver(engine.load(state.id), 0)
    keys = scripted.keys("only")
    assert (len(keys), len({*keys})) == (FAILURES, 1)
    assert kinds(state.id)[-1] == "step_deferred"
    assert breaker.inspect()["shop"]["state"] == "open"
