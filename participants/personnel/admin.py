"""Employees, what they may do, and when they work."""

from participants.contract.backoffice import Kept, Lines, Seen, register
from participants.personnel.models import Employee, Shift, WorkSession


class Shifts(Lines):
    """When an employee works."""

    model = Shift
    extra = 1


@register(Employee)
class EmployeeAdmin(Kept):
    """Who leaves is made inactive."""

    list_display = ("id", "name", "active", "may_sell", "may_return", "may_transfer")
    list_filter = ("active", "may_sell", "may_return", "may_transfer")
    search_fields = ("name", "=id")
    inlines = (Shifts,)
    ordering = ("id",)


@register(WorkSession)
class WorkSessionAdmin(Seen):
    """Who acted when, on what."""

    list_display = ("id", "employee", "store_id", "action", "status", "opened_at", "closed_at")
    list_filter = ("status", "action")
    list_select_related = ("employee",)
    ordering = ("-id",)
