"""Lists over millions of rows: nothing here counts or sorts them all."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.paginator import Paginator

if TYPE_CHECKING:  # generic for the type checker only
    Base = Paginator[Any]
else:
    Base = Paginator

BOUND = 10_000
LOWEST, HIGHEST = "0" * 32, "f" * 32


class BoundedPaginator(Base):
    """Counts to `BOUND` and no further; beyond it the planner's guess is shown and a filter is asked for."""

    @cached_property
    def found(self) -> int:
        """How many rows there are, or `BOUND + 1` if there are more."""
        return int(self._keys()[: BOUND + 1].count())

    @cached_property
    def count(self) -> int:
        """How many rows can be paged through."""
        return min(self.found, BOUND)

    @property
    def more(self) -> bool:
        """True if there are rows that cannot be reached by paging."""
        return self.found > BOUND

    @cached_property
    def estimate(self) -> int:
        """The planner's guess at the number of rows, to two digits; costs no look at them."""
        plan = json.loads(self._keys().explain(format="json"))
        guess = max(int(plan[0]["Plan"]["Plan Rows"]), BOUND)
        unit: int = 10 ** (len(str(guess)) - 2)
        return unit * round(guess / unit)

    def _keys(self) -> Any:
        rows: Any = self.object_list
        return rows.order_by().prefetch_related(None).values("pk")


def id_range(term: str) -> tuple[UUID, UUID] | None:
    """The ids that begin with `term` (hex digits, with or without dashes); None if none can."""
    digits = term.replace("-", "").lower()
    if not 4 <= len(digits) <= 32 or any(c not in "0123456789abcdef" for c in digits):
        return None
    return UUID(digits + LOWEST[len(digits) :]), UUID(digits + HIGHEST[len(digits) :])
