"""A headless Chromium of the system; where there is none, these tests say so and are skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Of a container as root: no sandbox, little shared memory, no GPU.
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]


def executable() -> str | None:
    """The browser: `CHROMIUM` if set, else the first one found on the path."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """Playwright, which drives the browser.

    It runs an event loop in this thread, in which Django would refuse the tests' own queries; so it
    ends with the module, and until then Django is told that this is meant.
    """
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as started:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        yield started


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """The browser of this run."""
    path = executable()
    if path is None:
        pytest.skip(
            "no Chromium found: install one (Debian: apt-get install chromium) or set CHROMIUM to its path"
        )
    browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
    yield browser
    browser.close()


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    """The colour scheme that the operator prefers."""
    return str(request.param)
