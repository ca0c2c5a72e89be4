"""A world of its own for the roughest tests, under the same judgement."""

from tests.acceptance.conftest import running_world, world

__all__ = ["running_world", "world"]
