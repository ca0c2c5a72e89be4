"""Indicators per store, and the sales report of all stores together."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated

from django.db import connections
from pydantic import Field, model_validator

from participants.contract.bodies import Body, Identifier
from participants.contract.offers import Offers
from participants.contract.outcomes import Outcome
from participants.contract.service import Call

offers = Offers("transactions")
ALIAS = "transactions"
LONGEST = timedelta(days=366)
USUAL = timedelta(days=29)

# A sale counts on the day it was made, a return on the day it was made.
TOTALS = """
SELECT store_id, currency,
       count(*) FILTER (WHERE type = 'SALE') AS sales,
       coalesce(sum(amount) FILTER (WHERE type = 'SALE'), 0) AS revenue,
       count(*) FILTER (WHERE type = 'RETURN') AS returns,
       coalesce(sum(amount) FILTER (WHERE type = 'RETURN'), 0) AS returned
  FROM transactions_transaction
 WHERE status = 'CONFIRMED' AND created_at >= %s AND created_at < %s
   AND (%s::bigint IS NULL OR store_id = %s::bigint)
 GROUP BY store_id, currency
 ORDER BY store_id, currency
"""
BEST_SOLD = """
SELECT line.product_id, sum(line.quantity)::bigint AS pieces, sum(line.quantity * line.price) AS revenue
  FROM transactions_transaction AS sale JOIN transactions_transactionline AS line
    ON line.transaction_id = sale.id
 WHERE sale.status = 'CONFIRMED' AND sale.type = 'SALE'
   AND sale.created_at >= %s AND sale.created_at < %s AND sale.store_id = %s::bigint
 GROUP BY line.product_id
 ORDER BY pieces DESC, line.product_id
 LIMIT %s::int
"""
Row = dict[str, object]


class Period(Body):
    """From the first to the last day, in UTC; the thirty days up to today unless it says so."""

    first: date | None = None
    last: date | None = None

    @model_validator(mode="after")
    def is_a_period(self) -> "Period":
        """Not turned round, and not so long that counting takes for ever."""
        if self.first is not None and self.last is not None:
            if self.first > self.last:
                raise ValueError("first must not be after last")
            if self.last - self.first >= LONGEST:
                raise ValueError("a period lasts at most 366 days")
        return self

    def days(self, today: date) -> tuple[date, date]:
        """Both days, where one may not be given."""
        last = self.last or (self.first + USUAL if self.first else today)
        return self.first or last - USUAL, last


class OfStore(Period):
    """The period, and one store."""

    store_id: Identifier
    best: Annotated[int, Field(ge=0, le=100)] = 5


@offers.get("stores/{store_id}/indicators")
def indicators(body: OfStore, call: Call) -> Outcome:
    """Tell how a store does: sales, returns, mean basket, and what sells best."""
    first, last = body.days(call.now.date())
    since, until = bounds(first, last)
    return {
        "store_id": body.store_id,
        "first": first,
        "last": last,
        "totals": totals(since, until, body.store_id),
        "best_sold": rows(BEST_SOLD, [since, until, body.store_id, body.best]),
    }


@offers.get("reports/sales")
def sales_report(body: Period, call: Call) -> Outcome:
    """Tell the sales of each store, and of all together per currency."""
    first, last = body.days(call.now.date())
    stores = totals(*bounds(first, last))
    return {"first": first, "last": last, "stores": stores, "totals": consolidated(stores)}


def bounds(first: date, last: date) -> tuple[datetime, datetime]:
    """The first moment of the first day, and the first after the last."""
    return (
        datetime.combine(first, time(), UTC),
        datetime.combine(last, time(), UTC) + timedelta(days=1),
    )


def totals(since: datetime, until: datetime, store_id: int | None = None) -> list[Row]:
    """Counts and amounts by store and currency."""
    return [completed(row) for row in rows(TOTALS, [since, until, store_id, store_id])]


def consolidated(stores: Sequence[Row]) -> list[Row]:
    """The same of all stores together, by currency."""
    sums: dict[str, Row] = {}
    for row in stores:
        known = sums.setdefault(str(row["currency"]), {"currency": row["currency"]})
        for name in ("sales", "revenue", "returns", "returned"):
            known[name] = Decimal(str(known.get(name, 0))) + Decimal(str(row[name]))
    for known in sums.values():
        known |= {name: int(str(known[name])) for name in ("sales", "returns")}
    return [completed(known) for known in sums.values()]


def completed(row: Row) -> Row:
    """With what follows from the counts and amounts."""
    revenue, returned, sales = (Decimal(str(row[name])) for name in ("revenue", "returned", "sales"))
    return {**row, "net": revenue - returned, "mean_basket": revenue / sales if sales else None}


def rows(statement: str, values: Sequence[int | datetime | None]) -> list[Row]:
    """What a statement finds."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(statement, values)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
