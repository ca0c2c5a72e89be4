"""Creates the databases, migrates every alias and loads the demo data: `python -m stack.prepare`.

Each line it prints is one thing done. Harmless to repeat.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any

import django
import psycopg
from django.conf import settings
from django.core.management import call_command, get_commands
from django.db.utils import OperationalError
from psycopg import sql

SEEDS = ("seed", "seed_users")


def main() -> int:
    """Runs as a program: 0 when everything is ready, 1 with a line that says why not."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "sagaproject.settings"
    django.setup()
    try:
        for alias, database in settings.DATABASES.items():
            created = create(database)
            call_command("migrate", database=alias, verbosity=0, interactive=False)
            say(f"{alias}: {'created and ' if created else ''}migrated")
        for command in SEEDS:
            if command in get_commands():
                call_command(command)
    except (psycopg.Error, OperationalError) as error:
        say(f"The database refused: {' '.join(str(error).split())}")
        return 1
    return 0


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
    sys.exit(main())
