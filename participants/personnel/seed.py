"""Demo data: one employee who may do everything, one inactive, one who may not sell."""

from collections.abc import Iterator
from datetime import time

from django.db.models import Model

from participants.contract.plenty import Draw, Load, Row, Size
from participants.personnel.models import Employee, Shift

RIGHTS = (("sell", 90), ("return", 50), ("transfer", 30))


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


def plenty(size: Size, draw: Draw) -> Iterator[Load]:
    """More employees, with five shifts a week in their store."""

    def employees() -> Iterator[Row]:
        for employee, _ in size.staff():
            name = draw.person(employee)
            may = [draw.chance(percent, right, employee) for right, percent in RIGHTS]
            yield employee, name, not draw.chance(5, "left", employee), *may

    def shifts() -> Iterator[Row]:
        for employee, store in size.staff():
            starts, ends = draw.one_of(((time(8), time(14)), (time(14), time(20))), "shift", employee)
            free = draw.below(7, "free", employee)
            for weekday in range(7):
                if weekday not in (free, (free + 1) % 7):
                    yield employee, store, weekday, starts, ends

    yield Load(
        "id bigint, name text, active boolean, may_sell boolean, may_return boolean, may_transfer boolean",
        employees(),
        "INSERT INTO personnel_employee (id, name, active, may_sell, may_return, may_transfer) "
        "SELECT * FROM load ON CONFLICT DO NOTHING",
    )
    yield Load(
        "employee_id bigint, store_id bigint, weekday smallint, starts_at time, ends_at time",
        shifts(),
        "INSERT INTO personnel_shift (employee_id, store_id, weekday, starts_at, ends_at) "
        "SELECT * FROM load WHERE NOT EXISTS ("
        "SELECT FROM personnel_shift AS known WHERE known.employee_id = load.employee_id)",
    )
