"""Two releases at once: sagas of both versions end with the one that they began with."""

import subprocess
import sys
from functools import partial

import pytest

from stack.config import ROOT
from stack.processes import QUEUES_OF_WORK
from stack.waiting import wait_until
from tests.acceptance.world import Fault, World, basket
from tests.chaos import beside

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MODES = ("patient_sale", "patient_sale_inline")
BOTH = {"SHOP_VERSIONS": "1,2"}
WITHIN = 90.0
AWAY = Fault("create-transaction", "unavailable", times=None)


def gate(world: World, versions: str) -> tuple[int, str]:
    """What `manage.py sagas versions` of a release with these versions says to a deployment."""
    done = subprocess.run(
        [sys.executable, "manage.py", "sagas", "versions"],
        cwd=ROOT,
        env={
            **world.environment,
            "DJANGO_SETTINGS_MODULE": "tests.acceptance.settings",
            "SHOP_VERSIONS": versions,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def put_back(world: World, sale: str) -> bool:
    """Whether the old worker says that it has put a message of that sale back."""
    lines = world.worker.log.read_text(errors="replace").splitlines()
    return any("message put back" in line and sale in line for line in lines)


def test_a_deploy_with_sagas_of_both_versions_in_flight(world: World) -> None:
    api, operator = beside.api(world, "new-api", **BOTH)
    worker = beside.worker(world, "new-worker", QUEUES_OF_WORK, **BOTH)
    old = [world.sale(AWAY, saga_type=mode) for mode in MODES]
    with beside.started(api):
        new = [str(operator.start(mode, basket()).saga["id"]) for mode in MODES]
        for sale in new:
            assert wait_until(partial(put_back, world, sale), WITHIN)
        assert {world.operator.saga(sale)["status"] for sale in new} == {"pending"}
        failed, said = gate(world, "1")
        assert failed == 1
        assert "no code for patient_sale version 2, patient_sale_inline version 2" in said
        with beside.started(worker):
            for ended in world.ended_all(new, within=WITHIN):
                assert (ended["status"], ended["version"]) == ("completed", 2), world.history(ended["id"])
                assert ended["result"]["ended_by_version"] == 2
            failed, said = gate(world, "2")
            assert failed == 1
            assert "no code for patient_sale version 1, patient_sale_inline version 1" in said
            world.operator.end_faults()
            for ended in world.ended_all(old, within=WITHIN):
                assert (ended["status"], ended["version"]) == ("completed", 1), world.history(ended["id"])
                assert "ended_by_version" not in ended["result"]
            assert gate(world, "2")[0] == 0
