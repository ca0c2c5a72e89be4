"""How the benchmark turns measurements into the figures of its report."""

from collections.abc import Sequence

from tests.benchmarks.measure import Burst, Round
from tests.benchmarks.report import percentiles, rows, table


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


def test_connections_are_counted_in_every_round_and_the_cpu_is_summed() -> None:
    found = {("chain", "completed"): [measured(1, [1, 1], 0.9, connections=1), measured(1, [1, 1])]}
    row = rows(found, {})[0]
    assert row["connections_opened"] == 1
    assert row["cpu_ms_per_saga"] == {"worker": 6.0, "driver": 1.0, "total": 7.0}
