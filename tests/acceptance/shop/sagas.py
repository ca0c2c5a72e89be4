"""The sale of the retail business, call for call, with less patience than customers deserve.

The patient ones have two versions; SHOP_VERSIONS says of which this process has the code.
"""

import os
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sagas.definition import Retry, SagaView, Step
from sagas.retail.sales import SalesSaga

VERSIONS = os.environ.get("SHOP_VERSIONS", "1").split(",")
CALL = timedelta(seconds=1)
FORWARD = Retry(attempts=3, base=timedelta(seconds=0.1))
PATIENT = Retry(attempts=60, base=timedelta(seconds=0.1), cap=timedelta(seconds=0.6))
BACKWARD = Retry(attempts=4, base=timedelta(seconds=0.1))


def brisk(declared: Step) -> Step:
    """The same step, given up after three calls of a second each."""
    undo = declared.undo
    if undo is not None:
        undo = replace(undo, retry=BACKWARD, timeout=CALL)
    return replace(declared, retry=FORWARD, timeout=CALL, undo=undo)


def patient(declared: Step) -> Step:
    """The same step, called again and again for half a minute and more."""
    undo = declared.undo
    if undo is not None:
        undo = replace(undo, retry=PATIENT, timeout=CALL)
    return replace(declared, retry=PATIENT, timeout=CALL, undo=undo)


class BriskSale(SalesSaga):
    """One sale in a store whose steps are given up soon."""

    type, version = "brisk_sale", 1

    validate_employee = brisk(SalesSaga.validate_employee)
    reserve_stock = brisk(SalesSaga.reserve_stock)
    create_transaction = brisk(SalesSaga.create_transaction)
    confirm_stock = brisk(SalesSaga.confirm_stock)
    confirm_transaction = brisk(SalesSaga.confirm_transaction)


class PatientSale(SalesSaga, register="1" in VERSIONS):
    """One sale in a store whose calls are short, and repeated until they succeed."""

    type, version = "patient_sale", 1

    validate_employee = patient(SalesSaga.validate_employee)
    reserve_stock = patient(SalesSaga.reserve_stock)
    create_transaction = patient(SalesSaga.create_transaction)
    confirm_stock = patient(SalesSaga.confirm_stock)
    confirm_transaction = patient(SalesSaga.confirm_transaction)


class BriskSaleInline(BriskSale):
    """The same, the worker going on from step to step."""

    type, version = "brisk_sale_inline", 1
    execution = "inline"


class PatientSaleInline(PatientSale, register="1" in VERSIONS):
    """The same, the worker going on from step to step."""

    type, version = "patient_sale_inline", 1
    execution = "inline"


class PatientSale2(PatientSale, register="2" in VERSIONS):
    """A later release of it, which says so in its result."""

    version = 2

    def result(self, saga: SagaView) -> dict[str, Any]:
        """The sale, and the version of the code that ended it."""
        return {**super().result(saga), "ended_by_version": 2}


class PatientSaleInline2(PatientSale2, register="2" in VERSIONS):
    """The same, the worker going on from step to step."""

    type = "patient_sale_inline"
    execution = "inline"
