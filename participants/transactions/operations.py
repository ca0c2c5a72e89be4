"""What sagas ask of transactions: operations on sales and on returns."""

from participants.transactions import returns, sales
from participants.transactions.service import service

__all__ = ["returns", "sales", "service"]
