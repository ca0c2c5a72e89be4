"""Both patterns under one load, as `manage.py compare` does it."""

import argparse
import json

from tests.benchmarks.eventful import Bench, Found, say


def compared(on: Bench, options: argparse.Namespace) -> Found:
    """Both patterns under the load of the users."""
    for process in on.everything:
        process.start()
    for process in on.everything:
        process.wait_healthy()
    output = on.folder / "compared.json"
    given = {"users": options.users, "checkouts": options.checkouts, "rate": options.rate}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    say(on.run("manage.py", "compare", *words, "--output", str(output)))
    found: Found = json.loads(output.read_text())
    return found
