"""Whether a file is JSON Lines with an object in each, as far as a file is checked when it is uploaded."""

from __future__ import annotations

import codecs
import json

import pydantic_core

LONGEST = 20_000_000  # bytes of a line; a longer one teaches nothing
BLANK = "is blank"  # which is no fault
FORMAT = "Expected file to have JSONL format, where every line is a valid JSON dictionary."


class Lines:
    """Fed with a file's bytes in order: counts its lines, and keeps the first fault as `fault`.

    Without `checks` only lines are counted. No more than one line is held in memory.
    """

    def __init__(self) -> None:
        self.number = 0  # lines so far; blank ones count
        self.blank = 0  # of these, as far as they were looked at
        self.fault: str | None = None
        self.checks = True
        self._rest = bytearray()
        self._open = False  # the last line hasn't ended

    def feed(self, piece: bytes | bytearray) -> None:
        if not self.checks or self.fault:
            self.number += piece.count(b"\n")
            self._open = not piece.endswith(b"\n")
            self._rest.clear()
            return
        whole, end, rest = piece.rpartition(b"\n")
        if end:
            self._check(bytes(self._rest) + whole if self._rest else bytes(whole))
            self._rest.clear()
        self._rest += rest
        self._open = bool(self._rest)
        if len(self._rest) > LONGEST and not self.fault:
            self._blame(self.number + 1, f"has more than {LONGEST:,} bytes")
        elif self._rest and not self.fault and self._rest.lstrip()[:1] not in (b"{", b"", codecs.BOM_UTF8[:1]):
            self._blame(self.number + 1, "isn't a JSON object")

    def end(self) -> int:
        """The number of lines that aren't blank. Called once after the last piece."""
        if self._rest and not self.fault:
            self._check(bytes(self._rest))
        elif self._open:
            self.number += 1
        self._rest.clear()
        return self.number - self.blank

    def _check(self, text: bytes) -> None:
        for line in text.split(b"\n"):
            self.number += 1
            why = "" if self.fault else _fault(line, self.number == 1)
            if why == BLANK:
                self.blank += 1
            elif why:
                self._blame(self.number, why)

    def _blame(self, number: int, why: str) -> None:
        self.fault = f"{FORMAT} Line {number:,} {why}."


def _fault(line: bytes, first: bool) -> str:
    """What is wrong with a line; empty if it is an object."""
    if first:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return "" if type(pydantic_core.from_json(line)) is dict else "isn't a JSON object"
    except ValueError:
        return _slow_fault(line)


def _slow_fault(line: bytes) -> str:
    """The same by the parser that reads training data: it also knows lone surrogates."""
    try:
        text = line.decode()
        if not text.strip():
            return BLANK
        return "" if isinstance(json.loads(text), dict) else "isn't a JSON object"
    except UnicodeDecodeError:
        return "isn't UTF-8"
    except RecursionError:
        return "is nested too deeply"
    except json.JSONDecodeError as error:
        return f"isn't valid JSON: {error.msg}, at column {error.colno:,}"
    except ValueError as error:  # a number with more than 4,300 digits
        return f"isn't valid JSON: {error}"
