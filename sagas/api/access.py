"""Who may see and do what: permissions on sagas, given to people by the groups viewer, client, operator."""

from __future__ import annotations

from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.core.exceptions import PermissionDenied

from sagas.errors import SagaNotFound
from sagas.models import Saga, SagaQuerySet

SEE = "sagas.view_saga"
START = "sagas.start_saga"
STEER = "sagas.steer_saga"

Caller = AbstractBaseUser | AnonymousUser


def may(user: Caller, permission: str) -> bool:
    """Whether the caller holds a permission."""
    return isinstance(user, PermissionsMixin) and user.has_perm(permission)


def require(user: Caller, *permissions: str) -> None:
    """Go on only for a caller who holds one of these.

    Raises:
        PermissionDenied: they hold none.
    """
    if not any(may(user, permission) for permission in permissions):
        names = " or ".join(permission.removeprefix("sagas.").replace("_", " ") for permission in permissions)
        raise PermissionDenied(f"This needs the permission to {names}.")


def visible(user: Caller) -> SagaQuerySet:
    """The sagas the caller may see: all, or their own."""
    sagas: SagaQuerySet = Saga.objects.all()
    return sagas if may(user, SEE) else sagas.filter(owner_id=user.pk)


def require_visible(user: Caller, saga_id: UUID) -> None:
    """Go on only if the caller may see this saga; those of others do not exist for them.

    Raises:
        SagaNotFound: there is none that they may see.
    """
    if not may(user, SEE) and not visible(user).filter(id=saga_id).exists():
        raise SagaNotFound(f"there is no saga {saga_id}")
