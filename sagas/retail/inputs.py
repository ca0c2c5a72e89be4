"""Field types that the inputs of several sagas share."""

import re
from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from sagas.definition import SagaInput

MAX_ID = 2**31 - 1
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def exact(value: Any) -> Any:
    """A JSON number as the decimal it was written as: 29.99, not its binary neighbour."""
    if isinstance(value, bool):
        raise ValueError("give an amount of money as a string or a number")
    return str(value) if isinstance(value, float) else value


def two_places(value: Decimal) -> Decimal:
    """Money with exactly two places."""
    return value.quantize(Decimal("0.01"))


def written_day(value: Any) -> Any:
    """A day as JSON has it; a number would be taken for seconds since 1970."""
    if isinstance(value, str) and not DAY.fullmatch(value):
        raise ValueError("give the day as YYYY-MM-DD")
    if not isinstance(value, str | date):
        raise ValueError("give the day as YYYY-MM-DD")
    return value


Id = Annotated[int, Field(strict=True, ge=1, le=MAX_ID)]
Quantity = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Money = Annotated[
    Decimal,
    BeforeValidator(exact),
    Field(ge=0, max_digits=12, decimal_places=2),
    AfterValidator(two_places),
    PlainSerializer(str, return_type=str),
]
PositiveMoney = Annotated[Money, Field(gt=0)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
PaymentMethod = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z_]+$")]
Reason = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]
Day = Annotated[date, BeforeValidator(written_day)]


class PricedItem(SagaInput):
    """A line of a basket."""

    product_id: Id
    quantity: Quantity
    price: Money


class Item(SagaInput):
    """A line without a price: the price is not the client's to say."""

    product_id: Id
    quantity: Quantity


PricedItems = Annotated[list[PricedItem], Field(min_length=1, max_length=200)]
Items = Annotated[list[Item], Field(min_length=1, max_length=200)]
ProductIds = Annotated[list[Id], Field(min_length=1, max_length=200)]


def total(items: list[PricedItem]) -> Decimal:
    """What a basket costs."""
    return sum((item.price * item.quantity for item in items), Decimal("0.00"))


def require_sum(amount: Decimal, items: list[PricedItem]) -> None:
    """Raises ValueError if an amount is not what the items cost."""
    if amount != total(items):
        raise ValueError(f"amount is {amount}, but the items cost {total(items)}")


def given(**optional: int | None) -> dict[str, int]:
    """Those of the optional fields that were given; a call says nothing of the others."""
    return {name: value for name, value in optional.items() if value is not None}


def without_price(items: list[PricedItem]) -> list[dict[str, int]]:
    """The same lines as the inventory wants them."""
    return [{"product_id": item.product_id, "quantity": item.quantity} for item in items]
