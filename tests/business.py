"""The retail business as its tests know it: inputs, whom each step calls, and what one success changes."""

from collections.abc import Mapping
from typing import Any

BASKET = [{"product_id": 456, "quantity": 2}]
PRICED = [{"product_id": 456, "quantity": 2, "price": "29.99"}]
INPUTS: Mapping[str, dict[str, Any]] = {
    "sales_saga": {
        "store_id": 1,
        "employee_id": 1,
        "customer_id": 123,
        "items": PRICED,
        "payment_method": "cash",
    },
    "purchase_saga": {
        "store_id": 1,
        "customer_id": 123,
        "items": PRICED,
        "payment_method": "credit_card",
        "amount": "59.98",
    },
    "return_saga": {
        "original_transaction_id": 1,
        "employee_id": 1,
        "items": [{"product_id": 456, "quantity": 1}],
        "reason": "too bright",
    },
    "checkout_saga": {"client_id": 123, "store_id": 1, "items": BASKET},
    "order_saga": {"client_id": 123, "store_id": 1, "items": BASKET, "amount": "59.98"},
    "transfer_saga": {
        "source_store_id": 1,
        "destination_store_id": 2,
        "employee_id": 1,
        "items": BASKET,
    },
    "replenishment_saga": {"store_id": 1, "employee_id": 1, "items": BASKET},
    "store_opening_check": {"store_id": 1, "date": "2026-03-02", "product_ids": [456, 457]},
}
# Which participant each step calls, in the order of the steps.
CALLS = {
    "sales_saga": {
        "validate-employee": "personnel",
        "reserve-stock": "inventory",
        "create-transaction": "transactions",
        "confirm-stock": "inventory",
        "confirm-transaction": "transactions",
    },
    "return_saga in store": {
        "validate-return": "transactions",
        "create-return-transaction": "transactions",
        "process-refund": "transactions",
        "restore-stock": "inventory",
        "update-sale": "transactions",
    },
    "return_saga online": {
        "validate-return": "transactions",
        "create-return-transaction": "transactions",
        "process-refund": "payments",
        "restore-stock": "inventory",
        "update-sale": "transactions",
    },
    "purchase_saga": {
        "validate-inventory": "inventory",
        "reserve-inventory": "inventory",
        "process-payment": "payments",
        "create-sale": "transactions",
        "update-inventory": "inventory",
    },
    "checkout_saga": {
        "verify-stock": "inventory",
        "fetch-product": "catalogue",
        "reserve-stock": "inventory",
        "create-order": "orders",
    },
    "order_saga": {
        "reserve-stock": "inventory",
        "debit-account": "payments",
        "create-order": "orders",
        "send-notification": "notifications",
    },
    "transfer_saga": {
        "validate-employee": "personnel",
        "check-stores": "stores",
        "take-from-source": "inventory",
        "add-to-destination": "inventory",
        "record-movement": "inventory",
    },
    "replenishment_saga": {
        "approve-request": "supply_chain",
        "take-from-central": "supply_chain",
        "add-to-store": "inventory",
    },
    "store_opening_check": {
        "check-stock": "inventory",
        "store-info": "stores",
        "employee-schedule": "personnel",
    },
}
# What one success changes, money in cents.
CHANGES: dict[str, dict[str, int]] = {
    "sales_saga": {"stock 1/456": -2, "balance 123": -5998, "SALE CONFIRMED": 1, "sessions": 1},
    "return_saga in store": {
        "stock 1/456": 1,
        "balance 123": 2999,
        "RETURN CONFIRMED": 1,
        "refunds": 1,
        "returned": 1,
        "refunded": 2999,
    },
    "return_saga online": {
        "stock 1/456": 1,
        "account 123": 2999,
        "RETURN CONFIRMED": 1,
        "refunds": 1,
        "returned": 1,
        "refunded": 2999,
    },
    "purchase_saga": {"stock 1/456": -2, "account 123": -5998, "SALE CONFIRMED": 1, "payments": 1},
    "checkout_saga": {"reserved 1/456": 2, "orders": 1},
    "order_saga": {"reserved 1/456": 2, "account 123": -5998, "payments": 1, "orders": 1, "messages": 1},
    "transfer_saga": {"stock 1/456": -2, "stock 2/456": 2, "sessions": 1, "transfers": 1},
    "replenishment_saga": {"stock 1/456": 2, "centre 456": -2, "approved": 1},
    "store_opening_check": {},
}
RESULTS = {
    "sales_saga": {"transaction_id"},
    "return_saga in store": {"return_transaction_id", "refund_id", "refunded"},
    "return_saga online": {"return_transaction_id", "refund_id", "refunded"},
    "purchase_saga": {"sale_id", "payment_id"},
    "checkout_saga": {"order_id", "amount", "currency"},
    "order_saga": {"order_id", "payment_id"},
    "transfer_saga": {"movement_id"},
    "replenishment_saga": {"request_id"},
    "store_opening_check": {
        "store_id",
        "store",
        "opens_at",
        "closes_at",
        "staff",
        "out_of_stock",
        "ready",
    },
}
