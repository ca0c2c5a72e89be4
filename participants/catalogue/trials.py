"""What the conformance check tries at the catalogue, on the demo data."""

from participants.contract.trials import Trial

TRIALS = (
    Trial(
        operation="product-info",
        method="GET",
        argument="product_id",
        fields={"product_id": 456},
        refused={"product_id": 999_999_999},
        query=True,
    ),
    Trial(
        operation="price-items",
        fields={"items": [{"product_id": 456, "quantity": 2}]},
        refused={"items": [{"product_id": 458, "quantity": 1}]},
        query=True,
    ),
)
