"""JSON and JSON Lines into examples: Alpaca records, prompt/completion, question/answer, chats."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from ftq.examples.records.checked import (
    RECORD,
    SPEAKERS,
    Message,
    kind_of,
    listed,
    message_of,
    once,
    string_of,
    take_blobs,
)
from ftq.examples.records.keys import CHATS, inside, is_record, named, pair_of
from ftq.examples.records.unread import unread_in
from ftq.facts.records.json_text import decode
from ftq.facts.records.names import is_meant
from ftq.formats.decode import undecoded, utf_8
from ftq.formats.kind import MOST_JSON_BYTES, MOST_TEXT_BYTES, SUFFIXES, Kind, Unusable
from ftq.formats.plain import looks

KNOWN = "instruction/output, prompt/completion, question/answer or messages"
NO_RECORD = "a record"  # begins the reasons of what is none
MOST_BEFORE = 2**20  # characters of a chat before an answer: no row holds more
LARGE = 1_000_000  # bytes of a line; the values of a shorter one need no counting
MOST_REPEATED = 2**23  # characters of a chat that its answers have before them, together
MOST_MEMORY = 250_000_000  # bytes that a JSON value may take once it is read

Example = dict[str, str]
# Where; the example, why there is none, how many characters were no text, or keys of messages that aren't read.
Row = tuple[str, Example | str | int | frozenset[str]]
Turn = tuple[str, str]  # role, text


class Malformed(ValueError):
    """Raised if the whole file can't be used; the text says why, with the line."""


def examples_of(where: str, record: Any) -> Iterator[Row]:
    """(where, example) for every record in one of `values`, (where, reason) for the unusable ones.

    (where, number) for characters of a record that were no text, (where, keys) for those that nothing reads.
    """
    if isinstance(record, ValueError):
        yield where, str(record)
        return
    is_outer = isinstance(record, dict | list) and not (isinstance(record, dict) and is_record(record))
    deeper = list(inside(record, where)) if is_outer else []
    for place, one in deeper or [(where, record)]:
        yield from _examples_of(place, one)


def _examples_of(where: str, record: Any) -> Iterator[Row]:
    lost = take_blobs(record)
    try:
        yield from ((where, row) for row in _rows(record))
    except ValueError as error:
        was = ": it was a picture, a key or a dump" if lost and str(error).endswith("is empty") else ""
        yield where, f"{error}{was}"
    if lost:
        yield where, lost
    if unread := unread_in(record):
        yield where, unread


def values(path: Path) -> Iterator[tuple[str, Any]]:
    """(where, the record or why there is none). JSON Lines are read one by one, however many. Raises Malformed."""
    if not is_lines(path):
        yield from _document(text_of(path))
        return
    is_empty = True
    for where, value in lines(path):
        is_empty = False
        yield where, value
    if is_empty:
        raise Malformed("empty")


def lines(path: Path) -> Iterator[tuple[str, Any]]:
    """(where, the record or why there is none) for each line that isn't blank, whatever the file's name."""
    with path.open("rb") as file:
        yield from _lines(_bounded(file))


def is_lines(path: Path) -> bool:
    return SUFFIXES.get(path.suffix.lower()) is Kind.JSONL


def text_of(path: Path) -> str:
    """The text of a JSON file. Raises Malformed."""
    if (size := path.stat().st_size) > MOST_JSON_BYTES:
        most = f"at most {MOST_JSON_BYTES / 1e6:,.0f} MB"
        raise Malformed(f"{size / 1e6:,.0f} MB is too big ({most}): save it as JSON Lines, which has no such limit")
    data = path.read_bytes()
    try:
        text = utf_8(data)
    except Unusable as error:
        raise Malformed(str(error)) from None
    if not text.strip():
        raise Malformed("empty")
    if memory_of(data) > MOST_MEMORY:
        raise Malformed("too many values to be read at once: split it, or save it as JSON Lines")
    return text


def memory_of(data: bytes) -> int:
    """About how many bytes JSON takes once it is read: its text, its objects, lists and values."""
    return 2 * len(data) + 200 * data.count(b"{") + 64 * data.count(b"[") + 100 * data.count(b",")


def _bounded(file: Any) -> Iterator[bytes]:
    """The lines, of a longer one than a row can hold its start alone."""
    while line := file.readline(MOST_TEXT_BYTES + 1):
        yield line
        while len(line) > MOST_TEXT_BYTES and not line.endswith(b"\n"):
            line = file.readline(MOST_TEXT_BYTES + 1)


def read(record: Any) -> list[Example | str]:
    """The examples in a record; for each answer of a chat an example or why there is none. Raises ValueError."""
    return list(_rows(record))


def _rows(record: Any) -> Iterator[Example | str]:
    if not isinstance(record, dict):
        raise ValueError(f"{NO_RECORD} must be an object, not {kind_of(record)}")
    keys, record = list(record), named(record)
    if is_meant(record):
        once(record, RECORD)
    first = _said_first(record)
    for key in CHATS:
        if key in record:
            yield from _turns(first, record[key], key)
            return
    if pair := pair_of(record):
        question, answer = pair
        if isinstance(record[question], list) and isinstance(record[answer], list):
            yield from _turns(first, record[question] + record[answer], question)
            return
        example = _example(record, question, answer)
        yield from _turns(first, _as_chat(example), question) if first else [example]
        return
    raise ValueError(f"{NO_RECORD} needs {KNOWN}; this one has {listed(keys)}")


def _document(text: str) -> Iterator[tuple[str, Any]]:
    try:
        value = decode(text)
    except json.JSONDecodeError as error:
        lines = io.BytesIO(text.encode(errors="surrogatepass"))
        if error.msg == "Extra data" and not any(isinstance(record, ValueError) for _, record in _lines(lines)):
            lines.seek(0)
            yield from _lines(lines)  # JSON Lines in a file named .json
            return
        raise Malformed(f"line {error.lineno}: malformed JSON ({error.msg}, column {error.colno})") from None
    except RecursionError:
        raise Malformed("malformed JSON (nested too deeply)") from None
    yield from _records(value)


def _records(value: Any) -> Iterator[tuple[str, Any]]:
    """A list of records, an object with records or one list in it, or one record by itself."""
    if not isinstance(value, dict | list):
        raise Malformed(f"expected a list of records, not {kind_of(value)}")
    if isinstance(value, list) or is_record(value):
        rows = value if isinstance(value, list) else [value]
        yield from ((f"record {number}", row) for number, row in enumerate(rows, start=1))
    elif deeper := list(inside(value)):
        yield from deeper
    else:
        lists = [(key, inner) for key, inner in value.items() if isinstance(inner, list)]
        if len(lists) == 1:
            [(key, rows)] = lists
            yield from ((f"{key}[{number}]", row) for number, row in enumerate(rows, start=1))
        else:
            yield "record 1", value


def _lines(lines: Iterable[bytes]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(lines, start=1):
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if not line.strip():
            continue
        try:
            if len(line) > MOST_TEXT_BYTES:
                raise ValueError(f"longer than {MOST_TEXT_BYTES / 1e6:,.0f} MB")
            if len(line) > LARGE and memory_of(line) > MOST_MEMORY:
                raise ValueError("too many values to be read at once: split it")
            yield f"line {number}", decode(line.decode().rstrip("\n"))
        except UnicodeDecodeError as error:
            if number == 1:  # another encoding, most likely
                raise Malformed(f"line 1: {undecoded(error)}{looks.hint(line)}") from None
            yield f"line {number}", ValueError(undecoded(error))
        except json.JSONDecodeError as error:
            yield f"line {number}", ValueError(f"malformed JSON ({error.msg}, column {error.colno})")
        except RecursionError:
            yield f"line {number}", ValueError("malformed JSON (nested too deeply)")
        except ValueError as error:
            yield f"line {number}", error


def _example(record: dict[str, Any], question: str, answer: str) -> Example:
    """The example of a record whose question and answer have these keys."""
    context = record.get("input") or record.get("context") or ""
    return {
        "instruction": string_of(record[question], question, required=True),
        "input": string_of(context, "input", required=False),
        "output": string_of(record[answer], answer, required=True),
    }


def _said_first(record: dict[str, Any]) -> list[Any]:
    """A record's `system` prompt and `history` (pairs of question and answer) as messages.

    A `system` that is no text and a `history` that is no list mean something else and are ignored.
    """
    history = record["history"] if isinstance(record.get("history"), list) else []
    if not all(isinstance(turn, list) and len(turn) == 2 for turn in history):
        raise ValueError("history must be a list of [question, answer] pairs")
    system = record.get("system") or record.get("system_prompt")
    turns = [("system", system)] if isinstance(system, str) else []
    turns += [turn for pair in history for turn in zip(("user", "assistant"), pair, strict=True)]
    return [{"role": role, "content": content} for role, content in turns]


def _as_chat(example: Example) -> list[Any]:
    context = [{"role": "system", "content": example["input"]}] if example["input"] else []
    question, answer = example["instruction"], example["output"]
    return [*context, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _turns(first: list[Any], messages: Any, key: str) -> Iterator[Example | str]:
    """An example for each answer, or why there is none. Assistant messages in a row are one answer.

    The question is the user's messages before the answer; everything before them is the input, as lines of text, and
    once more as `turns`: JSON of [role, text] pairs, which the format chat makes real turns of.
    """
    if not isinstance(messages, list):
        raise ValueError(f"{key} must be a list, not {kind_of(messages)}")
    before, question, size, answers, repeated = list[Turn](), list[str](), 0, 0, 0
    chat = list(map(message_of, messages))
    context = [message for message in map(message_of, first) if message not in chat[:1]]  # some records repeat it
    for role, group in groupby(context + chat, key=lambda message: message[0]):
        turns = list(group)
        texts = [text for _, text, _ in turns]
        if role == "user":
            question += texts
            continue
        if role == "assistant":
            answers += 1
            repeated += size + 100 * len(before)
            if repeated > MOST_REPEATED and before:
                yield f"a chat's answers repeat more than {MOST_REPEATED:,} characters said before them: split it"
            else:
                yield _answer(question, before if size <= MOST_BEFORE else None, turns)
            before += [("user", _joined(question))] if question else []
            size += sum(map(len, question))
            question = []
        before += [(role, text) for text in texts]
        size += sum(map(len, texts))
    if not answers:
        raise ValueError("a chat without an assistant message teaches nothing")
    if question:
        yield "the last user message has no answer"


def _answer(question: list[str], before: list[Turn] | None, turns: list[Message]) -> Example | str:
    """The example, or why there is none. `before` is None if the chat before it is longer than any row."""
    if not question:
        return "an assistant message has no user message before it"
    if unlearned := next(filter(None, (why for *_, why in turns)), ""):
        return f"an answer {unlearned} isn't learned"
    if before is None:
        return f"more than {MOST_BEFORE:,} characters were said before this answer"
    answer = "\n".join(text for _, text, _ in turns)
    said = "\n".join(f"{SPEAKERS[role]}{text}" for role, text in before)
    example = {"instruction": _joined(question), "input": said, "output": answer}
    if any(role == "assistant" for role, _ in before):
        example["turns"] = json.dumps(before, ensure_ascii=False)
    return example


def _joined(question: list[str]) -> str:
    return "\n".join(question).strip()
