"""What sagas ask of the inventory."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from participants.contract.bodies import Body, Identifier, Item, Items, quantities
from participants.contract.outcomes import Outcome, Refused, unprocessable
from participants.contract.service import Call, Recorded, Service
from participants.inventory import stock
from participants.inventory.models import Reservation, StockMovement, StockTransfer

service = Service("inventory")
Kind = StockMovement.Kind
Status = Reservation.Status


class StoreItems(Body):
    """Products and quantities in one store."""

    store_id: Identifier
    items: Items


class ReserveStock(StoreItems):
    """What to promise. One for an order does not expire: whoever asks must confirm or release it."""

    hold: Literal["basket", "order"] = "basket"


class CheckStock(Body):
    """Items that must be available, or products whose stock is only reported."""

    store_id: Identifier
    items: Annotated[list[Item], Field(max_length=200)] = Field(default_factory=list)
    product_ids: Annotated[list[Identifier], Field(max_length=200)] = Field(default_factory=list)

    @model_validator(mode="after")
    def asks_for_something(self) -> "CheckStock":
        """One of the two lists must have an entry."""
        if not self.items and not self.product_ids:
            raise ValueError("items or product_ids must not be empty")
        return self


class OfReservation(Body):
    """A reservation by its id."""

    reservation_id: Identifier


class RecordMovement(Body):
    """A transfer that took place."""

    source_store_id: Identifier
    destination_store_id: Identifier
    employee_id: Identifier | None = None
    items: Items


@service.query("check-stock")
def check_stock(body: CheckStock, call: Call) -> Outcome:
    """Tell the stock of products; refused if the quantities asked for are not available."""
    wanted = quantities(body.items)
    products = sorted({*wanted, *body.product_ids})
    found = stock.as_of(call.now, body.store_id, products)
    stock.require_known(body.store_id, products, found)
    stock.require_available(found, wanted)
    return {
        "store_id": body.store_id,
        "items": [
            {
                "product_id": product_id,
                "quantity": found[product_id].quantity,
                "reserved": found[product_id].reserved,
                "available": found[product_id].available,
            }
            for product_id in products
        ],
    }


@service.action("reserve-stock")
def reserve_stock(body: ReserveStock, call: Call) -> Outcome:
    """Promise stock to a basket until it is confirmed, released, or expires; to an order, for good."""
    wanted = quantities(body.items)
    stock.require_free(body.store_id, wanted, call.now)
    stock.change(body.store_id, wanted, reserved=1)
    reservation = Reservation.objects.create(
        store_id=body.store_id,
        expires_at=None if body.hold == "order" else call.now + stock.hold(),
        created_at=call.now,
    )
    stock.add_lines(reservation, wanted)
    return {
        "reservation_id": reservation.pk,
        "store_id": body.store_id,
        "status": Status.RESERVED.value,
        "expires_at": reservation.expires_at,
    }


@service.compensation("release-stock", undoes="reserve-stock")
def release_stock(done: Recorded, call: Call) -> Outcome:
    """Give back what a reservation holds; one that expired holds nothing."""
    reservation = Reservation.objects.select_for_update().get(pk=done["reservation_id"])
    if reservation.status == Status.CONFIRMED:
        return Refused("reservation_confirmed", f"Reservation {reservation.pk} is confirmed.")
    if reservation.status == Status.RESERVED:
        wanted = stock.lines_of(reservation)
        stock.change(reservation.store_id, wanted, reserved=-1)
        reservation.status = Status.RELEASED
        reservation.save(update_fields=["status"])
    return {"reservation_id": reservation.pk, "status": str(reservation.status)}


@service.action("confirm-stock")
def confirm_stock(body: OfReservation, call: Call) -> Outcome:
    """Take the reserved goods out of stock."""
    reservation = Reservation.objects.select_for_update().filter(pk=body.reservation_id).first()
    if reservation is None:
        return unprocessable("unknown_reservation", f"There is no reservation {body.reservation_id}.")
    if reservation.status != Status.RESERVED:
        return Refused("reservation_not_open", f"Reservation {reservation.pk} is {reservation.status}.")
    if reservation.expires_at is not None and reservation.expires_at <= call.now:
        return Refused("reservation_expired", f"Reservation {reservation.pk} has expired.")
    wanted = stock.lines_of(reservation)
    stock.change(reservation.store_id, wanted, quantity=-1, reserved=-1)
    reservation.status = Status.CONFIRMED
    reservation.save(update_fields=["status"])
    movements = stock.note(reservation.store_id, wanted, Kind.SALE, -1, call.saga_id)
    return {"reservation_id": reservation.pk, "status": Status.CONFIRMED.value, "movements": told(movements)}


@service.compensation("reverse-stock-confirmation", undoes="confirm-stock")
def reverse_stock_confirmation(done: Recorded, call: Call) -> Outcome:
    """Put the goods back; the reservation holds them again, for the full time if it has one."""
    reservation = Reservation.objects.select_for_update().get(pk=done["reservation_id"])
    if reservation.status != Status.CONFIRMED:
        return Refused("reservation_not_confirmed", f"Reservation {reservation.pk} is {reservation.status}.")
    wanted = stock.lines_of(reservation)
    stock.change(reservation.store_id, wanted, quantity=1, reserved=1)
    reservation.status = Status.RESERVED
    if reservation.expires_at is not None:
        reservation.expires_at = call.now + stock.hold()
    reservation.save(update_fields=["status", "expires_at"])
    stock.note(reservation.store_id, wanted, Kind.SALE_REVERSED, 1, call.saga_id)
    return {"reservation_id": reservation.pk, "status": Status.RESERVED.value}


@service.action("restore-stock")
def restore_stock(body: StoreItems, call: Call) -> Outcome:
    """Put returned goods back into stock."""
    return bring_in(body, call, Kind.RETURN)


@service.compensation("reverse-restore", undoes="restore-stock")
def reverse_restore(done: Recorded, call: Call) -> Outcome:
    """Take returned goods out again."""
    return take_back_out(done, call, Kind.RETURN_REVERSED)


@service.action("take-from-source")
def take_from_source(body: StoreItems, call: Call) -> Outcome:
    """Take goods out of a store for a transfer."""
    wanted = quantities(body.items)
    stock.withdraw(body.store_id, wanted, call.now)
    movements = stock.note(body.store_id, wanted, Kind.TRANSFER_OUT, -1, call.saga_id)
    return {"store_id": body.store_id, "movements": told(movements)}


@service.compensation("return-to-source", undoes="take-from-source")
def return_to_source(done: Recorded, call: Call) -> Outcome:
    """Put goods back that were taken for a transfer."""
    store_id, wanted = moved(done)
    stock.receive(store_id, wanted)
    movements = stock.note(store_id, wanted, Kind.TRANSFER_OUT_REVERSED, 1, call.saga_id)
    return {"store_id": store_id, "movements": told(movements)}


@service.action("add-to-destination")
def add_to_destination(body: StoreItems, call: Call) -> Outcome:
    """Bring goods of a transfer into a store."""
    return bring_in(body, call, Kind.TRANSFER_IN)


@service.compensation("remove-from-destination", undoes="add-to-destination")
def remove_from_destination(done: Recorded, call: Call) -> Outcome:
    """Take goods of a transfer out again; refused if they are gone or promised by now."""
    return take_back_out(done, call, Kind.TRANSFER_IN_REVERSED)


@service.action("add-to-store")
def add_to_store(body: StoreItems, call: Call) -> Outcome:
    """Bring goods from the central stock into a store."""
    return bring_in(body, call, Kind.REPLENISHMENT)


@service.compensation("remove-from-store", undoes="add-to-store")
def remove_from_store(done: Recorded, call: Call) -> Outcome:
    """Take replenished goods out again; refused if they are gone or promised by now."""
    return take_back_out(done, call, Kind.REPLENISHMENT_REVERSED)


@service.action("record-movement")
def record_movement(body: RecordMovement, call: Call) -> Outcome:
    """Note a finished transfer between two stores."""
    if body.source_store_id == body.destination_store_id:
        return unprocessable("same_store", "Source and destination are one store.")
    transfer = StockTransfer.objects.create(
        source_store_id=body.source_store_id,
        destination_store_id=body.destination_store_id,
        employee_id=body.employee_id,
        items=[item.model_dump() for item in body.items],
        saga_id=call.saga_id,
        created_at=call.now,
    )
    return {"movement_id": transfer.pk}


def bring_in(body: StoreItems, call: Call, kind: Kind) -> Outcome:
    """Add goods to the stock of a store."""
    wanted = quantities(body.items)
    stock.receive(body.store_id, wanted)
    movements = stock.note(body.store_id, wanted, kind, 1, call.saga_id)
    return {"store_id": body.store_id, "movements": told(movements)}


def take_back_out(done: Recorded, call: Call, kind: Kind) -> Outcome:
    """Undo what `bring_in` did."""
    store_id, wanted = moved(done)
    stock.withdraw(store_id, wanted, call.now)
    movements = stock.note(store_id, wanted, kind, -1, call.saga_id)
    return {"store_id": store_id, "movements": told(movements)}


def told(movements: list[StockMovement]) -> list[dict[str, int]]:
    """Movements as an answer tells them."""
    return [
        {"movement_id": movement.pk, "product_id": movement.product_id, "delta": movement.delta}
        for movement in movements
    ]


def moved(done: Recorded) -> tuple[int, dict[int, int]]:
    """The store and the quantity per product that an action's result says it moved."""
    movements = done["movements"]
    return done["store_id"], {movement["product_id"]: abs(movement["delta"]) for movement in movements}
