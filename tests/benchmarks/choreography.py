"""`python -m tests.benchmarks.choreography`: the choreography against its targets, on servers of its own.

Measures the comparison of both patterns, the API's health endpoint, the bus, and replay and rebuild in a
store of a million events; prints the numbers with their targets and writes `build/bench-choreography.json`.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from stack.config import ROOT
from tests.benchmarks.carrying import carried
from tests.benchmarks.eventful import Found, bench, say
from tests.benchmarks.health import probed
from tests.benchmarks.month import remembered
from tests.benchmarks.patterns import compared

PARTS = ["compared", "health", "bus", "store"]
OUTPUT = ROOT / "build" / "bench-choreography.json"


def verdicts(found: Found) -> Iterator[tuple[str, str, str, bool]]:
    """Each target: what, measured, target, whether it is met."""
    if both := found.get("compared"):
        choreographed, orchestrated = both["choreographed"]["p95 s"], both["orchestrated"]["p95 s"]
        yield "choreographed p95", f"{choreographed:.3f} s", "< 0.5 s", choreographed < 0.5
        yield "orchestrated p95", f"{orchestrated:.3f} s", "< 2 s", orchestrated < 2
        for pattern, least in (("choreographed", 100), ("orchestrated", 25)):
            rate = both[pattern]["ended a minute"]
            yield f"{pattern} a minute", f"{rate:.0f}", f"> {least}", rate > least
        slowest = both["choreographed"]["stock released, slowest s"]
        yield "stock released after", f"{slowest:.3f} s", "< 5 s", slowest < 5
    if health := found.get("health"):
        mean, rate, memory = health["mean ms"], health["requests/s"], health["mib an instance"]
        yield "health endpoint, mean", f"{mean} ms", "< 100 ms", mean < 100
        yield "health endpoint", f"{rate}/s", "> 1000/s", rate > 1000
        yield "memory of an API instance", f"{memory} MiB", "< 200 MiB", memory < 200
    if bus := found.get("bus"):
        rate = bus["burst events/s"]
        yield "events published and consumed", f"{rate}/s", "> 1000/s", rate > 1000
        paced = f"p50 {bus['paced p50 ms']}, p95 {bus['paced p95 ms']}, p99 {bus['paced p99 ms']} ms"
        yield "their latency", f"{paced} at {bus['paced events/s']}/s", "", True
    if store := found.get("store"):
        slowest = store["replay ms"]["p95"]
        yield f"replay in {store['events']} events, p95", f"{slowest} ms", "< 50 ms", slowest < 50
        rebuilt = store["rebuild orders-by-client s"]
        yield f"rebuild of {store['orders']} orders", f"{rebuilt} s", "< 10 s", rebuilt < 10


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.choreography", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=None)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--checkouts", type=int, default=300)
    parser.add_argument("--rate", type=float, default=10)
    parser.add_argument("--events", type=int, default=20_000, help="of the burst")
    parser.add_argument("--pace", type=int, default=1500, help="events a second")
    parser.add_argument("--seconds", type=int, default=8, help="of the steady pace")
    parser.add_argument(
        "--orders", type=int, default=100_000, help="in the store; it has ten events an order"
    )
    parser.add_argument("--replays", type=int, default=300)
    parser.add_argument("--durable", action="store_true", help="fsync and append-only file on")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    return parser.parse_args(given)


def main(given: Sequence[str]) -> int:
    """0 when every target that was measured is met."""
    options = arguments(given)
    parts = options.parts or PARTS
    found: Found = {"load before": os.getloadavg(), "durable": options.durable}
    with bench(durable=options.durable) as on, on.connect() as database:
        found["compared"] = compared(on, options) if "compared" in parts else None
        found["health"] = probed(on) if "health" in parts else None
        if "bus" in parts:
            for process in (on.relay, on.consumers):
                if process.ended():
                    process.restart()
            found["bus"] = carried(on, database, options)
        found["store"] = remembered(on, database, options) if "store" in parts else None
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=2))
    say(json.dumps({name: found[name] for name in PARTS[1:] if found.get(name)}, indent=2))
    met = True
    for what, measured, target, ok in verdicts(found):
        say(f"{what:<44}{measured:<44}{target:<12}{'' if ok else 'MISSED'}")
        met = met and ok
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
