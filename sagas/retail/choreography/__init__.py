"""The choreographed business: its topics are discovered here."""

from sagas.retail.choreography import checkout, order_payment

__all__ = ["checkout", "order_payment"]
