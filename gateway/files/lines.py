"""Whether a file is JSON Lines with an object in each, as far as a file is checked when it is uploaded."""

from __future__ import annotations

import codecs
import io
import json

from pydantic_core import SchemaValidator, core_schema

LONGEST = 20_000_000  # bytes of a line; a longer one teaches nothing
BLANK = "is blank"  # which is no fault
FORMAT = "Expected file to have JSONL format, where every line is a valid JSON dictionary."
_check_object = SchemaValidator(core_schema.typed_dict_schema({})).validate_json  # reads all of it and keeps nothing


class Lines:
    """Fed with a file's bytes in order: counts its lines up to the first fault, which it keeps as `fault`.

    No more than one line is held in memory beside a piece.
    """

    def __init__(self) -> None:
        self.number = 0  # lines so far; blank ones count
        self.blank = 0  # of these
        self.fault: str | None = None
        self._rest = bytearray()

    def feed(self, piece: bytes) -> None:
        if self.fault:
            return
        end = piece.rfind(b"\n") + 1
        if end:
            lines = b"".join((self._rest, memoryview(piece)[:end]))
            self._rest.clear()
            self._check(lines)
        self._rest += memoryview(piece)[end:]
        first = self._rest.lstrip()[:1]
        if len(self._rest) > LONGEST:
            self._blame(self.number + 1, f"has more than {LONGEST:,} bytes")
        elif b"!" <= first <= b"~" and first != b"{":  # other bytes may be a blank line's, or the file's mark
            self._blame(self.number + 1, "isn't a JSON object")

    def end(self) -> int:
        """The number of lines that aren't blank. Called once after the last piece."""
        if self._rest and not self.fault:
            self._check(bytes(self._rest))
        self._rest.clear()
        return self.number - self.blank

    def _check(self, lines: bytes) -> None:
        for line in io.BytesIO(lines):  # which looks for their ends ten times as fast as `split`
            self.number += 1
            try:
                _check_object(line)
            except ValueError:
                self._look_at(line.removesuffix(b"\n"))
                if self.fault:
                    break

    def _look_at(self, line: bytes) -> None:
        why = _fault(line.removeprefix(codecs.BOM_UTF8) if self.number == 1 else line)
        if why == BLANK:
            self.blank += 1
        elif why:
            self._blame(self.number, why)

    def _blame(self, number: int, why: str) -> None:
        self.fault = self.fault or f"{FORMAT} Line {number:,} {why}."


def _fault(line: bytes) -> str:
    """What is wrong with a line, by the parser that reads training data; empty if it is an object.

    That parser also knows lone surrogates.
    """
    try:
        text = line.decode()
        if not text.strip():
            return BLANK
        return "" if isinstance(json.loads(text), dict) else "isn't a JSON object"
    except UnicodeDecodeError:
        return "isn't UTF-8: save the file as UTF-8, unpacked"
    except RecursionError:
        return "is nested too deeply"
    except json.JSONDecodeError as error:
        return f"isn't valid JSON: {error.msg}, at column {error.colno:,}"
    except ValueError:  # Python reads no longer ones
        return "isn't valid JSON: a number has more than 4,300 digits"
