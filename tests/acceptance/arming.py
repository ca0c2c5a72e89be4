"""Sales in which a worker dies, or stands still, at a chosen point."""

from stack.waiting import wait_until
from tests.acceptance.shop.crashes import name
from tests.acceptance.world import Fault, World, basket

REFUSED = Fault("confirm-transaction", "refuse", code="closed")
PATIENCE = 60.0
FORWARD_EPOCH, BACKWARD_EPOCH = 1, 2  # `execute` begins the first, the turn the second


def armed(
    world: World, mode: str, point: str, position: int, *, backward: bool = False, victim: str = "child"
) -> str:
    """A sale in which a worker dies at that point; answers its id, not executed yet.

    Its child stands still there if the victim is `nobody`.
    """
    answer = world.operator.start(mode, basket(), execute=False)
    saga_id = str(answer.saga["id"])
    if backward:
        world.sabotage(saga_id, REFUSED)
    epoch = BACKWARD_EPOCH if backward else FORWARD_EPOCH
    (world.crashes / name(point, saga_id, epoch, position)).write_text(victim)
    return saga_id


def execute(world: World, sales: list[str]) -> None:
    """Let them all run, at once."""
    for sale in sales:
        world.operator.intervene(sale, "execute")


def wait_reached(world: World, *sales: str) -> None:
    """Return when a worker has come to every point that was armed for these sales."""

    def left() -> list[str]:
        return [path.name for path in world.crashes.iterdir() if path.name.split(".")[1] in sales]

    assert wait_until(lambda: not left(), PATIENCE), (left(), [world.history(sale) for sale in sales])
