"""A saga's Mermaid chart marks each step by how it stands, and the one that the saga is at."""

import re
from dataclasses import replace

import pytest

from sagas.definition import SagaDefinition
from sagas.graph import mermaid
from sagas.state import SagaState, Transient
from sagas.testing import given
from tests.deciding import FORBIDDEN, NO, OK, started, taken, told
from tests.definitions import Chain, Group, Skipping, Waiting

BUSY = Transient("busy")


def marked(definition: SagaDefinition, state: SagaState) -> dict[str, str]:
    """What each step is marked as in the chart; those without a mark are left out."""
    chart = mermaid(definition, state)
    nodes = dict(re.findall(r"^    (s\d+)[\[{]+\"([a-z-]+)", chart, re.MULTILINE))
    return {nodes[node]: kind for node, kind in re.findall(r"^    class (\w+) (\w+)$", chart, re.MULTILINE)}


@pytest.mark.parametrize(
    ("state", "marks"),
    [
        (started(Chain()), {"first": "current"}),
        (taken(started(Chain())), {"first": "current"}),
        (told(Chain(), OK), {"first": "done", "second": "current"}),
        (told(Chain(), OK, BUSY), {"first": "done", "second": "current"}),
        (told(Chain(), OK, FORBIDDEN), {"first": "done", "second": "failed"}),
        (told(Chain(), OK, OK, NO),
         {"first": "done", "second": "current", "third": "failed", "last": "skipped"}),
        (told(Chain(), OK, OK, NO, OK),
         {"first": "current", "second": "undone", "third": "failed", "last": "skipped"}),
        (told(Chain(), OK, OK, NO, NO),
         {"first": "done", "second": "failed", "third": "failed", "last": "skipped"}),
        (told(Chain(), OK, OK, OK, OK), dict.fromkeys(("first", "second", "third", "last"), "done")),
    ],
)  # fmt: skip
def test_the_right_steps_are_marked(state: SagaState, marks: dict[str, str]) -> None:
    assert marked(Chain(), state) == marks


def test_both_members_of_a_group_are_marked_while_they_run() -> None:
    state = taken(told(Group(), OK), 1)
    assert marked(Group(), state) == {"before": "done", "left": "current", "right": "current"}


def test_what_is_waited_for_and_what_is_left_out_is_marked() -> None:
    assert marked(Waiting(), told(Waiting(), OK))["paid"] == "current"
    skipped = given(Skipping).ends("completed").state
    assert marked(Skipping(), skipped)["never"] == "skipped"


def test_a_step_that_the_code_no_longer_has_is_not_marked() -> None:
    state = told(Chain(), OK)
    other = replace(state, steps=(replace(state.steps[0], name="zeroth"), *state.steps[1:]))
    assert marked(Chain(), other) == {"second": "current"}


def test_without_a_saga_nothing_is_marked() -> None:
    assert "class" not in mermaid(Chain())
