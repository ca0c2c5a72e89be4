"""The commands behind the Makefile are told apart from what they hand on."""

import pytest

from stack.__main__ import parsed


def test_up_goes_to_the_background_only_if_it_is_told_to() -> None:
    assert parsed(["up", "--detach"]).detach
    assert not parsed(["up"]).detach
    assert not parsed(["demo"]).detach


def test_manage_hands_everything_on() -> None:
    words = ["events", "consume", "all", "--workers", "2"]
    assert parsed(["manage", *words]).words == words


@pytest.mark.parametrize("arguments", [[], ["upp"], ["down", "--detach"]])
def test_what_is_no_command_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(arguments)
    assert "usage" in capsys.readouterr().err
