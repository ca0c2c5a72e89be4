"""The project's settings with the workload and its peer added; nothing of the engine or Celery differs."""

from sagaproject.settings import *  # noqa: F403  settings build upon settings
from sagaproject.settings import INSTALLED_APPS, PARTICIPANT_CREDENTIAL, SAGAS, env

INSTALLED_APPS = [*INSTALLED_APPS, "tests.benchmarks.workload"]
SAGAS = {
    **SAGAS,
    "PARTICIPANTS": {"peer": {"url": env.str("BENCH_PEER_URL"), "credential": PARTICIPANT_CREDENTIAL}},
}
# The bare chain's tasks go through the same queues as those of sagas.
CELERY_TASK_ROUTES = {"bench.forward": {"queue": "forward"}, "bench.undo": {"queue": "compensation"}}
