"""The participants of the retail business, by name."""

from sagas.definition import Participant

personnel = Participant("personnel")
inventory = Participant("inventory")
transactions = Participant("transactions")
