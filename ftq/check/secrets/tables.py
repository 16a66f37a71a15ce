"""Columns, and rows, that are called Password, Token and so on, and what looks like one below or beside the name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from ftq.check.secrets.said import HINTS, PASSWORDS
from ftq.check.secrets.values import PLACEHOLDER, STANDS_FOR, Secret
from ftq.errors import lines

CALLED = re.compile(
    rf"(?:[\w./'’-]{{1,30}} ){{0,3}}(?:[\w-]{{1,30}}-)?"
    rf"(?:(?P<password>{PASSWORDS}|pwd?)|secret|token|(?:api|access|private|secret)[ _-]?key)(?: \([^()]{{1,40}}\))?",
    re.I,
)
CELL, RULER = re.compile(r"(?<!\\)\|"), re.compile(r"[\s|:-]*-[\s|:-]*")
VALUE = re.compile(r"(?=.*[^\W\d_])(?=.*[\d!?@#%&+=~^])[^\s\"'`<>(){}\[\]$*|\\]{6,200}")
TOKEN = re.compile(r"(?=.*\d)(?=.*[^\W\d_])[\w.+/=~-]{12,}")


def in_tables(text: str, lowered: str) -> Iterator[Secret]:
    """The values of columns, and of rows, that are called Password, Token and so on."""
    if "|" not in text or not any(map(lowered.__contains__, HINTS)):
        return
    columns = dict[int, bool]()  # those called so, and whether it is a password's name
    for line, below in pairwise([*lines(text), ""]):
        if "|" not in line:
            columns = {}
            continue
        cells = [cell.strip(" \t`*_\"'") for cell in CELL.split(line.strip().removeprefix("|").removesuffix("|"))]
        if "|" in below and RULER.fullmatch(below):
            columns = {
                number: bool(called["password"]) for number, called in enumerate(map(CALLED.fullmatch, cells)) if called
            }
            continue
        told = dict(columns)
        if called := CALLED.fullmatch(cells[0]):
            told[1] = bool(called["password"])
        for number, is_password in told.items():
            value = cells[number] if number < len(cells) else ""
            looks_so = (VALUE if is_password else TOKEN).fullmatch(value)
            if looks_so and not PLACEHOLDER.search(value) and not STANDS_FOR.fullmatch(value):
                yield Secret("password or key", value, line)
