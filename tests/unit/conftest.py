"""What scenarios and searches share."""

import pytest

from sagas.definition import SagaDefinition


@pytest.fixture(params=["chain", "inline"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether messages or the worker itself lead from step to step, in sagas that do not say it."""
    monkeypatch.setattr(SagaDefinition, "execution", request.param)
    return str(request.param)
