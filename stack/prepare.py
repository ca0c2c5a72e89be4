"""Creates the databases, migrates every alias and makes the groups: `python -m stack.prepare`.

With DJANGO_DEBUG or SEED_DEMO_USERS=1 it loads demo data and makes users for it, too.
Each line it prints is one thing done. Harmless to repeat.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import django
import psycopg
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import Error as DatabaseError
from environs import EnvError
from psycopg import sql

BACKOFFICE = "--backoffice"
ADMIN = "admin"
NO_DEMO = (
    "no users and no demo data, for DJANGO_DEBUG is off; make the first user with "
    "`manage.py createsuperuser`, or set SEED_DEMO_USERS=1 to try this out"
)


def main(*arguments: str) -> int:
    """Runs as a program: 0 when everything is ready, 1 with a line that says why not.

    The admin of the participants has other settings, and hence is prepared by a process of its own.
    """
    stage = backoffice if BACKOFFICE in arguments else project
    kind = "participant_settings" if stage is backoffice else "settings"
    os.environ["DJANGO_SETTINGS_MODULE"] = f"sagaproject.{kind}"
    try:
        django.setup()
    except (ImproperlyConfigured, EnvError, ValueError) as error:
        return failed(error, before="The configuration cannot be: ")
    try:
        stage()
    except psycopg.errors.InsufficientPrivilege as error:
        return failed(error, ". Let its user create databases (ALTER ROLE ... CREATEDB).")
    except (psycopg.Error, DatabaseError) as error:
        return failed(error, before="The database refused: ")
    except CommandError as error:
        return failed(error)
    if stage is backoffice:
        return 0
    return subprocess.run([sys.executable, "-u", "-m", "stack.prepare", BACKOFFICE], check=False).returncode


def project() -> None:
    """The databases of the orchestrator and of the participants; where a demo is asked for, what it needs."""
    for alias in settings.DATABASES:
        # Of a participant its own app alone: running the others' migrations there changes nothing, slowly.
        migrate(alias, alias, *([alias] if alias in settings.PARTICIPANT_NAMES else []))
    if settings.SEED_DEMO_USERS:
        call_command("seed")
        call_command("seed_users")
    else:
        call_command("seed_users", groups_only=True)
        say(NO_DEMO)


def backoffice() -> None:
    """The database of the participants' admin; where a demo is asked for, with its user."""
    migrate("default", "backoffice")
    users = get_user_model().objects
    if settings.SEED_DEMO_USERS and not users.filter(username=ADMIN).exists():
        users.create_superuser(ADMIN, password=ADMIN)


def migrate(alias: str, name: str, *apps: str) -> None:
    """Creates the alias's database if need be, and brings its tables (of `apps`, if given) up to date."""
    created = create(settings.DATABASES[alias])
    call_command("migrate", *apps, database=alias, verbosity=0, interactive=False)
    say(f"{name}: {'created and ' if created else ''}migrated")


def failed(error: Exception, after: str = "", *, before: str = "") -> int:
    """Says in one line why it goes no further."""
    say(f"{before}{' '.join(str(error).split())}{after}")
    return 1


def say(text: str) -> None:
    """Prints one line at once."""
    print(text, flush=True)


def create(database: Mapping[str, Any]) -> bool:
    """Creates the database of Django's settings `database` if the server has none of its name."""
    server = {
        "host": database["HOST"],
        "port": database["PORT"] or None,
        "user": database["USER"],
        "password": database["PASSWORD"],
        "connect_timeout": 5,
    }
    name = database["NAME"]
    try:
        psycopg.connect(dbname=name, **server).close()
        return False
    except psycopg.OperationalError as error:
        if "does not exist" not in str(error):
            raise
    with psycopg.connect(dbname="postgres", autocommit=True, **server) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8'").format(sql.Identifier(name)))
    return True


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
