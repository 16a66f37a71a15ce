"""Runs for the report: a finished one with all its files, and one of which every text is hostile."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

from ftq.evaluation.evaluation import Evaluation, Kind, Question
from ftq.evaluation.score import Replies, Reply, scores, side_by_side
from ftq.examples.report import DatasetReport, Documents, Skipped, SkippedRecord, TokenCounts, Used
from ftq.files.export_report import Distance
from ftq.files.run_dir import RunDir, write_json
from ftq.questions.row import Contradiction, Report, Stated
from ftq.report.gather import run_of
from ftq.spec.options import parse
from ftq.store.records import Run
from tests.finished import gguf, write_export

HOSTILE = '</script></style><script>alert(1)</script><img src=x onerror="alert(1)">\'&amp;\x1b[2J\x00\u202eabc\u05d0 '
QUESTIONS = [
    Question(Kind.OWN, "How long is the warranty?", ("24 months", "two years")),
    *(Question(Kind.HELD_BACK, f"Which port has service {n}?", (f"{9000 + n}",)) for n in range(20)),
    *(Question(Kind.UNANSWERABLE, f"What does part {n} cost?") for n in range(5)),
    *(Question(Kind.GENERAL, f"How much is {n} plus one?", (f"{n + 1}",)) for n in range(5)),
]


def finished(folder: Path, types: tuple[str, ...] = ("f16", "q8_0"), steps: int = 60) -> tuple[Run, RunDir]:
    """The run `handbook` with every file that its report tells of; the base model knows nothing."""
    run = RunDir(folder)
    (folder / "dataset").mkdir(parents=True)
    spec = parse({"model": "smollm2-135m", "documents": "handbook", "quantizations": list(types), "epochs": 5})
    write_json(run.run_json, {"id": "aaaa1111", "name": "handbook", "spec": spec.model_dump(), "documents_hash": "h"})
    write_json(run.dataset / "report.json", dataset().to_json())
    run.metrics.write_text("".join(json.dumps(line(step, steps)) + "\n" for step in range(1, steps + 1)))
    run.adapter.mkdir()
    for kind in types:
        run.gguf(kind).write_bytes(b"GGUF" * 1000)
    near = Distance(100, kl=0.0006, top1=1.0, largest=0.1)
    write_export(folder, [gguf(kind, perplexity=3.4, against_f16=near) for kind in types])
    run.answers.write_text("")
    write_json(run.evaluation, evaluation(types).to_json())
    return run_of(run), run


def line(step: int, steps: int) -> dict[str, float]:
    values = {"step": step, "train_loss": 0.5 + 3 * math.exp(-step / 15), "learning_rate": 2e-4 * (1 - step / steps)}
    return values | ({"valid_loss": 1 + abs(step - steps * 2 / 3) / steps} if step % (steps // 3) == 0 else {})


def dataset(text: str = "pump", times: int = 1) -> DatasetReport:
    stated = [Stated("60 s", f"{text}.md", 4), Stated("90 s", f"{text}2.md", 8)] * min(times, 3)
    return DatasetReport(
        documents=Documents([Used(f"{text}.md", 3)], [Skipped(f"{text}.pdf", "no text")] * times, [text] * times),
        records_skipped=[SkippedRecord(text, text)] * times,
        train=1_234,
        valid=56,
        duplicates=2,
        tokens=TokenCounts(78_901, 120, 60.0),
        max_seq_length=2048,
        stop="</s>",
        questions=Report("en", 321, {}, (Contradiction(text, "interval", tuple(stated)),) * times, ()),
    )


def evaluation(types: tuple[str, ...], hostile: str = "") -> Evaluation:
    questions = [replace(one, text=one.text + hostile, answers=tuple(answer + hostile for answer in one.answers))
                 for one in QUESTIONS]  # fmt: skip
    knows = [Reply(one.answers[0] if one.answers else "The documents don't say.", True, 4) for one in questions]
    guesses = [Reply(f"Perhaps 17.{hostile}", False, 64) for _ in questions]
    replies = [Replies("base", guesses, 60.0), *(Replies(kind, knows, 9.0) for kind in types)]
    asked = side_by_side(questions, replies)
    counts = {kind: sum(one.kind == kind for one in questions) for kind in Kind}
    return Evaluation(
        model="smollm2-135m",
        counts=counts,
        available=counts,
        max_tokens=64,
        seconds=70.0,
        subjects=tuple(scores(asked, one.subject, one.seconds, file_bytes=145_000_000) for one in replies),
        questions=tuple(asked),
        verdict=(f"It is so-so.{hostile}",) if hostile else (),
    )


def hostile(folder: Path, times: int) -> tuple[Run, RunDir]:
    """Each text of a run's files is HOSTILE, long, and there many times."""
    text = HOSTILE * 40
    run, directory = finished(folder)
    write_json(directory.dataset / "report.json", dataset(text, times).to_json())
    made = evaluation(("f16", "q8_0"), text)
    said = tuple(replace(one, said={name: replace(said, answer=text * 9) for name, said in one.said.items()})
                 for one in made.questions)  # fmt: skip
    write_json(directory.evaluation, replace(made, questions=said, verdict=(text,) * times,
                                             notes=(text,) * times).to_json())  # fmt: skip
    write_export(folder, [gguf("f16", notes=(text,) * times)])
    spec = run.spec | {"topic": text, "prompts": [text] * times, "documents": text}
    return replace(run, name=text, model=text, spec=spec), directory
