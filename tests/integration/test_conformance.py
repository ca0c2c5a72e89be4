"""The conformance check passes what keeps the contract and finds what does not."""

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from participants.contract.conformance import examine
from participants.contract.trials import Ask, Target, Trial
from tests.participants import CREDENTIAL
from tests.retail import assert_books_balance, change, figures
from tests.wrong import DEFECTS, serving

TRIALS = [
    Trial(
        operation="take",
        fields={"amount": 1},
        refused={"amount": 100},
        undo="give-back",
        probe=Ask(operation="count"),
    ),
    Trial(operation="count", refused={"of": "nothing"}, query=True),
]


@pytest.mark.django_db(transaction=True, databases="__all__")
@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("name", settings.PARTICIPANT_NAMES)
def test_own_participants_keep_the_contract(name: str, participants_url: str) -> None:
    before = figures()
    said = StringIO()
    call_command(
        "participants", "conformance", f"{participants_url}/{name}", credential=CREDENTIAL, stdout=said
    )
    assert "keeps the contract" in said.getvalue()
    assert change(before, figures()) == {}
    assert_books_balance()


@pytest.fixture(scope="module")
def conforming() -> Iterator[str]:
    """The URL of a small participant that does all right."""
    with serving("") as url:
        yield url


def found(url: str) -> set[str]:
    """The checks that fail at a URL."""
    return {finding.check for finding in examine(Target(url, CREDENTIAL), TRIALS)}


def test_a_small_participant_that_does_all_right(conforming: str) -> None:
    assert found(conforming) == set()


@pytest.mark.parametrize(("defect", "check"), DEFECTS.items())
def test_each_defect_is_found(defect: str, check: str) -> None:
    with serving(defect) as url:
        assert check in found(url)


def test_somebody_elses_participant_is_checked_by_trials_in_a_file(conforming: str, tmp_path: Path) -> None:
    path, said = tmp_path / "trials.json", StringIO()
    path.write_text(json.dumps([trial.model_dump(mode="json") for trial in TRIALS]))
    call_command("participants", "conformance", conforming, trials=path, credential=CREDENTIAL, stdout=said)
    assert "2 operations" in said.getvalue()


def test_a_credential_that_is_not_accepted_is_said_once(conforming: str, tmp_path: Path) -> None:
    path, said = tmp_path / "trials.json", StringIO()
    path.write_text(json.dumps([trial.model_dump(mode="json") for trial in TRIALS]))
    with pytest.raises(CommandError, match="does not accept the credential"):
        call_command("participants", "conformance", conforming, trials=path, credential="no", stdout=said)
    assert said.getvalue() == ""


def test_what_is_wrong_is_printed_and_the_command_fails(tmp_path: Path) -> None:
    path, said = tmp_path / "trials.json", StringIO()
    path.write_text(json.dumps([trial.model_dump(mode="json") for trial in TRIALS]))
    with serving("no tombstone") as url, pytest.raises(CommandError, match="breaks the contract"):
        call_command("participants", "conformance", url, trials=path, credential=CREDENTIAL, stdout=said)
    assert "take: undo first: expected the late action to be refused" in said.getvalue()


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("inventory", {}, "is no URL"),
        ("http://127.0.0.1:1/elsewhere", {}, "No trials for 'elsewhere'"),
        ("http://127.0.0.1:1/inventory", {}, "does not answer"),
        ("http://127.0.0.1:1/", {"trials": Path("/nowhere.json")}, "holds no trials"),
    ],
)
def test_what_cannot_be_checked(url: str, options: dict[str, Path], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("participants", "conformance", url, stdout=StringIO(), **options)
