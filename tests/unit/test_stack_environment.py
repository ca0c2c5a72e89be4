"""What the processes of a stack are told."""

from pathlib import Path

import pytest

from stack.config import Config
from stack.up import environment_of


@pytest.mark.parametrize(
    ("given", "hosts"), [({}, {"localhost"}), ({"DJANGO_ALLOWED_HOSTS": "a.example,b"}, {"a.example", "b"})]
)
def test_the_stack_reaches_its_api_whatever_other_names_that_has(
    tmp_path: Path, given: dict[str, str], hosts: set[str]
) -> None:
    environment = environment_of(Config.parse({"DATA_DIR": str(tmp_path), **given}), {})
    assert set(environment["DJANGO_ALLOWED_HOSTS"].split(",")) == {"127.0.0.1"} | hosts


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"PORT_API": "8010"}, "http://127.0.0.1:8010"),
        ({"SAGA_CALLBACK_URL": "https://sagas.example"}, "https://sagas.example"),
    ],
)
def test_slow_participants_are_told_to_call_the_stack_back(
    tmp_path: Path, given: dict[str, str], url: str
) -> None:
    environment = environment_of(Config.parse({"DATA_DIR": str(tmp_path), **given}), {})
    assert environment["SAGA_CALLBACK_URL"] == url
