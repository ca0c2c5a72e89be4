"""What the conformance check tries at transactions, on the demo data."""

from participants.contract.trials import Trial

BASKET = [{"product_id": 457, "quantity": 1, "price": "5.00"}]
NOWHERE = 999_999_999
SALE = {"original_transaction_id": ("confirm-transaction", "transaction_id")}
RETURN = {"return_transaction_id": ("create-return", "return_transaction_id")}

TRIALS = (
    Trial(
        operation="create-transaction",
        fields={"store_id": 1, "employee_id": 1, "customer_id": 123, "items": BASKET},
        refused={"customer_id": NOWHERE},
        undo="cancel-transaction",
    ),
    Trial(
        operation="confirm-transaction",
        needs={"transaction_id": ("create-transaction", "transaction_id")},
        refused={"transaction_id": NOWHERE},
        undo="reopen-transaction",
    ),
    Trial(
        operation="create-sale",
        fields={"store_id": 1, "customer_id": 123, "items": BASKET, "payment_id": 1},
        refused={"amount": "4.99"},
        undo="cancel-sale",
    ),
    Trial(
        operation="validate-transaction",
        method="GET",
        argument="original_transaction_id",
        needs=SALE,
        refused={"original_transaction_id": NOWHERE},
        query=True,
    ),
    Trial(
        operation="create-return",
        fields={"items": [{"product_id": 457, "quantity": 1}]},
        needs=SALE,
        refused={"original_transaction_id": NOWHERE},
        undo="cancel-return",
    ),
    Trial(
        operation="refund-sale",
        needs=RETURN,
        refused={"return_transaction_id": NOWHERE},
        undo="reverse-sale-refund",
    ),
    Trial(
        operation="update-sale",
        needs=RETURN,
        refused={"return_transaction_id": NOWHERE},
        undo="reverse-sale-update",
    ),
)
