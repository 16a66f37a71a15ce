"""JSON of texts, as pretraining has them: `{"text": "..."}`. Each text is a document of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ftq.examples.records.checked import once, string_of
from ftq.examples.records.keys import is_record
from ftq.facts.records.names import HINT, NAMES

KEYS = ("text", "content")
# What may stand beside a text without making it a record: where it comes from.
ABOUT = frozenset({
    "id", "_id", "doc_id", "uuid", "url", "uri", "link", "source", "src", "path", "file", "filename", "file_name",
    "file_path", "meta", "metadata", "date", "time", "timestamp", "created", "created_at", "updated", "updated_at",
    "author", "authors", "license", "licence", "lang", "language", "subset", "split", "domain", "dump", "version",
    "type", "added",
})  # fmt: skip
TITLES = ("title", "name", "heading")
LONG = 400  # characters, or a line break: too much for the value of a record that is data
BEGINS, TITLE = 8, 100  # words of a text that name it, characters of a name


@dataclass(frozen=True)
class Text:
    """`title` may be empty; `begins` are the text's first words."""

    title: str
    markdown: str

    @property
    def begins(self) -> str:
        words = self.markdown.split(maxsplit=BEGINS)[:BEGINS]
        return " ".join(words)[:TITLE].replace('"', "'").strip("#*_>`-=| ").rstrip(".,:;")


def key_of(records: Iterable[tuple[str, Any]]) -> str:
    """The key that holds a file's texts; empty if its first records are something else.

    They are documents if nothing but what says where they come from stands beside them; a long text also if it has a
    title, or if no other key names its record, which could otherwise be data.
    """
    count, held, others, is_long = 0, Counter[str](), set[str](), False
    for _, record in records:
        if isinstance(record, ValueError) or (isinstance(record, dict) and is_record(record)):
            continue
        if not isinstance(record, dict):
            count += 1
            continue
        key = next((key for key in KEYS if isinstance(record.get(key), str)), "")
        text = record.get(key, "").strip()
        count, is_long = count + 1, is_long or len(text) > LONG or "\n" in text
        held[key] += bool(key)
        others |= {str(name).lower() for name in record if name != key} if key else set()
    key = max(held, key=held.__getitem__, default="")
    if not key or 2 * held[key] <= count:
        return ""
    strange = others - ABOUT - {*KEYS}
    return key if not strange or (is_long and (strange <= {*NAMES} or not any(map(HINT.match, strange)))) else ""


def text_of(record: Any, key: str) -> Text | None:
    """A record's text; None if it is a record of another shape. ValueError if it is empty or can't be used."""
    if not isinstance(record, dict) or key not in record or is_record(record):
        return None
    once(record, frozenset({key}))
    title = next((title for name in TITLES if isinstance(title := record.get(name), str) and title.strip()), "")
    return Text(" ".join(title.split())[:TITLE], string_of(record[key], key, required=True))
