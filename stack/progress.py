"""Progress on the terminal: one line a step, with its seconds, and a spinner meanwhile."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.status import Status

console = Console(highlight=False)


@contextmanager
def doing(text: str) -> Iterator[Status]:
    """Shows that `text` goes on; a tick and the seconds follow when it is done, nothing if it fails."""
    began = time.monotonic()
    with console.status(escape(text)) as status:
        if not console.is_terminal:
            console.print(escape(f"  {text} ..."), soft_wrap=True)
        yield status
    console.print(f"[green]✓[/] {escape(text)} [dim]{time.monotonic() - began:.1f} s[/]", soft_wrap=True)


def note(text: str) -> None:
    """Prints a line."""
    console.print(escape(text), soft_wrap=True)


def complain(text: str) -> None:
    """Prints what a person has to mend."""
    console.print(f"[bold red]✗[/] {escape(text)}", soft_wrap=True)
