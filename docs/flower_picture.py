"""Takes docs/flower.png: Flower's task list in the middle of a real training. `python docs/flower_picture.py`

Starts `ftq up` in a folder of its own and submits three runs on ftq's manual: one to finish, one to be seen at work,
one to wait. Needs chromium; the first time it builds the base model, as `make demo` does.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import sync_playwright

from ftq.client.client import Client
from ftq.programs import UpOptions
from ftq.settings import Settings

ROOT = Path(__file__).parents[1]
PORT = 5577
SEEN = """() => [...document.querySelectorAll('#tasks-table tbody tr')].some(
  row => row.innerText.includes('STARTED') && parseFloat(row.cells[3].innerText) >= 10)"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ftq-picture-") as folder:
        home = Path(folder) / "artifacts"
        environment = os.environ | {"FTQ_HOME": str(home), "PYTHONPATH": str(ROOT)}
        command = UpOptions(port=PORT).argv()
        up = subprocess.Popen(command, cwd=ROOT, env=environment)
        try:
            _until(lambda: (home / "flower" / "state.dir").exists())  # Flower is up, and hears what follows
            _submit(Client(Settings.from_env(environment)))
            _take(ROOT / "docs" / "flower.png", (home / "flower" / "login").read_text().strip())
        finally:
            up.send_signal(signal.SIGINT)
            up.wait()


def _submit(client: Client) -> None:
    steps = {"first-try": 2, "manual": 40, "manual-again": 40}
    for name, most in steps.items():
        options = {"model": "smollm2-135m", "documents": str(ROOT / "documents"), "max_steps": most, "r": 32,
                   "max_seq_length": 256, "batch_size": 4, "gradient_accumulation_steps": 1, "quantizations": ["q8_0"],
                   "learning_rate": 0.001}  # fmt: skip
        client.submit(options, name=name)
    _until(lambda: client.find("first-try").is_finished)


def _take(picture: Path, login: str) -> None:
    user, _, password = login.partition(":")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        size = {"width": 1480, "height": 600}
        context = browser.new_context(http_credentials={"username": user, "password": password}, viewport=size)
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{PORT}/tasks")
        page.wait_for_function(SEEN, timeout=1_800_000)
        page.screenshot(path=picture)
        browser.close()
    print(f"{picture}: {picture.stat().st_size // 1000} kB")


def _until(reached: Callable[[], bool], seconds: float = 1800) -> None:
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            sys.exit("this took too long; the logs are in the artifacts folder")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
