"""All in a text that looks like a secret."""

from __future__ import annotations

from collections.abc import Iterator

from ftq.check.secrets.forms import formed
from ftq.check.secrets.numbers import numbers
from ftq.check.secrets.said import answered, said
from ftq.check.secrets.tables import in_tables
from ftq.check.secrets.values import Secret


def secrets(text: str, question: str = "") -> Iterator[Secret]:
    """Those in the text, each once; and in an answer to this question. What is plainly an example isn't one.

    The time is in proportion to the text's length.
    """
    values = set[str]()
    for secret in (*_all(f"{question}\n{text}"), *answered(question, text)):
        if secret.value not in values:
            values.add(secret.value)
            yield secret


def _all(text: str) -> Iterator[Secret]:
    lowered = text.lower()
    yield from formed(text)
    yield from in_tables(text, lowered)
    yield from said(text, lowered)
    yield from numbers(text)
