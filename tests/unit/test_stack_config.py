"""The environment decides; what cannot be is refused by name."""

from pathlib import Path

import pytest

from stack.config import PORTS, ROOT, Config
from stack.errors import Trouble


def test_defaults() -> None:
    config = Config.parse({})
    assert config.ports == PORTS
    assert config.data == ROOT / ".data"
    assert config.own_ports() == PORTS
    assert config.api_url == "http://127.0.0.1:8000"


def test_servers_of_others_open_no_ports_here() -> None:
    config = Config.parse({"DATABASE_URL": "postgresql://db/x", "REDIS_URL": "redis://cache/0"})
    assert not {"PORT_POSTGRES", "PORT_REDIS"} & config.own_ports().keys()


def test_an_empty_variable_is_as_good_as_none() -> None:
    config = Config.parse({"DATABASE_URL": "", "PORT_API": "", "DATA_DIR": ""})
    assert config.database_url is None
    assert config.ports["PORT_API"] == 8000


def test_data_may_live_elsewhere(tmp_path: Path) -> None:
    assert Config.parse({"DATA_DIR": str(tmp_path)}).logs == tmp_path / "logs"


@pytest.mark.parametrize("text", ["0", "65536", "eighty", "-1", "8 0"])
def test_a_port_that_cannot_be_is_named(text: str) -> None:
    with pytest.raises(Trouble, match="PORT_API must be a port number"):
        Config.parse({"PORT_API": text})


def test_an_unknown_source_of_servers_is_refused() -> None:
    with pytest.raises(Trouble, match="STACK_SERVERS must be one of auto, system, embedded"):
        Config.parse({"STACK_SERVERS": "docker"})
