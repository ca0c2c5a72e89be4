"""`manage.py seed_users`: the groups of the API, and demo users with tokens for development."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

SEE = (
    *("view_saga", "view_sagastep", "view_sagaevent", "view_sagalock"),
    *("view_typepause", "view_circuitevent", "view_heartbeat"),
)
ROLES: dict[str, tuple[str, ...]] = {
    "viewer": SEE,
    "client": ("start_saga",),
    "operator": (
        *(*SEE, "view_webhook", "view_webhookdelivery"),
        *("start_saga", "compensate_saga", "retry_saga", "steer_saga"),
    ),
}
SEES_THE_ADMIN = ("viewer", "operator")
REFUSAL = (
    "Demo users have well-known passwords, and DJANGO_DEBUG is off. Give --groups-only to create just the "
    "groups; --force or SEED_DEMO_USERS=1 if this is a demo all the same."
)


class Command(BaseCommand):
    """Creates what is missing; passwords that were changed stay changed, tokens follow the environment."""

    help = (
        "Create the groups viewer, client and operator, and for development a user of each name "
        "(password the same, token DEMO_TOKEN_<ROLE>) and the superuser admin/admin."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Flags for other places than development."""
        parser.add_argument("--groups-only", action="store_true", help="no users")
        parser.add_argument("--force", action="store_true", help="demo users although DJANGO_DEBUG is off")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        """Groups first, then the users.

        Raises:
            CommandError: demo users were asked for where they may not be.
        """
        groups = {role: group(role, names) for role, names in ROLES.items()}
        if options["groups_only"]:
            self.stdout.write(f"groups: {', '.join(groups)}")
            return
        if not (settings.DEBUG or options["force"] or os.environ.get("SEED_DEMO_USERS") == "1"):
            raise CommandError(REFUSAL)
        user("admin", is_staff=True, is_superuser=True)
        for role, of_role in groups.items():
            demo = user(role, is_staff=role in SEES_THE_ADMIN)
            demo.groups.add(of_role)
            self.stdout.write(f"{role}: Authorization: Token {token(demo, role)}")


def group(name: str, codenames: tuple[str, ...]) -> Group:
    """The group, with these permissions beside those it was given by hand."""
    found, _ = Group.objects.get_or_create(name=name)
    found.permissions.add(*Permission.objects.filter(content_type__app_label="sagas", codename__in=codenames))
    return found


def user(name: str, **flags: Any) -> Any:
    """The user of that name; a new one has the name as password."""
    users = get_user_model().objects
    found = users.filter(username=name).first()
    return found if found is not None else users.create_user(name, password=name, **flags)


def token(owner: Any, role: str) -> str:
    """The user's token, as the environment has it."""
    key = os.environ.get(f"DEMO_TOKEN_{role.upper()}", f"demo-{role}-token")
    tokens: Any = apps.get_model("authtoken", "Token").objects
    tokens.filter(user=owner).exclude(key=key).delete()
    tokens.get_or_create(user=owner, defaults={"key": key})
    return key
