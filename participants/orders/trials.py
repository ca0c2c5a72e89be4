"""What the conformance check tries at the orders."""

from participants.contract.trials import Trial

TRIALS = (
    Trial(
        operation="create-order",
        fields={
            "client_id": 123,
            "store_id": 1,
            "items": [{"product_id": 456, "quantity": 1, "price": "29.99"}],
            "amount": "29.99",
        },
        refused={"amount": "29.98"},
        undo="cancel-order",
    ),
)
