"""One world for all these tests; after each of them everything must have come out right."""

from collections.abc import Iterator

import pytest

from tests.acceptance.world import World, whole_world


@pytest.fixture(scope="session")
def running_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Servers and processes, for the whole run."""
    with whole_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def world(running_world: World) -> Iterator[World]:
    """The world, whole and healthy; afterwards the invariants must hold for every saga there ever was."""
    running_world.mend()
    yield running_world
    running_world.mend()
    running_world.check()
