"""The finished model answers: the run's prompts into answers.jsonl, or a question from `ftq infer`.

`python -m worker.stages.infer RUN_DIR --ask FILE` answers the question in it and writes no file.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ftq.artifacts import RunDir, write_jsonl
from ftq.errors import UserError
from ftq.spec import RunSpec
from worker.stages import base_model, gguf, train_setup
from worker.stages.answerers import AdapterAnswerer, Answer, ChatAnswerer, GgufAnswerer
from worker.stages.merge import check_adapter
from worker.stages.runtime import Report, main
from worker.stages.tokens import Tokens


def infer(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    """Write answers.jsonl into `out`, one line for each of the run's prompts."""
    answers = []
    for answer in ask(run, spec.prompts, spec):
        answers.append(answer)
        report.progress(100 * len(answers) / len(spec.prompts))
    write_jsonl(out / "answers.jsonl", answers)


def ask(run: RunDir, prompts: list[str], spec: RunSpec) -> Iterator[Answer]:
    """Answer one after the other with what the run has made: its first GGUF, or its adapter."""
    answerer = open_adapter(run, spec) if spec.infer_with == "adapter" else open_gguf(run, spec, prompts)
    try:
        for text in prompts:
            yield answerer.answer(text, spec.max_tokens, spec.temperature)
    finally:
        answerer.close()


def answer_question(run: RunDir, question: str, spec: RunSpec, report: Report) -> None:
    """The --ask mode: one question, one report `answer`."""
    for answer in ask(run, [question], spec):
        report.answer(answer)


def open_gguf(run: RunDir, spec: RunSpec, prompts: list[str]) -> GgufAnswerer:
    file = run.gguf(spec.quantizations[0])
    if not file.is_file():
        raise UserError(f"{file} is not there yet", "Run the export stage first.")
    longest = max((len(text.encode()) for text in prompts), default=0)  # a token is at least a byte
    return GgufAnswerer(file, context=min(_trained_context(file), longest + spec.max_tokens + 64))


def open_adapter(run: RunDir, spec: RunSpec) -> AdapterAnswerer:
    """Load base model and adapter for inference, in 4 bit on a GPU as they were trained."""
    check_adapter(run.adapter)
    model_dir = base_model.resolve(spec.model)
    base_model.go_offline()
    model = train_setup.load_for_inference(model_dir, run.adapter, spec, Report())
    stop = json.loads((run.dataset / "report.json").read_text(encoding="utf-8"))["stop"]
    return AdapterAnswerer(model, Tokens(model_dir), stop)


def ask_base(model: str, prompts: list[str], max_tokens: int = 256) -> list[Answer]:
    """The untuned base model's answers, asked by its own chat template: a q8_0 GGUF, kept in ftq's cache."""
    answerer = ChatAnswerer(_base_gguf(model))
    try:
        return [answerer.answer(question, max_tokens, 0) for question in prompts]
    finally:
        answerer.close()


def _trained_context(file: Path) -> int:
    values = gguf.metadata(file)
    return int(values[f"{values['general.architecture']}.context_length"])


def _base_gguf(model: str) -> Path:
    model_dir = base_model.resolve(model)
    key = hashlib.sha256(str(model_dir.resolve()).encode()).hexdigest()[:12]
    made = base_model.cache_dir() / f"base-{key}-q8_0.gguf"
    if not made.is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            gguf.convert(model_dir, Path(folder, "model.gguf"), "q8_0")
            os.replace(Path(folder, "model.gguf"), made)
    return made


if __name__ == "__main__":
    main("infer", infer, answer_question)
