"""The sale of the retail business, call for call, with less patience than customers deserve."""

from dataclasses import replace
from datetime import timedelta

from sagas.definition import Retry, Step
from sagas.retail.sales import SalesSaga

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


class PatientSale(SalesSaga):
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


class PatientSaleInline(PatientSale):
    """The same, the worker going on from step to step."""

    type, version = "patient_sale_inline", 1
    execution = "inline"
