"""What a running stack leaves on disk about itself, so that another command finds and stops it."""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import psutil

from stack.errors import Trouble


@dataclass(frozen=True)
class Owned:
    """A process that a stack started: `created` (seconds since the epoch) tells it from a later namesake."""

    name: str
    pid: int
    created: float

    @classmethod
    def of(cls, name: str, pid: int) -> "Owned | None":
        """The process `pid` as it runs now; None if it is gone."""
        try:
            return cls(name, pid, psutil.Process(pid).create_time())
        except psutil.Error:
            return None

    def process(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


class State:
    """The file that names the supervisor, its processes, how it was started, and whether it is ready.

    Whoever starts a stack gives the variables by which others find it.
    """

    def __init__(self, folder: Path, given: Mapping[str, str] | None = None) -> None:
        self.new = dict(given or {})
        self.path = folder / "state.json"
        self.lock = folder / "lock"

    def write(self, owned: list[Owned], *, ready: bool) -> None:
        """Replaces the file in one move."""
        fresh = self.path.with_suffix(".new")
        fresh.touch(mode=0o600)  # a URL may hold a password
        given = self.new or self.given()
        content = {"ready": ready, "owned": [asdict(one) for one in owned], "given": given}
        fresh.write_text(json.dumps(content))
        fresh.replace(self.path)

    def given(self) -> dict[str, str]:
        """The variables with which the stack was started (`Config.given`); empty if none was."""
        return dict(self._read().get("given", {}))

    def owned(self) -> list[Owned]:
        """The supervisor first, then what it started; empty if nothing was started or all was stopped."""
        return [Owned(**one) for one in self._read().get("owned", [])]

    def ready(self) -> bool:
        """Whether everything was healthy and the demo has run, and whoever says so still lives."""
        owned = self.owned()
        return bool(owned and owned[0].process() and self._read().get("ready"))

    def clear(self) -> None:
        """Says that nothing runs any more."""
        self.path.unlink(missing_ok=True)

    def forget_ended(self) -> None:
        """Keeps of what was started only what still runs, for the next command to stop."""
        owned = self.owned()
        left = [one for one in owned[1:] if one.process() is not None]
        if left:
            self.write([owned[0], *left], ready=False)
        else:
            self.clear()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the place for one supervisor. Raises Trouble if another has it, or it cannot be made."""
        with self._opened() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Trouble(
                    "A stack of this folder is up already. `make demo` uses it, `make down` stops it."
                ) from None
            yield

    def _opened(self) -> TextIO:
        folder = self.lock.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return self.lock.open("a")
        except OSError as error:
            raise Trouble(
                f"Nothing can be kept in {folder.parent}: {error.strerror}. Set DATA_DIR to another place."
            ) from error

    def _read(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return content
