"""The finished model answers the run's prompts: answers.jsonl.

`ftq infer` asks in the same way, by the pool of a worker for questions (worker/answers.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ftq.errors import UserError
from ftq.examples.report import DatasetReport
from ftq.files.run_dir import RunDir, write_jsonl
from ftq.spec.options import RunSpec
from worker.llama.answer import Answer, Question
from worker.llama.pool import Pool
from worker.stages.process.main import Report


def infer(run: RunDir, out: Path, spec: RunSpec, report: Report) -> None:
    """Write answers.jsonl into `out`, one line for each of the run's prompts."""
    answers = []
    ask = ask_adapter if spec.infer_with == "adapter" else ask_gguf
    for answer in ask(run, spec):
        answers.append(answer.to_json())
        report.progress(100 * len(answers) / len(spec.prompts))
    write_jsonl(out / "answers.jsonl", answers)


def questions(spec: RunSpec) -> list[Question]:
    """The run's prompts as questions. The run's seed draws the answers, so a repeated stage gives the same ones."""
    chat = spec.format == "chat"
    return [Question(text, "", spec.max_tokens, spec.temperature, spec.seed, chat) for text in spec.prompts]


def ask_gguf(run: RunDir, spec: RunSpec) -> Iterator[Answer]:
    """Yield the answers of the first of the run's GGUF files, from llama.cpp."""
    file = run.gguf(spec.quantizations[0])
    if not file.is_file():
        raise UserError(f"{file} is not there yet", "`ftq retry RUN --from export` makes it.")
    pool = Pool(most=1, slots=1)
    try:
        yield from pool.ask_all(file, questions(spec))
    finally:
        pool.close()


def ask_adapter(run: RunDir, spec: RunSpec) -> Iterator[Answer]:
    """Yield the adapter's answers, by the engine that trained it: in 4 bit on a GPU if it was trained so."""
    from worker.stages.engine import load
    from worker.stages.engine.adapter import AdapterAnswerer
    from worker.stages.model import base_model
    from worker.stages.model.merge import check_adapter
    from worker.stages.model.tokens import Tokens

    check_adapter(run.adapter)
    dataset = DatasetReport.read(run.dataset)
    model_dir = base_model.resolve(spec.model, dataset.base_revision)
    base_model.go_offline()
    model = load.load_for_inference(model_dir, run.adapter, spec, Report())
    answerer = AdapterAnswerer(model, Tokens(model_dir, spec.format), dataset.stop)
    yield from map(answerer.answer, questions(spec))
