"""What is to be trained, how as one frozen Plan, and the file that hands that from attempt to attempt."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, TypeVar

from ftq.files.run_dir import RunDir, write_json
from ftq.plan.card import BOTH, Correction, Start, Way

if TYPE_CHECKING:
    from ftq.spec.options import RunSpec
    from ftq.spec.shape import Shape

T = TypeVar("T")

# Of a Plan's fields; the others say how it is computed.
COSTS = ("tokens", "steps", "peak", "step_seconds", "derived", "bound", "fills")
# What a plan chooses where the spec says auto, and an attempt takes over from the one before it.
CHOSEN = ("batch_size", "gradient_accumulation_steps", "load_in_4bit", "load_in_fp8", "gradient_checkpointing")
KEPT_BEFORE_TRAIN_JSON = (
    "batch_size",
    "gradient_accumulation_steps",
    "load_in_4bit",
    "gradient_checkpointing",
    "optimizer",
)


@dataclass(frozen=True)
class Plan:
    """How a training run is computed, and what that costs. What is an option has the option's name.

    `peak` (bytes) and `step_seconds` are predictions, 0 for a model whose shape isn't known. `derived` are the same two
    by the formulas alone, before earlier runs corrected them; `bound` and `fills` are as in `Correction`.
    """

    engine: str
    gpu: bool
    dtype: str
    optimizer: str = "adamw_torch"  # as transformers calls it
    padding_free: bool = False
    load_in_4bit: bool = False
    load_in_fp8: bool = False
    gradient_checkpointing: bool | str = False
    batch_size: int = 1  # examples that go through a device at once
    gradient_accumulation_steps: int = 1  # micro-batches in an optimiser step, all GPUs together
    gpus: int = 1
    cuda_graphs: bool = False  # steps are recorded and played, where that turns out to be faster
    tokens: int = 0  # of the largest micro-batch on one device
    steps: int = 0
    peak: int = 0
    step_seconds: float = 0.0
    derived: tuple[int, float] = (0, 0.0)
    bound: str = BOTH
    fills: bool = False

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """A plan that `to_json` wrote, whatever else is recorded beside it. KeyError for what is no plan."""
        said = {**value, **(value.get("predicted") or {})}
        required = {name: said[name] for name in ("engine", "gpu", "dtype")}
        told = {each.name: said[each.name] for each in fields(cls) if each.name in said}
        return cls(**required | told | {"derived": tuple(told.get("derived") or (0, 0.0))})

    def to_json(self) -> dict[str, Any]:
        """Plain values, the time of a step to a microsecond."""
        peak, seconds = self.derived
        costs = {
            "peak": self.peak,
            "step_seconds": round(self.step_seconds, 6),
            "derived": [peak, round(seconds, 6)],
            "bound": self.bound,
            "fills": self.fills,
        }
        return {**self.way, "tokens": self.tokens, "steps": self.steps} | ({"predicted": costs} if self.peak else {})

    @property
    def way(self) -> dict[str, Any]:
        """How it is computed, without its cost."""
        return {name: value for name, value in asdict(self).items() if name not in COSTS}

    @property
    def examples_in_step(self) -> int:
        return self.batch_size * self.gradient_accumulation_steps

    @property
    def bytes_a_number(self) -> int:
        """Bytes of a number of the compute type."""
        return 4 if self.dtype == "float32" else 2

    @property
    def bits(self) -> int:
        """Bits of a weight of the base model."""
        return 4 if self.load_in_4bit else 8 * self.bytes_a_number

    @property
    def base(self) -> str:
        """The base model's precision, for people."""
        return "FP8" if self.load_in_fp8 else f"{self.bits}-bit"

    @property
    def compiled_as(self) -> list[Any]:
        """What runs of a model that share their compiled kernels have in common.

        End to end, a batch of any number of examples is one row. So another number compiles nothing anew.
        """
        return [*self.measured_as, self.gradient_checkpointing, 0 if self.padding_free else self.batch_size]

    @property
    def measured_as(self) -> Way:
        """Which other runs tell of this one's cost."""
        saving = bool(self.gradient_checkpointing)
        precision = self.load_in_4bit, saving, self.load_in_fp8
        return Way(self.engine, *precision, self.dtype, self.padding_free, self.gpus)


def not_followed(spec: RunSpec, plan: Plan) -> list[str]:
    """What the options ask for and no CPU does, a line each; empty on a GPU."""
    if plan.gpu:
        return []
    asked = {"load_in_4bit": spec.load_in_4bit is True, "optimizer=adamw_8bit": spec.optimizer == "adamw_8bit"}
    instead = {"load_in_4bit": f"the base is {plan.base}", "optimizer=adamw_8bit": f"it is {plan.optimizer}"}
    return [f"{option}: only a GPU does that, {instead[option]}" for option, is_asked in asked.items() if is_asked]


@dataclass(frozen=True)
class Rows:
    """A dataset's examples, by their lengths."""

    examples: int
    tokens: int
    longest: int
    deviation: float = 0.0  # standard deviation of the lengths

    @classmethod
    def of(cls, lengths: list[int]) -> Rows:
        mean = sum(lengths) / max(1, len(lengths))
        spread = sum((length - mean) ** 2 for length in lengths) / max(1, len(lengths))
        return cls(len(lengths), sum(lengths), max(lengths, default=0), math.sqrt(spread))

    @property
    def mean(self) -> float:
        return self.tokens / max(1, self.examples)

    def largest(self, batch: int) -> int:
        """Tokens of the largest of many batches: four deviations over the mean, but never over the longest row's."""
        expected = batch * self.mean + 4 * self.deviation * math.sqrt(batch)
        return int(min(batch * self.longest, max(expected, self.longest)))

    def filled(self, batch: int, step: int) -> float:
        """Mean length of the rows of a step that is `step` of them, each filled up to the longest of its micro-batch.

        A micro-batch is `batch` rows next to each other by length; its longest is guessed as for a normal distribution
        (Blom 1958, Statistical Estimates and Transformed Beta-Variables: the expected values of order statistics).
        """
        ranks = range(batch, step + 1, batch)
        over = sum(NormalDist().inv_cdf((rank - 0.375) / (step + 0.25)) for rank in ranks) / max(1, len(ranks))
        return min(self.longest, self.mean + self.deviation * over)


@dataclass(frozen=True)
class Training:
    """A training run to be planned, on whatever machine.

    `shape` is None for a model that is built otherwise than a Shape says, `earlier` the plan of an attempt before.
    `largest` gives the tokens of the largest micro-batch of so many examples, for who knows the order of the rows; from
    their lengths alone it is estimated.
    """

    spec: RunSpec
    shape: Shape | None
    rows: Rows
    earlier: Plan | None = None
    largest: Callable[[int], int] | None = None


@dataclass(frozen=True)
class Handover:
    """checkpoints/train.json: what an attempt of the train stage goes by, beside run.json.

    The supervisor writes it before each attempt: `changes` are the options that a lack of memory has changed,
    `corrections` and `starts` what earlier runs on this kind of card have shown. The stage adds its `plan`, which the
    attempts after it keep as far as it fits.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    corrections: tuple[Correction, ...] = ()
    plan: Plan | None = None
    starts: tuple[Start, ...] = ()

    @classmethod
    def read(cls, run: RunDir) -> Handover:
        """An empty one where there is no file, or none that this version can read."""
        value = _read(run.train_json)
        try:
            plan = Plan.from_json(value["plan"]) if value.get("plan") else _plan_of_an_earlier_version(run)
        except (KeyError, TypeError, AttributeError):
            return cls()
        corrections = _seen(value.get("corrections"), Correction)
        return cls(value.get("changes") or {}, corrections, plan, _seen(value.get("starts"), Start))

    def write(self, run: RunDir) -> None:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        corrections = [asdict(known) for known in self.corrections]
        plan = self.plan and self.plan.to_json()
        starts = [asdict(known) for known in self.starts]
        write_json(
            run.train_json, {"changes": self.changes, "corrections": corrections, "plan": plan, "starts": starts}
        )


def _seen(values: list[dict[str, Any]] | None, kind: Callable[..., T]) -> tuple[T, ...]:
    """What earlier runs have shown; nothing where another version wrote it: the next attempt gets it anew."""
    with suppress(KeyError, TypeError, AttributeError):
        return tuple(kind(**{**known, "way": Way(*known["way"])}) for known in values or [])
    return ()


def _plan_of_an_earlier_version(run: RunDir) -> Plan | None:
    """Read plan.json, which ftq wrote before there was train.json, so that such a run resumes too."""
    value = _read(run.checkpoints / "plan.json")
    if any(name not in value for name in KEPT_BEFORE_TRAIN_JSON):
        return None
    return Plan.from_json({"engine": "", "gpu": False, "dtype": "", **value})


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        value = json.loads(path.read_text(encoding="utf-8"))
        return value if isinstance(value, dict) else {}
    return {}
