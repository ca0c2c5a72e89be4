"""A failed installation says in one or two lines what to mend."""

from pathlib import Path

import pytest

from stack import bootstrap
from stack.programs import numbers


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("OSError: [Errno 28] No space left on device", "No disk space left"),
        ("NewConnectionError: Failed to establish a new connection: [Errno 111]", "did not answer"),
        ("error: dns error: failed to lookup address information", "did not answer"),
        ("ERROR: Could not find a version that satisfies the requirement x", "did not answer"),
        ("first\nerror: wheel is broken\n\n", "failed: error: wheel is broken"),
        ("", "the installer gave no reason"),
    ],
)
def test_the_reason_of_a_failure_is_named(output: str, says: str) -> None:
    message = bootstrap.diagnose(output, "requirements.txt")
    assert says in message
    assert "requirements.txt" in message
    assert message.count("\n") <= 1


def test_the_stamp_changes_with_the_requirements(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("django==5.2.19\n")
    before = bootstrap.fingerprint([file])
    assert bootstrap.fingerprint([file]) == before
    file.write_text("django==5.2.20\n")
    assert bootstrap.fingerprint([file]) != before


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", (15, 18)),
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", (7, 0, 15)),
        ("no number", ()),
    ],
)
def test_a_programs_version_is_read_from_what_it_prints(text: str, version: tuple[int, ...]) -> None:
    assert numbers(text) == version
