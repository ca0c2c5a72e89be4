"""What sagas ask of the supply chain."""

from collections.abc import Mapping
from typing import Annotated, cast

from django.db.models import F
from pydantic import Field, model_validator

from participants.contract.bodies import Body, Identifier, Item, Items, quantities
from participants.contract.outcomes import Outcome, Refused, unprocessable
from participants.contract.service import Call, Recorded, Service
from participants.supply_chain.models import CentralStock, ReplenishmentRequest, RequestLine

service = Service("supply_chain")
Status = ReplenishmentRequest.Status


class ApproveRequest(Body):
    """A request that was raised before, by its id, or a new one that is decided at once."""

    request_id: Identifier | None = None
    store_id: Identifier | None = None
    employee_id: Identifier | None = None
    items: Annotated[list[Item], Field(max_length=200)] = Field(default_factory=list)

    @model_validator(mode="after")
    def says_which(self) -> "ApproveRequest":
        """An id, or else a store and items."""
        if self.request_id is None and (self.store_id is None or not self.items):
            raise ValueError("request_id, or store_id and items, must be given")
        return self


class TakeFromCentral(Body):
    """Goods that leave the centre for a store."""

    store_id: Identifier
    items: Items
    request_id: Identifier | None = None


@service.action("approve-request")
def approve_request(body: ApproveRequest, call: Call) -> Outcome:
    """Decide a request and take on its delivery; one that is rejected stays on record with its reason.

    What a person has approved is not decided again, and can be taken on once.
    """
    request = raised(body, call)
    before = request.status == Status.APPROVED and request.claimed_at is None
    if request.status != Status.REQUESTED and not before:
        return Refused("request_decided", f"Request {request.pk} is {request.status}.")
    wanted = dict(request.lines.order_by("product_id").values_list("product_id", "quantity"))
    require_same(request, wanted, body)
    if not before:
        request.reason = objection_to(wanted)
        request.status = Status.REJECTED if request.reason else Status.APPROVED
        request.decided_at = call.now
    if request.status == Status.APPROVED:
        request.claimed_at = call.now
        request.saga_id = call.saga_id
    request.save(update_fields=["status", "reason", "decided_at", "claimed_at", "saga_id"])
    if request.reason:
        # Returned and not raised, so that the rejected request is kept.
        return Refused("request_rejected", request.reason)
    return {**told(request), "approved_before": before}


@service.compensation("reopen-request", undoes="approve-request")
def reopen_request(done: Recorded, call: Call) -> Outcome:
    """Take the approval back, unless a person gave it; the request can be taken on again."""
    request = ReplenishmentRequest.objects.select_for_update().get(pk=done["request_id"])
    request.claimed_at = None
    if not done.get("approved_before"):
        request.status = Status.REQUESTED
        request.decided_at = None
    request.save(update_fields=["status", "decided_at", "claimed_at"])
    return told(request)


@service.action("take-from-central")
def take_from_central(body: TakeFromCentral, call: Call) -> Outcome:
    """Take goods out of the central stock."""
    wanted = quantities(body.items)
    stock = locked(wanted)
    for product_id, quantity in wanted.items():
        if product_id not in stock:
            return unprocessable("unknown_product", f"The centre has no product {product_id}.")
        if stock[product_id].quantity < quantity:
            return Refused(
                "insufficient_stock",
                f"Product {product_id}: {quantity} wanted, {stock[product_id].quantity} in the centre.",
            )
    for product_id, quantity in wanted.items():
        CentralStock.objects.filter(product_id=product_id).update(quantity=F("quantity") - quantity)
    items = [{"product_id": product_id, "quantity": quantity} for product_id, quantity in wanted.items()]
    return {"store_id": body.store_id, "request_id": body.request_id, "items": items}


@service.compensation("return-to-central", undoes="take-from-central")
def return_to_central(done: Recorded, call: Call) -> Outcome:
    """Put goods back into the central stock."""
    for item in done["items"]:
        CentralStock.objects.filter(product_id=item["product_id"]).update(
            quantity=F("quantity") + item["quantity"]
        )
    return {"store_id": done["store_id"], "items": done["items"]}


def raised(body: ApproveRequest, call: Call) -> ReplenishmentRequest:
    """The request that is to be decided, locked; raises Refused if its id is unknown."""
    if body.request_id is None:
        return new_request(body, call)
    request = ReplenishmentRequest.objects.select_for_update().filter(pk=body.request_id).first()
    if request is None:
        raise unprocessable("unknown_request", f"There is no request {body.request_id}.")
    return request


def require_same(request: ReplenishmentRequest, wanted: Mapping[int, int], body: ApproveRequest) -> None:
    """Raises Refused if store or items are given and are not those of the request."""
    same_store = body.store_id in (None, request.store_id)
    if not same_store or (body.items and quantities(body.items) != wanted):
        raise unprocessable("request_differs", f"Request {request.pk} is for another store or other goods.")


def new_request(body: ApproveRequest, call: Call) -> ReplenishmentRequest:
    """Store the request that comes with its store and items, as the model of the body sees to."""
    request = ReplenishmentRequest.objects.create(
        store_id=cast(int, body.store_id),
        employee_id=body.employee_id,
        saga_id=call.saga_id,
        created_at=call.now,
    )
    RequestLine.objects.bulk_create(
        RequestLine(request=request, product_id=product_id, quantity=quantity)
        for product_id, quantity in quantities(body.items).items()
    )
    return request


def objection_to(wanted: Mapping[int, int]) -> str:
    """Why a request for this is rejected; empty if it is not."""
    limits = dict(CentralStock.objects.filter(product_id__in=list(wanted)).values_list("product_id", "limit"))
    for product_id, quantity in wanted.items():
        if product_id not in limits:
            return f"The centre does not carry product {product_id}."
        if quantity > limits[product_id]:
            return f"Product {product_id}: {quantity} wanted, at most {limits[product_id]} at once."
    return ""


def locked(wanted: Mapping[int, int]) -> dict[int, CentralStock]:
    """The rows of central stock, locked in ascending order of product."""
    rows = CentralStock.objects.select_for_update().filter(product_id__in=list(wanted))
    return {row.product_id: row for row in rows.order_by("product_id")}


def told(request: ReplenishmentRequest) -> dict[str, object]:
    """A request as an answer tells it."""
    return {
        "request_id": request.pk,
        "store_id": request.store_id,
        "status": str(request.status),
    }
