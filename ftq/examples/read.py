"""The one reader of documents: a folder in; candidates for examples, facts, and what was left out with its reason."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

from ftq.errors import utf8
from ftq.examples import json_records
from ftq.examples.records import csv_rows, texts
from ftq.examples.records.called import explain, line_of, question_of, spoken, where_of
from ftq.examples.records.given import Candidate, LeftOut, Note, Read, Stated
from ftq.examples.records.known import Known
from ftq.examples.records.stated import data_of, words_in, words_of_file
from ftq.examples.records.unread import Unread
from ftq.facts import Cut, is_generated
from ftq.facts.most import EVERY, Facts, Limits
from ftq.facts.place import stem_of
from ftq.facts.structure import Document
from ftq.facts.text import mdx
from ftq.facts.text.plain import NOT_TEXT
from ftq.files import snapshot
from ftq.formats.convert import Converted, Converter
from ftq.formats.decode import Decoded
from ftq.formats.kind import holds_records
from ftq.parallel import AHEAD, MOST, Processes, cores


@dataclass(frozen=True)
class File:
    """A path, how it is called in sources and reasons, and why it is no document (empty for one)."""

    path: Path
    name: str
    reason: str


Records = Iterable[tuple[str, Any]]  # where each stands, and itself or why there is none
Rules = frozenset[str]
NO_RULES = Rules()
OWN_VALID = ("valid.json", "valid.jsonl")  # documents whose records are all for validation
VALIDATION = "validation/"  # stands before the names of documents of a folder that is for validation
LARGE = 2_000_000  # bytes: such a document is read here, one at a time, so that only one of them is in memory
SHARED = 400_000  # bytes of a folder from which on more processes save more time than they take to start
NAMED = 1_000  # records of a document that give nothing and are named
LOOKED = 1_000  # records by which a file of JSON is judged
LAG = MOST * AHEAD  # groups of documents that are read at once at most
FIRST = 20  # documents that are read before other processes are started: whoever wants one example waits for none
AT_ONCE, EACH = 64_000, 200  # bytes that a process reads at a time, and what a file takes beside its bytes


def read(
    folder: Path,
    home: Path | None = None,
    progress: Callable[[float], None] = lambda share: None,
    rules: Rules = NO_RULES,
    limit: Callable[[], int] = lambda: EVERY,
) -> Iterator[Read]:
    """All that lies below the folder, document after document. `progress` is told the share that is read.

    The runs in `home` are no documents. Facts are found by these rules (ftq.facts); without any there are none, and
    none in sections whose lot is higher than the `limit` was some documents ago (ftq.facts.most).
    """
    files = [File(path, _name(path, folder), reason) for path, reason in snapshot.walk(folder, home)]
    sizes = [0 if file.reason else _size(file.path) for file in files]
    done = 0
    with Converter() as converter, Processes("ftq.examples.read:read_files") as processes:
        is_shared = sum(size for size in sizes if size < LARGE) >= SHARED and cores() > 1
        limits = Limits(limit, LAG)
        for is_large, group in groupby(zip(files, sizes, strict=True), key=lambda pair: pair[1] >= LARGE):
            alone = [[file] for file, _ in islice(group, None if is_large else FIRST)]
            some = list(_together(group))
            calls = ((files, rules, limits.next()) for files in some)
            here = alone if is_shared else [*alone, *some]
            given: Iterator[Iterable[Read]] = (_read_all(files, converter, rules, limits.next()) for files in here)
            more = processes.results(calls) if is_shared else ()
            for files_read, rows in zip([*alone, *some], chain(given, more), strict=True):
                yield from rows
                limits.note()
                done += len(files_read)
                progress(done / len(files))


def read_files(files: Sequence[File], rules: Rules, limit: int) -> list[Read]:
    """What these documents give; called in a process of its own."""
    return list(_read_all(files, _converter(), rules, limit))


def _read_all(files: Sequence[File], converter: Converter, rules: Rules, limit: int) -> Iterator[Read]:
    for file in files:
        yield from _read(file, converter, rules, limit)


@cache
def _converter() -> Converter:
    """The one of this process; what it has started ends with it."""
    return Converter()


def _name(path: Path, folder: Path) -> str:
    return utf8(str(path).removeprefix(os.path.join(folder, "")).replace(os.sep, "/"))


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _together(files: Iterable[tuple[File, int]]) -> Iterator[list[File]]:
    """Documents in their order, about `AT_ONCE` bytes for a process at a time."""
    some, bytes = list[File](), 0
    for file, size in files:
        some.append(file)
        bytes += size + EACH
        if bytes >= AT_ONCE:
            yield some
            some, bytes = [], 0
    if some:
        yield some


def _read(file: File, converter: Converter, rules: Rules, limit: int) -> Iterator[Read]:
    """What one document gives."""
    path, name = file.path, file.name
    if file.reason:
        yield LeftOut(name, "", file.reason)
        return
    try:
        if holds_records(path.name):
            yield from _records(path, Known(name, rules, limit))
        elif table := csv_rows.table_of(path):
            yield from _table(table, name, rules)
        else:
            yield from _converted(converter.convert(path), stem_of(utf8(path.name)), Known(name, rules, limit))
    except (OSError, ValueError) as error:
        reason = f"can't be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        yield LeftOut(name, "", reason)


def _converted(document: Converted, stem: str, known: Known) -> Iterator[Read]:
    name, is_empty = known.name, True
    for note in document.notes:
        yield Note(name, note)
    if document.skipped_pages:
        pages = ", ".join(map(str, document.skipped_pages))
        yield Note(name, f"pages without text were skipped, they need OCR: {pages}")
    if name.lower().endswith(".mdx"):
        markdown, unknown = mdx.without_expressions(document.markdown)
        document = replace(document, markdown=markdown)
        known.cuts += [Cut(name, line, mdx.UNKNOWN, 1) for line in unknown]
    text, language = Document(document.markdown, bool(known.rules), known.is_asked), spoken(document.markdown)
    for line, path, blocks in known.sections(text):
        is_empty = False
        source = f"{name}#{path[-1]}" if path else name
        yield Candidate(
            name, where_of(name, document, line), question_of(path, stem, language), "", blocks, source, path
        )
    if is_generated(document.markdown):
        known.facts = Facts()
    if is_empty and not known.facts.all():  # front matter may state something where no section does
        raise ValueError(f"nothing usable: no text in it but {text.instead}")
    yield from known.stated(lambda: words_in(io.StringIO(document.markdown)))


def _records(path: Path, known: Known) -> Iterator[Read]:
    """Its records as examples, or as documents if they are texts; where none is either, what the JSON states."""
    name, rules = known.name, known.rules
    records: Records = json_records.values(path)
    if json_records.is_lines(path):  # a thousand may take more memory than there is: they are read once more
        first: Records = islice(json_records.values(path), LOOKED)
    else:
        first = list(islice(records, LOOKED))
        records = chain(first, records)
    if key := texts.key_of(first):
        yield from _texts(records, path, key, known)
        return
    cuts, unread = list[Cut](), Unread()
    rows = _examples(records, name, cuts, unread)
    unusable: list[LeftOut] = []
    for row in rows:
        if isinstance(row, Candidate):
            yield from _told(chain(unusable, [row], rows))
            break
        unusable.append(row)
    else:
        yield from _told(data_of(path, name, unusable, cuts, "J" in rules and name not in OWN_VALID))
        return
    yield from unread.notes(name)
    if rules or cuts:
        yield Stated(name, [], words_of_file(path) if rules else set(), tuple(cuts))


def gives_examples(path: Path) -> bool:
    """Whether a file of JSON has a record that is an example, or a text."""
    try:
        return any(isinstance(row, Candidate) for row in _records(path, Known(path.name, NO_RULES, EVERY)))
    except (OSError, ValueError):
        return False


def _table(table: Decoded, name: str, rules: Rules) -> Iterator[Read]:
    """The rows of a table of questions and answers."""
    cuts = list[Cut]()
    if table.note:
        yield Note(name, table.note)
    yield from _told(_examples(csv_rows.rows(table.text), name, cuts, Unread()))
    if rules or cuts:
        yield Stated(name, [], words_in(io.StringIO(table.text)) if rules else set(), tuple(cuts))


def _told(rows: Iterable[Read]) -> Iterator[Read]:
    """The rows; of very many that give nothing the first ones are named and the others counted."""
    count, last = 0, None
    for row in rows:
        count += isinstance(row, LeftOut)
        if not isinstance(row, LeftOut) or count <= NAMED:
            yield row
        else:
            last = row
    if last is not None:
        yield replace(last, count=count - NAMED)


def _examples(records: Records, name: str, cuts: list[Cut], unread: Unread) -> Iterator[Candidate | LeftOut]:
    """Records as examples; what is no text in them is added to `cuts`, keys that nothing reads to `unread`."""
    for place, row in chain.from_iterable(json_records.examples_of(where, record) for where, record in records):
        if isinstance(row, int):
            cuts.append(Cut(name, line_of(place), NOT_TEXT, row))
        elif isinstance(row, frozenset):
            unread.add(place, row)
        else:
            yield _record(row, name, place)


def _texts(records: Records, path: Path, key: str, known: Known) -> Iterator[Read]:
    """Each record's text as a document; a record of another shape among them as an example."""
    name, unread = known.name, Unread()
    for place, record in records:
        try:
            text = texts.text_of(record, key)
        except ValueError as error:
            yield LeftOut(name, f"{name}: {place}", str(error))
            continue
        if text is None:
            yield from _examples([(place, record)], name, known.cuts, unread)
            continue
        yield from _text(text, known, place)
    yield from unread.notes(name)
    yield from known.stated(lambda: words_of_file(path))


def _text(text: texts.Text, known: Known, place: str) -> Iterator[Read]:
    name, is_empty, language = known.name, True, spoken(text.markdown)
    document = Document(text.markdown, bool(known.rules) and not is_generated(text.markdown), known.is_asked)
    for _, headings, blocks in known.sections(document, line_of(place)):
        is_empty = False
        path = headings if text.title in headings[:1] or not text.title else (text.title, *headings)
        question = question_of(path, text.begins, language) if path else explain(text.begins, (), language)
        yield Candidate(name, f"{name}: {place}", question, "", blocks, f"{name}#{place}", path)
    if is_empty:
        yield LeftOut(name, f"{name}: {place}", f"no text in it but {document.instead}")


def _record(row: json_records.Example | str, name: str, place: str) -> Candidate | LeftOut:
    where = f"{name}: {place}"
    if isinstance(row, str):
        return LeftOut(name, where, row)
    blocks = tuple(row["output"].split("\n\n"))
    source, turns = f"{name}#{place}", row.get("turns", "")
    return Candidate(name, where, row["instruction"], row["input"], blocks, source, turns=turns, is_record=True)
