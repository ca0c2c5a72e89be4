"""The participants of the retail business, by name."""

from sagas.definition import Participant

personnel = Participant("personnel")
inventory = Participant("inventory")
transactions = Participant("transactions")
payments = Participant("payments")
catalogue = Participant("catalogue")
stores = Participant("stores")
orders = Participant("orders")
supply_chain = Participant("supply_chain")
notifications = Participant("notifications")
