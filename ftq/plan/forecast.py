"""What a submit would come to: examples, tokens, memory, time, disk. For `ftq submit --dry-run`.

The train stage decides with the same formulas (ftq/plan/estimate.py) from the real token counts and the memory that is
really free; here both are estimates.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ftq.errors import UserError
from ftq.examples import dataset
from ftq.examples.dataset import DatasetReport, Examples
from ftq.examples.prompt import completion, prompt
from ftq.examples.split import Example, Row
from ftq.files import snapshot
from ftq.files.run_dir import RunDir, read_jsonl
from ftq.plan import cards, estimate, sizes
from ftq.plan.estimate import GIB, USABLE, Card, Plan, Rows, Shape, Wanted
from ftq.spec import models
from ftq.store.records import Run, Worker, queue_of
from ftq.store.store import RunStore

BYTES_PER_TOKEN = 4.2  # of English text in UTF-8, by the tokenizers of the catalogue's models
SAMPLE = 2000  # examples of an earlier run that are looked at
RUNS = 50  # earlier runs that are looked at
SHORTEST = 256  # the smallest max_seq_length that is proposed
KNOWN = (
    "It takes .md with text, .json and .jsonl with instruction/output, prompt/completion, question/answer or messages"
)
ANY_GPU = Card("a GPU", 80 * GIB, 0.0)  # for what a GPU's size hardly decides
SOME_SPEED = 1e14  # FLOP/s for choosing a plan where the card's are not known; no time is shown then


@dataclass(frozen=True)
class Dataset:
    """The examples, those to train on by their lengths. `counted`: an earlier run counted these very documents."""

    train: Rows
    held_out: int
    counted: bool


@dataclass(frozen=True)
class Place:
    """The card, and how it is known. `timed`: its speed is known."""

    card: Card
    said: str

    @property
    def timed(self) -> bool:
        return self.card.flops > 0


@dataclass(frozen=True)
class Forecast:
    """Sizes in bytes, times in seconds; None is what can't be known here, and `notes` say why."""

    dataset: Dataset
    place: Place | None
    plan: Plan | None
    seconds: float | None
    disk: dict[str, int] | None
    gguf: dict[str, int] | None
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows, plan = self.dataset.train, self.plan
        return {
            "examples": rows.examples, "held_out": self.dataset.held_out, "tokens": rows.tokens,
            "longest": rows.longest, "counted": self.dataset.counted,
            "card": self.place and self.place.card.name, "card_memory": self.place and self.place.card.memory,
            "where": self.place and self.place.said, "steps": plan and plan.steps,
            "examples_in_step": plan and plan.examples_in_step, "batch_size": plan and plan.batch_size,
            "load_in_4bit": plan and plan.load_in_4bit, "gradient_checkpointing": plan and plan.checkpointing,
            "peak": plan and plan.peak, "seconds": None if self.seconds is None else round(self.seconds, 1),
            "disk": self.disk, "gguf": self.gguf, "notes": self.notes,
        }  # fmt: skip


def forecast(spec: dict[str, Any], store: RunStore | None, home: Path, card: str | None = None) -> Forecast:
    """`card` is what `--card` says; without it the worker's that the run would land on. UserError if it can't fit."""
    shape, context = models.shape_of(spec["model"]), models.context_of(spec["model"])
    place, notes = _place(spec, store, card)
    if context and context < spec["max_seq_length"]:
        notes.append(f"{spec['model']} reads at most {context} tokens: max_seq_length={context} would be used")
        spec = {**spec, "max_seq_length": context}
    dataset = _dataset(spec, store, home)
    if not dataset.train.examples:
        notes.append(f"no example was found in the documents, prepare would fail. {KNOWN}")
    if shape is None:
        notes.append(f"the shape of {spec['model']} is known only on the worker: no memory, time and sizes here")
        return Forecast(dataset, place, None, None, None, None, notes)
    disk, gguf = _disk(spec, shape, wanted_of(spec, place.card if place else ANY_GPU, shape))
    if place is None:
        return Forecast(dataset, None, None, None, disk, gguf, notes)
    wanted = wanted_of(spec, place.card, shape)
    plan = _fitting(shape, dataset.train, place.card, wanted)
    if plan is None:
        raise _refusal(spec, shape, dataset.train, place.card, wanted)
    if not place.timed:
        notes.append(f"no time: how fast {place.card.name} is, the first training there will show")
    seconds = _seconds(spec, plan, wanted, place.card, dataset) if place.timed else None
    return Forecast(dataset, place, plan, seconds, disk, gguf, notes)


def wanted_of(spec: dict[str, Any], card: Card, shape: Shape) -> Wanted:
    """What the spec fixes, on a GPU with Unsloth or on a CPU."""
    gpu = card.gpu
    engine = "trl" if spec["engine"] == "trl" else "unsloth"
    return Wanted.of(
        spec, engine=engine, gpu=gpu, padded=not gpu or engine == "trl" or spec["packing"] is False,
        adam_8bit=estimate.takes_adam_8bit(spec, card, shape),
        bytes_a_number=4 if spec["dtype"] == "float32" or not gpu else 2,
    )  # fmt: skip


# ---- the examples -----------------------------------------------------------------------------------------


def _dataset(spec: dict[str, Any], store: RunStore | None, home: Path) -> Dataset:
    folder, bytes_per_token = Path(spec["documents"]), BYTES_PER_TOKEN

    @cache
    def hashed() -> str:
        return snapshot.snapshot(folder, None, home).hash

    for number, (run, report) in enumerate(_earlier(spec["model"], store, home)):
        if number == 0:
            bytes_per_token = _bytes_per_token(RunDir(home / run.id), report) or bytes_per_token
        same = all(run.spec.get(name) == spec[name] for name in ("valid_fraction", "seed"))
        same = same and spec["max_seq_length"] in (run.spec.get("max_seq_length"), report.max_seq_length)
        if same and run.documents_hash == hashed():
            return _counted(report)
    row = Row(spec["max_seq_length"], lambda example: int(_bytes(example) / bytes_per_token) + 1)
    return _guessed(Examples(folder, row, home), row, spec)


def _earlier(model: str, store: RunStore | None, home: Path) -> Iterator[tuple[Run, DatasetReport]]:
    """Earlier runs with this model and what prepare told of each, the newest first."""
    for run in store.all(RUNS) if store else []:
        with suppress(OSError, ValueError, KeyError, TypeError):  # not prepared, or by another version
            if run.model == model:
                yield run, DatasetReport.read(RunDir(home / run.id).dataset)


def _bytes_per_token(run: RunDir, report: DatasetReport) -> float | None:
    rows = list(itertools.islice(read_jsonl(run.dataset / "train.jsonl"), SAMPLE))
    if not rows or not report.tokens.mean:
        return None
    return sum(map(_bytes, rows)) / len(rows) / report.tokens.mean


def _bytes(example: Example) -> int:
    text = prompt(example["instruction"], example["input"]) + completion(example["output"], "")
    return len(text.encode(errors="replace"))


def _counted(report: DatasetReport) -> Dataset:
    tokens = report.tokens
    rows = Rows(report.examples, tokens.total, tokens.longest, tokens.mean / 2)
    return Dataset(_part(rows, report.train), report.valid, True)


def _guessed(examples: Examples, row: Row, spec: dict[str, Any]) -> Dataset:
    """The examples that prepare will make; of their tokens a guess."""
    lengths, shares = list[int](), list[float]()
    for example in examples:
        lengths.append(min(row.limit, row.length(example)))
        shares.append(dataset.share(example, spec["seed"]))
    valid = dataset.held_out(shares, spec["valid_fraction"])
    train = Rows.of([length for number, length in enumerate(lengths) if number not in valid])
    return Dataset(replace(train, longest=max(lengths, default=0)), len(valid), False)  # evaluated, it takes room too


def _part(rows: Rows, examples: int) -> Rows:
    """So many of these rows, whichever they are."""
    return replace(rows, examples=examples, tokens=round(rows.mean * examples))


# ---- the card ---------------------------------------------------------------------------------------------


def _place(spec: dict[str, Any], store: RunStore | None, named: str | None) -> tuple[Place | None, list[str]]:
    if named:
        return Place(cards.parse(named), "as --card says"), []
    queue = queue_of("train", spec)
    workers = [one for one in store.workers() if queue in one.queues and one.facts.get("memory")] if store else []
    live = [worker for worker in workers if worker.is_live]
    if store and live:
        smallest = min(live, key=lambda worker: int(worker.facts["memory"]))
        others = f", the smallest of {len(live)} workers" if len(live) > 1 else ""
        return Place(_card_of(store, spec, smallest), f"worker {smallest.name}{others}"), []
    last = store.last_plan() if store else None
    if store and workers:
        return Place(_card_of(store, spec, workers[0]), f"worker {workers[0].name}, which isn't up now"), []
    if store and last:
        found = Card(last["card"], last["card_memory"], last.get("card_flops") or 0.0)
        return Place(_corrected(store, spec, found), "where the last training was, no worker is up now"), []
    what = f"no worker of the queue {queue} is up or known: no memory and time here"
    return None, [f'{what}. `--card "RTX 4090"` or `--card 24` (GiB) says for which card']


def _card_of(store: RunStore, spec: dict[str, Any], worker: Worker) -> Card:
    name = str(worker.facts["gpu"])
    measured = (store.last_plan(name) or {}).get("card_flops")
    flops = measured or worker.facts.get("flops") or cards.speed(name) or 0.0
    return _corrected(store, spec, Card(name, int(worker.facts["memory"] * USABLE), flops))


def _corrected(store: RunStore, spec: dict[str, Any], card: Card) -> Card:
    return replace(card, corrections=tuple(store.corrections(card.name, spec["model"])))


# ---- what it takes ----------------------------------------------------------------------------------------


def _fitting(shape: Shape, rows: Rows, card: Card, wanted: Wanted) -> Plan | None:
    """What the train stage would choose: see worker/stages/train/plan.py."""
    return estimate.worth_trying(shape, rows, _timed(card), wanted)


def _choose(shape: Shape, rows: Rows, card: Card, wanted: Wanted) -> Plan | None:
    return estimate.choose(shape, rows, _timed(card), wanted)


def _timed(card: Card) -> Card:
    return card if card.flops else replace(card, flops=SOME_SPEED)


def _seconds(spec: dict[str, Any], plan: Plan, wanted: Wanted, card: Card, dataset: Dataset) -> float:
    every = None if spec["eval_steps"] == "auto" else int(spec["eval_steps"])
    looks = estimate.evaluations(plan, dataset.train.examples, every) if dataset.held_out else 0
    return estimate.training_seconds(plan, wanted, card, dataset.held_out, looks)


def _disk(spec: dict[str, Any], shape: Shape, wanted: Wanted) -> tuple[dict[str, int], dict[str, int]]:
    parameters = shape.parameters
    local = Path(spec["model"]).is_absolute()
    disk = {
        "download": 0 if local else sizes.merged(parameters), "checkpoints": sizes.checkpoints(shape, wanted),
        "export": sizes.export(parameters, spec["quantizations"]),
        "adapter": sizes.adapter(shape, wanted), "merged": sizes.merged(parameters) if spec["keep_merged"] else 0,
    }  # fmt: skip
    return disk, {name: sizes.gguf(parameters, name) for name in spec["quantizations"]}


# ---- what can't fit ---------------------------------------------------------------------------------------


def _refusal(spec: dict[str, Any], shape: Shape, rows: Rows, card: Card, wanted: Wanted) -> UserError:
    least = estimate.smallest(shape, rows, _timed(card), wanted)
    bits = "4 bit" if least.load_in_4bit else "16 bit" if wanted.bytes_a_number == 2 else "32 bit"
    what = (f"{spec['model']} can't be trained on {card.name}: it needs {_gib(least.peak)} GiB at least ({bits}, "
            f"{least.tokens:,} tokens at once), {_gib(card.memory)} are usable")  # fmt: skip
    nearest = [text for text in (_freer(spec, shape, rows, card), _shorter(shape, rows, card, wanted),
                                 _smaller(spec, shape, rows, card)) if text]  # fmt: skip
    return UserError(what, f"On it fits {'; or '.join(nearest)}." if nearest else "It needs a larger GPU.")


def _freer(spec: dict[str, Any], shape: Shape, rows: Rows, card: Card) -> str:
    """The same with `auto` for what decides about memory."""
    deciding = ("batch_size", "gradient_accumulation_steps", "load_in_4bit", "gradient_checkpointing")
    fixed = [name for name in deciding if spec[name] != "auto"]
    if not fixed:
        return ""
    wanted = wanted_of({**spec, **dict.fromkeys(fixed, "auto")}, card, shape)
    plan = _choose(shape, rows, card, wanted)
    return f"{spec['model']} with {', '.join(f'{name}=auto' for name in fixed)} ({_gib(plan.peak)} GiB)" if plan else ""


def _shorter(shape: Shape, rows: Rows, card: Card, wanted: Wanted) -> str:
    """The same with shorter rows."""
    row = 2 ** (max(1, rows.longest - 1).bit_length() - 1)  # the next power of two below
    while row >= SHORTEST:
        plan = _choose(shape, replace(rows, longest=row), card, wanted)
        if plan:
            return f"max_seq_length={row} ({_gib(plan.peak)} GiB)"
        row //= 2
    return ""


def _smaller(spec: dict[str, Any], shape: Shape, rows: Rows, card: Card) -> str:
    """The largest model of the catalogue that fits with the same options."""
    smaller = [model for model in models.MODELS if model.shape.parameters < shape.parameters]
    for model in sorted(smaller, key=lambda model: model.shape.parameters, reverse=True):
        if plan := _choose(model.shape, rows, card, wanted_of(spec, card, model.shape)):
            return f"{model.alias} ({_gib(plan.peak)} GiB)"
    return ""


def _gib(number: int) -> str:
    return f"{number / GIB:.1f}"
