"""What the conformance check tries at the notifications."""

from participants.contract.trials import Trial

TRIALS = (
    Trial(
        operation="send-confirmation",
        fields={"client_id": 123, "text": "A conformance check; please ignore."},
        refused={"client_id": 0},
        undo="send-cancellation",
    ),
)
