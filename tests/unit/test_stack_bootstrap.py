"""The environment follows requirements and Python; what fails says in one or two lines what to mend."""

import platform
from collections.abc import Sequence
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


PLAIN, DEV = ["requirements.txt"], ["requirements.txt", "requirements-dev.txt"]
HERE = f"{platform.python_implementation()} {platform.python_version()}"


class Checkout:
    """A folder with an environment whose Python says what it is told to; nothing is really installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.installed: list[str] = []
        self.made = 0
        self.fails = False
        for name in DEV:
            self.requires(name, "a==1")

    def requires(self, name: str, content: str) -> None:
        (self.root / name).write_text(content)

    def environment(self, version: str) -> None:
        """An environment that somebody made."""
        python = self.root / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(f"#!/bin/sh\necho {version}\n")
        python.chmod(0o755)

    def create(self, *_: object, **__: object) -> None:
        self.made += 1
        self.environment(HERE)

    def install(self, arguments: Sequence[str | Path], what: str) -> None:
        if self.fails:
            raise bootstrap.SetupError("cut short")
        self.installed.append(what)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """A fresh clone."""
    made = Checkout(tmp_path)
    places = {"ROOT": tmp_path, "VENV": tmp_path / ".venv", "PYTHON": tmp_path / ".venv" / "bin" / "python"}
    for name, value in {**places, "STAMP": tmp_path / ".venv" / "installed.json"}.items():
        monkeypatch.setattr(bootstrap, name, value)
    monkeypatch.setattr(bootstrap, "install", made.install)
    monkeypatch.setattr("venv.create", made.create)
    return made


def test_what_is_installed_is_not_installed_again(checkout: Checkout) -> None:
    for _ in range(2):
        bootstrap.ensure(PLAIN)
    assert (checkout.made, checkout.installed) == (1, ["requirements.txt"])


def test_the_packages_of_development_hold_those_that_run(checkout: Checkout) -> None:
    bootstrap.ensure(DEV)
    bootstrap.ensure(PLAIN)
    bootstrap.ensure(DEV)
    assert checkout.installed == ["requirements-dev.txt"]


@pytest.mark.parametrize("between", [PLAIN, DEV])
def test_going_back_to_other_requirements_installs_them_again(checkout: Checkout, between: list[str]) -> None:
    for content, names in (("a==1", DEV), ("a==2", between), ("a==1", DEV)):
        checkout.requires("requirements.txt", content)
        bootstrap.ensure(names)
    assert checkout.installed == [DEV[-1], between[-1], DEV[-1]]


def test_an_installation_that_was_cut_short_does_not_count(checkout: Checkout) -> None:
    bootstrap.ensure(PLAIN)
    checkout.requires("requirements.txt", "a==2")
    checkout.fails = True
    with pytest.raises(bootstrap.SetupError):
        bootstrap.ensure(PLAIN)
    checkout.fails = False
    checkout.requires("requirements.txt", "a==1")
    bootstrap.ensure(PLAIN)
    assert checkout.installed == ["requirements.txt"] * 2


def test_an_environment_of_another_python_is_made_again_and_said_so(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.environment("CPython 3.9.1")
    bootstrap.ensure(PLAIN)
    assert checkout.made == 1
    assert "which this project has not made: it has CPython 3.9.1" in capsys.readouterr().out


def test_an_environment_of_the_same_python_is_kept(checkout: Checkout) -> None:
    checkout.environment(HERE)
    bootstrap.ensure(PLAIN)
    assert checkout.made == 0


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
