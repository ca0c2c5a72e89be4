"""Every saga type of the retail business, at every step: done, refused, and its answer lost.

All of them run at the same time, through the API of one process, by real workers and participants.
What they leave behind is then read from all databases, and is what the completed ones say.
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from sagas.definition import registry
from tests.acceptance.client import Document
from tests.acceptance.world import Fault, World
from tests.business import CALLS, CHANGES, INPUTS, RESULTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PATIENCE = 150.0
STARTERS = 8
ATTEMPTS = 3
PIVOT = "record-movement"
PLENTY = 60


@dataclass
class Attempt:
    """One saga of a case, with what goes wrong at one of its steps (`kind`; nothing if it is empty)."""

    case: str
    step: str = ""
    kind: str = ""
    times: int | None = 1
    saga: Document = field(default_factory=dict)

    @property
    def faults(self) -> Iterator[Fault]:
        """What the participants are to be told."""
        if self.kind:
            at = (CALLS[self.case][self.step], self.step)
            yield Fault("*", self.kind, times=self.times, code="not_today", at=at)

    @property
    def status(self) -> str:
        """What the saga is to end as."""
        if not self.kind or (self.kind, self.times) == ("reset_after", 1):
            return "completed"
        if self.kind != "refuse" and self.step == PIVOT:
            return "parked"
        undoable = registry.latest(self.case.split()[0]).steps
        before = [step for step in undoable if step.undo is not None and step.name in self.done]
        return "compensated" if before else "failed"

    @property
    def done(self) -> list[str]:
        """The steps that have, or may have, an effect by the time the saga turns."""
        steps = list(CALLS[self.case])
        return steps[: steps.index(self.step) + (self.kind != "refuse")]

    def judge(self) -> None:
        """Fails unless the saga ended as it had to."""
        told = (self.case, self.step, self.kind, self.times, self.saga)
        assert self.saga["status"] == self.status, told
        steps = {step["name"]: step for step in self.saga["steps"]}
        assert set(CALLS[self.case]) <= set(steps)
        if self.status == "completed":
            assert (self.saga["error"], set(self.saga["result"])) == (None, RESULTS[self.case]), told
            tried = {name: steps[name]["attempts"] for name in CALLS[self.case]}
            assert tried == {name: 1 + (name == self.step) for name in CALLS[self.case]}, told
            return
        code = "not_today" if self.kind == "refuse" else "outcome_unknown"
        assert (self.saga["error"]["step"], self.saga["error"]["code"]) == (self.step, code), told
        assert steps[self.step]["attempts"] == (1 if self.kind == "refuse" else ATTEMPTS), told


def attempts() -> Iterator[Attempt]:
    """Every case once undisturbed, and at every step: refused, lost once, and lost every time."""
    for case, steps in CALLS.items():
        yield Attempt(case)
        for step in steps:
            yield Attempt(case, step, "refuse")
            yield Attempt(case, step, "reset_after")
            yield Attempt(case, step, "error_after", times=ATTEMPTS)


def stocked(world: World) -> dict[str, int]:
    """Fill up store 1, and sell so much there and online that every return has a sale; the ids of these."""
    goods = [{"product_id": 456, "quantity": PLENTY, "price": "29.99"}]
    delivery = {**INPUTS["replenishment_saga"], "items": [{"product_id": 456, "quantity": 200}]}
    results = []
    for saga_type, data in (
        *[("replenishment_saga", delivery)] * 2,
        ("sales_saga", INPUTS["sales_saga"] | {"items": goods}),
        ("purchase_saga", INPUTS["purchase_saga"] | {"items": goods, "amount": "1799.40"}),
    ):
        saga = world.operator.start(saga_type, data, wait=30).saga
        assert saga["status"] == "completed", saga
        results.append(saga["result"])
    return {"in store": results[-2]["transaction_id"], "online": results[-1]["sale_id"]}


def test_whatever_goes_wrong_stock_money_and_papers_add_up(world: World) -> None:
    sold = stocked(world)
    before = world.figures()

    def begin(attempt: Attempt) -> str:
        saga_type, _, paid = attempt.case.partition(" ")
        original = {"original_transaction_id": sold[paid]} if paid else {}
        return world.begin(saga_type, INPUTS[saga_type] | original, *attempt.faults)

    tried = list(attempts())
    with ThreadPoolExecutor(STARTERS) as starters:
        ids = list(starters.map(begin, tried))
    for attempt, saga in zip(tried, world.ended_all(ids, within=PATIENCE), strict=True):
        attempt.saga = saga
        attempt.judge()

    parked = [attempt.saga["id"] for attempt in tried if attempt.status == "parked"]
    for saga_id in parked:
        assert world.operator.intervene(saga_id, "retry", wait=30).saga["status"] == "completed"

    completed = Counter(a.case for a in tried if a.status in ("completed", "parked"))
    expected: Counter[str] = Counter()
    for case, count in completed.items():
        expected.update({name: change * count for name, change in CHANGES[case].items()})
    after = world.figures()
    changed = {name: after[name] - before[name] for name in before | after if after[name] != before[name]}
    assert changed == {name: change for name, change in expected.items() if change}
    assert len(parked) == 1
