"""Sagas for tests of the engine, one for each shape that a definition can have; none is registered."""

from datetime import timedelta
from typing import Any

from sagas.definition import (
    Call,
    Child,
    Fallback,
    Participant,
    Retry,
    SagaDefinition,
    SagaView,
    Wait,
    approval,
    parallel,
    signal,
    sleep,
    step,
)

shop = Participant("shop")


class Chain(SagaDefinition, register=False):
    """Three steps that can be undone, then one that need not be."""

    type = "chain"

    @step
    def first(self, saga: SagaView) -> Call:
        return shop.post("first")

    @first.compensation
    def undo_first(self, saga: SagaView) -> Call:
        return shop.post("undo-first", id=saga.results.first.get("id"))

    @step
    def second(self, saga: SagaView) -> Call:
        return shop.post("second", first=saga.results.first["id"])

    @second.compensation
    def undo_second(self, saga: SagaView) -> Call:
        return shop.post("undo-second", id=saga.results.second.get("id"))

    @step
    def third(self, saga: SagaView) -> Call:
        return shop.post("third")

    @third.compensation
    def undo_third(self, saga: SagaView) -> Call:
        return shop.post("undo-third")

    @step
    def last(self, saga: SagaView) -> Call:
        return shop.post("last")

    def result(self, saga: SagaView) -> dict[str, Any]:
        return {"id": saga.results.first["id"]}


class InlineChain(Chain, register=False):
    """The same, one worker going on from step to step."""

    type = "inline_chain"
    execution = "inline"


class Group(SagaDefinition, register=False):
    """A parallel group between two steps; its join needs both results."""

    type = "group"
    pair = parallel("pair")

    @step
    def before(self, saga: SagaView) -> Call:
        return shop.post("before")

    @before.compensation
    def undo_before(self, saga: SagaView) -> Call:
        return shop.post("undo-before")

    @pair.step()
    def left(self, saga: SagaView) -> Call:
        return shop.post("left", before=saga.results.before["id"])

    @left.compensation
    def undo_left(self, saga: SagaView) -> Call:
        return shop.post("undo-left")

    @pair.step()
    def right(self, saga: SagaView) -> Call:
        return shop.post("right")

    @right.compensation
    def undo_right(self, saga: SagaView) -> Call:
        return shop.post("undo-right")

    @step
    def join(self, saga: SagaView) -> Call:
        return shop.post("join", left=saga.results.left["id"], right=saga.results.right["id"])


class InlineGroup(Group, register=False):
    """The same, one worker going on from step to step."""

    type = "inline_group"
    execution = "inline"


class Pivot(SagaDefinition, register=False):
    """A point of no return in the middle."""

    type = "pivot"

    @step
    def reserve(self, saga: SagaView) -> Call:
        return shop.post("reserve")

    @reserve.compensation
    def release(self, saga: SagaView) -> Call:
        return shop.post("release")

    @step(pivot=True)
    def pay(self, saga: SagaView) -> Call:
        return shop.post("pay")

    @step
    def ship(self, saga: SagaView) -> Call:
        return shop.post("ship")


class Signed(SagaDefinition, register=False):
    """A point of no return that is an approval, and a parallel group behind it."""

    type = "signed"
    pair = parallel("pair")

    @step
    def reserve(self, saga: SagaView) -> Call:
        return shop.post("reserve")

    @reserve.compensation
    def release(self, saga: SagaView) -> Call:
        return shop.post("release")

    @step(pivot=True)
    def sign(self, saga: SagaView) -> Wait:
        return approval("signed")

    @pair.step(retry=Retry(attempts=1))
    def letter(self, saga: SagaView) -> Call:
        return shop.post("letter")

    @pair.step()
    def parcel(self, saga: SagaView) -> Call:
        return shop.post("parcel")

    @pair.step(fallback=Fallback.SKIP)
    def thanks(self, saga: SagaView) -> Call:
        return shop.post("thanks")

    @pair.step()
    def word(self, saga: SagaView) -> Wait:
        return signal("word")


class Skipping(SagaDefinition, register=False):
    """Steps that may be left out, one with a condition, one as a fallback, and a local one."""

    type = "skipping"

    @step(fallback=Fallback.SKIP)
    def nice_to_have(self, saga: SagaView) -> Call:
        return shop.post("nice-to-have")

    @nice_to_have.compensation
    def undo_nice_to_have(self, saga: SagaView) -> Call:
        return shop.post("undo-nice-to-have")

    @step(when=lambda saga: False)
    def never(self, saga: SagaView) -> Call:
        return shop.post("never")

    @never.compensation
    def undo_never(self, saga: SagaView) -> Call:
        return shop.post("undo-never")

    @step
    def local(self, saga: SagaView) -> dict[str, int]:
        return {"answer": 42}

    @step
    def needed(self, saga: SagaView) -> Call:
        return shop.post("needed", answer=saga.results.local["answer"])

    @needed.compensation
    def undo_needed(self, saga: SagaView) -> Call:
        return shop.post("undo-needed")


class Waiting(SagaDefinition, register=False):
    """Waits for a signal, an approval, a time and a slow participant."""

    type = "waiting"
    pair = parallel("pair")

    @step
    def order(self, saga: SagaView) -> Call:
        return shop.post("order")

    @order.compensation
    def cancel_order(self, saga: SagaView) -> Call:
        return shop.post("cancel-order")

    @pair.step()
    def paid(self, saga: SagaView) -> Wait:
        return signal("paid", timedelta(days=3))

    @pair.step()
    def checked(self, saga: SagaView) -> Wait:
        return approval()

    @step
    def rest(self, saga: SagaView) -> Wait:
        return sleep(timedelta(days=1))

    @step(wait_limit=timedelta(hours=1))
    def produce(self, saga: SagaView) -> Call:
        return shop.post("produce")

    @produce.compensation
    def scrap(self, saga: SagaView) -> Call:
        return shop.post("scrap")

    @step
    def deliver(self, saga: SagaView) -> Call:
        return shop.post("deliver")


class Parent(SagaDefinition, register=False):
    """Starts a child, and has a step that is tried for as long as it takes."""

    type = "parent"

    @step
    def begin(self, saga: SagaView) -> Call:
        return shop.post("begin")

    @begin.compensation
    def undo_begin(self, saga: SagaView) -> Call:
        return shop.post("undo-begin")

    @step
    def child(self, saga: SagaView) -> Child:
        return Child("chain", {})

    @step(fallback=Fallback.RETRY_LATER)
    def patient(self, saga: SagaView) -> Call:
        return shop.post("patient")

    @patient.compensation
    def undo_patient(self, saga: SagaView) -> Call:
        return shop.post("undo-patient")


class Buyer(SagaDefinition, register=False):
    """Starts a child that has a point of no return."""

    type = "buyer"

    @step
    def buy(self, saga: SagaView) -> Child:
        return Child("pivot", {})

    @step
    def unpack(self, saga: SagaView) -> Call:
        return shop.post("unpack")


class Bare(SagaDefinition, register=False):
    """One step that can be undone."""

    type = "bare"

    @step
    def take(self, saga: SagaView) -> Call:
        return shop.post("take")

    @take.compensation
    def give_back(self, saga: SagaView) -> Call:
        return shop.post("give-back")


class Locked(SagaDefinition, register=False):
    """Shuts others of its kind out, which wait in line."""

    type = "locked"
    lock = lambda i: "order:7"  # noqa: E731  declared as an author would

    @step
    def change(self, saga: SagaView) -> Call:
        return shop.post("change")

    @change.compensation
    def change_back(self, saga: SagaView) -> Call:
        return shop.post("change-back")

    @step
    def tell(self, saga: SagaView) -> Call:
        return shop.post("tell")


class Refusing(Locked, register=False):
    """The same, but others are not accepted meanwhile."""

    type = "refusing"
    lock_conflict = "refuse"


class Family(SagaDefinition, register=False):
    """Shares its lock with the child that it starts."""

    type = "family"
    lock = lambda i: "order:7"  # noqa: E731  as above

    @step
    def member(self, saga: SagaView) -> Child:
        return Child("locked", {})

    @step
    def file(self, saga: SagaView) -> Call:
        return shop.post("file")


# What steps of the others start.
CHILDREN: tuple[type[SagaDefinition], ...] = (Chain, Pivot, Locked)
SHAPES: tuple[type[SagaDefinition], ...] = (
    Chain,
    Group,
    Pivot,
    Signed,
    Skipping,
    Waiting,
    Parent,
    Buyer,
    Locked,
    Refusing,
    Family,
)


class LocalPair(SagaDefinition, register=False):
    """Two local steps side by side and a third that joins them."""

    type = "local_pair"
    pair = parallel("pair")

    @pair.step()
    def left(self, saga: SagaView) -> int:
        return 1

    @pair.step()
    def right(self, saga: SagaView) -> int:
        return 2

    @step
    def join(self, saga: SagaView) -> int:
        return int(saga.results.left) + int(saga.results.right)
