"""What the conformance check tries at personnel, on the demo data."""

from participants.contract.trials import Trial

TRIALS = (
    Trial(
        operation="validate-employee",
        method="GET",
        argument="employee_id",
        fields={"employee_id": 1, "action": "sell", "store_id": 1},
        refused={"employee_id": 999_999_999},
        undo="invalidate-session",
        key_optional=True,
    ),
    Trial(
        operation="employee-schedule",
        method="GET",
        fields={"store_id": 1, "date": "2026-03-02"},
        refused={"date": "someday"},
        query=True,
    ),
)
