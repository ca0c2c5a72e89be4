"""What `make bench` and its parts run."""

import subprocess
from pathlib import Path

import pytest

from stack.config import ROOT

SAGAS, CHOREOGRAPHY = "-m tests.benchmarks", "-m tests.benchmarks.choreography"


@pytest.fixture
def failing(tmp_path: Path) -> Path:
    """A Python that tells what it is to run, and fails."""
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\necho "$@"\nexit 1\n')
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["bench"], [SAGAS, CHOREOGRAPHY]),
        (["bench", "ARGS=--rounds 1"], [f"{SAGAS} --rounds 1", CHOREOGRAPHY]),
        (["bench-sagas", "ARGS=--rounds 1"], [f"{SAGAS} --rounds 1"]),
        (["bench-choreography", "ARGS=--parts bus"], [f"{CHOREOGRAPHY} --parts bus"]),
    ],
)
def test_every_part_is_run_though_another_misses_its_target(
    failing: Path, given: list[str], expected: list[str]
) -> None:
    command = ["make", "--old-file=env-dev", f"PY={failing}", *given]  # the environment is there
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode != 0, done.stdout.splitlines()) == (True, expected)
