"""What a submit would come to: examples, tokens, memory, time, disk. For `ftq submit --dry-run`.

The train stage decides by the same call (ftq/plan/decide.py) from the real token counts and the memory that is really
free; here both are estimates.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftq.check.written import Expected
from ftq.errors import UNREADABLE
from ftq.examples import dataset, recall
from ftq.examples.dataset import Examples
from ftq.examples.lengths import BYTES_PER_TOKEN, Guess, weight_of
from ftq.examples.report import DatasetReport
from ftq.examples.split import Row
from ftq.files import snapshot
from ftq.files.run_dir import RunDir, read_jsonl
from ftq.plan import calibration, sizes
from ftq.plan.card import GIB, USABLE, Card, Machine, has_fp8, parse_card, speed_of
from ftq.plan.decide import decide, optimizer_of
from ftq.plan.duration import Loop, loop
from ftq.plan.least import refusal
from ftq.plan.plan import Plan, Rows, Training, not_followed
from ftq.spec import models
from ftq.spec.options import RunSpec, parse
from ftq.spec.recipe import Recipe, decided
from ftq.store.records import Run, Worker, queue_of
from ftq.store.wire.reads import Reads

if TYPE_CHECKING:
    from ftq.check.check import Check

# The options that decide what an earlier run's documents gave, its longest row aside.
DECIDING = ("valid_fraction", "seed", "format", "questions", "exposures", "refusals", "skip_rules", "topic", "epochs",
            "strict")  # fmt: skip
SHOWN = ("steps", "examples_in_step", "batch_size", "load_in_4bit", "load_in_fp8", "gradient_checkpointing",
         "peak")  # of a plan  # fmt: skip
SAMPLE = 2000  # examples of an earlier run that are looked at
RUNS = 50  # earlier runs that are looked at
KNOWN = (
    "It takes texts, and .json and .jsonl files with instruction/output, prompt/completion, question/answer or messages"
)
ANY_GPU = Card("a GPU", 80 * GIB, 0.0)  # for what a GPU's size hardly decides


@dataclass(frozen=True)
class Dataset:
    """The examples to train on, by their lengths. `counted`: the model's tokenizer counted these very documents."""

    train: Rows
    held_out: int
    counted: bool
    expected: str = ""  # what a language model will be asked to write


@dataclass(frozen=True)
class Place:
    """The card, and how it is known. `dtype`: what a CPU computes in. `timed`: its speed is known."""

    card: Card
    said: str
    dtype: str = "float32"

    @property
    def timed(self) -> bool:
        return self.card.flops > 0


@dataclass(frozen=True)
class Forecast:
    """Sizes in bytes, times in seconds; None is what can't be known here, and `notes` say why."""

    dataset: Dataset
    place: Place | None
    plan: Plan | None
    loop: Loop | None
    disk: dict[str, int] | None
    gguf: dict[str, int] | None
    notes: list[str]
    recipe: Recipe | None = None

    @property
    def seconds(self) -> float | None:
        """Of the training loop."""
        return self.loop.seconds if self.loop else None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows, plan = self.dataset.train, self.plan
        return {
            "examples": rows.examples,
            "held_out": self.dataset.held_out,
            "tokens": rows.tokens,
            "longest": rows.longest,
            "counted": self.dataset.counted,
            "card": self.place and self.place.card.name,
            "card_memory": self.place and self.place.card.memory,
            "where": self.place and self.place.said,
            **{name: plan and getattr(plan, name) for name in SHOWN},
            **(vars(self.recipe) if self.recipe else {}),
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "starting": self.loop and round(self.loop.starting, 1),
            "disk": self.disk,
            "gguf": self.gguf,
            "notes": self.notes,
        }


def forecast(
    spec: dict[str, Any],
    store: Reads | None,
    home: Path,
    card: str | None = None,
    checked: Check | None = None,
    documents_hash: str | None = None,
) -> Forecast:
    """Plan a run of this spec as the train stage would. UserError if it can't fit.

    `card` is what `--card` says; without it the card is that of the worker that the run would go to. `checked` is what
    the documents teach, if they have been read, and `documents_hash` their snapshot's, if that was taken.
    """
    shape, context = models.shape_of(spec["model"]), models.context_of(spec["model"])
    place, notes = _place(spec, store, card, documents_hash)
    if context and context < spec["max_seq_length"]:
        notes.append(f"{spec['model']} reads at most {context} tokens: max_seq_length={context} would be used")
        spec = {**spec, "max_seq_length": context}
    dataset = _dataset(spec, store, home, checked, documents_hash)
    if dataset.expected:
        notes.append(f"{dataset.expected}: they aren't in these numbers")
    if not dataset.train.examples:
        notes.append(f"no example was found in the documents, prepare would fail. {KNOWN}")
    if shape is None:
        notes.append(f"the shape of {spec['model']} is known only on the worker: no memory, time and sizes here")
        return Forecast(dataset, place, None, None, None, None, notes)
    asked = decided(parse(spec), shape.parameters)
    lora = Recipe.of(asked)
    training = Training(asked, shape, dataset.train)
    machine = machine_of(asked, place or Place(ANY_GPU, ""))
    disk, gguf = sizes.of_run(asked, shape, optimizer_of(training, machine))
    if place is None:
        return Forecast(dataset, None, None, None, disk, gguf, notes, lora)
    plan = decide(training, machine)
    if plan is None:
        raise refusal(training, shape, machine)
    notes += not_followed(asked, plan)
    if asked.load_in_fp8 is True and not plan.load_in_fp8:
        notes.append(f"load_in_fp8: {place.card.name} can't, or gains nothing with this model: it would be off")
    if not place.timed:
        notes.append(f"no time: how fast {place.card.name} is, the first training there will show")
        return Forecast(dataset, place, plan, None, disk, gguf, notes, lora)
    expected = loop(plan, place.card, training, dataset.held_out)
    return Forecast(dataset, place, plan, expected, disk, gguf, notes, lora)


def machine_of(spec: RunSpec, place: Place) -> Machine:
    """What the worker with this card is likely to find: Unsloth, and 16 bit on a GPU."""
    engine, card = "trl" if spec.engine == "trl" else "unsloth", place.card
    best = "bfloat16" if card.gpu else place.dtype
    refused = spec.dtype == "float16" and not card.gpu
    return Machine(card, engine, best if spec.dtype == "auto" or refused else spec.dtype, total=card.memory)


# ---- the examples -----------------------------------------------------------------------------------------


def _dataset(
    spec: dict[str, Any], store: Reads | None, home: Path, checked: Check | None, documents_hash: str | None
) -> Dataset:
    folder = Path(spec["documents"])

    @cache
    def hashed() -> str:
        return documents_hash or snapshot.snapshot(folder, None, home).hash

    for run, report in _earlier(spec["model"], store, home):
        same = all(run.spec.get(name) == spec[name] for name in DECIDING)
        same = same and spec["max_seq_length"] in (run.spec.get("max_seq_length"), report.max_seq_length)
        if same and run.documents_hash == hashed():
            return _counted(report, report.tokens.mean / 2)
    if checked:
        counted = _counted(checked.report, checked.deviation)
        return replace(counted, counted=checked.exact, expected=checked.expected)
    row = Row(spec["max_seq_length"], Guess(bytes_per_token(spec, store, home)).one)
    return _guessed(Examples(folder, row, home, questions=dataset.questions_of(parse(spec))), row, spec)


def bytes_per_token(spec: dict[str, Any], store: Reads | None, home: Path) -> float:
    """As the newest run with this model and format had it: a chat's template adds tokens to each row."""
    for run, report in _earlier(spec["model"], store, home):
        same = run.spec.get("format") == spec["format"]
        if same and (ratio := _bytes_per_token(RunDir(home / run.id), report)):
            return ratio
    return BYTES_PER_TOKEN


def _earlier(model: str, store: Reads | None, home: Path) -> Iterator[tuple[Run, DatasetReport]]:
    """Earlier runs with this model and what prepare told of each, the newest first."""
    for run in store.all(RUNS) if store else []:
        with suppress(*UNREADABLE):  # not prepared, or by another version
            if run.model == model:
                yield run, DatasetReport.read(RunDir(home / run.id).dataset)


def _bytes_per_token(run: RunDir, report: DatasetReport) -> float | None:
    """Of rows from all of it: sections, which come first, are longer than the mean."""
    path = run.dataset / "train.jsonl"
    step = report.train // SAMPLE + 1
    rows = list(itertools.islice(read_jsonl(path), 0, None, step)) if path.is_file() else []
    if not rows or not report.tokens.mean:
        return None
    return sum(map(weight_of, rows)) / len(rows) / report.tokens.mean


def _counted(report: DatasetReport, deviation: float) -> Dataset:
    rows = Rows(report.examples, report.tokens.total, report.tokens.longest, deviation)
    return Dataset(_part(rows, report.train), report.valid, True)


def _guessed(examples: Examples, row: Row, spec: dict[str, Any]) -> Dataset:
    """The examples that prepare will make; of their tokens a guess."""
    lengths, shares, expected = array("l"), array("d"), Expected(spec["questions"], spec["model"])
    for example, part in examples:
        expected.see(example)
        lengths.append(min(row.limit, row.length(example)))
        shares.append(recall.share(example, spec["seed"], part))
    valid = recall.held_out(shares, spec["valid_fraction"])
    train = Rows.of([length for number, length in enumerate(lengths) if number not in valid])
    train = replace(train, longest=max(lengths, default=0))  # evaluated, it takes room too
    return Dataset(train, len(valid), False, expected.said)


def _part(rows: Rows, examples: int) -> Rows:
    """So many of these rows, whichever they are."""
    return replace(rows, examples=examples, tokens=round(rows.mean * examples))


# ---- the card ---------------------------------------------------------------------------------------------


def _place(
    spec: dict[str, Any], store: Reads | None, named: str | None, documents_hash: str | None
) -> tuple[Place | None, list[str]]:
    if named:
        return Place(parse_card(named), "as --card says"), []
    queue = queue_of("train", spec)
    workers = [one for one in store.workers() if queue in one.served and one.facts.get("memory")] if store else []
    live = [worker for worker in workers if worker.is_live]
    if store and live:
        least = min(live, key=lambda worker: int(worker.facts["memory"]))
        others = f", the smallest of {len(live)} workers" if len(live) > 1 else ""
        return _place_of(store, spec, least, f"worker {least.name}{others}", documents_hash), []
    last = store.last_plan() if store else None
    if store and workers:
        said = f"worker {workers[0].name}, which isn't up now"
        return _place_of(store, spec, workers[0], said, documents_hash), []
    if store and last:
        known = Card(last["card"], last["card_memory"], last.get("card_flops") or 0.0, fp8=bool(last.get("card_fp8")))
        said = "where the last training was, no worker is up now"
        return Place(_corrected(store, spec, known, "", documents_hash), said, last.get("dtype") or "float32"), []
    what = f"no worker of the queue {queue} is up or known: no memory and time here"
    return None, [f'{what}. `--card "RTX 4090"` or `--card 24` (GiB) says for which card']


def _place_of(store: Reads, spec: dict[str, Any], worker: Worker, said: str, documents_hash: str | None) -> Place:
    """The card that this worker reported, at its measured speed if a run has measured it."""
    name = str(worker.facts["gpu"])
    last = store.last_plan(name) or {}
    flops = last.get("card_flops") or worker.facts.get("flops") or speed_of(name) or 0.0
    card = Card(name, int(worker.facts["memory"] * USABLE), flops, fp8=last.get("card_fp8", has_fp8(name)))
    card = _corrected(store, spec, card, worker.name, documents_hash)
    return Place(card, said, str(worker.facts.get("dtype") or last.get("dtype") or "float32"))


def _corrected(store: Reads, spec: dict[str, Any], card: Card, worker: str, documents_hash: str | None) -> Card:
    records = store.plans_on(card.name, spec["model"])
    starts = calibration.starts(records, worker, spec["model"], documents_hash)
    return replace(card, corrections=calibration.corrections(records, worker, spec["model"]), starts=starts)
