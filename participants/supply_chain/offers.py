"""Replenishment requests raised and decided by people, and the stock of the centre."""

from typing import Annotated

from django.db.models import F
from pydantic import Field

from participants.contract.bodies import Body, Identifier, Items, quantities
from participants.contract.offers import Missing, Offers, Page, paged
from participants.contract.outcomes import Outcome, Refused, unprocessable
from participants.contract.service import Call
from participants.supply_chain.models import CentralStock, ReplenishmentRequest, RequestLine
from participants.supply_chain.operations import locked

offers = Offers("supply_chain")
Status = ReplenishmentRequest.Status
Reason = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]


class Requests(Page):
    """Which requests."""

    store_id: Identifier | None = None
    status: Status | None = None


class OneRequest(Body):
    """A request by its id."""

    request_id: Identifier


class NewRequest(Body):
    """What a store asks for."""

    store_id: Identifier
    employee_id: Identifier
    items: Items


class Rejection(OneRequest):
    """Why a request is not granted."""

    reason: Reason


class OfCentre(Page):
    """The stock of one product, or of all."""

    product_id: Identifier | None = None


class Delivery(Body):
    """Goods from a supplier."""

    items: Items


@offers.get("requests")
def list_requests(body: Requests, call: Call) -> Outcome:
    """List requests."""
    chosen = ReplenishmentRequest.objects.prefetch_related("lines")
    if body.store_id is not None:
        chosen = chosen.filter(store_id=body.store_id)
    if body.status is not None:
        chosen = chosen.filter(status=body.status)
    return paged(chosen, body, told)


@offers.post("requests")
def raise_request(body: NewRequest, call: Call) -> Outcome:
    """Raise a request, to be decided by somebody."""
    request = ReplenishmentRequest.objects.create(
        store_id=body.store_id, employee_id=body.employee_id, created_at=call.now
    )
    RequestLine.objects.bulk_create(
        RequestLine(request=request, product_id=product_id, quantity=quantity)
        for product_id, quantity in quantities(body.items).items()
    )
    return told(request)


@offers.get("requests/{request_id}")
def show_request(body: OneRequest, call: Call) -> Outcome:
    """Show a request and what became of it."""
    return told(existing(body.request_id))


@offers.post("requests/{request_id}/approve", success_status=200)
def approve(body: OneRequest, call: Call) -> Outcome:
    """Approve a request, above the limits if need be; a replenishment saga then delivers it."""
    request = undecided(body.request_id)
    wanted = set(request.lines.values_list("product_id", flat=True))
    carried = CentralStock.objects.filter(product_id__in=wanted).values_list("product_id", flat=True)
    if missing := sorted(wanted - set(carried)):
        raise unprocessable("unknown_product", f"The centre does not carry product {missing[0]}.")
    return decided(request, Status.APPROVED, "", call)


@offers.post("requests/{request_id}/reject", success_status=200)
def reject(body: Rejection, call: Call) -> Outcome:
    """Reject a request, with a reason."""
    return decided(undecided(body.request_id), Status.REJECTED, body.reason, call)


@offers.get("stock")
def list_stock(body: OfCentre, call: Call) -> Outcome:
    """Tell the stock of the centre."""
    chosen = CentralStock.objects.all()
    if body.product_id is not None:
        chosen = chosen.filter(product_id=body.product_id)
    return paged(chosen, body, stock_told)


@offers.post("deliveries")
def deliver(body: Delivery, call: Call) -> Outcome:
    """Put goods from a supplier into the stock of the centre."""
    wanted = quantities(body.items)
    CentralStock.objects.bulk_create(
        [CentralStock(product_id=product_id) for product_id in wanted], ignore_conflicts=True
    )
    locked(wanted)
    for product_id, quantity in wanted.items():
        CentralStock.objects.filter(product_id=product_id).update(quantity=F("quantity") + quantity)
    rows = CentralStock.objects.filter(product_id__in=wanted).order_by("product_id")
    return {"items": [stock_told(row) for row in rows]}


def existing(request_id: int, *, lock: bool = False) -> ReplenishmentRequest:
    """The request; raises Missing."""
    chosen = ReplenishmentRequest.objects.select_for_update() if lock else ReplenishmentRequest.objects.all()
    request = chosen.filter(pk=request_id).first()
    if request is None:
        raise Missing("unknown_request", f"There is no request {request_id}.")
    return request


def undecided(request_id: int) -> ReplenishmentRequest:
    """The request, locked; raises Refused if it is decided."""
    request = existing(request_id, lock=True)
    if request.status != Status.REQUESTED:
        raise Refused("request_decided", f"Request {request.pk} is {request.status}.")
    return request


def decided(request: ReplenishmentRequest, status: Status, reason: str, call: Call) -> dict[str, object]:
    """Write a decision down."""
    request.status = status
    request.reason = reason
    request.decided_at = call.now
    request.save(update_fields=["status", "reason", "decided_at"])
    return told(request)


def told(request: ReplenishmentRequest) -> dict[str, object]:
    """A request as an answer tells it."""
    lines = sorted(request.lines.all(), key=lambda line: line.product_id)
    return {
        "request_id": request.pk,
        "store_id": request.store_id,
        "employee_id": request.employee_id,
        "status": str(request.status),
        "reason": request.reason,
        "created_at": request.created_at,
        "decided_at": request.decided_at,
        "claimed_at": request.claimed_at,
        "items": [{"product_id": line.product_id, "quantity": line.quantity} for line in lines],
    }


def stock_told(stock: CentralStock) -> dict[str, object]:
    """A row of central stock as an answer tells it."""
    return {"product_id": stock.product_id, "quantity": stock.quantity, "limit": stock.limit}
