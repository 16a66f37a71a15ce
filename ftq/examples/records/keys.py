"""The keys of records to learn: pairs of question and answer, chats; also in other cases, and deeper in JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftq.examples.records.checked import RECORD
from ftq.examples.records.foreign import chatgpt, squad
from ftq.facts.records.json_text import Twice
from ftq.facts.records.names import is_meant

PAIRS = [
    ("instruction", "output"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("frage", "antwort"),
    ("q", "a"),
]
SHORT = ("q", "a")  # also names of other things: a pair if both are text, and no third key is one letter
CHATS = ("messages", "conversations")
NAMES = RECORD | {name for pair in PAIRS for name in pair}


def named(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its known keys in lower case: `Question` is `question`."""
    if (answer := squad.answer_of(record)) is not None:
        return _with(record, "answer", answer)
    if (messages := chatgpt.messages_of(record)) is not None:
        return _with(record, "messages", messages)
    names = {key: low for key in record if (low := key.strip().lower()) != key and low in NAMES}
    if not names:
        return record
    lower = Twice([(names.get(key, key), value) for key, value in record.items()])
    if isinstance(record, Twice):
        lower.keys_twice |= {names.get(key, key) for key in record.keys_twice}
    return lower


def _with(record: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The record with one key more."""
    more = Twice([*record.items(), (key, value)])
    if isinstance(record, Twice):
        more.keys_twice |= record.keys_twice
    return more


def pair_of(record: dict[str, Any]) -> tuple[str, str] | None:
    """The keys of its question and answer, in lower case as `named` gives them."""
    for pair in PAIRS:
        if all(key in record for key in pair) and (pair != SHORT or _is_short(record)):
            return pair
    return None


def _is_short(record: dict[str, Any]) -> bool:
    return all(isinstance(value, str) if key in SHORT else len(key) > 1 for key, value in record.items())


def is_record(record: dict[str, Any]) -> bool:
    """Whether it is one to learn, or meant as one."""
    return is_meant(record) or pair_of(named(record)) is not None


def inside(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(where, record) of all records deeper in JSON, in their order. What stands in a list with one counts as one.

    A stack instead of recursion: nesting may be deep.
    """
    stack = [(value, place, "")]
    while stack:
        value, place, path = stack.pop()
        if isinstance(value, dict):
            inner = [(squad.with_context(value, key), place, f"{path}.{key}" if path else key) for key in value]
        elif isinstance(value, list):
            at = ", ".join(filter(None, (place, path)))
            inner = [(one, f"{at}[{n}]" if at else f"record {n}", path) for n, one in enumerate(value, start=1)]
            if any(map(_is_whole, value)):
                yield from ((where, one) for one, where, _ in inner)
                continue
        else:
            continue
        if path and _is_whole(value):
            yield ", ".join(filter(None, (place, path))), value
        else:
            stack.extend(one for one in reversed(inner) if isinstance(one[0], dict | list))


def _is_whole(value: Any) -> bool:
    """Whether it has all keys of a record."""
    if not isinstance(value, dict):
        return False
    record = named(value)
    return pair_of(record) is not None or any(_is_chat(record.get(key)) for key in CHATS)


def _is_chat(messages: Any) -> bool:
    return isinstance(messages, list) and any(
        isinstance(one, dict) and {"role", "from"} & one.keys() for one in messages
    )
