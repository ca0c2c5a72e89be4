"""Ends throw-away servers whose owner was killed: `python -m stack.guard FOLDER PID:CREATED ...`.

The owner holds the other end of standard input; its end, however it comes, is the end of that pipe.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from stack.config import ROOT
from stack.state import Owned


@contextmanager
def guarded(folder: Path, pids: Sequence[int]) -> Iterator[None]:
    """While the block runs, the death of this process ends the processes `pids` and deletes `folder`."""
    owned = [one for one in (Owned.of("server", pid) for pid in pids) if one is not None]
    names = [f"{one.pid}:{one.created}" for one in owned]
    command = [sys.executable, "-m", "stack.guard", str(folder), *names]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, start_new_session=True):
        yield


def main(arguments: Sequence[str]) -> int:
    """Waits for the end of standard input, then ends what is left of the servers."""
    folder, *names = arguments
    sys.stdin.read()
    for name in names:
        pid, created = name.split(":")
        process = Owned("server", int(pid), float(created)).process()
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
