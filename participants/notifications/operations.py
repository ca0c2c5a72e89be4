"""What sagas ask of the notifications."""

from participants.contract.bodies import Body, Identifier, Text
from participants.contract.outcomes import Outcome
from participants.contract.service import Call, Recorded, Service
from participants.notifications.models import Message

service = Service("notifications")
Kind = Message.Kind


class SendConfirmation(Body):
    """What a client is to be told about an order."""

    client_id: Identifier
    order_id: Identifier | None = None
    text: Text = ""


@service.action("send-confirmation")
def send_confirmation(body: SendConfirmation, call: Call) -> Outcome:
    """Tell a client that an order is accepted."""
    message = Message.objects.create(
        client_id=body.client_id,
        order_id=body.order_id,
        kind=Kind.CONFIRMATION,
        text=body.text or f"Thank you: order {body.order_id or ''} is confirmed.".replace("  ", " "),
        saga_id=call.saga_id,
        sent_at=call.now,
    )
    return told(message)


@service.compensation("send-cancellation", undoes="send-confirmation")
def send_cancellation(done: Recorded, call: Call) -> Outcome:
    """A sent message cannot be unsent: tell the client that the order is cancelled."""
    message = Message.objects.create(
        client_id=done["client_id"],
        order_id=done["order_id"],
        kind=Kind.CANCELLATION,
        follows_id=done["message_id"],
        text=f"We are sorry: order {done['order_id'] or ''} is cancelled.".replace("  ", " "),
        saga_id=call.saga_id,
        sent_at=call.now,
    )
    return told(message)


def told(message: Message) -> dict[str, object]:
    """A message as an answer tells it."""
    return {
        "message_id": message.pk,
        "client_id": message.client_id,
        "order_id": message.order_id,
        "kind": str(message.kind),
    }
