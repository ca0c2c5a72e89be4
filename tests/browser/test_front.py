"""The front end in a real browser: by keyboard, in light and dark, while sagas are done and undone."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
import redis
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from playwright.sync_api import Browser, Page, expect
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer
from pytest_django.plugin import DjangoDbBlocker

from sagas import dispatch
from sagas.conf import conf
from sagas.models import Saga
from sagas.state import SagaState
from tests.choreography import settle
from tests.engine import drive
from tests.serving import CREDENTIAL, participants_process

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.filterwarnings("ignore:No directory at:UserWarning"),  # static files were not collected
]
PATIENCE = 30_000.0
READABLE = 4.5
# What a test asks for: the browser reports each answer that is an error.
ANSWERED = ("400 (Bad Request)", "429 (Too Many Requests)")
# The contrast of every text with what it stands on (WCAG 2, 1.4.3).
CONTRASTS = """() => {
  const channel = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility() &&
    [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
  return texts.map((node) => {
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
    return [node.innerText.slice(0, 30), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  });
}"""
# Every field and button has a name that assistive technology can tell.
NAMELESS = """() => [
  ...document.querySelectorAll("input:not([type=hidden]), select, button")].filter((node) =>
  !(node.labels && node.labels.length) && !node.getAttribute("aria-label") && !node.innerText.trim()
).map((node) => node.outerHTML)"""
FOCUSED = "document.activeElement.id || document.activeElement.innerText"


@pytest.fixture(scope="module")
def participants_url(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """One process of all participants, over the databases of this run."""
    with participants_process() as url:
        yield url


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[threading.Thread]]:
    """What is rung for is done at once, each saga in a thread of its own."""
    threads: list[threading.Thread] = []

    def work(saga_id: UUID) -> None:
        try:
            drive(saga_id)
        finally:
            connections.close_all()

    def ring(state: SagaState, due: Sequence[int], now: datetime) -> None:
        threads.append(threading.Thread(target=work, args=(state.id,)))
        threads[-1].start()

    monkeypatch.setattr(dispatch, "_send", ring)
    yield threads
    for thread in threads:
        thread.join(30)


@pytest.fixture
def page(
    chromium: Browser,
    live_server: LiveServer,
    participants_url: str,
    workers: list[threading.Thread],
    settings: Settings,
    scheme: str,
) -> Iterator[Page]:
    """The page as an operator sees it; whatever the browser complains about fails the test."""
    settings.SAGAS = settings.SAGAS | {
        "PARTICIPANTS": {
            name: {"url": f"{participants_url}/{name}", "credential": CREDENTIAL}
            for name in settings.PARTICIPANT_NAMES
        }
    }
    settings.PARTICIPANTS = settings.PARTICIPANTS | {"FAULTS": True}
    redis.Redis.from_url(conf().redis_url).flushdb()
    call_command("seed", stdout=StringIO())
    User.objects.create_superuser("olga", password="olga")
    context = chromium.new_context(
        base_url=live_server.url,
        viewport={"width": 1300, "height": 950},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    opened, trouble = context.new_page(), list[str]()
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
    opened.goto("/")
    expect(opened.get_by_label("Name")).to_be_focused()
    opened.keyboard.type("olga")
    opened.get_by_label("Password").fill("olga")
    opened.keyboard.press("Enter")
    opened.wait_for_selector("#faults")
    yield opened
    context.close()
    assert [text for text in trouble if not any(status in text for status in ANSWERED)] == []


def unreadable(page: Page) -> list[Any]:
    found = page.evaluate(CONTRASTS)
    assert len(found) > 10
    return [(text, round(contrast, 2)) for text, contrast in found if contrast < READABLE]


def too_wide(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def choose_fault(page: Page, step: str, how: str, row: int = 0) -> None:
    page.select_option(f"#fault-{row}-step", step)
    page.select_option(f"#fault-{row}-how", how)


def status_of_last() -> str:
    return str(Saga.objects.order_by("-id")[0].status)


def test_a_sale_is_made_and_everything_is_readable(page: Page) -> None:
    page.click("text=Start")
    expect(page.locator("#status")).to_have_text("completed")
    expect(page.locator("#steps .badge")).to_have_text(["completed"] * 5)
    expect(page.locator("#result")).to_contain_text("Transaction")
    expect(page.locator("#latest")).to_have_text("Ended: completed.")
    expect(page.locator("#list li").first).to_contain_text("completed")
    page.click("#history summary")
    assert unreadable(page) == []
    assert page.evaluate(NAMELESS) == []
    assert not too_wide(page)
    page.set_viewport_size({"width": 360, "height": 800})
    assert not too_wide(page)
    assert page.locator("[role=status]").count() == 1


def test_what_goes_wrong_is_chosen_and_undone_before_the_eyes(page: Page) -> None:
    choose_fault(page, "confirm-stock", "refuse")
    page.click("text=Something else as well")
    choose_fault(page, "cancel-transaction", "reset_after", row=1)
    page.click("text=Start")
    expect(page.locator("#status")).to_have_text("compensated")
    expect(page.locator("#steps .badge")).to_have_text(
        ["compensated", "compensated", "compensated", "failed", "skipped"]
    )
    expect(page.locator("#steps .undo").nth(2)).to_contain_text("2 attempts")
    assert unreadable(page) == []
    page.click("text=Open in the admin")
    expect(page).to_have_title(re.compile("sales_saga"))


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_what_goes_wrong_in_a_choreography_is_chosen_too(page: Page, settings: Settings) -> None:
    settings.CHOREOGRAPHY = settings.CHOREOGRAPHY | {"BACKOFF": timedelta(0), "CLAIM_AFTER": timedelta(0)}
    page.select_option("#type", "checkout_saga")
    choose_fault(page, "fetch-product", "refuse")
    page.click("text=Choreographed: services react to events")
    expect(page.locator("#fault-0-step")).to_have_value("")
    choose_fault(page, "create-order", "refuse")
    page.click("text=Start")
    expect(page.locator("#watch-title")).to_contain_text("Choreographed checkout")
    page.click("[value=orchestrated]")
    page.click("[value=choreographed]")
    hit = page.url
    page.click("text=Start")
    expect(page).not_to_have_url(hit)
    settle()
    expect(page.locator("#status")).to_have_text("succeeded")
    expect(page.locator("#result")).to_contain_text("Order")
    page.goto(hit)
    page.reload()
    expect(page.locator("#status")).to_have_text("failed")
    expect(page.locator("#outcome")).to_have_text("It failed; what was done is undone.")
    expect(page.locator("#steps .step")).to_have_text(
        ["CheckoutInitiated", "StockReserved", "OrderCreationFailed", "StockReleased", "CheckoutFailed"]
    )
    expect(page.locator("#steps")).to_contain_text("somebody chose that this should go wrong")
    assert unreadable(page) == []
    assert page.evaluate(NAMELESS) == []
    assert not Saga.objects.exists()


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_by_keyboard_alone(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == "type"
    seen = []
    while page.evaluate(FOCUSED) != "Start":
        seen.append(page.evaluate(FOCUSED))
        page.keyboard.press("Tab")
        assert len(seen) < 30
    assert seen[:4] == ["type", "f-store_id", "f-employee_id", "f-customer_id"]
    page.keyboard.press("Enter")
    expect(page.locator("#watch-title")).to_be_focused()
    expect(page.locator("#status")).to_have_text("completed")


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_a_wrong_field_is_named_and_focused(page: Page) -> None:
    page.fill("#f-amount", "1.00")
    page.click("text=Start")
    expect(page.locator("#form [role=alert]")).to_contain_text("amount")
    page.fill("#f-amount", "")
    page.evaluate("document.getElementById('f-store_id').max = ''")
    page.fill("#f-store_id", "99999999999")
    page.click("text=Start")
    expect(page.locator("#f-store_id")).to_be_focused()
    expect(page.locator("#f-store_id")).to_have_attribute("aria-invalid", "true")
    assert not Saga.objects.exists()


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_lines_are_added_and_the_amount_follows(page: Page) -> None:
    page.select_option("#type", "purchase_saga")
    page.click("text=Add a line")
    page.keyboard.type("457")
    page.locator("[role=group][aria-label='Line 2'] input").nth(2).fill("5.00")
    expect(page.locator("#f-amount")).to_have_value("69.98")
    page.click("[aria-label='Remove line 1']")
    expect(page.locator("#f-amount")).to_have_value("10.00")
    page.click("text=Start")
    expect(page.locator("#status")).to_have_text("completed")


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_every_business_can_be_tried(page: Page) -> None:
    page.click("text=Start")
    expect(page.locator("#status")).to_have_text("completed")
    expect(page.locator("#list li").first).to_contain_text("completed")
    for saga_type in ("return_saga", "checkout_saga", "order_saga", "transfer_saga", "store_opening_check"):
        before = page.url
        page.select_option("#type", saga_type)
        page.click("text=Start")
        expect(page).not_to_have_url(before)
        expect(page.locator("#latest")).to_have_text("Ended: completed.")
        assert Saga.objects.order_by("-id")[0].type == saga_type


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_a_completed_sale_is_undone_and_done_again(page: Page) -> None:
    page.click("text=Start")
    page.click("text=Undo it")
    expect(page.locator("#status")).to_have_text("compensated")
    page.click("text=Try again")
    expect(page.locator("#status")).to_have_text("completed")
    page.reload()  # the address names the saga
    expect(page.locator("#status")).to_have_text("completed")
    assert status_of_last() == "completed"


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_where_no_stream_is_to_be_had_the_page_asks(page: Page) -> None:
    page.route("**/events", lambda route: route.fulfill(status=429, body="{}"))
    page.click("text=Start")
    expect(page.locator("#status")).to_have_text("completed")
    expect(page.locator("#steps .badge")).to_have_text(["completed"] * 5)


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_logging_out(page: Page) -> None:
    page.click("text=Log out")
    expect(page.locator("h1")).to_have_text("Log in")
