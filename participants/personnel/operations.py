"""What sagas ask of personnel."""

from datetime import date
from typing import Literal

from participants.contract.bodies import Body, Identifier
from participants.contract.outcomes import Outcome, Refused, unprocessable
from participants.contract.service import Call, Recorded, Service
from participants.personnel.models import Employee, Shift, WorkSession

service = Service("personnel")


class ValidateEmployee(Body):
    """May this employee do that?"""

    employee_id: Identifier
    action: Literal["sell", "return", "transfer"] = "sell"
    store_id: Identifier | None = None


class EmployeeSchedule(Body):
    """Who works in a store on a day."""

    store_id: Identifier
    date: date


@service.action("validate-employee", method="GET", argument="employee_id", key_optional=True)
def validate_employee(body: ValidateEmployee, call: Call) -> Outcome:
    """Check that an employee is active and allowed; with a key, open a work session."""
    employee = Employee.objects.filter(pk=body.employee_id).first()
    if employee is None:
        return unprocessable("employee_not_found", f"There is no employee {body.employee_id}.")
    if not employee.active:
        return Refused("employee_inactive", f"Employee {employee.pk} is not active.")
    if not employee.may(body.action):
        return Refused("permission_denied", f"Employee {employee.pk} may not {body.action}.")
    answer = {"employee_id": employee.pk, "name": employee.name, "action": body.action}
    if not call.key:
        return answer
    session = WorkSession.objects.create(
        employee=employee, store_id=body.store_id, action=body.action, opened_at=call.now
    )
    return {**answer, "session_id": session.pk}


@service.compensation("invalidate-session", undoes="validate-employee")
def invalidate_session(done: Recorded, call: Call) -> Outcome:
    """Close the work session that the validation opened."""
    WorkSession.objects.filter(pk=done["session_id"], status=WorkSession.Status.OPEN).update(
        status=WorkSession.Status.INVALIDATED, closed_at=call.now
    )
    return {"session_id": done["session_id"], "status": WorkSession.Status.INVALIDATED.value}


@service.query("employee-schedule", method="GET")
def employee_schedule(body: EmployeeSchedule, call: Call) -> Outcome:
    """The active employees on shift in a store on a day, by time of start."""
    shifts = (
        Shift.objects.filter(store_id=body.store_id, weekday=body.date.weekday(), employee__active=True)
        .select_related("employee")
        .order_by("starts_at", "employee_id")
    )
    return {
        "store_id": body.store_id,
        "date": body.date,
        "shifts": [
            {
                "employee_id": shift.employee_id,
                "name": shift.employee.name,
                "starts_at": shift.starts_at,
                "ends_at": shift.ends_at,
            }
            for shift in shifts
        ],
    }
