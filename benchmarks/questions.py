"""How many questions about ftq each model answers right: 20 fixed ones, and others in words further from the manual.

    python -m benchmarks.questions RUN [--show] [--base-tokens 64]

An answer is right if each of a question's expectations occurs in it (tests/demo_questions.json and
benchmarks/other_questions.json): exact, blind to case, no judge. The base model is asked by its own chat template, the
tuned one through the exported GGUF. The others are what the demo's options were chosen by.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ftq.client.client import Client
from ftq.errors import printable
from ftq.settings import Settings
from worker.llama.answer import Answer, Question
from worker.llama.base import base_gguf
from worker.llama.pool import Pool

HERE = Path(__file__).parent
FILES = (HERE.parent / "tests" / "demo_questions.json", HERE / "other_questions.json")


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.questions")
    arguments.add_argument("run", help="id or name of a finished run over documents/")
    arguments.add_argument("--show", action="store_true", help="print the answers too")
    arguments.add_argument("--base-tokens", type=int, default=256, help="the base model's answers end there")
    given = arguments.parse_args()
    client = Client(Settings.from_env())
    run = client.find(given.run)
    kind, pool = run.spec["quantizations"][0], Pool(slots=1)
    files = {file.name: json.loads(file.read_text(encoding="utf-8")) for file in FILES}
    for name, questions in files.items():
        asked = [Question(question["question"]) for question in questions]
        print(f"{name}:")
        report(
            f"{run.name}, {kind} GGUF",
            questions,
            list(pool.ask_all(client.run_dir(run.id).gguf(kind), asked)),
            given.show,
        )
    base = base_gguf(run.model)
    for name, questions in files.items():
        asked = [Question(question["question"], max_tokens=given.base_tokens, chat=True) for question in questions]
        print(f"{name}:")
        report("base model", questions, list(pool.ask_all(base, asked)), given.show)
    pool.close()


def report(name: str, questions: list[dict[str, Any]], answers: list[Answer], show: bool) -> None:
    right = [is_right(answer.answer, question["expect"]) for question, answer in zip(questions, answers, strict=True)]
    stopped = sum(answer.stopped for answer in answers)
    print(f"{name}: {sum(right)} of {len(questions)} right, {stopped} ended by the stop token", flush=True)
    if show:
        for good, question, answer in zip(right, questions, answers, strict=True):
            said = printable(answer.answer.strip()[:200])
            print(f"  {'right' if good else 'WRONG'}  {question['question']}\n         {said}")


def is_right(answer: str, expect: list[list[str]]) -> bool:
    """Whether every expectation occurs in the answer, in one of its forms."""
    text = answer.lower()
    return all(any(form.lower() in text for form in forms) for forms in expect)


if __name__ == "__main__":
    main()
