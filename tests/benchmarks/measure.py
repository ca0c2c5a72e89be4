"""Runs the contenders in interleaved rounds, so that a machine's drift hits all alike."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

import psutil
import psycopg

from tests.benchmarks.load import Runner, burst, lone, open_loop
from tests.benchmarks.stage import cpu_seconds
from tests.benchmarks.workload.counting import Counters

CASES = ("completed", "compensated")
CALLS = {"completed": 4, "compensated": 7}
WARM_UP = 40
SETTLE = 0.1
LOOK = 0.3
QUIET = 0.1  # more than this share of the CPUs in other processes' hands, and a figure says little


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is run: rounds, and sagas of each load in a round; and how long to wait for quiet."""

    rounds: int
    burst: int
    lone: int
    open_loop: int
    patience: float = 0.0


@dataclass(frozen=True, slots=True)
class Burst:
    """Many sagas started at once."""

    sagas_per_s: float
    cpu_ms: Mapping[str, float]
    statements_per_step: float
    statements_to_start: float
    connections: int


@dataclass(slots=True)
class Usage:
    """CPU of a while: of each process of the stage in seconds, and of all others as a share of the CPUs."""

    spent: Mapping[str, float] = field(default_factory=dict)
    others: float = 0.0


@dataclass(frozen=True, slots=True)
class Round:
    """All three loads of one contender in one case; `others` is the greatest share of the three."""

    burst: Burst
    lone_ms: Sequence[float]
    open_loop_ms: Sequence[float]
    others: float


Found = Mapping[tuple[str, str], list[Round]]


def busy_seconds() -> float:
    """CPU seconds that the machine has spent on anything since it began, or its host has kept from it."""
    times = psutil.cpu_times()
    kept = getattr(times, "steal", 0.0)  # Linux only: other guests of a virtual machine's host
    return float(times.user + times.nice + times.system + times.irq + times.softirq + kept)


def wait_for_quiet(patience: float) -> None:
    """Until other processes leave the CPUs alone, at most `patience` seconds; ours are idle now."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        busy = busy_seconds()
        time.sleep(LOOK)
        if (busy_seconds() - busy) / (LOOK * (os.cpu_count() or 1)) < QUIET:
            return


@dataclass(frozen=True, slots=True)
class Bench:
    """What measuring needs of the stage; `database` is a connection of its own."""

    processes: Mapping[str, psutil.Process]
    database: psycopg.Connection
    counters: Counters

    def run(self, runners: Sequence[Runner], sizes: Sizes, say: Callable[[str], None]) -> Found:
        """Every runner in both cases in every round; the order turns from round to round."""
        pairs = [(runner, case) for case in CASES for runner in runners]
        found: dict[tuple[str, str], list[Round]] = {(runner.name, case): [] for runner, case in pairs}
        for runner, case in pairs:
            burst(runner, WARM_UP, refused=case == "compensated")  # connections, prepared statements, caches
        for number in range(sizes.rounds):
            at = number % len(pairs)
            for runner, case in [*pairs[at:], *pairs[:at]]:
                found[runner.name, case].append(self.round(runner, case, sizes))
            last = {key: rounds[-1] for key, rounds in found.items()}
            rates = (f"{name} {case} {one.burst.sagas_per_s:.0f}/s" for (name, case), one in last.items())
            others = median(one.others for one in last.values())
            say(f"round {number + 1} of {sizes.rounds}: {', '.join(rates)}; CPU used by others {others:.0%}")
        return found

    def round(self, runner: Runner, case: str, sizes: Sizes) -> Round:
        """All three loads once."""
        refused = case == "compensated"
        wait_for_quiet(sizes.patience)
        throughput, others = self.burst(runner, case, sizes.burst)
        wait_for_quiet(sizes.patience)
        with self.usage() as during_lone:
            alone = lone(runner, sizes.lone, refused=refused)
        with self.usage() as during_open_loop:
            steady = open_loop(runner, sizes.open_loop, refused=refused)
        return Round(throughput, alone, steady, max(others, during_lone.others, during_open_loop.others))

    def burst(self, runner: Runner, case: str, count: int) -> tuple[Burst, float]:
        """Throughput and what it cost, and the share of the CPUs that others had."""
        me, to_start = os.getpid(), 0

        def started() -> None:
            nonlocal to_start
            to_start = self.counters.of(me) - own

        sessions, theirs, own = self.sessions(), self.counters.total(without=me), self.counters.of(me)
        with self.usage() as usage:
            seconds = burst(runner, count, refused=case == "compensated", started=started)
            time.sleep(SETTLE)  # the worker tidies up behind the last task
        measured = Burst(
            sagas_per_s=count / seconds,
            cpu_ms={name: value * 1000 / count for name, value in usage.spent.items()},
            statements_per_step=(self.counters.total(without=me) - theirs) / (count * CALLS[case]),
            statements_to_start=to_start / count,
            connections=self.sessions() - sessions,
        )
        return measured, usage.others

    @contextmanager
    def usage(self) -> Iterator[Usage]:
        """What the block uses, known when it ends."""
        result = Usage()
        cpu, busy, began = self.cpu(), busy_seconds(), time.monotonic()
        yield result
        after = self.cpu()
        possible = (time.monotonic() - began) * (os.cpu_count() or 1)
        result.spent = {name: after[name] - cpu[name] for name in cpu}
        result.others = max(busy_seconds() - busy - sum(result.spent.values()), 0.0) / possible

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
