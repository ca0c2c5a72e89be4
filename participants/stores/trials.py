"""What the conformance check tries at the stores, on the demo data."""

from participants.contract.trials import Trial

NOWHERE = 999_999_999

TRIALS = (
    Trial(
        operation="store-info",
        method="GET",
        fields={"store_id": 1},
        refused={"store_id": NOWHERE},
        query=True,
    ),
    Trial(
        operation="check-stores",
        fields={"source_store_id": 1, "destination_store_id": 2},
        refused={"destination_store_id": NOWHERE},
        query=True,
    ),
)
