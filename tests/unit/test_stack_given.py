"""Servers given by URL are asked before anything starts; what is said names the variable and the mend."""

import pytest

from stack.errors import Trouble
from stack.given import require_postgres, require_redis
from stack.ports import free_port


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://me:secret@127.0.0.1/x", "postgresql://me:secret@[half/x"]
)
def test_a_url_of_no_postgresql_is_refused(url: str) -> None:
    with pytest.raises(Trouble, match=r"DATABASE_URL.*\n.*postgresql://") as refused:
        require_postgres(url)
    assert "secret" not in str(refused.value)


def test_a_postgresql_that_does_not_answer_is_refused() -> None:
    with pytest.raises(Trouble, match=r"DATABASE_URL.*refused.*\nMend it"):
        require_postgres(f"postgresql://me:secret@127.0.0.1:{free_port()}/x")


@pytest.mark.parametrize("url", ["nonsense", "redis://127.0.0.1:{port}/0"])
def test_a_redis_that_does_not_answer_is_refused(url: str) -> None:
    with pytest.raises(Trouble, match=r"REDIS_URL.*\nMend it"):
        require_redis(url.format(port=free_port()))
