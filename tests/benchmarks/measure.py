"""Runs the contenders in interleaved rounds, so that a machine's drift hits all alike."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import psutil
import psycopg

from tests.benchmarks.load import burst, lone, open_loop
from tests.benchmarks.runners import Runner
from tests.benchmarks.stage import cpu_seconds
from tests.benchmarks.workload.counting import Counters

CASES = ("completed", "compensated")
CALLS = {"completed": 4, "compensated": 7}
WARM_UP = 40
SETTLE = 0.1


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is run: rounds, and sagas of each load in a round."""

    rounds: int
    burst: int
    lone: int
    open_loop: int


@dataclass(frozen=True, slots=True)
class Burst:
    """Many sagas started at once, in one round."""

    sagas_per_s: float
    cpu_ms: Mapping[str, float]
    statements_per_step: float
    statements_to_start: float
    connections: int
    others: float  # the share of all CPUs that processes beside these have used meanwhile


@dataclass(slots=True)
class Samples:
    """All that was measured of one contender in one case; every list has an entry per round."""

    bursts: list[Burst] = field(default_factory=list)
    lone_ms: list[list[float]] = field(default_factory=list)
    open_loop_ms: list[list[float]] = field(default_factory=list)


Found = dict[tuple[str, str], Samples]


def busy_seconds() -> float:
    """CPU seconds that the machine has spent on anything since it began."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)


@dataclass(frozen=True, slots=True)
class Bench:
    """What measuring needs of the stage; `database` is a connection of its own."""

    processes: Mapping[str, psutil.Process]
    database: psycopg.Connection
    counters: Counters

    def run(self, runners: Sequence[Runner], sizes: Sizes, say: Callable[[str], None]) -> Found:
        """Every runner in both cases in every round; the order turns from round to round."""
        pairs = [(runner, case) for case in CASES for runner in runners]
        found = {(runner.name, case): Samples() for runner, case in pairs}
        for runner, case in pairs:
            burst(runner, WARM_UP, refused=case == "compensated")  # connections, prepared statements, caches
        for number in range(sizes.rounds):
            at = number % len(pairs)
            for runner, case in [*pairs[at:], *pairs[:at]]:
                self.round(runner, case, sizes, found[runner.name, case])
            last = {(runner.name, case): found[runner.name, case].bursts[-1] for runner, case in pairs}
            rates = (f"{name} {case} {one.sagas_per_s:.0f}/s" for (name, case), one in last.items())
            others = median(one.others for one in last.values())
            say(f"round {number + 1} of {sizes.rounds}: {', '.join(rates)}; CPU used by others {others:.0%}")
        return found

    def round(self, runner: Runner, case: str, sizes: Sizes, into: Samples) -> None:
        """All three loads once."""
        refused = case == "compensated"
        into.bursts.append(self.burst(runner, case, sizes.burst))
        into.lone_ms.append(lone(runner, sizes.lone, refused=refused))
        into.open_loop_ms.append(open_loop(runner, sizes.open_loop, refused=refused))

    def burst(self, runner: Runner, case: str, count: int) -> Burst:
        """Throughput and what it cost."""
        me, to_start = os.getpid(), 0

        def started() -> None:
            nonlocal to_start
            to_start = self.counters.of(me) - own

        sessions, theirs = self.sessions(), self.counters.total(without=me)
        own, cpu, busy, began = self.counters.of(me), self.cpu(), busy_seconds(), time.monotonic()
        seconds = burst(runner, count, refused=case == "compensated", started=started)
        time.sleep(SETTLE)  # the worker tidies up behind the last task
        after = self.cpu()
        spent = {name: after[name] - cpu[name] for name in cpu}
        possible = (time.monotonic() - began) * (os.cpu_count() or 1)
        return Burst(
            sagas_per_s=count / seconds,
            cpu_ms={name: value * 1000 / count for name, value in spent.items()},
            others=max(busy_seconds() - busy - sum(spent.values()), 0.0) / possible,
            statements_per_step=(self.counters.total(without=me) - theirs) / (count * CALLS[case]),
            statements_to_start=to_start / count,
            connections=self.sessions() - sessions,
        )

    def cpu(self) -> dict[str, float]:
        """CPU seconds by process, since each began."""
        return {
            **{name: cpu_seconds(process) for name, process in self.processes.items()},
            "driver": time.process_time(),
        }

    def sessions(self) -> int:
        """How many sessions the database has seen, by its own statistics."""
        row = self.database.execute(
            "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
        assert row is not None
        return int(row[0])
