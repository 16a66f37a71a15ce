"""dataset/report.json: what prepare tells the later stages and people."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ftq.errors import UNREADABLE
from ftq.facts import Cut
from ftq.files.run_dir import REPORT
from ftq.files.snapshot import is_left_out
from ftq.questions import Contradiction, Report
from ftq.words import plural


@dataclass(frozen=True)
class Used:
    """`examples` aside from questions on its facts; `split` says how many were too long for a row, `duplicates` how
    many were there already, and `same_as` in which document the last of these."""

    path: str
    examples: int
    facts: int = 0
    split: int = 0
    duplicates: int = 0
    same_as: str = ""


@dataclass(frozen=True)
class Skipped:
    path: str
    reason: str


@dataclass(frozen=True)
class SkippedRecord:
    """`count` is that of records of which only this one, the last, is named."""

    where: str
    reason: str
    count: int = 1


@dataclass(frozen=True)
class Documents:
    used: list[Used] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # on documents that are used

    @property
    def taken(self) -> int:
        """The documents, as submit counts them: those of a kind that ftq reads, without what is left out."""
        return len(self.used) + sum(not is_left_out(one.reason) for one in self.skipped)

    @property
    def counted(self) -> str:
        """For example `19 documents, 17 of them used`."""
        used = "" if len(self.used) == self.taken else f", {len(self.used):,} of them used"
        return f"{plural(self.taken, 'document')}{used}"


@dataclass(frozen=True)
class TokenCounts:
    """Tokens of all examples together, of the longest, and of one on average."""

    total: int = 0
    longest: int = 0
    mean: float = 0.0

    @classmethod
    def of(cls, lengths: Sequence[int]) -> TokenCounts:
        if not lengths:
            return cls()
        return cls(sum(lengths), max(lengths), round(sum(lengths) / len(lengths), 1))


@dataclass(frozen=True, kw_only=True)
class DatasetReport:
    """What prepare tells the later stages and people: dataset/report.json."""

    documents: Documents = field(default_factory=Documents)
    records_skipped: list[SkippedRecord] = field(default_factory=list)
    examples: int = 0
    duplicates: int = 0
    split_into_parts: int = 0
    train: int = 0
    valid: int = 0
    tested: int | None = (
        None  # questions of valid that ask for what train teaches; an earlier version didn't count them
    )
    tokens: TokenCounts = TokenCounts()
    max_seq_length: int
    stop: str
    base_revision: str | None = None
    questions: Report | None = None  # on the rows made of facts
    contradictions: tuple[Contradiction, ...] = ()  # between records
    cuts: tuple[Cut, ...] = ()  # what limits left out

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> DatasetReport:
        """TypeError for what is no report; keys of a later version are left aside."""
        known = {one.name for one in fields(cls)}
        files = value.get("documents", {})
        used = [Used(**document) for document in files.get("used", [])]
        skipped = [Skipped(**document) for document in files.get("skipped", [])]
        return cls(
            **{name: given for name, given in value.items() if name in known}
            | {
                "documents": Documents(used, skipped, files.get("notes", [])),
                "questions": Report.from_json(value["questions"]) if value.get("questions") else None,
                "contradictions": tuple(map(Contradiction.from_json, value.get("contradictions", []))),
                "cuts": tuple(Cut(**cut) for cut in value.get("cuts", [])),
                "records_skipped": [SkippedRecord(**record) for record in value.get("records_skipped", [])],
                "tokens": TokenCounts(**value.get("tokens", {})),
            }
        )

    @classmethod
    def read(cls, dataset: Path) -> DatasetReport:
        """The report in a run's dataset folder. OSError if there is none."""
        return cls.from_json(json.loads((dataset / REPORT).read_text(encoding="utf-8")))


def base_revision(dataset: Path) -> str | None:
    """The revision of the base model that the dataset was made for; None where no report says it."""
    with contextlib.suppress(*UNREADABLE):
        revision: str | None = json.loads((dataset / REPORT).read_text(encoding="utf-8")).get("base_revision")
        return revision
    return None
