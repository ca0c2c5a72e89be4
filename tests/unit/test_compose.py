"""The compose file runs every participant apart, and tells the orchestrator where."""

from typing import Any
from urllib.parse import urlsplit

import pytest

from sagaproject.settings import PARTICIPANT_NAMES
from tests import composing


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services by name."""
    return composing.services()


@pytest.mark.parametrize("participant", PARTICIPANT_NAMES)
def test_every_participant_has_a_service_that_callers_know(
    services: dict[str, Any], participant: str
) -> None:
    name = participant.replace("_", "-")
    assert services[name]["environment"]["PARTICIPANTS_SERVED"] == participant
    assert "/health" in str(services[name]["healthcheck"]["test"])
    for caller in ("api", "worker", "maintenance"):
        url = services[caller]["environment"][f"PARTICIPANT_{participant.upper()}_URL"]
        assert url == f"http://{name}:8001/{participant}"
        assert services[caller]["depends_on"][name] == {"condition": "service_healthy"}


def test_every_service_waits_for_services_that_exist(services: dict[str, Any]) -> None:
    for service in services.values():
        assert services.keys() >= dict(service.get("depends_on", {})).keys()


def test_every_process_of_the_project_reads_the_file_of_settings(services: dict[str, Any]) -> None:
    ours = [service for service in services.values() if service["image"] == "sagas"]
    assert len(ours) > len(PARTICIPANT_NAMES)
    for service in ours:
        assert service["env_file"] == [{"path": ".env", "required": False}]


@pytest.mark.parametrize("caller", ["worker", "maintenance", "api"])
def test_slow_participants_are_told_to_call_the_api_back(services: dict[str, Any], caller: str) -> None:
    url = urlsplit(composing.environment_of(caller, composing.REQUIRED)["SAGA_CALLBACK_URL"])
    assert (url.scheme, url.port) == ("http", 8000)
    assert url.hostname in services
    assert url.hostname in composing.environment_of("api", composing.REQUIRED)["DJANGO_ALLOWED_HOSTS"].split(
        ","
    )
    elsewhere = composing.REQUIRED | {"SAGA_CALLBACK_URL": "https://sagas.example"}
    assert composing.environment_of(caller, elsewhere)["SAGA_CALLBACK_URL"] == "https://sagas.example"
