"""What workers do beside the steps: metrics, scans at their start, connections, logs."""

from prometheus_client.parser import text_string_to_metric_families

from stack.waiting import wait_until
from tests.acceptance.world import PATIENCE, Fault, World


def scraped(world: World, port: str = "PORT_WORKER_METRICS") -> dict[str, float]:
    """The samples of a worker's metrics, by name and labels."""
    url = f"http://127.0.0.1:{world.config.ports[port]}/metrics"
    text = world.operator.http.request("GET", url, timeout=5).data.decode()
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def completions(samples: dict[str, float]) -> float:
    """How many brisk sales the worker says it has completed."""
    return samples.get("saga_completed_total[('type', 'brisk_sale')]", 0.0)


def connected(world: World) -> set[int]:
    """The database connections of the worker's processes."""
    asked = "SELECT pid FROM pg_stat_activity WHERE application_name = 'worker' AND datname = 'acceptance'"
    return {row["pid"] for row in world.rows("default", asked)}


def test_a_worker_serves_what_all_its_children_have_counted(world: World) -> None:
    before = completions(scraped(world))
    world.ended_all([world.sale() for _ in range(12)])
    assert completions(scraped(world)) == before + 12
    world.worker.kill_children()
    assert completions(scraped(world)) == before + 12, "a dead child's counts are forgotten"
    assert "saga_steps_total" in str(scraped(world))
    assert scraped(world, "PORT_MAINTENANCE_METRICS") is not None


def test_a_worker_that_starts_again_counts_from_nothing(world: World) -> None:
    world.ended(world.sale())
    world.worker.stop()
    world.worker.restart()
    assert completions(scraped(world)) == 0
    world.ended(world.sale())
    assert completions(scraped(world)) == 1


def test_a_worker_has_interrupted_sagas_found_as_it_starts(world: World) -> None:
    world.beat.stop()
    sale = world.sale(Fault("create-transaction", "hang_after", seconds=1.5), saga_type="patient_sale")
    world.wait_struck(sale, "create-transaction")
    world.worker.kill()
    lost = (
        "SELECT lease_until < clock_timestamp() AS over FROM sagas_sagastep WHERE saga_id = %s AND name = %s"
    )
    assert wait_until(
        lambda: bool(world.rows("default", lost, sale, "create-transaction")[0]["over"]), PATIENCE
    )
    world.worker.restart()
    assert world.ended(sale)["status"] == "completed"
    assert "lease_expired" in world.kinds(sale)


def test_a_worker_child_keeps_its_database_connection(world: World) -> None:
    world.ended_all([world.sale() for _ in range(12)])
    kept = connected(world)
    world.ended_all([world.sale() for _ in range(12)])
    assert connected(world) == kept
    assert 0 < len(kept) <= 4


def test_logs_keep_secrets_and_say_things_once(world: World) -> None:
    world.operator.http.request("GET", f"{world.config.api_url}/nowhere/once", timeout=5)
    for process in world.everything:
        text = process.log.read_text(errors="replace")
        assert not [name for name, secret in world.secrets.items() if secret in text], process.name
    lines = [line for line in world.api.log.read_text().splitlines() if "/nowhere/once" in line]
    assert len(lines) == 1, lines
