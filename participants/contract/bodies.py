"""Typed request data: the base model and the field types that participants share."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Identifier = Annotated[int, Field(gt=0, le=2**63 - 1)]
Quantity = Annotated[int, Field(gt=0, le=1_000_000)]
Money = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=2)]
PositiveMoney = Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=2)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
# PostgreSQL has no place for a null character in a text.
Label = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]
Text = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]


class Body(BaseModel):
    """Base of every request. Fields it does not know are ignored, so that callers can move first."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Item(Body):
    """So many of one product."""

    product_id: Identifier
    quantity: Quantity


class PricedItem(Item):
    """So many of one product, at this price each."""

    price: Money


Items = Annotated[list[Item], Field(min_length=1, max_length=200)]
PricedItems = Annotated[list[PricedItem], Field(min_length=1, max_length=200)]


def quantities(items: Sequence[Item]) -> dict[int, int]:
    """Total quantity per product, in ascending order of product: the order in which rows are locked."""
    totals: dict[int, int] = {}
    for item in sorted(items, key=lambda item: item.product_id):
        totals[item.product_id] = totals.get(item.product_id, 0) + item.quantity
    return totals


def total(items: list[PricedItem]) -> Decimal:
    """What the items cost together."""
    return sum((item.price * item.quantity for item in items), Decimal("0.00"))
