"""Workers, maintenance and beat whose wall clocks are wrong: leases, due times, keys and scans are not."""

from datetime import UTC, datetime, timedelta

import pytest
import redis

from stack.processes import QUEUE_OF_UPKEEP, QUEUES_OF_WORK
from tests.acceptance.arming import REFUSED, armed, execute
from tests.acceptance.running import Running, stop_all
from tests.acceptance.world import Fault, World, parsed
from tests.chaos import beside

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MODES = ("patient_sale", "patient_sale_inline")
WITHIN = 90.0
FAR = timedelta(days=40)  # further than participants keep keys
OFF = timedelta(hours=9)
AWAY = Fault("create-transaction", "unavailable", times=None)
FAULTS = (
    Fault("reserve-stock", "unavailable", times=2),
    Fault("create-transaction", "hang_before", seconds=2),
)


def clock(wrong_by: timedelta) -> dict[str, str]:
    """The environment of a process whose wall clock is that wrong."""
    return {"WALL_CLOCK_HOURS": str(wrong_by / timedelta(hours=1))}


def wrong_by(process: Running) -> timedelta:
    """How far from ours the times are that a process writes into its log."""
    lines = [parsed(line) for line in process.log.read_text(errors="replace").splitlines()]
    last = [line["timestamp"] for line in lines if "timestamp" in line][-1]
    return datetime.fromisoformat(last) - datetime.now(UTC)


def test_wrong_clocks_disturb_nothing(world: World) -> None:
    ahead = beside.worker(world, "ahead", QUEUES_OF_WORK, **clock(FAR))
    behind = beside.worker(world, "behind", QUEUES_OF_WORK, **clock(-FAR))
    upkeep = beside.worker(world, "upkeep", QUEUE_OF_UPKEEP, **clock(OFF))
    beat = beside.beat(world, "beat-behind", **clock(-OFF))
    stop_all((world.worker, world.maintenance, world.beat))
    with beside.started(ahead, behind, upkeep, beat):
        began = world.rows("default", "SELECT clock_timestamp() AS now")[0]["now"]
        expected: dict[str, str] = {}
        for mode in MODES:
            lost = armed(world, mode, "answer_received", 2)
            execute(world, [lost])
            late = world.sale(AWAY, saga_type=mode)
            soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
            world.operator.intervene(late, "change-deadline", reason="soon", deadline=soon)
            sales = [world.sale(fault, saga_type=mode) for fault in FAULTS]
            expected |= dict.fromkeys([lost, late, *sales], "completed")
            expected |= dict.fromkeys([world.sale(REFUSED, saga_type=mode) for _ in range(3)], "compensated")
            world.wait_for(late, "deadline_extended")
            world.wait_for(lost, "lease_expired")
        world.operator.end_faults()
        for sale in world.ended_all([*expected], within=WITHIN):
            assert sale["status"] == expected[sale["id"]], world.history(sale["id"])
        assert wrong_by(ahead) > FAR - OFF
        assert wrong_by(behind) < OFF - FAR
        asked = """SELECT kind, at FROM sagas_sagaevent WHERE saga_id = ANY(%s)
                   AND NOT at BETWEEN %s AND clock_timestamp()"""
        assert world.rows("default", asked, [*expected], began) == []
        extended = "SELECT count(*) AS n FROM sagas_sagaevent WHERE kind = 'deadline_extended' AND at > %s"
        assert world.rows("default", extended, began)[0]["n"] == len(MODES)
    with redis.Redis.from_url(world.environment["REDIS_URL"]) as client:
        client.flushall()  # of messages that are not due for weeks
