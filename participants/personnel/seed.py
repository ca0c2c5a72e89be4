"""Demo data: one employee who may do everything, one inactive, one who may not sell."""

from collections.abc import Iterator
from datetime import time

from django.db.models import Model

from participants.personnel.models import Employee, Shift


def rows() -> Iterator[Model]:
    """Employees 1 to 3 and the weekly shifts of those who are active."""
    yield Employee(id=1, name="Ada Marin", may_sell=True, may_return=True, may_transfer=True)
    yield Employee(id=2, name="Bruno Keller", active=False, may_sell=True)
    yield Employee(id=3, name="Chloé Dumont", may_return=True)
    number = 0
    for weekday in range(7):
        for employee, store in ((1, 1), (1, 2), (3, 1), (3, 2)):
            number += 1
            starts, ends = (time(8), time(14)) if store == 1 else (time(14), time(20))
            yield Shift(
                id=number,
                employee_id=employee,
                store_id=store,
                weekday=weekday,
                starts_at=starts,
                ends_at=ends,
            )
