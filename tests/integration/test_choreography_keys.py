"""Clients' keys lie wrapped in the database: how that is changed, and what a wrong secret does."""

from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from pytest_django import Settings

from sagas.choreography import checks, keys, sealing, store
from sagas.choreography.conf import conf
from sagas.choreography.models import ClientKey, DeadLetter
from tests.choreography import GOOD, begin, consume, event, execute, relay_all, settle, types

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.usefixtures("shop", "brisk"),
]
OLD, NEW = "an-old-secret-of-" + "o" * 32, "a-new-secret-of-" + "n" * 32


def protect_with(settings: Settings, *secrets: str) -> None:
    settings.CHOREOGRAPHY = settings.CHOREOGRAPHY | {"KEYS": list(secrets)}


def stored_key() -> bytes:
    return bytes(ClientKey.objects.get().key or b"")


def run(*arguments: Any) -> str:
    out = StringIO()
    call_command("events", *arguments, stdout=out)
    return out.getvalue()


def test_what_is_stored_opens_nothing() -> None:
    stream = begin()
    sealed = execute("SELECT sealed FROM choreography_event")[0][0].encode()
    with pytest.raises(ValueError, match="Fernet key"):
        Fernet(stored_key())
    assert b"123" in Fernet(keys.unwrap(stored_key())).decrypt(sealed)
    assert event(stream, "CheckoutInitiated").data["client_id"] == 123


def test_the_secret_is_changed_while_everything_goes_on(settings: Settings) -> None:
    protect_with(settings, OLD)
    stream = begin()
    protect_with(settings, NEW, OLD)
    settle()
    assert event(stream, "OrderCreated").data["client_id"] == 123
    begin(client_id=124)  # under the new one from the start
    assert "1 keys" in run("rewrap")
    assert "0 keys" in run("rewrap")
    protect_with(settings, NEW)
    assert event(stream, "OrderCreated").data["client_id"] == 123
    settle()
    protect_with(settings, OLD)
    with pytest.raises(keys.WrongKey):
        store.history(stream)


def test_a_wrong_secret_stops_the_consumer_and_costs_no_event(settings: Settings) -> None:
    protect_with(settings, OLD)
    stream = begin()
    relay_all()
    protect_with(settings, NEW)
    for _ in range(6):  # more often than an event is delivered
        with pytest.raises(keys.WrongKey, match=r"CHOREOGRAPHY\['KEYS'\].*EVENT_KEYS=new,old"):
            consume("choreo-reservation")
    for command in (("replay", str(stream)), ("rewrap",)):
        with pytest.raises(CommandError, match="EVENT_KEYS"):
            run(*command)
    assert not DeadLetter.objects.exists()
    protect_with(settings, NEW, OLD)
    settle()
    assert types(stream) == GOOD


def test_without_a_secret_nothing_begins_and_the_check_says_why(settings: Settings) -> None:
    assert checks.keys_given() == []
    protect_with(settings)
    (found,) = checks.keys_given()
    assert "EVENT_KEYS" in str(found.hint)
    with pytest.raises(keys.WrongKey, match="EVENT_KEYS"):
        begin()
    assert not ClientKey.objects.exists()
    protect_with(settings, "guessable")
    with pytest.raises(ImproperlyConfigured, match="too short"):
        conf()


def test_keys_that_lay_open_are_wrapped_by_the_migration() -> None:
    stream = begin()
    settle()
    execute("UPDATE choreography_clientkey SET key = %s", keys.unwrap(stored_key()))
    quiet = {"verbosity": 0, "interactive": False}
    call_command("migrate", "choreography", "0002", fake=True, **quiet)
    call_command("migrate", "choreography", "0003", **quiet)
    call_command("migrate", "choreography", fake=True, **quiet)  # the later ones were there all the time
    assert sealing.readable(store.history(stream)[0], None).data["client_id"] == 123
    with pytest.raises(ValueError, match="Fernet key"):
        Fernet(stored_key())
