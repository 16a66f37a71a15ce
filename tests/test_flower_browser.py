"""Flower's pages in a real browser: the columns move by themselves, and Terminate is a clean cancel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pages
import pytest
from flower_tools import LOGIN, PATIENCE, Bench, until
from playwright.sync_api import Browser, BrowserContext, Error, Page, Route

from ftq.store.records import Run

pytestmark = pytest.mark.long
USER, _, PASSWORD = LOGIN.partition(":")

# The text of a row's cells, by column.
CELLS = """id => {
  const row = document.getElementById(id);
  const names = [...document.querySelectorAll('#tasks-table thead th')].map(head => head.dataset.column);
  return row && Object.fromEntries(names.map((name, index) => [name, row.cells[index].innerText.trim()]));
}"""
# The same of a task's page, by the rows' names.
ROWS = """() => Object.fromEntries([...document.querySelectorAll('.detail-row')].map(
  row => [row.querySelector('dt').innerText.trim(), row.querySelector('dd').innerText.trim()]))"""

# The page is bright again once it has shown the server's next answer, or left it out.
DIM = "document.getElementById('main-content').style.opacity = 0.5"
BRIGHT = "document.getElementById('main-content').style.opacity === ''"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A broker, two workers and Flower with its controls."""
    bench = Bench(tmp_path_factory.mktemp("flower") / "artifacts")
    try:
        bench.start_broker()
        bench.start_flower()
        for _ in range(2):
            bench.start_worker()
        yield bench
    finally:
        bench.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pages.browser() as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(http_credentials={"username": USER, "password": PASSWORD})
    context.set_default_timeout(PATIENCE * 1000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A page of somebody who has the login; a script's error or a dialog fails the test."""
    page = context.new_page()
    page.on("pageerror", lambda error: pytest.fail(f"error in the page: {error}"))
    page.on("dialog", lambda dialog: pytest.fail(f"the page opened a dialog: {dialog.message}"))
    return page


@pytest.fixture
def run(bench: Bench, request: pytest.FixtureRequest) -> Iterator[Run]:
    """A run that trains until it is stopped; cancelled after the test."""
    run = bench.start_long_run(request.node.name.removeprefix("test_")[:80])
    yield run
    bench.client.cancel(run.id)
    until(lambda: bench.client.find(run.id).is_finished)


def mark(page: Page) -> None:
    """What a reload of the page would wipe out."""
    page.evaluate("window.neverReloaded = true")


def marked(page: Page) -> bool:
    return bool(page.evaluate("window.neverReloaded === true"))


def open_list(page: Page, bench: Bench, task: str) -> dict[str, str]:
    """The cells of the task's row, once it shows progress."""
    page.goto(f"{bench.url}/tasks")
    page.wait_for_function(f"id => (({CELLS})(id) || {{}}).progress", arg=task)
    cells: dict[str, str] = page.evaluate(CELLS, task)
    return cells


def open_task(page: Page, bench: Bench, task: str) -> dict[str, str]:
    """The rows of the task's page, once they show progress."""
    page.goto(f"{bench.url}/task/{task}")
    page.wait_for_function(f"() => ({ROWS})().Step")
    rows: dict[str, str] = page.evaluate(ROWS)
    return rows


def test_the_list_moves_by_itself(bench: Bench, page: Page, run: Run) -> None:
    task = f"{run.id}.train.1"
    first = open_list(page, bench, task)
    mark(page)
    assert (first["name"], first["args"], first["state"]) == ("ftq.train", f"{run.name} (smollm2-135m)", "STARTED")
    for column in ("step", "loss", "time_left", "progress"):
        page.wait_for_function(
            f"([id, column, text]) => ({CELLS})(id)[column] !== text", arg=[task, column, first[column]]
        )
    later = page.evaluate(CELLS, task)
    assert marked(page)
    assert later["state"] == "STARTED"
    assert int(later["step"].split("/")[0]) > int(first["step"].split("/")[0])
    assert float(later["loss"]) < float(first["loss"])
    assert float(later["progress"].rstrip("%")) > float(first["progress"].rstrip("%"))


def test_the_filters_hold_while_it_moves(bench: Bench, page: Page, run: Run) -> None:
    task, before = f"{run.id}.train.1", f"{run.id}.prepare.1"
    open_list(page, bench, task)
    page.get_by_role("button", name="Succeeded").click()
    page.wait_for_function("id => !document.getElementById(id)", arg=task)
    assert page.evaluate(CELLS, before)["state"] == "SUCCESS"
    page.get_by_role("button", name="Started").click()
    page.wait_for_function("id => !document.getElementById(id)", arg=before)
    step = page.evaluate(CELLS, task)["step"]
    page.wait_for_function(f"([id, step]) => ({CELLS})(id).step !== step", arg=[task, step])
    assert set(page.locator("#tasks-table tbody tr td:nth-child(3)").all_inner_texts()) == {"STARTED"}


def test_the_tasks_page_moves_by_itself(bench: Bench, page: Page, run: Run) -> None:
    first = open_task(page, bench, f"{run.id}.train.1")
    mark(page)
    for row in ("Step", "Loss", "Time left", "Progress"):
        page.wait_for_function(f"([row, text]) => ({ROWS})()[row] !== text", arg=[row, first[row]])
    assert marked(page)
    assert page.evaluate(ROWS)["Status"] == "STARTED"


def test_what_is_pressed_or_has_the_focus_outlasts_a_reload(bench: Bench, page: Page, run: Run) -> None:
    task = f"{run.id}.train.1"
    open_list(page, bench, task)
    for address in (f"{bench.url}/tasks", f"{bench.url}/task/{task}"):
        page.goto(address)
        link = page.locator(f"[id='{task}'] a, .task-name-value a").first
        link.focus()
        href = page.evaluate("document.activeElement.href")
        page.evaluate(DIM)
        page.wait_for_function(BRIGHT)
        assert (page.evaluate("document.activeElement.href"), bool(href)) == (href, True)
        link.hover()
        press_during_a_look(page)
        page.wait_for_url(href)


def press_during_a_look(page: Page) -> None:
    """Press and release what is under the pointer; an answer that the page has asked for before comes in between."""
    looks = list[Route]()
    page.route(lambda url: "/task" in url, lambda route: looks.append(route))
    until(lambda: page.wait_for_timeout(10) or looks)
    page.mouse.down()
    page.evaluate(DIM)
    looks[0].continue_()
    page.wait_for_function(BRIGHT)
    page.unroute_all()
    page.mouse.up()


def test_terminate_is_a_clean_cancel(bench: Bench, page: Page, run: Run) -> None:
    page.goto(f"{bench.url}/task/{run.id}.train.1")
    page.get_by_role("button", name="Terminate").click()
    page.wait_for_function(f"() => ({ROWS})().Status === 'REVOKED'")
    bench.wait_for(run.name, "cancelled")
    events = [event.kind for event in bench.client.store.events(run.id)]
    ended = events[events.index("cancelled") :]
    assert (ended[0], {*ended[1:-1]}, ended[-1]) == ("cancelled", {"checkpoint"}, "cancelled")
    assert list(bench.client.run_dir(run.id).checkpoints.glob("1/*.json"))
    page.wait_for_selector("#task-terminate", state="detached")
    open_list(page, bench, f"{run.id}.train.1")
    assert page.evaluate(CELLS, f"{run.id}.train.1")["state"] == "REVOKED"
    after = bench.submit("after-" + run.name)
    bench.wait_for(after.name)  # and its worker is free


def test_without_the_login_there_is_nothing_to_see(bench: Bench, browser: Browser) -> None:
    paths = ("/tasks", "/", "/broker", "/metrics")
    with browser.new_context() as stranger:
        page = stranger.new_page()
        for path in paths:
            with pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):
                page.goto(bench.url + path)
    with browser.new_context(http_credentials={"username": USER, "password": "wrong"}) as stranger:
        page = stranger.new_page()
        for path in paths:
            answer = page.goto(bench.url + path)
            assert answer
            assert (answer.status, page.inner_text("body")) == (401, "Login needed")


def test_a_page_of_another_site_cannot_terminate(bench: Bench, page: Page, run: Run) -> None:
    """The browser has the login; the other page is one port and name away, and forges what a form could send."""
    open_list(page, bench, f"{run.id}.train.1")
    answers: list[tuple[str, int]] = []
    page.context.on("response", lambda answer: answers.append((answer.request.method, answer.status)))
    other = page.context.new_page()
    other.route("http://evil.test/", lambda route: route.fulfill(content_type="text/html", body="<p>Hello</p>"))
    near = bench.url.replace("127.0.0.1", "localhost") + "/healthcheck"  # the browser lets this one ask, Flower doesn't
    for site, expected in {"http://evil.test/": [], near: [403]}.items():
        other.goto(site)
        answers.clear()
        other.evaluate(
            """address => fetch(address, {method: 'POST', mode: 'no-cors', credentials: 'include',
                 body: new URLSearchParams({terminate: 'true'})}).catch(() => null)""",
            f"{bench.url}/api/task/revoke/{run.id}.train.1",
        )
        until(lambda expected=expected: posts(other, answers) == expected)
    frame = f"<iframe src='{bench.url}/task/{run.id}.train.1'></iframe>"
    other.route("http://evil.test/frame", lambda route: route.fulfill(content_type="text/html", body=frame))
    other.goto("http://evil.test/frame")
    assert other.frames[1].query_selector("#task-terminate") is None
    step = bench.steps(run)
    until(lambda: bench.steps(run) > step + 60)  # 3 s: it would have been stopped
    assert bench.client.find(run.id).status == "running"


def posts(page: Page, answers: list[tuple[str, int]]) -> list[int]:
    """The statuses of the answers to POST that the browser has told of by now."""
    page.evaluate("1")
    return [status for method, status in answers if method == "POST"]


def test_read_only_shows_no_button(bench: Bench, page: Page, run: Run) -> None:
    bench.stop_flower()
    bench.start_flower(control=False)
    try:
        first = open_task(page, bench, f"{run.id}.train.1")
        assert page.query_selector("#task-terminate") is None
        refused: Any = page.evaluate(
            "id => fetch('/api/task/revoke/' + id + '?terminate=true', {method: 'POST'}).then(answer => answer.status)",
            f"{run.id}.train.1",
        )
        assert refused == 403
        page.wait_for_function(f"step => ({ROWS})().Step !== step", arg=first["Step"])  # it shows all the same
    finally:
        bench.stop_flower()
        bench.start_flower()


def test_an_open_list_survives_a_restart_of_flower(bench: Bench, page: Page, run: Run) -> None:
    task = f"{run.id}.train.1"
    open_list(page, bench, task)
    mark(page)
    bench.stop_flower()
    page.wait_for_function("() => document.getElementById('main-content').style.opacity === '0.4'")
    step = page.evaluate(CELLS, task)["step"]
    bench.start_flower()
    page.wait_for_function("() => document.getElementById('main-content').style.opacity === ''")
    page.wait_for_function(f"([id, step]) => ({CELLS})(id).step !== step", arg=[task, step])
    assert marked(page)
    assert page.evaluate(CELLS, f"{run.id}.prepare.1")["state"] == "SUCCESS"  # no event has come of this one since


def test_the_pictures_folder_of_the_readme_has_the_list() -> None:
    picture = Path(__file__).parents[1] / "docs" / "flower.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 150_000
