"""The secrets of a stack."""

from pathlib import Path

from stack.keys import FILE, NAMES, secrets_of


def test_secrets_are_drawn_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    first = secrets_of(tmp_path)
    assert set(first) == set(NAMES)
    assert len(set(first.values())) == len(NAMES)
    assert secrets_of(tmp_path) == first
    assert (tmp_path / FILE).stat().st_mode & 0o077 == 0


def test_a_secret_that_is_missing_is_drawn_beside_those_there_are(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"DJANGO_SECRET_KEY": "kept"}')
    found = secrets_of(tmp_path)
    assert set(found) == set(NAMES)
    assert found["DJANGO_SECRET_KEY"] == "kept"
    assert secrets_of(tmp_path) == found
