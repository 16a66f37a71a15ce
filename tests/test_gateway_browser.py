"""The page of `ftq serve` in a real browser: it moves by itself, its forms work, and it fits every screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pages
import pytest
from page_site import PATIENCE, Site, person, watched
from page_tools import every_state
from playwright.sync_api import Browser, BrowserContext, Page, expect

from gateway import models
from tests.gateway_tools import serving
from tests.tools import until

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
STEP = "Number((document.querySelector('.told').textContent.match(/step (\\d+)/) || [0, 0])[1])"
VALUE = "document.querySelector('progress').value"


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    try:
        site.bench.start_broker()
        site.bench.start_worker()
        with serving(site.app) as site.url:
            yield site
            site.app.state.gateway.stopping = True  # as gateway.program says when it is told to end
    finally:
        site.bench.close()


@pytest.fixture
def site(started: Site) -> Iterator[Site]:
    """Free for the next test afterwards: what a failed one has left at work would keep the only worker."""
    yield started
    for run in started.bench.client.all():
        if not run.is_finished:
            started.bench.client.cancel(run.id)
    until(lambda: all(run.is_finished for run in started.bench.client.all()))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pages.browser() as browser:
        yield browser


@pytest.fixture
def context(browser: Browser, site: Site) -> Iterator[BrowserContext]:
    with person(browser, site) as context:
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return watched(context)


def grown(page: Page, number: str, beyond: float = 0) -> float:
    """The number, as soon as it is greater. Playwright's own waiting compiles text, which the page's policy bars."""
    return float(until(lambda: (value := page.evaluate(number)) > beyond and value, seconds=PATIENCE / 1000))


def submit(page: Page, site: Site, name: str, options: str) -> None:
    """Fill the form in, look at the dry run, submit."""
    page.goto(site.url)
    page.get_by_role("link", name="Submit a run").click()
    page.get_by_label("Base model").fill("smollm2-135m")
    page.get_by_label("A folder on the server").fill("handbook")
    page.get_by_label("Name").fill(name)
    page.get_by_text("More options").click()
    page.get_by_label("One key=value in a line").fill(options)
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_role("heading", name="What would come of it")).to_be_visible()
    expect(page.locator(".lines")).to_contain_text("1 document")
    assert not [run for run in site.bench.client.all() if run.name == name]
    page.get_by_role("button", name="Submit it").click()
    page.wait_for_url("**/runs/*")


def test_a_run_is_submitted_watched_and_cancelled(site: Site, page: Page) -> None:
    submit(page, site, "watched", "max_steps=100000\nsave_steps=20")
    first = grown(page, STEP)
    page.evaluate("window.neverReloaded = true")
    grown(page, STEP, first)
    expect(page.locator("#stages tr", has_text="train")).to_contain_text("running")
    expect(page.locator("#events")).to_contain_text("checkpoint at step")
    grown(page, VALUE, page.evaluate(VALUE))
    assert page.evaluate("window.neverReloaded") is True

    page.goto(site.url)  # the list moves too
    later = grown(page, STEP, first)
    page.evaluate("window.neverReloaded = true")
    grown(page, STEP, later)
    assert page.evaluate("window.neverReloaded") is True

    other = site.runs.add("other111", "submitted-elsewhere")
    expect(page.get_by_role("link", name="There is a new run: submitted-elsewhere")).to_be_visible()
    site.bench.client.cancel(other)

    page.get_by_role("link", name="watched").click()
    page.get_by_role("link", name="Log of train").click()
    [run] = [run for run in site.bench.client.all() if run.name == "watched"]
    with site.bench.client.run_dir(run.id).log("train").open("a") as log:
        log.write("<b>a line that comes later</b>\n")
    expect(page.locator("#log")).to_contain_text("<b>a line that comes later</b>")
    page.go_back()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".lead-state")).to_contain_text("cancelled")
    expect(page.get_by_role("button", name="Retry")).to_be_visible()  # the page has loaded itself again
    until(lambda: site.bench.client.find(run.id).is_finished)
    assert site.bench.client.find(run.id).status == "cancelled"
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    page.wait_for_url(site.url + "/")
    assert not [one for one in site.bench.client.all() if one.id == run.id]


def test_a_run_ends_while_it_is_looked_at_and_can_be_asked(
    site: Site, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "resolve", lambda gateway, key, name: models.Served(name, Path(), None, 0, ""))
    submit(page, site, "asked", "max_steps=20")
    page.get_by_label("Question").fill("How much\n<b>pressure</b>?")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".turn > p")).to_have_text("How much\n<b>pressure</b>?")
    expect(page.locator(".turn .base p")).to_have_text("smollm2-135m was asked: How much\n<b>pressure</b>?")
    expect(page.locator(".turn .tuned h3")).to_have_text("asked:1, tuned")
    [run] = [run for run in site.bench.client.all() if run.name == "asked"]
    expect(page.locator(".turn .tuned p")).to_have_text(f"{run.id} was asked: How much\n<b>pressure</b>?")
    assert sorted(order.most or 0 for order in site.answerer.orders) == [512, 512]

    monkeypatch.setattr(models, "resolve", lambda gateway, key, name: (_ for _ in ()).throw(models.not_found(name)))
    page.get_by_label("Question").fill("And now?")
    page.get_by_role("button", name="Ask both").click()
    expect(page.locator(".turn").first).to_contain_text(f"No answer: The model `{run.id}` does not exist")


def test_files_are_uploaded_from_the_browser(site: Site, page: Page, tmp_path: Path) -> None:
    paths = [tmp_path / "a pump.md", tmp_path / "zähler.md"]
    for path in paths:
        path.write_text(f"# {path.stem}\n\nIts pressure is 2 bar.\n" * 5)
    page.goto(site.url + "/submit")
    page.get_by_label("Base model").fill("smollm2-135m")
    page.get_by_label("files from this computer").set_input_files(paths)
    page.get_by_label("Name").fill("uploaded")
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_text("Uploaded: 2 files: a pump.md, zähler.md")).to_be_visible()
    page.get_by_role("button", name="Submit it").click()
    page.wait_for_url("**/runs/*")
    [run] = [run for run in site.bench.client.all() if run.name == "uploaded"]
    kept = sorted(path.name for path in site.bench.client.run_dir(run.id).documents.iterdir())
    assert kept == ["a pump.md", "zähler.md"]
    until(lambda: site.bench.client.find(run.id).is_finished)


def test_without_scripts_everything_can_be_read_and_submitted(site: Site, browser: Browser) -> None:
    with person(browser, site, java_script_enabled=False) as context:
        page = context.new_page()
        submit(page, site, "unscripted", "max_steps=4")
        [run] = [run for run in site.bench.client.all() if run.name == "unscripted"]
        until(lambda: site.bench.client.find(run.id).is_finished)
        page.reload()
        expect(page.locator(".lead-state")).to_contain_text("succeeded")
        expect(page.locator("noscript p")).to_be_visible()
        assert not page.locator("form.ask").is_visible()
        page.get_by_role("button", name="Keep", exact=True).click()
        expect(page.get_by_role("button", name="Don't keep")).to_be_visible()
        page.get_by_role("link", name="Log of train").click()
        expect(page.get_by_role("heading", name="Log of train")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        page.goto(site.url)
        assert page.url == site.url + "/login"


def test_another_site_can_neither_press_a_button_nor_frame_a_page(site: Site, browser: Browser) -> None:
    run = site.runs.add("csrf1111", "csrf")
    site.bench.client.pause(run)  # or the worker would do it in a few seconds
    with person(browser, site) as context:
        page = context.new_page()
        evil = f"http://localhost:{site.url.rpartition(':')[2]}/login"  # another site to the browser: its name differs
        page.goto(evil)
        page.evaluate(
            """action => { const form = document.createElement("form");
            Object.assign(form, {method: "post", action}); document.body.append(form); }""",
            f"{site.url}/runs/{run}/cancel",
        )
        assert page.evaluate("document.querySelectorAll('form').length") == 2
        page.set_content("<iframe src=/login></iframe>")
        assert all("Log in" not in frame.content() for frame in page.frames[1:])
        answer = context.request.post(f"{site.url}/runs/{run}/cancel", headers={"origin": "http://evil.example"})
        assert answer.status == 403
    assert site.bench.client.find(run).status != "cancelled"
    site.bench.client.cancel(run)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Site]:
    """A gateway with a run in every state, where nothing moves."""
    site = Site(tmp_path_factory.mktemp("shelf"))
    every_state(site.runs)
    with serving(site.app) as site.url:
        yield site
    site.bench.client.close()


@pytest.mark.parametrize("width", [360, 768, 1600])
def test_no_page_scrolls_sideways_and_each_is_dark_in_the_dark(shelf: Site, browser: Browser, width: int) -> None:
    papers = set[str]()
    for scheme in ("light", "dark"):
        viewport: Any = {"width": width, "height": 800}
        with person(browser, shelf, viewport=viewport, color_scheme=scheme) as context:
            page = watched(context)
            ids = [run.id for run in shelf.bench.client.all()]
            more = ("/runs/aaaa1111/logs/train", "/runs/aaaa1111/delete")
            for path in ("/", "/submit", "/nowhere", *(f"/runs/{one}" for one in ids), *more):
                page.goto(shelf.url + path)
                assert (path, page.evaluate(SIDEWAYS)) == (path, 0)
                papers.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert papers == {"rgb(251, 251, 250)", "rgb(20, 24, 28)"}


def test_the_keyboard_reaches_everything_and_shows_where_it_is(shelf: Site, browser: Browser) -> None:
    with person(browser, shelf, reduced_motion="reduce") as context:
        page = watched(context)
        page.goto(f"{shelf.url}/runs/eeee5555")
        seen = list[str]()
        for _ in range(9):
            page.keyboard.press("Tab")
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            seen.append(page.evaluate("document.activeElement.textContent.trim()"))
            assert (seen[-1], outline) == (seen[-1], "solid")
        assert seen == ["Skip to the content", "ftq", "Runs", "Submit", "Log out", "Pause", "Cancel", "Keep",
                            "Report"]  # fmt: skip
        style = "getComputedStyle(document.querySelector('progress'), '::-webkit-progress-value').transitionDuration"
        assert page.evaluate(style) in ("0s", "")
        tree = page.locator("body").aria_snapshot()
        for line in ('heading "handbook-2" [level=1]', 'progressbar "Progress of train"', 'button "Cancel"',
                     'navigation "Pages"', "table", 'columnheader "Stage"', 'heading "Events" [level=2]'):  # fmt: skip
            assert line in tree
