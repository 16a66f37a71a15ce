"""A document's sections as a model is asked about them, and the sentences that are worth a question."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ftq.examples.records.given import Candidate, Read
from ftq.examples.split import cut
from ftq.facts.checks import is_navigation, is_sentence, words
from ftq.facts.structure import Document
from ftq.formats.kind import holds_records

LONGEST = 4000  # bytes: about a thousand tokens, in any script
SHORTEST = 8  # words
ENDS = ".!。！"  # else it is an item of a list
NUMBER_OR_CODE = re.compile(r"`[^`]+`|(?<![\w.])\d[\d.,]*")
NAME = re.compile(r"(?<=[a-z,] )[A-Z][\w+#-]+")


@dataclass(frozen=True)
class Section:
    """A piece of a document under its headings, outermost first. `source` names it as an example's source does."""

    document: str
    path: tuple[str, ...]
    where: str
    source: str
    text: str


def sections_of(rows: Iterable[Read]) -> Iterator[Section]:
    """What is worth asking about of the documents that were read; a long section comes in parts. Records are questions
    already."""
    for row in rows:
        if not isinstance(row, Candidate) or row.is_record or holds_records(row.document) or is_navigation(row.path):
            continue
        for text in cut(row.blocks, lambda text: len(text.encode(errors="replace")), LONGEST):
            if words(text) >= SHORTEST:
                yield Section(row.document, row.path, row.where, row.source, text)


def sentences(section: Section, most: int) -> list[str]:
    """The sentences that can be read alone; of many, those with the most numbers, code and names, in their order."""
    read_alone = [
        sentence.text
        for part in Document(section.text).sections()
        for paragraph in part.paragraphs
        for sentence in paragraph.sentences
        if sentence.text[-1] in ENDS and is_sentence(sentence.text) and words(sentence.text) >= 5
    ]
    texts = list(dict.fromkeys(read_alone))
    best = sorted(texts, key=_told, reverse=True)[:most]
    return [sentence for sentence in texts if sentence in best]


def _told(sentence: str) -> int:
    """How much a sentence says that can be asked: more than three things make no better one."""
    return min(3, len(NUMBER_OR_CODE.findall(sentence)) + len(NAME.findall(sentence)))
