"""A stream is told from the store whole, in order, and at the cost of its own events alone."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from sagas.choreography import keys, store
from tests.choreography import GOOD, begin, execute, settle, types

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("shop", "brisk"),
]


def scanned(plan: Any) -> set[str]:
    """The tables that a plan reads."""
    if isinstance(plan, list):
        return set().union(*map(scanned, plan))
    if not isinstance(plan, dict):
        return set()
    own = {plan["Relation Name"]} if "Relation Name" in plan else set()
    return own.union(*map(scanned, plan.values()))


def test_a_history_costs_two_statements_one_day_and_one_opened_key(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = begin()
    settle()
    opened, unwrap = [], keys.unwrap

    def counting(stored: bytes) -> bytes:
        opened.append(stored)
        return unwrap(stored)

    monkeypatch.setattr(keys, "unwrap", counting)
    with CaptureQueriesContext(connection) as captured:
        events = store.history(stream)
    assert [one.type for one in events] == GOOD
    assert (len(captured), len(opened)) == (2, 1)
    ((plan,),) = execute(f"EXPLAIN (FORMAT JSON) {captured[1]['sql']}")
    days = {f"choreography_event_{one.time:%Y%m%d}" for one in events}
    assert scanned(json.loads(plan) if isinstance(plan, str) else plan) == days


def test_a_clock_that_goes_back_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        ahead = "(SELECT clock_timestamp() + interval '1 hour') AS clock (at)"
        patch.setattr(store, "BEGIN", store.BEGIN.replace("clock_timestamp() AS at", ahead))
        stream = begin()
    settle()
    assert types(stream) == GOOD
    times = [one.time for one in store.history(stream)]
    assert times == sorted(times)
    assert times[-1] - times[0] < timedelta(hours=1)
