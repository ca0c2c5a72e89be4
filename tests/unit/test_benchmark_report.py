"""How the benchmark turns measurements into the figures of its report."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks.measure import Burst, Round
from tests.benchmarks.report import missed, percentiles, rows, table


def measured(rate: float, alone: Sequence[float], others: float = 0.0, connections: int = 0) -> Round:
    """One round."""
    burst = Burst(rate, {"worker": 6.0, "driver": 1.0}, 2.0, 1.0, connections)
    return Round(burst, alone, alone, others)


def test_percentiles_are_of_all_rounds_together() -> None:
    assert percentiles([list(range(1, 51)), list(range(51, 102))]) == (51.0, 96.0, 100.0)


def test_ratios_are_taken_round_by_round_where_both_were_quiet() -> None:
    bare = [measured(100, [10, 10]), measured(200, [10, 10]), measured(100, [10, 10], others=0.5)]
    chain = [measured(70, [20, 20]), measured(120, [15, 15]), measured(500, [90, 90])]
    found = {("bare-celery", "completed"): bare, ("chain", "completed"): chain}
    row = rows(found, {"cpus": 2})[1]
    assert row["throughput_over_bare"] == {"median": 0.65, "least": 0.6, "greatest": 0.7}
    assert row["p50_over_bare"] == {"median": 1.75, "least": 1.5, "greatest": 2.0}


def test_rounds_that_others_disturbed_are_left_out_unless_all_were() -> None:
    quiet = {("chain", "completed"): [measured(100, [1, 1]), measured(10, [9, 9], others=0.4)]}
    assert rows(quiet, {})[0]["sagas_per_s"] == 100
    noisy = {("chain", "completed"): [measured(100, [1, 1], 0.3), measured(10, [9, 9], 0.4)]}
    row = rows(noisy, {})[0]
    assert (row["sagas_per_s"], row["rounds_used"]) == (55, 2)
    assert "measure again when idle" in table([row])


def beside_bare(rate: float, alone: float, others: float = 0.0) -> Any:
    """The rows of an engine in chain mode, and of a bare chain that makes 100 sagas a second, 10 ms each."""
    bare = [measured(100, [10, 10]), measured(100, [10, 10])]
    chain = [measured(rate, [alone, alone], others), measured(rate, [alone, alone], others)]
    return rows({("bare-celery", "completed"): bare, ("chain", "completed"): chain}, {})


@pytest.mark.parametrize(
    ("rate", "alone", "says"), [(65, 19.9, False), (64, 10, True), (90, 20, True), (64, 20, True)]
)
def test_a_benchmark_fails_where_a_target_is_missed(rate: float, alone: float, says: bool) -> None:
    found = beside_bare(rate, alone)
    assert missed(found) is says
    assert ("MISSED" in table(found)) is says


def test_a_target_missed_while_others_used_the_machine_proves_nothing() -> None:
    found = beside_bare(10, 90, others=0.5)
    assert not missed(found)
    assert "measure again when idle" in table(found)


def test_rounds_of_which_never_both_were_quiet_prove_nothing() -> None:
    bare = [measured(100, [10, 10], 0.5), measured(100, [10, 10])]
    chain = [measured(10, [90, 90]), measured(10, [90, 90], 0.5)]
    found = rows({("bare-celery", "completed"): bare, ("chain", "completed"): chain}, {})
    assert not missed(found)
    assert "measure again when idle" in table(found)


@pytest.mark.parametrize(("says", "code"), [(True, 1), (False, 0)])
def test_the_command_fails_where_a_target_is_missed(
    monkeypatch: pytest.MonkeyPatch, says: bool, code: int
) -> None:
    monkeypatch.setattr(command, "stage", lambda **_: nullcontext())
    monkeypatch.setattr(command, "prepare", lambda _: None)
    monkeypatch.setattr(command, "measured", lambda *_: ("a table", says))
    assert command.main([]) == code


def test_an_engine_measured_alone_misses_nothing() -> None:
    assert not missed(rows({("chain", "completed"): [measured(1, [90, 90])]}, {}))


def test_connections_are_counted_in_every_round_and_the_cpu_is_summed() -> None:
    found = {("chain", "completed"): [measured(1, [1, 1], 0.9, connections=1), measured(1, [1, 1])]}
    row = rows(found, {})[0]
    assert row["connections_opened"] == 1
    assert row["cpu_ms_per_saga"] == {"worker": 6.0, "driver": 1.0, "total": 7.0}
