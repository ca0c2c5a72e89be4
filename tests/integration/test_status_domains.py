"""The domains of statuses in the database are the enums of the code."""

from enum import StrEnum

import pytest
from django.db import DataError, IntegrityError, connection

from sagas.state import Status, StepStatus

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("domain", "enum"), [("sagas_status", Status), ("sagas_step_status", StepStatus)])
def test_a_domain_takes_what_its_enum_knows(domain: str, enum: type[StrEnum]) -> None:
    with connection.cursor() as cursor:
        for member in enum:
            cursor.execute(f"SELECT %s::text::{domain}", (member.value,))
        with pytest.raises((IntegrityError, DataError), match=domain):
            cursor.execute(f"SELECT 'elsewhere'::text::{domain}")


@pytest.mark.parametrize(
    ("table", "domain"), [("sagas_saga", "sagas_status"), ("sagas_sagastep", "sagas_step_status")]
)
def test_a_status_is_of_its_domain(table: str, domain: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT domain_name FROM information_schema.columns"
            " WHERE table_name = %s AND column_name = 'status'",
            (table,),
        )
        assert cursor.fetchall() == [(domain,)]
