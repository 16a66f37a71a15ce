"""What a language model would be asked to write, before it is: an estimate by what the sections hold.

How much is asked of a section stands in worker/questions/writer.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ftq.facts.text.signs import ENDS, STOPS, WIDE
from ftq.formats.kind import holds_records
from ftq.spec import models

SMALL = 400_000_000  # parameters, below which prepare warns that hardly anything of what is written is kept
LONGEST = 4000  # bytes of a section that are asked about at once
SHORTEST = 8  # words
SENTENCE = re.compile(rf"[^{ENDS}\n]{{20,}}[.!{STOPS}{WIDE}]")
SENTENCES = 6  # of a section that are asked about
# by whom -> questions kept of a sentence, and of a section by itself; more or less
KEPT = {"base": (0.5, 0.0), "endpoint": (2.0, 3.0)}


class Expected:
    """`see` examples; then it says how many sections a model would be asked about and about how many questions come."""

    def __init__(self, by: str, model: str) -> None:
        """`model` is the base model, as the run's spec names it."""
        self.sections = 0
        self._by, self._rows = by, 0.0
        shape = models.shape_of(model) if by == "base" else None
        self._is_small = bool(shape and shape.parameters < SMALL)

    def see(self, example: Mapping[str, str]) -> None:
        if self._by not in KEPT or "rule" in example or holds_records(example["document"]):
            return
        text = example["output"]
        if len(text.split()) < SHORTEST:
            return
        sections = -(-len(text.encode(errors="replace")) // LONGEST)
        of_sentence, of_section = KEPT[self._by]
        self.sections += sections
        self._rows += of_sentence * min(SENTENCES * sections, len(SENTENCE.findall(text))) + of_section * sections

    @property
    def said(self) -> str:
        """A sentence; empty where no model is asked."""
        if self._by not in KEPT:
            return ""
        who = "the base model" if self._by == "base" else "the endpoint"
        sections = "1 section" if self.sections == 1 else f"{self.sections:,} sections"
        if self._is_small:
            few = "few or none that are worth keeping: it has under half a billion parameters"
            return f"{who} will be asked about {sections}, and writes {few}"
        return f"{who} will be asked about {sections}; about {self._rounded:,} more questions come of it, an estimate"

    @property
    def _rounded(self) -> int:
        rows = round(self._rows)
        return rows if rows < 20 else round(rows, -len(str(rows)) + 2)
