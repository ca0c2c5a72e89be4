"""The project's settings with the brisk sale. The circuits stay closed; they have tests of their own."""

from sagaproject.settings import *  # noqa: F403  settings build upon settings
from sagaproject.settings import INSTALLED_APPS, SAGAS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.acceptance.shop"]
SAGAS = {**SAGAS, "BREAKER": {"failures": 10_000}}
