"""The page of `ftq serve` as a site, and who looks at it in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_tools import Answerer, Runs
from playwright.sync_api import Browser, BrowserContext, Page, expect
from starlette.applications import Starlette

from tests.gateway_tools import make_gateway
from tests.tools import Bench

PATIENCE = 90_000  # milliseconds that a busy machine may need for what takes one second


class Site:
    """A gateway over a machine whose worker's stages are fakes. `url` is where it is, `secret` an admin's key."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench(folder / "artifacts", "tests.fake_worker")
        self.folder = folder / "shelf"
        (self.folder / "handbook").mkdir(parents=True)
        (self.folder / "handbook" / "pump.md").write_text("# Pump\n\nThe pressure of the pump is 2 bar.\n" * 12)
        self.app: Starlette
        self.app, self.secret = make_gateway(self.bench.settings.home, documents=str(self.folder))
        self.answerer = vars(self.app.state.gateway)["answering"] = Answerer()
        self.url = ""

    @property
    def runs(self) -> Runs:
        return Runs(self.bench.client.store, self.bench.settings.home)


def person(browser: Browser, site: Site, **settings: Any) -> BrowserContext:
    """A browser whose user has logged in, by the form."""
    expect.set_options(timeout=PATIENCE)
    context = browser.new_context(**settings)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(site.url + "/submit")
    page.get_by_label("Key", exact=True).fill(site.secret)
    page.keyboard.press("Enter")
    page.wait_for_url(site.url + "/submit")  # where the person wanted to go
    page.close()
    return context


def watched(context: BrowserContext) -> Page:
    """A page of which a script's error, and a thing that its policy bars, fails the test."""
    page = context.new_page()
    page.on("pageerror", lambda error: pytest.fail(f"error in the page: {error}"))
    page.on("console", lambda said: pytest.fail(said.text) if "Content Security Policy" in said.text else None)
    return page
