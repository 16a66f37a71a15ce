"""Bytes become text: UTF-8 and UTF-16 by their marks, Windows-1252 where nothing else can be meant.

No statistical guess is made: what a guesser takes for another alphabet is taught without anybody noticing.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from ftq.formats.kind import HEAD, Unusable
from ftq.formats.plain import looks

BOMS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
# The letters beyond ASCII that a text in one of Windows-1252's languages is written with. A text in another code page
# (Czech, Polish, Turkish, Cyrillic, old DOS) holds others soon.
ALPHABETS = ("äöüßé", "àâæçéèêëîïôœùûüÿ", "áéíñóúüªº", "áâãàçéêíóôõúüªº", "åäöéü", "åæøéôü", "àèéìíîòóù", "ëïéèöüóá")
MARKS = set("\u00a0€‚„…‘’“”•–—™©®«»°±²³µ·¼½¾¿¡§£×÷¢¥´¨¬¶")
BETWEEN_LETTERS = set("’·–—´\u00a0")  # the marks that stand inside a word or join two


@dataclass(frozen=True)
class Decoded:
    """`note` says what was assumed; empty where the file says it itself or is UTF-8."""

    text: str
    note: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        return (self.note,) if self.note else ()


def text(data: bytes) -> Decoded:
    """The text of a file. Raises Unusable with line and byte where it isn't UTF-8."""
    for bom, encoding in BOMS:
        if data.startswith(bom):
            return Decoded(_with_bom(data[len(bom) :], encoding))
    try:
        return _undo_double(data.decode())
    except UnicodeDecodeError as error:
        if western := _windows_1252(data):
            return Decoded(western, "read as Windows-1252, for it isn't UTF-8")
        raise _not_utf_8(error, data) from None


def utf_8(data: bytes) -> str:
    """The text of a file that has to be UTF-8, as JSON has. Raises Unusable as above."""
    if name := looks.utf_16(data[:HEAD]):
        raise Unusable(f"UTF-16 without a byte order mark: {looks.command(name)}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf_8(error, data) from None


def undecoded(error: UnicodeDecodeError, encoding: str = "UTF-8") -> str:
    return f"not {encoding} text (byte 0x{error.object[error.start]:02x})"


def _not_utf_8(error: UnicodeDecodeError, data: bytes) -> Unusable:
    line = error.object[: error.start].count(b"\n") + 1
    return Unusable(f"line {line}: {undecoded(error)}{looks.hint(data)}")


def _with_bom(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding, errors="replace").count("\n") + 1
        raise Unusable(f"line {line}: {undecoded(error, encoding[:-3].upper())}") from None


def _windows_1252(data: bytes) -> str:
    """The text in Windows-1252 (Latin-1 is a part of it), or nothing if it could be something else.

    All its letters belong to one language, no mark stands where only a letter of another code page can be meant, and
    nothing in it looks like UTF-8: a damaged UTF-8 file shall be named, not taught.
    """
    if re.search(rb"[\xc3-\xf4][\x80-\xbf]", data):
        return ""
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return ""
    beyond = {letter for letter in text if letter > "\x7f"}
    letters = {letter.lower() for letter in beyond - MARKS}
    inside = {found[0] for found in re.findall(r"(?<=[^\W\d_])([^\x00-\x7f])(?=[^\W\d_])", text)}
    if (inside & MARKS) - BETWEEN_LETTERS or not any(letters <= set(alphabet) for alphabet in ALPHABETS):
        return ""
    # A capital in the midst of small letters is a small letter of MacRoman or DOS.
    return "" if re.search(r"[a-z][À-ÞŠŒŽŸ][a-z]", text) else text


def _undo_double(text: str) -> Decoded:
    """Undo UTF-8 that was read as Windows-1252 and written as UTF-8 again ('fÃ¼r'), if that holds of the whole text."""
    if text.isascii() or len(re.findall("[Â-ô][\u0080-\u00bf–-™ŒœŠšŸŽžƒˆ˜]", text)) < 2:
        return Decoded(text)
    try:
        once = b"".join(_byte(letter) for letter in text).decode()
    except UnicodeError:
        return Decoded(text)
    return Decoded(once, "its letters were encoded twice ('Ã¼' for 'ü'): undone")


def _byte(letter: str) -> bytes:
    """The letter in Windows-1252, where five control characters stand for themselves."""
    return bytes([ord(letter)]) if letter < "\u00a0" else letter.encode("cp1252")
