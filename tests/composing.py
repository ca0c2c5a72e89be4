"""What docker-compose.yml says, with its variables substituted as the engine of containers would."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

FILE = Path(__file__).parents[1] / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")
# What whoever starts the containers has to give.
REQUIRED = {
    "DJANGO_SECRET_KEY": "a-secret-key-of-fifty-characters-for-the-tests-alone",
    "PARTICIPANT_CREDENTIAL": "a-credential",
    "EVENT_KEYS": "a-key-of-personal-data-for-the-tests-alone",
    "FLOWER_BASIC_AUTH": "flower:secret",
}


def services() -> dict[str, Any]:
    """The services by name, as they are written."""
    found: dict[str, Any] = YAML(typ="safe").load(FILE)["services"]
    return found


def environment_of(service: str, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of that service's containers, when they are started with `given` variables."""
    environment = services()[service]["environment"]
    return {name: substituted(str(value), given) for name, value in environment.items()}


def substituted(text: str, given: Mapping[str, str]) -> str:
    """`text` with its variables replaced; an AssertionError for one that has to be given."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found["name"], found["kind"], found["rest"]
        assert given.get(name) or kind != "?", f"{name}: {rest}"
        return given.get(name) or (rest if kind == "-" else "")

    return VARIABLE.sub(value, text)
