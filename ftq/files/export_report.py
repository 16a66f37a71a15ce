"""export.json: what was measured on a run's model and on each of its GGUF files before they were published."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Distance:
    """How far one model's next tokens are from another's, over `positions` tokens of answers.

    `kl` is the mean of KL(reference, this) in nats, `top1` the share of positions with the same most likely token,
    `largest` the largest difference of a logit.
    """

    positions: int
    kl: float
    top1: float
    largest: float


@dataclass(frozen=True)
class Parity:
    """Prompts that ftq, transformers and llama.cpp rendered and tokenised.

    Each that differs is counted once, by its text or else by its tokens; `examples` are some of them.
    """

    prompts: int
    different_texts: int = 0
    different_tokens: int = 0
    examples: tuple[str, ...] = ()

    @property
    def different(self) -> int:
        return self.different_texts + self.different_tokens


@dataclass(frozen=True)
class Stops:
    """How many answers the model ended itself. `held_out` of the questions are of valid.jsonl."""

    questions: int
    held_out: int
    stopped: int

    @property
    def rate(self) -> float:
        return self.stopped / self.questions if self.questions else 1.0


@dataclass(frozen=True)
class Step:
    """What was done, and for how long. Some are done beside others, so their sum may be more than the export took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class GgufReport:
    """One file. `perplexity` is that of the sample's answers; `notes` are what the user was told about it.

    `holds` says of what types its matrices are: {type: share of their numbers}.
    """

    file: str
    type: str
    bytes: int
    sha256: str
    end_of_sequence: int
    stops: Stops
    perplexity: float | None = None
    against_f16: Distance | None = None
    importance: bool = False  # quantised with an importance matrix
    notes: tuple[str, ...] = ()
    holds: dict[str, float] = field(default_factory=dict)

    @property
    def held(self) -> str:
        """What the file holds, for people to read; empty where an earlier version made it."""
        shown = [f"{kind} {share:.0%}" if share < 0.9995 else kind for kind, share in self.holds.items()]
        return ", ".join(shown)

    @property
    def kl(self) -> float | None:
        """From f16, in nats; None where there was no f16 to compare with."""
        return self.against_f16.kl if self.against_f16 else None


@dataclass(frozen=True)
class ExportReport:
    """`merge` compares the merged model with base + adapter, `conversion` the f16 GGUF with the merged model."""

    stop: str
    parity: Parity
    ggufs: tuple[GgufReport, ...]
    merge: Distance | None = None
    conversion: Distance | None = None
    notes: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the stop rates are written out."""
        value = asdict(self)
        for written, file in zip(value["ggufs"], self.ggufs, strict=True):
            written["stops"]["rate"] = round(file.stops.rate, 3)
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ExportReport:
        """TypeError for what is no report; keys of a later version are left aside."""
        given = _known(cls, value)
        given["parity"] = Parity(**_known(Parity, value["parity"]))
        given["ggufs"] = tuple(_gguf(one) for one in value["ggufs"])
        given["merge"], given["conversion"] = (_distance(value.get(name)) for name in ("merge", "conversion"))
        given["steps"] = tuple(Step(**_known(Step, one)) for one in value.get("steps", ()))
        return cls(**given)

    @classmethod
    def read(cls, run: Path) -> ExportReport:
        """The report in a run's folder. OSError if there is none."""
        return cls.from_json(json.loads((run / "export.json").read_text(encoding="utf-8")))


def _gguf(value: dict[str, Any]) -> GgufReport:
    given = _known(GgufReport, value)
    given["stops"] = Stops(**_known(Stops, value["stops"]))
    given["against_f16"] = _distance(value.get("against_f16"))
    return GgufReport(**given)


def _distance(value: dict[str, Any] | None) -> Distance | None:
    return Distance(**_known(Distance, value)) if value else None


def _known(kind: type[Any], value: dict[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    return {name: tuple(v) if isinstance(v, list) else v for name, v in value.items() if name in names}
