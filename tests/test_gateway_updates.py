"""What the server sends to an open page leaves alone what its reader does there: press, type, select, scroll, send."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Any

import pages
import pytest
from page_site import Site, person, watched
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from ftq.errors import RunError
from ftq.words import short
from gateway.page.shown import SYMBOLS
from tests.gateway_tools import serving
from tests.tools import until

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
SELECTED = "getSelection().toString()"
NUMBERS = count(0xA0000000)  # of runs
FOCUSED = "document.activeElement.textContent"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A gateway without a worker: its runs move when a test says so."""
    site = Site(tmp_path_factory.mktemp("site"))
    with serving(site.app) as site.url:
        yield site
        site.app.state.gateway.stopping = True
    site.bench.client.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pages.browser() as browser:
        yield browser


class Shown:
    """A run that trains, and the page that shows it."""

    def __init__(self, site: Site, page: Page, run: str) -> None:
        self.site, self.store, self.page, self.run, self.step = site, site.bench.client.store, page, run, 120
        self.token = site.runs.train(site.runs.add(run, run))
        self.taken = list[str]()
        session = page.context.new_cdp_session(page)
        session.on("Network.eventSourceMessageReceived", self._take)
        session.send("Network.enable")
        self.open()

    def _take(self, message: dict[str, str]) -> None:
        self.taken.append(json.loads(message["data"])["part"])

    def open(self) -> None:
        self.page.goto(f"{self.site.url}/runs/{self.run}")
        self.wait_for("links", "actions", "events")  # the server sends all once after the page is loaded

    def until(self, reached: Callable[[], Any]) -> None:
        """Wait for what the browser tells."""
        until(lambda: self.page.wait_for_timeout(10) or reached())

    def wait_for(self, *parts: str) -> None:
        """Wait until these parts have come to the page."""
        self.until(lambda: {*parts} <= {*self.taken})
        self.taken.clear()

    def move(self) -> None:
        """Let the training do a step that saves a checkpoint."""
        self.step += 1
        self.store.progress(self.token, {"percent": self.step / 2, "step": self.step, "total_steps": 200, "loss": 0.5})
        self.store.note(self.token, "checkpoint", f"checkpoint at step {self.step}")
        self.wait_for(f"live-{self.run}", "events")

    def add_link(self) -> None:
        """Let there be one more thing to read, before the logs."""
        preview = self.site.bench.client.run_dir(self.run).dataset / "preview.html"
        preview.parent.mkdir()
        preview.write_text("<!doctype html><p>rows")
        self.wait_for("links")

    def end(self) -> None:
        self.store.fail(self.token, RunError("user", "the training diverged", ""))
        self.wait_for("end")

    def press(self, element: Locator) -> None:
        element.hover()
        self.page.mouse.down()

    @property
    def log(self) -> Locator:
        return self.page.get_by_role("link", name="Log of prepare")


@pytest.fixture(scope="module")
def context(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    with person(browser, site, viewport={"width": 240, "height": 800}) as context:
        yield context


@pytest.fixture
def shown(site: Site, context: BrowserContext) -> Iterator[Shown]:
    with watched(context) as page:
        yield Shown(site, page, f"{next(NUMBERS):08x}")


def test_what_comes_before_a_pressed_link_is_released_doesnt_take_its_click(shown: Shown) -> None:
    shown.press(shown.log)
    shown.add_link()
    shown.page.mouse.up()
    shown.page.wait_for_url("**/logs/prepare")


def test_the_end_of_a_run_doesnt_bring_back_who_is_leaving(shown: Shown) -> None:
    answers = list[Route]()
    shown.page.route("**/logs/prepare", lambda route: answers.append(route))
    shown.press(shown.log)
    shown.end()
    shown.page.mouse.up()
    shown.until(lambda: answers)
    answers[0].continue_()
    shown.page.wait_for_url("**/logs/prepare")


def test_what_comes_while_the_pointer_is_pressed_is_shown_after(shown: Shown) -> None:
    told = shown.page.locator(".told")
    shown.press(shown.page.get_by_role("heading", name="Events"))
    shown.move()
    assert "step 120" in told.inner_text()
    shown.page.mouse.up()
    shown.page.evaluate("new Promise((done) => setTimeout(done, 1))")
    assert "step 121" in told.inner_text()
    shown.press(shown.log)
    shown.page.mouse.move(0, 0, steps=4)  # the link is dragged away: nobody is told that it is released
    shown.move()
    expect(told).to_contain_text("step 122")


def test_the_focus_stays(shown: Shown) -> None:
    shown.log.focus()
    shown.add_link()
    assert shown.page.evaluate(FOCUSED) == "Log of prepare"
    shown.page.get_by_role("button", name="Cancel").focus()
    shown.store.keep(shown.run, True)
    shown.wait_for("actions")
    assert shown.page.evaluate(FOCUSED) == "Cancel"


def test_the_selection_stays(shown: Shown) -> None:
    event, told = shown.page.locator("#events li").first, shown.page.locator(".told")
    event.locator("span").click(click_count=3)
    selected = shown.page.evaluate(SELECTED)
    assert selected.strip() in event.inner_text()
    shown.move()
    assert shown.page.evaluate(SELECTED) == selected
    told.evaluate("({firstChild: text}) => getSelection().setBaseAndExtent(text, 0, text, text.length)")
    shown.move()
    assert "step 122" in shown.page.evaluate(SELECTED) == told.inner_text()


def test_a_part_stays_where_it_is_scrolled_to(shown: Shown) -> None:
    shown.page.evaluate("document.querySelector('#stages .wide').scrollLeft = 20")
    shown.store.succeed(shown.token, None, [])
    shown.wait_for("stages")
    assert shown.page.evaluate("document.querySelector('#stages .wide').scrollLeft") == 20


def test_a_form_is_sent_once(shown: Shown) -> None:
    answers = list[Route]()
    shown.page.route("**/cancel", lambda route: answers.append(route))
    shown.press(shown.page.get_by_role("button", name="Cancel"))
    shown.page.mouse.up()
    shown.until(lambda: answers)
    shown.store.keep(shown.run, True)
    shown.wait_for("actions")
    shown.page.mouse.down()
    shown.page.mouse.up()
    answers[0].continue_()
    shown.page.wait_for_event("load")
    assert len(answers) == 1


def test_a_question_outlives_the_end_of_the_run(shown: Shown) -> None:
    shown.run = shown.site.runs.finish(f"{next(NUMBERS):08x}", "again")
    shown.store.retry(shown.run, "infer")
    shown.token = shown.site.bench.client.store.claim(shown.run, "infer", 2, "gpu-1", 3600.0)
    shown.open()
    shown.page.get_by_label("Question").fill("How much pre")
    shown.end()
    expect(shown.page.locator(".lead-state")).to_contain_text("failed")
    shown.page.keyboard.type("ssure?")
    assert shown.page.get_by_label("Question").input_value() == "How much pressure?"


def test_the_bar_grows_and_a_new_status_is_said(shown: Shown) -> None:
    shown.page.evaluate("window.bar = document.querySelector('progress')")
    shown.move()
    assert shown.page.evaluate("[bar.isConnected, bar.value]") == [True, 60.5]
    assert shown.page.locator("#said").inner_text() == ""
    shown.store.pause(shown.run)
    expect(shown.page.locator("#said")).to_have_text(f"{SYMBOLS['running']} pausing")


def test_ages_grow(shown: Shown) -> None:
    page = shown.page
    page.clock.install()
    for address in ("/", f"/runs/{shown.run}"):
        page.goto(shown.site.url + address)
        age = page.locator(f'li:has([href="/runs/{shown.run}"]) time' if address == "/" else "header p").first
        expect(age).to_contain_text(re.compile(r"\b\d+s ago"))
        page.clock.fast_forward("03:00")
        expect(age).to_contain_text(re.compile(r"\b3m ago"))
        page.clock.fast_forward(3 * 86_400_000)
        expect(age).to_contain_text(re.compile(r"\b3d ago"))
    assert page.evaluate("[0, 59.4, 60, 3599, 3600, 86399, 86400, 9e6, -3].map(short)") == [
        short(seconds) for seconds in (0, 59.4, 60, 3599, 3600, 86399, 86400, 9e6, -3)
    ]


def html(random: Random, depth: int = 0) -> str:
    """A piece of a page: nodes of a few kinds, some with an id or an address."""
    kinds = ["", f"step {random.randrange(200)} of 200", "other <!-- words --> of it", "<p>", "<p title=a>",
             "<progress value=3></progress>", "<b class=stop>", f"<li id=e{random.randrange(4)}>",
             f"<a href=/{random.randrange(4)}>", "<svg><path d=M1/>"]  # fmt: skip
    drawn = random.choices(kinds, k=random.randrange(6)) if depth < 3 else []
    return "\n".join(one + (html(random, depth + 1) if one.startswith("<") else "") for one in drawn)


def test_what_the_server_says_is_there_whatever_was(shown: Shown) -> None:
    random = Random(7)
    texts = [html(random) for _ in range(400)]
    different = """texts => { const [place, fresh] = [document.createElement("div"), document.createElement("div")];
      const differs = (text) => { put(place, text); fresh.innerHTML = text; return !place.isEqualNode(fresh); };
      return texts.filter(differs); }"""
    assert len({*texts}) > 200
    assert shown.page.evaluate(different, texts) == []


def test_what_the_reader_has_opened_and_typed_stays(shown: Shown) -> None:
    opened = """() => { const place = document.getElementById("events");
      const said = (title) => `<details title=${title}><p>b</p></details><input title=${title}><textarea>c</textarea>`;
      put(place, said("first"));
      const [details, input, area] = place.children;
      [details.open, input.value, area.value] = [true, "typed", "typed too"];
      put(place, said("second"));
      return [details.isConnected, details.open, details.title, input.value, area.value]; }"""
    assert shown.page.evaluate(opened) == [True, True, "second", "typed", "typed too"]
