"""What the conformance check tries at the supply chain, on the demo data."""

from participants.contract.trials import Trial

GOODS = {"store_id": 1, "items": [{"product_id": 456, "quantity": 1}]}
UNKNOWN = {"items": [{"product_id": 999_999_999, "quantity": 1}]}

TRIALS = (
    Trial(operation="approve-request", fields=GOODS, refused=UNKNOWN, undo="reopen-request"),
    Trial(operation="take-from-central", fields=GOODS, refused=UNKNOWN, undo="return-to-central"),
)
