"""`manage.py sagas` as an operator and a deployment use it."""

from collections.abc import Iterator
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from sagas import dispatch, engine
from sagas.definition import SagaDefinition, SagaView, registry, step
from sagas.models import SagaEvent
from sagas.state import SagaState, Status
from tests.engine import drive, registered

pytestmark = pytest.mark.django_db(transaction=True)


class Boxed(SagaDefinition, register=False):
    """A box is packed, and unpacked again."""

    type = "test_boxed"

    @step
    def pack(self, saga: SagaView) -> dict[str, int]:
        return {"box": 1}

    @pack.compensation
    def unpack(self, saga: SagaView) -> dict[str, int]:
        return {}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The definition above; nothing is rung for."""
    monkeypatch.setattr(dispatch, "ring", lambda state, due, now: None)
    with registered(Boxed):
        yield


def sagas(*arguments: object) -> str:
    """What `manage.py sagas ...` writes."""
    written = StringIO()
    call_command("sagas", *map(str, arguments), stdout=written, stderr=written)
    return written.getvalue()


def packed(count: int = 1) -> list[SagaState]:
    """Completed sagas."""
    return [drive(engine.start("test_boxed", {}).state.id) for _ in range(count)]


def test_a_dry_run_names_what_would_become_of_each_and_does_nothing() -> None:
    one, two = packed(2)
    said = sagas("compensate", "--status", "completed", "--reason", "recall", "--dry-run")
    assert said.splitlines() == [
        f"{one.id}  test_boxed completed: would be compensating: undoes, in this order unpack",
        f"{two.id}  test_boxed completed: would be compensating: undoes, in this order unpack",
        "2 changed",
    ]
    assert engine.load(one.id) == one


def test_one_saga_that_refuses_keeps_the_verb_from_no_other() -> None:
    (done,), written = packed(), StringIO()
    ids = [str(uuid4()), str(done.id)]
    with pytest.raises(CommandError, match="1 of the sagas refused compensate"):
        call_command("sagas", "compensate", *ids, reason="recall", stdout=written)
    assert f"{done.id}  test_boxed completed: is compensating\n1 refused, 1 changed" in written.getvalue()


def test_a_repeat_goes_on_with_the_same_sagas() -> None:
    (first,) = packed()
    repeat = ("compensate", "--status", "completed", "--reason", "recall", "--request-id", "r1")
    sagas(*repeat)
    (later,) = packed()
    assert sagas(*repeat).splitlines()[-1] == "1 unchanged"
    assert engine.load(later.id).status is Status.COMPLETED
    assert SagaEvent.objects.filter(saga=first.id, kind="compensate").count() == 1


def test_a_choice_that_finds_less_or_nothing_says_so() -> None:
    packed(2)
    chosen = ("--status", "completed", "--reason", "recall", "--dry-run")
    assert "these are the oldest 1; --limit takes more" in sagas("compensate", *chosen, "--limit", 1)
    said = sagas("compensate", *chosen, "--type", "test_boxes")
    assert "no code for 'test_boxes' here" in said
    assert "no saga is chosen by that" in said


def test_the_types_tell_who_paused_them_and_why() -> None:
    engine.start("test_boxed", {})
    line = next(row for row in sagas("types").splitlines() if row.startswith("test_boxed"))
    assert line.split() == ["test_boxed", "v1", "1", "no"]
    sagas("pause-type", "test_boxed", "--reason", "stocktaking")
    assert "stocktaking" in sagas("types")
    sagas("resume-type", "test_boxed", "--reason", "counted")
    assert "stocktaking" not in sagas("types")


@pytest.mark.parametrize("command", ["retry", "pause-type", "close-circuit"])
def test_nothing_is_done_without_a_reason(command: str) -> None:
    with pytest.raises(CommandError, match="--reason"):
        sagas(command, uuid4())
    with pytest.raises(CommandError, match="--reason: say why"):
        sagas(command, uuid4(), "--reason", " ")


def test_a_deployment_fails_while_a_saga_on_its_way_has_no_code() -> None:
    packed()
    running = engine.start("test_boxed", {}).state
    assert "test_boxed v1: 1 in flight\n" in sagas("versions")
    code = registry.by_key.pop(("test_boxed", 1))
    try:
        with pytest.raises(CommandError, match="no code for test_boxed version 1: deploy it beside"):
            sagas("versions")
    finally:
        registry.by_key["test_boxed", 1] = code
    drive(running.id)
    assert sagas("versions") == "every saga in flight has its code\n"


def test_the_report_tells_totals_rates_and_durations() -> None:
    one, _ = packed(2)
    engine.compensate(one.id, actor="ann", reason="no")
    drive(one.id)
    types, steps = sagas("report").split("\n\n")
    assert types.splitlines()[1].split()[:7] == ["test_boxed", "2", "50.0", "%", "50.0", "%", "0.0"]
    assert steps.splitlines()[1].split()[:6] == ["test_boxed", "pack", "2", "0", "1", "1.00"]
