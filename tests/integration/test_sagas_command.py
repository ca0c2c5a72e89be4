"""`manage.py sagas` as an operator and a deployment use it."""

from collections.abc import Callable, Iterator
from io import StringIO
from types import SimpleNamespace
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


RECALL = ("compensate", "--status", "completed", "--reason", "recall")


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, says: str, meanwhile: Callable[[], object] = bool) -> None:
    """Somebody sits there, sees what would happen, and says this; `meanwhile` happens before."""

    def readline() -> str:
        meanwhile()
        return says

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True, readline=readline))


def test_without_a_terminal_what_a_filter_finds_is_only_told_and_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("y\n"))
    (one,) = packed()
    assert sagas(*RECALL).splitlines() == [
        f"{one.id}  test_boxed completed: would be compensating: undoes, in this order unpack",
        "1 changed",
        "nothing is done yet; the same with --yes does it",
    ]
    assert engine.load(one.id) == one
    assert sagas(*RECALL, "--yes").splitlines()[0] == f"{one.id}  test_boxed completed: is compensating"


def test_at_a_terminal_just_what_was_told_of_is_done_after_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,), later = packed(), list[SagaState]()
    at_a_terminal(monkeypatch, "y\n", lambda: later.extend(packed()))
    lines = sagas(*RECALL).splitlines()
    assert "would be compensating" in lines[0]
    assert lines[2] == f"compensate 1 of these? [y/N] {one.id}  test_boxed completed: is compensating"
    assert engine.load(one.id).status is Status.COMPENSATING
    assert engine.load(later[0].id).status is Status.COMPLETED


@pytest.mark.parametrize("says", ["n\n", "\n", "", "yesterday\n"])
def test_at_a_terminal_nothing_is_done_without_a_yes(monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    (one,) = packed()
    at_a_terminal(monkeypatch, says)
    assert sagas(*RECALL).endswith("nothing is done\n")
    assert engine.load(one.id) == one


def test_nobody_is_asked_about_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine.start("test_boxed", {})
    at_a_terminal(monkeypatch, "y\n")
    said = sagas("resume", "--status", "pending", "--reason", "go on")
    assert said.splitlines()[-1] == "1 unchanged"
    assert "[y/N]" not in said


def test_sagas_that_are_named_are_seen_to_at_once() -> None:
    (one,) = packed()
    assert "is compensating" in sagas("compensate", one.id, "--reason", "recall")


def test_a_dry_run_that_tells_of_refusals_has_done_its_work() -> None:
    (one,) = packed()
    assert f"{one.id}  test_boxed completed: refused: " in sagas("retry", *RECALL[1:], "--dry-run")
    with pytest.raises(CommandError, match="1 of the sagas refused retry"):
        sagas("retry", *RECALL[1:], "--yes")


def test_one_saga_that_refuses_keeps_the_verb_from_no_other() -> None:
    (done,), written = packed(), StringIO()
    ids = [str(uuid4()), str(done.id)]
    with pytest.raises(CommandError, match="1 of the sagas refused compensate"):
        call_command("sagas", "compensate", *ids, reason="recall", stdout=written)
    assert f"{done.id}  test_boxed completed: is compensating\n1 refused, 1 changed" in written.getvalue()


def test_a_repeat_goes_on_with_the_same_sagas() -> None:
    (first,) = packed()
    repeat = ("compensate", "--status", "completed", "--reason", "recall", "--request-id", "r1", "--yes")
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
