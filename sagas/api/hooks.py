"""Webhooks of a user: where they want to be told of ends of sagas, and what became of the telling."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from pydantic import AfterValidator, Field
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from sagas import engine, webhooks
from sagas.api import access, schema
from sagas.api.answers import Answer
from sagas.api.requests import RequestBody, installed, validated
from sagas.api.views import Endpoint, rendered
from sagas.conf import conf
from sagas.errors import InvalidInput
from sagas.models import Webhook, WebhookDelivery
from sagas.outbound import Forbidden, checked

EACH = 20
SHOWN = 50
HOOK_ID = OpenApiParameter("hook_id", OpenApiTypes.INT64, OpenApiParameter.PATH)


def address(url: str) -> str:
    """Refuse what will never be posted to; where the name leads is looked at before every post."""
    try:
        checked(url, private=conf().webhooks_private)
    except Forbidden as error:
        raise ValueError(str(error)) from None
    return url


def a_secret(text: str | None) -> str | None:
    """Refuse what cannot be signed with."""
    if text is not None:
        webhooks.key_of(text)
    return text


def a_type(name: str) -> str:
    """Refuse a type that no definition has."""
    installed(name)
    return name


class WebhookBody(RequestBody):
    """Where to post; without types every type is told of, without a secret one is made."""

    url: Annotated[str, Field(max_length=500), AfterValidator(address)]
    types: Annotated[tuple[Annotated[str, AfterValidator(a_type)], ...], Field(max_length=50)] = ()
    secret: Annotated[str | None, Field(max_length=100), AfterValidator(a_secret)] = None


class WebhookAnswer(Answer):
    """One hook; `rests_until` is set while it is left alone because it did not take what it was sent."""

    id: int
    url: str
    types: list[str]
    active: bool
    created_at: datetime
    failures: int
    rests_until: datetime | None


class NewWebhookAnswer(WebhookAnswer):
    """With the secret that its messages are signed with; it is never shown again."""

    secret: str


class WebhooksAnswer(Answer):
    """The caller's hooks."""

    results: list[WebhookAnswer]


class DeliveryAnswer(Answer):
    """One end of a saga that is told to a hook: pending, delivered or given up."""

    id: UUID
    saga_id: UUID
    state: str
    attempts: int
    status_code: int | None
    error: str
    created_at: datetime
    delivered_at: datetime | None
    due_at: datetime | None


class DeliveriesAnswer(Answer):
    """The newest of them."""

    results: list[DeliveryAnswer]


def own(request: Request) -> QuerySet[Webhook]:
    """The caller's hooks.

    Raises:
        PermissionDenied: they may not see any saga.
    """
    access.require(request.user, access.SEE, access.START)
    return Webhook.objects.filter(owner_id=request.user.pk)


def one_of(request: Request, hook_id: int) -> Webhook:
    """A hook of the caller's.

    Raises:
        NotFound: there is none of theirs.
    """
    hook = own(request).filter(pk=hook_id).first()
    if hook is None:
        raise NotFound("There is no such webhook of yours.")
    return hook


def facts(hook: Webhook) -> dict[str, object]:
    """What of a hook is answered."""
    return {name: getattr(hook, name) for name in WebhookAnswer.model_fields}


class WebhooksView(Endpoint):
    """The caller's hooks."""

    @extend_schema(
        operation_id="list_webhooks",
        tags=["webhooks"],
        responses={200: WebhooksAnswer, **schema.problems(403)},
    )
    def get(self, request: Request) -> Response:
        """Where you are told of ends of sagas."""
        return rendered(WebhooksAnswer(results=[WebhookAnswer(**facts(hook)) for hook in own(request)]))

    @extend_schema(
        operation_id="add_webhook",
        tags=["webhooks"],
        request=WebhookBody,
        examples=schema.example({"url": "https://shop.example/ends", "types": ["sales_saga"]}),
        responses={201: NewWebhookAnswer, **schema.problems(*schema.OF_BODIES, 403)},
    )
    def post(self, request: Request) -> Response:
        """Be told of the end of every saga that you may see, from now on, by a signed POST."""
        mine = own(request)
        body = validated(WebhookBody, request.data)
        if mine.count() >= EACH:
            raise InvalidInput([{"field": "url", "message": f"You have {EACH} webhooks, and no more"}])
        now, owner_id = engine.clock.now(), str(request.user.pk)
        hook = Webhook.objects.create(
            owner_id=owner_id,
            url=body.url,
            types=list(body.types),
            secret=body.secret or webhooks.new_secret(),
            created_at=now,
            mark=now,
        )
        return rendered(NewWebhookAnswer(**facts(hook), secret=hook.secret), HTTPStatus.CREATED)


class WebhookView(Endpoint):
    """One hook."""

    @extend_schema(
        operation_id="get_webhook",
        tags=["webhooks"],
        parameters=[HOOK_ID],
        responses={200: WebhookAnswer, **schema.problems(403, 404)},
    )
    def get(self, request: Request, hook_id: int) -> Response:
        """One webhook."""
        return rendered(WebhookAnswer(**facts(one_of(request, hook_id))))

    @extend_schema(
        operation_id="remove_webhook",
        tags=["webhooks"],
        parameters=[HOOK_ID],
        responses={204: OpenApiResponse(description="It is gone"), **schema.problems(403, 404)},
    )
    def delete(self, request: Request, hook_id: int) -> Response:
        """Be told no more; what is still to be delivered is dropped."""
        one_of(request, hook_id).delete()
        return Response(status=HTTPStatus.NO_CONTENT)


class DeliveriesView(Endpoint):
    """What became of the telling."""

    @extend_schema(
        operation_id="list_deliveries",
        tags=["webhooks"],
        parameters=[HOOK_ID],
        responses={200: DeliveriesAnswer, **schema.problems(403, 404)},
    )
    def get(self, request: Request, hook_id: int) -> Response:
        """The newest deliveries of a webhook."""
        rows: list[WebhookDelivery] = list(
            WebhookDelivery.objects.filter(webhook=one_of(request, hook_id)).order_by("-id")[:SHOWN]
        )
        shown = [{name: getattr(row, name) for name in DeliveryAnswer.model_fields} for row in rows]
        return rendered(DeliveriesAnswer(results=[DeliveryAnswer(**one) for one in shown]))
