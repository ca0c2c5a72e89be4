"""Each participant accepts its own credentials, and those in a file change without a restart."""

import os
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from pytest_django import Settings

from participants.contract.credentials import credentials
from tests.participants import Caller

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.urls("participants.urls"),
]
STOCK = {"store_id": 1, "product_ids": [456]}


@pytest.fixture(autouse=True)
def shop(settings: Settings) -> None:
    """The demo shop; the inventory has a credential of its own."""
    settings.MIDDLEWARE = []
    settings.PARTICIPANTS = settings.PARTICIPANTS | {
        "CREDENTIALS": ["common"],
        "OWN_CREDENTIALS": {"inventory": ["own"]},
        "CREDENTIAL_FILES": {},
    }
    call_command("seed", stdout=StringIO())


def statuses(credential: str) -> tuple[int, int]:
    """What the inventory and the catalogue answer to a caller with that credential."""
    caller = Caller(credential=credential)
    return caller.post("check-stock", STOCK).status, caller.get("product-info/456").status


def keep_in_file(settings: Settings, path: Path) -> None:
    """Let the inventory read its credentials there."""
    settings.PARTICIPANTS = settings.PARTICIPANTS | {"CREDENTIAL_FILES": {"inventory": str(path)}}


def test_a_credential_opens_its_participant_alone() -> None:
    assert statuses("own") == (200, 401)
    assert statuses("common") == (401, 200)
    assert statuses("") == (401, 401)


def test_a_key_is_told_to_its_own_participant_only() -> None:
    own, key = Caller(credential="own"), "a-key"
    own.post("reserve-stock", {"store_id": 1, "items": [{"product_id": 456, "quantity": 1}]}, key=key)
    assert own.status(key)["state"] == "completed"
    assert Caller(credential="common").status(key)["state"] == "unknown"
    assert Caller(credential="wrong").get(f"operations/{key}").status == 401


def test_a_file_is_rotated_without_a_restart(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "inventory"
    keep_in_file(settings, path)
    for text, old, new in (("# two\n\nold\nnew\n", 200, 200), ("new", 401, 200), ("", 401, 401)):
        path.write_text(text)
        assert (statuses("old")[0], statuses("new")[0]) == (old, new)
    assert statuses("own") == (401, 401)


def test_a_file_that_was_replaced_at_the_same_time_is_noticed(settings: Settings, tmp_path: Path) -> None:
    path, other = tmp_path / "inventory", tmp_path / "other"
    keep_in_file(settings, path)
    path.write_text("one")
    assert credentials("inventory") == ("one",)
    other.write_text("two")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    assert credentials("inventory") == ("two",)


def test_a_file_that_is_away_keeps_what_it_held(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "inventory"
    keep_in_file(settings, path)
    assert statuses("old")[0] == 401
    path.write_text("old")
    assert statuses("old")[0] == 200
    path.unlink()
    assert statuses("old")[0] == 200
