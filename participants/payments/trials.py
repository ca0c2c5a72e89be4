"""What the conformance check tries at payments, on the demo data."""

from participants.contract.trials import Trial

NOWHERE = 999_999_999

TRIALS = (
    Trial(
        operation="process-payment",
        fields={"customer_id": 123, "amount": "1.00"},
        refused={"customer_id": NOWHERE},
        undo="refund-payment",
    ),
    Trial(
        operation="process-refund",
        fields={"amount": "0.50"},
        needs={"payment_id": ("process-payment", "payment_id")},
        refused={"payment_id": NOWHERE},
        undo="reverse-refund",
    ),
)
