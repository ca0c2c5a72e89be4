"""Field types that the inputs of several sagas share."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from sagas.definition import SagaInput

MAX_ID = 2**31 - 1


def exact(value: Any) -> Any:
    """A JSON number as the decimal it was written as: 29.99, not its binary neighbour."""
    return str(value) if isinstance(value, float) else value


def two_places(value: Decimal) -> Decimal:
    """Money with exactly two places."""
    return value.quantize(Decimal("0.01"))


Id = Annotated[int, Field(strict=True, ge=1, le=MAX_ID)]
Quantity = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Money = Annotated[
    Decimal,
    BeforeValidator(exact),
    Field(ge=0, max_digits=12, decimal_places=2),
    AfterValidator(two_places),
    PlainSerializer(str, return_type=str),
]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
PaymentMethod = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z_]+$")]


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


def total(items: list[PricedItem]) -> Decimal:
    """What a basket costs."""
    return sum((item.price * item.quantity for item in items), Decimal("0.00"))
