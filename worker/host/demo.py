"""`make demo`: the whole way on this machine, in one go.

Starts everything, trains SmolLM2-135M on ftq's own manual, and asks the base model and the new one the same
questions. Run again unchanged, every stage is a cache hit.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftq.client import view
from ftq.client.client import Client
from ftq.errors import FtqError, printable
from ftq.files.run_dir import read_jsonl
from ftq.programs import end
from ftq.settings import Settings
from ftq.spec.given import read_config
from worker.host import appliance
from worker.llama.answer import Question
from worker.llama.base import base_gguf
from worker.llama.pool import Pool
from worker.machine.leash import leashed

MODEL = "smollm2-135m"
QUESTIONS = [
    "Which command stops a run that I no longer want?",
    "Where does ftq keep the answers to my test prompts?",
    "What happens to a run when its worker crashes?",
]
OWN_QUESTIONS = "demo-questions.json"  # 20 in other words than the manual's
CONFIG = "demo.yaml"
# What the demo's run is asked to do beyond that file.
OPTIONS: dict[str, str | list[str]] = {
    "model": MODEL,
    "documents": "documents",
    "quantizations": ["q8_0"],
    "prompts": QUESTIONS,
    "questions_file": OWN_QUESTIONS,
}
FLAGS = {"model": "--model", "documents": "--documents", "quantizations": "--quant", "prompts": "--prompt"}
FTQ = str(Path(sys.executable).with_name("ftq"))
UP = [FTQ, "up"]  # tests put a `ftq up` here whose stages take no time
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SILENCE = 30.0  # seconds at most between two lines where no terminal shows a view that stays
SHOW_CURSOR = "\x1b[?25h"  # a view that is ended in the middle leaves it hidden


def main() -> None:
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as `nohup make demo` wants it
            signal.signal(number, _stop)
    try:
        with contextlib.closing(Client(Settings.from_env())) as client, _up() as up:
            demo = Demo(client, up)
            with contextlib.nullcontext() if sys.stdout.isatty() else demo.signs_of_life():
                code = demo.run()
    except FtqError as error:
        end(error)
    sys.exit(code)


def _stop(number: int, _: Any) -> None:
    sys.exit(128 + number)  # by way of every `finally`


@contextlib.contextmanager
def _up() -> Iterator[subprocess.Popen[bytes]]:
    """`ftq up`, for as long as the block: it ends with the block and with this process, however that ends."""
    up = subprocess.Popen(leashed(UP))
    try:
        yield up
    finally:
        for number in SIGNALS:  # a second signal changes nothing: it stops already
            signal.signal(number, signal.SIG_IGN)
        up.terminate()
        up.wait()


class Demo:
    """The demo beside its `ftq up`. Each wait ends with an FtqError as soon as `ftq up` has ended."""

    def __init__(self, client: Client, up: subprocess.Popen[bytes]) -> None:
        self.client, self.up = client, up
        self.began = time.monotonic()
        self.run_id = ""

    def run(self) -> int:
        """Run the demo and return its exit code."""
        self._wait_for_workers()
        self.run_id = self._interrupted() or self._submit()
        if self._call([FTQ, "status", self.run_id, "--watch"]).returncode:
            return 1
        if all(stage.cached for stage in self.client.find(self.run_id).stages):
            print("\nNothing has changed since the last time: every stage was a cache hit.", flush=True)
        _compare(self.client, self.run_id)
        _what_next(self.client, self.run_id, time.monotonic() - self.began)
        return 0

    @contextlib.contextmanager
    def signs_of_life(self) -> Iterator[None]:
        """Print a line at least every SILENCE seconds."""
        done = threading.Event()

        def tell() -> None:
            while not done.wait(SILENCE):
                print(f"demo      {time.monotonic() - self.began:.0f} s: {self._state()}", flush=True)

        threading.Thread(target=tell, daemon=True).start()
        try:
            yield
        finally:
            done.set()

    def _state(self) -> str:
        """What is being waited for, in a line."""
        if not self.run_id:
            return "the workers start"
        try:
            run = self.client.find(self.run_id)
        except FtqError as error:
            return error.message
        if run.current is None:
            return "the base model is asked the same questions"
        percent = (view.progress(run) or {}).get("percent") if run.current.status == "running" else None
        return f"{run.current.name} is {run.current.status}" + (f", {percent:.0f} %" if percent else "")

    def _wait_for_workers(self) -> None:
        """Wait for the workers of this `ftq up`; another one's don't count."""
        queues = set[str]()
        while not {"cpu", "gpu", "ask"} <= queues:
            self._check_up()
            time.sleep(0.2)
            live = self.client.store.live_workers()
            queues = set[str]().union(*(live[name] for name in live if f"-{self.up.pid}@" in name))

    def _interrupted(self) -> str:
        """The id of the run that a demo was stopped in; empty if there is none. A new one would only wait for it."""
        with contextlib.suppress(FtqError):  # what is wrong with the documents, submit says
            run = appliance.find(self.client, {**read_config(Path(CONFIG)), **OPTIONS})
            if run and run.status in ("queued", "running"):
                print(f"{run.name} goes on: an earlier demo was stopped in it", flush=True)
                return run.id
        return ""

    def _submit(self) -> str:
        """Submit the run and return its id. FtqError with the command's own words if it is refused."""
        command = [FTQ, "submit", "--json", "--config", CONFIG, *_typed(OPTIONS)]
        submitted = self._call(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if submitted.returncode:
            why = submitted.stderr.decode(errors="replace").strip()
            raise FtqError(f"the run was refused\n{why}", "Correct that, then `make demo` again.")
        return str(json.loads(submitted.stdout)["id"])

    def _call(self, command: list[str], **how: Any) -> subprocess.CompletedProcess[bytes]:
        """Run the command. FtqError if `ftq up` ends meanwhile."""
        with subprocess.Popen(leashed(command), **how) as process:
            try:
                while True:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        out, err = process.communicate(timeout=0.2)
                        return subprocess.CompletedProcess(command, process.returncode, out, err)
                    self._check_up()
            except BaseException:
                process.kill()
                print(SHOW_CURSOR if sys.stdout.isatty() else "", end="", flush=True)
                raise

    def _check_up(self) -> None:
        if (code := self.up.poll()) is not None:
            logs = self.client.settings.home / "logs"
            message = f"`ftq up` ended with exit code {code} before the demo was done"
            raise FtqError(message, f"What it said is above, its workers' logs are in {logs}. Then `make demo` again.")


def _typed(options: Mapping[str, str | list[str]]) -> Iterator[str]:
    """Options as they are typed after `ftq submit`."""
    for name, value in options.items():
        for one in [value] if isinstance(value, str) else value:
            yield from (FLAGS[name], one) if name in FLAGS else ("--set", f"{name}={one}")


def _compare(client: Client, run_id: str) -> None:
    """Print the answers of the base model and of the new GGUF side by side."""
    tuned = [row["answer"] for row in read_jsonl(client.run_dir(run_id).answers)]
    base = ask_base(MODEL, QUESTIONS)
    from rich import box
    from rich.console import Console
    from rich.table import Table

    columns = ("Question", "Base model", "Tuned on documents/ (q8_0 GGUF)")
    table = Table(*columns, box=box.SIMPLE_HEAD, show_lines=True)
    for question, before, after in zip(QUESTIONS, base, tuned, strict=True):
        table.add_row(question, _short(before), _short(after))
    Console().print(table)


def _short(answer: str, length: int = 240) -> str:
    text = printable(" ".join(answer.split()))
    return text if len(text) <= length else f"{text[:length]} ..."


def ask_base(model: str, prompts: list[str]) -> list[str]:
    """The base model's answers, asked through its own chat template."""
    pool = Pool(most=1)
    try:
        file = base_gguf(model)
        return [pool.ask(file, Question(prompt, chat=True)).answer for prompt in prompts]
    finally:
        pool.close()


def _what_next(client: Client, run_id: str, seconds: float) -> None:
    folder = client.run_dir(run_id)
    print(f"Done in {seconds:.0f} s. The files lie in {folder.path}:")
    for path in (folder.gguf("q8_0"), folder.path / "Modelfile", folder.adapter, folder.answers):
        print(f"  {path.name}")
    print(f"""
What to type next:
  export PATH={shlex.quote(str(Path(FTQ).parent))}:$PATH
  ftq up                        start everything again and leave it running
  ftq infer {run_id} "..."      ask the model yourself
  ftq submit --model {MODEL} --documents YOUR_FOLDER
  ftq status --watch            leave it open on the second screen""")


if __name__ == "__main__":
    main()
