"""`make demo`: the whole way on this machine, in one go.

Starts everything, trains SmolLM2-135M on ftq's own manual, and asks the base model and the new one the same
questions. Run again unchanged, every stage is a cache hit.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from ftq.client import Client
from ftq.errors import printable
from ftq.settings import Settings

MODEL = "smollm2-135m"
QUESTIONS = [
    "Which command stops a run that I no longer want?",
    "Where does ftq keep the answers to my test prompts?",
    "What happens to a run when its worker crashes?",
]
FTQ = str(Path(sys.executable).with_name("ftq"))


def main() -> int:
    settings = Settings.from_env()
    up = subprocess.Popen([FTQ, "up"])
    try:
        client = Client(settings)
        if not _wait_for_workers(client, up):
            return 1
        return _train_and_ask(client)
    finally:
        up.terminate()
        up.wait()


def _wait_for_workers(client: Client, up: subprocess.Popen[bytes]) -> bool:
    while not {"cpu", "gpu", "ask"} <= client.store.live_queues():
        if up.poll() is not None:
            return False
        time.sleep(0.2)
    return True


def _train_and_ask(client: Client) -> int:
    began = time.monotonic()
    options = ["--model", MODEL, "--config", "demo.yaml", "--documents", "documents", "--quant", "q8_0", "--json"]
    prompts = [text for question in QUESTIONS for text in ("--prompt", question)]
    submitted = subprocess.run([FTQ, "submit", *options, *prompts], check=True, capture_output=True, text=True)
    run_id = json.loads(submitted.stdout)["id"]
    if subprocess.run([FTQ, "status", run_id, "--watch"]).returncode:
        return 1
    run = client.find(run_id)
    cached = sum(stage.cached for stage in run.stages)
    if cached == len(run.stages):
        print("\nNothing has changed since the last time: every stage was a cache hit.")
    _compare(client, run_id)
    _what_next(client, run_id, time.monotonic() - began)
    return 0


def _compare(client: Client, run_id: str) -> None:
    """The three questions, side by side: the base model and the GGUF that was just made."""
    tuned = [json.loads(line)["answer"] for line in client.run_dir(run_id).answers.read_text().splitlines()]
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
    """The base model's answers, from a process of its own: this one loads no model."""
    code = (
        "import json, sys; from worker.stages.infer import ask_base; print(json.dumps(ask_base(*json.load(sys.stdin))))"
    )
    question = json.dumps([model, prompts])
    asked = subprocess.run([sys.executable, "-c", code], input=question, capture_output=True, text=True, check=True)
    return [answer["answer"] for answer in json.loads(asked.stdout.splitlines()[-1])]


def _what_next(client: Client, run_id: str, seconds: float) -> None:
    folder = client.run_dir(run_id)
    print(f"Done in {seconds:.0f} s. The files lie in {folder.path}:")
    for path in (folder.gguf("q8_0"), folder.path / "Modelfile", folder.adapter, folder.answers):
        print(f"  {path.name}")
    print(f"""
What to type next (ftq is in .venv/bin):
  ftq up                        start everything again and leave it running
  ftq infer {run_id} "..."     ask the model yourself
  ftq submit --model {MODEL} --documents YOUR_FOLDER
  ftq status --watch            leave it open on the second screen""")


if __name__ == "__main__":
    sys.exit(main())
