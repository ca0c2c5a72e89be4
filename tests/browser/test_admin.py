"""The admin in a real browser: by keyboard, in light and dark, while sagas move."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, ConsoleMessage, Page, expect
from pytest_django.live_server_helper import LiveServer

from sagas import dispatch, engine
from sagas.definition import registry
from sagas.models import SagaEvent
from sagas.state import SagaState, Status
from tests import stories

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:No directory at:UserWarning"),  # static files were not collected
]
LIST = "/admin/sagas/saga/"
READABLE = 4.5
PATIENCE = 10_000.0
EVERY = 3100  # milliseconds; the page looks every three seconds
FOCUSED = "(e => e.innerText || (e.type === 'submit' && e.value) || '')(document.activeElement)"
# The contrast of every badge, button and coloured text with what it stands on (WCAG 2, 1.4.3).
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
  const marked =
    ".saga-badge, .saga-count, .saga-late, .saga-missing, .saga-error, .saga-problem," +
    ".saga-tag, .saga-call, .saga-note, .saga-verbs .button, .saga-quiet-text, .saga-refusal, .saga-pulse," +
    ".saga-audit td, .saga-facts dt, .submit-row input, .submit-row a";
  return [...document.querySelectorAll(marked)].filter((node) => node.innerText || node.value).map((node) => {
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
    return [`${node.className} ${(node.innerText || node.value).slice(0, 30)}`,
            (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
  });
}"""


def complains(said: ConsoleMessage) -> bool:
    """Whether the console shows an error; a browser asks every site for an icon, which is none."""
    return said.type == "error" and "favicon" not in str(said.location)


@pytest.fixture
def page(
    chromium: Browser, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> Iterator[Page]:
    """The list of sagas as a superuser sees it; whatever the browser complains about fails the test."""
    monkeypatch.setattr(dispatch, "_send", lambda state, due, now: None)
    User.objects.create_superuser("olga", password="olga")
    context = chromium.new_context(
        base_url=live_server.url,
        viewport={"width": 1400, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    context.set_default_timeout(PATIENCE)
    opened, trouble = context.new_page(), list[str]()
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("dialog", lambda dialog: trouble.append(f"dialog: {dialog.message}"))
    opened.on("console", lambda said: trouble.append(said.text) if complains(said) else None)
    opened.goto("/admin/login/?next=/admin/sagas/saga/")
    opened.fill("#id_username", "olga")
    opened.fill("#id_password", "olga")
    opened.keyboard.press("Enter")
    opened.wait_for_selector("#changelist")
    yield opened
    context.close()
    assert trouble == []


def detail(state: SagaState) -> str:
    return f"{LIST}{state.id}/change/"


def unreadable(page: Page) -> list[Any]:
    found = page.evaluate(CONTRASTS)
    assert found
    return [(name, round(contrast, 2)) for name, contrast in found if contrast < READABLE]


def too_wide(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def tab_to(page: Page, text: str) -> None:
    """Move the focus by the Tab key alone."""
    for _ in range(80):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused.strip().startswith(text):
            return
    pytest.fail(f"{text!r} cannot be reached by the keyboard")


def test_everything_is_readable_and_fits(page: Page) -> None:
    told = (stories.completed, stories.refused, stories.failed, stories.claimed, stories.backing_off,
            stories.parked, stories.undoing, stories.undo_refused, stories.sale)  # fmt: skip
    states = [story() for story in told]
    engine.pause_type("transfer_saga", actor="ann", reason="the other store is being counted")
    types = ("/admin/sagas/typepause/", "/admin/sagas/typepause/sales_saga/pause/")
    for path in (LIST, "/admin/sagas/heartbeat/", *types, *map(detail, states)):
        page.goto(path)
        assert unreadable(page) == [], path
        assert not too_wide(page), path
    page.goto(f"{LIST}intervene/compensate/?" + "&".join(f"saga={state.id}" for state in states))
    assert unreadable(page) == []
    page.set_viewport_size({"width": 400, "height": 800})
    for path in (LIST, types[0], detail(states[1])):
        page.goto(path)
        assert not too_wide(page), path


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_a_parked_saga_is_retried_by_keyboard_alone(page: Page) -> None:
    state = stories.parked()
    page.goto(f"{LIST}?attention=person")
    tab_to(page, str(state.id)[:18])
    page.keyboard.press("Enter")
    page.wait_for_selector("#steps")
    tab_to(page, "Retry")
    page.keyboard.press("Enter")
    page.wait_for_selector("form.saga-confirm")
    expect(page.locator("textarea[name=reason]")).to_be_focused()
    page.keyboard.type("the credential was renewed")
    tab_to(page, "Retry")
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist")).to_contain_text("is in progress")
    assert SagaEvent.objects.get(saga=state.id, kind="retry").reason == "the credential was renewed"


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_a_double_click_compensates_once(page: Page) -> None:
    state = stories.completed()
    page.goto(detail(state))
    page.click("text=Compensate…")
    page.fill("textarea[name=reason]", "recall")
    page.dblclick("input.saga-danger")
    expect(page.locator(".messagelist")).to_contain_text("is compensating")
    assert SagaEvent.objects.filter(saga=state.id, kind="compensate").count() == 1


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_coming_back_and_sending_again_does_nothing_more(page: Page) -> None:
    state = stories.refused()
    page.goto(detail(state))
    page.click("text=Retry…")
    for _ in range(2):
        page.fill("textarea[name=reason]", "paid in")
        page.click(".submit-row input")
        expect(page.locator(".messagelist")).to_contain_text("is in progress")
        page.go_back()
        page.wait_for_selector("form.saga-confirm")
    assert [step.generation for step in engine.load(state.id).steps[:3]] == [1, 1, 1]
    assert engine.load(state.id).status is Status.IN_PROGRESS


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_a_selection_from_the_list(page: Page) -> None:
    states = [stories.completed(), stories.parked()]
    page.goto(LIST)
    for box in page.locator("input.action-select").all():
        box.check()
    page.select_option("select[name=action]", "compensate")
    page.click("button[name=index]")
    expect(page.locator(".saga-foreseen tbody tr")).to_have_count(2)
    page.fill("textarea[name=reason]", "recall")
    page.click("input.saga-danger")
    expect(page.locator(".messagelist li")).to_have_count(2)
    assert {engine.load(state.id).status for state in states} == {Status.COMPENSATING}


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_the_page_follows_a_saga_until_the_reader_holds_on(page: Page) -> None:
    state = stories.claimed()
    page.clock.install()
    page.goto(detail(state))
    moved = engine.record(registry.get(state.type, state.version), state, 1, stories.RESERVED).state
    assert moved is not None
    page.clock.run_for(EVERY)
    steps = page.locator("#steps tbody")
    expect(steps.nth(1)).to_contain_text("completed")
    page.locator("#steps summary").first.click()
    stories.play(moved, [stories.CREATED])
    page.clock.run_for(EVERY * 3)
    assert "completed" not in (steps.nth(2).text_content() or "")
    page.locator("#steps summary").first.click()
    page.evaluate("document.activeElement.blur()")
    page.clock.run_for(EVERY)
    expect(steps.nth(2)).to_contain_text("completed")


@pytest.mark.parametrize("scheme", ["light"], indirect=True)
def test_hostile_text_stays_text(page: Page) -> None:
    state = stories.undo_refused()
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    engine.retry(state.id, actor=evil, reason=evil, request_id="r1")
    page.goto(detail(state))
    expect(page.locator(".saga-reason", has_text="onerror")).to_have_text(evil)
