"""The one reader of documents: a folder in, candidates for examples out, and what was left out with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ftq.errors import utf8
from ftq.examples import json_records, markdown
from ftq.files import snapshot


@dataclass(frozen=True)
class Candidate:
    """An example as the document has it, however long. `blocks` make its answer: between them it may best be cut."""

    document: str
    where: str
    instruction: str
    input: str
    blocks: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class LeftOut:
    """A record, or the whole document where `where` is empty, and why it gives nothing."""

    document: str
    where: str
    reason: str


Read = Candidate | LeftOut


def read(
    folder: Path, home: Path | None = None, progress: Callable[[float], None] = lambda share: None
) -> Iterator[Read]:
    """All that lies below the folder, document after document. `progress` is told the share that is read.

    The runs in `home` are no documents.
    """
    paths = list(snapshot.walk(folder, home))
    for number, (path, reason) in enumerate(paths, start=1):
        name = utf8(path.relative_to(folder).as_posix())
        if reason:
            yield LeftOut(name, "", reason)
        else:
            yield from read_document(path, name)
        progress(number / len(paths))


def read_document(path: Path, name: str) -> Iterator[Read]:
    """What one document gives. `name` is how it is called in sources and reasons."""
    is_markdown = path.suffix.lower() in (".md", ".markdown")
    try:
        text = _text(path)
        rows = _sections(text, utf8(path.stem), name) if is_markdown else _records(text, path, name)
        first = next(rows, LeftOut(name, "", "nothing usable: no text in it but headings"))
        yield first
        yield from rows
    except (OSError, ValueError) as error:
        reason = f"can't be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        yield LeftOut(name, "", reason)


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line}: not UTF-8 text (byte 0x{data[error.start]:02x})") from None
    if not text.strip():
        raise ValueError("empty")
    return text


def _sections(text: str, stem: str, name: str) -> Iterator[Read]:
    for section in markdown.sections(text):
        source = f"{name}#{section.path[-1]}" if section.path and section.path[-1] else name
        question = _question(section.path, stem)
        yield Candidate(name, f"{name}:{section.line}", question, "", section.blocks, source)


def _question(path: tuple[str, ...], stem: str) -> str:
    """The instruction for a section: its heading if that is a question, else a request to explain it."""
    if not path:
        return f'Explain "{stem.replace("-", " ").replace("_", " ")}".'
    *above, heading = path
    if heading.endswith("?"):
        return heading
    return f'Explain "{heading}" ({", ".join(above)}).' if above else f'Explain "{heading}".'


def _records(text: str, path: Path, name: str) -> Iterator[Read]:
    for place, row in json_records.examples(text, is_lines=path.suffix.lower() == ".jsonl"):
        where = f"{name}: {place}"
        if isinstance(row, str):
            yield LeftOut(name, where, row)
        else:
            blocks = tuple(row["output"].split("\n\n"))
            yield Candidate(name, where, row["instruction"], row["input"], blocks, f"{name}#{place}")
