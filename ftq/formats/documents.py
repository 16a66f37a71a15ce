"""Office files, OpenDocument, RTF, EPUB and PDF become Markdown by anydoc; a PDF at least plain text, by pypdf."""

from __future__ import annotations

import io
import re
import time
from bisect import bisect_right
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING

from ftq.errors import first_line
from ftq.formats import decode, headings, tables
from ftq.formats.convert import Converted
from ftq.formats.kind import Kind, Unusable
from ftq.formats.sheets import untold

if TYPE_CHECKING:
    from anydoc import Format
    from pypdf import PageObject, PdfReader

AGAIN = "open it in the program that made it and save it again"
NEEDS_OCR = "run OCR on it first (ocrmypdf IN.pdf OUT.pdf)"
SHEETS = (Kind.CSV, Kind.XLSX, Kind.ODS)
_PAGE = re.compile(
    r"(?:#{1,6}\s+)?(?:(?:page|pg\.|seite|página|pagina|pág\.|strona|страница|стр\.)\s*\d{1,4}"
    r"(?:\s*(?:of|von|de|sur|di|van|z|из|/|\|)\s*\d{1,4})?|\d{1,4}\s*/\s*\d{1,4})",
    re.IGNORECASE,
)
_BROKEN = re.compile(  # a word at the end of a line; no `Vor- und Nachteile`
    r"(?<![\w-])([^\W\d_]{2,})- (?!(?:and|or|und|oder|et|ou|y|e|o|u|en|of|to|bis|als|sowie|bzw|i|lub|a|и|или)\b)"
    r"(?=[^\W\d_]{2})(\w+)"
)
_HYPHENED = re.compile(r"[^\W\d_]+-\w+")
# anydoc drops them from a cell with the gap between two words; databases end a line in a cell with the first.
_DROPPED = dict.fromkeys(map(ord, "\x0b\x0c\x1c\x1d\x1e\x85"), " ")
MARKING = 20.0  # seconds of processor at most to find out where the pages begin


def office(data: bytes, kind: Kind) -> Converted:
    """The Markdown of any of them but a PDF. Raises Unusable where nothing can be read."""
    notes: tuple[str, ...] = ()
    if kind is Kind.CSV:
        decoded = decode.text(data)
        table, note = tables.even(decoded.text)
        data, notes = table.translate(_DROPPED).encode(), tuple(filter(None, (decoded.note, note)))
    markdown = _markdown(data, kind)
    if kind is Kind.XLSX:
        notes = tuple(untold.notes(data))
    if kind in SHEETS:
        markdown = tables.headed(markdown)
    return Converted(headings.of_bold_lines(markdown), notes, marks=((1, ""),))


def pdf(data: bytes) -> Converted:
    """The PDF's Markdown without the pages that only OCR could read. Raises Unusable where no page has text."""
    import anydoc

    try:
        return _marked(_markdown(data, Kind.PDF), data)
    except anydoc.NeedsOcrError as error:
        return _without(data, error.pages, error.page_count)
    except Unusable as error:
        if "encrypted" in str(error):
            raise
        return _plain(data, set(), str(error))


def _markdown(data: bytes, kind: Kind) -> str:
    """What anydoc makes of a file. Raises Unusable, and anydoc's NeedsOcrError for a PDF of pictures."""
    import anydoc

    form: Format = kind.name.lower()  # type: ignore[assignment]
    try:
        return anydoc.to_markdown_bytes(data, form)
    except anydoc.EncryptedError:
        raise Unusable("encrypted: save it without a password") from None
    except anydoc.ResourceLimitError as error:
        raise Unusable(f"unpacks to too much ({error.limit}): split it") from None
    except anydoc.NeedsOcrError:
        raise
    except anydoc.ConvertError as error:
        raise Unusable(f"damaged ({str(error)[:200]}): {AGAIN}") from None


def _marked(markdown: str, data: bytes, notes: tuple[str, ...] = (), skipped: tuple[int, ...] = ()) -> Converted:
    """The Markdown with the places of its pages."""
    until = time.process_time() + MARKING
    try:
        sheets = takewhile(lambda _: time.process_time() < until, _reader(data).pages)
        texts = [_alone(page) for page in sheets]
    except Exception:  # what pypdf can't read may well be good Markdown by anydoc
        texts, notes = [], (*notes, "damaged: some pages may be missing")
    markdown = _whole(markdown)
    texts = list(map(_whole, texts))
    return Converted(headings.of_bold_lines(markdown), notes, skipped, _marks(markdown, texts, set(skipped)))


def _whole(markdown: str) -> str:
    """Without the numbers of pages, and with the words whole that a line's end parts."""

    hyphened = set(_HYPHENED.findall(markdown))

    def joined(match: re.Match[str]) -> str:
        first, second = match.groups()
        if not second[0].islower():
            return match[0]
        return f"{first}-{second}" if f"{first}-{second}" in hyphened else f"{first}{second}"

    lines = ["" if _PAGE.fullmatch(line.strip()) else line for line in markdown.split("\n")]
    return _BROKEN.sub(joined, "\n".join(lines))


def _marks(markdown: str, texts: list[str], skip: set[int]) -> tuple[tuple[int, str], ...]:
    """Where each page begins: at the first words of the page alone that stand once, near by, in the whole."""
    lines = ["".join(f"{word} " for word in _words(line)) for line in markdown.split("\n")]
    starts = list(accumulate(map(len, lines), initial=0))
    whole, at = "".join(lines), 0
    marks = [(1, "")]
    for number, text in enumerate(texts, start=1):
        place = -1 if number in skip else _find(_words(text), whole, at)
        if place >= 0:
            at = place
            marks.append((bisect_right(starts, place), f"page {number}"))
    return tuple(marks)


def _alone(page: PageObject) -> str:
    """The Markdown of one page; empty if anydoc can't read it by itself."""
    from pypdf import PdfWriter

    writer, out = PdfWriter(), io.BytesIO()
    writer.add_page(page)
    writer.write(out)
    try:
        return _markdown(out.getvalue(), Kind.PDF)
    except Exception:
        return ""


def _find(words: list[str], whole: str, at: int) -> int:
    """Where in the text, after `at`, a page begins that begins with these words; -1 if that can't be told."""
    reach = at + 4 * sum(map(len, words)) + 10_000
    for first in range(0, min(len(words), 80), 4):
        window = " ".join(words[first : first + 8])
        place = whole.find(window, at, reach)
        if len(window) > 20 and place >= 0 and whole.find(window, place + 1, reach) < 0:
            return place
    return -1


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _without(data: bytes, pages: list[int], count: int) -> Converted:
    """The document without the pages that are pictures. Their numbers count from 1."""
    from pypdf import PdfWriter

    skip = set(pages)
    if len(skip) >= count:
        raise Unusable(f"its {count} pages are pictures: {NEEDS_OCR}" if count > 1 else f"a picture: {NEEDS_OCR}")
    note = f"{_named(sorted(skip))} of {count}: a picture, left out; {NEEDS_OCR}"
    try:
        writer, out = PdfWriter(), io.BytesIO()
        for number, page in enumerate(_reader(data).pages, start=1):
            if number not in skip:
                writer.add_page(page)
        writer.write(out)
        return _marked(_markdown(out.getvalue(), Kind.PDF), data, (note,), tuple(sorted(skip)))
    except Exception as error:
        return _plain(data, skip, first_line(error), note)


def _plain(data: bytes, skip: set[int], why: str, *notes: str) -> Converted:
    """Its text page by page as pypdf reads it. `why` is what anydoc said."""
    sheets, broken = _reader(data).pages, list[int]()
    lines: list[str] = []
    marks: list[tuple[int, str]] = []
    for number in sorted(set(range(1, len(sheets) + 1)) - skip):
        try:
            text = headings.of_text(sheets[number - 1].extract_text())
        except Exception:  # of many kinds, where its content isn't what a PDF may hold
            broken.append(number)
            continue
        marks.append((len(lines) + 1, f"page {number}"))
        lines += [*text.split("\n"), ""]
    if not any(lines):
        raise Unusable(why)
    note = "read as plain text: its headings and tables may be lost"
    damaged = (f"{_named(broken)} of {len(sheets)}: damaged, left out",) if broken else ()
    return Converted("\n".join(lines), (*notes, note, *damaged), tuple(sorted(skip | set(broken))), tuple(marks))


def _reader(data: bytes) -> PdfReader:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unusable("encrypted: save it without a password")
        len(reader.pages)
    except PyPdfError as error:
        raise Unusable(f"damaged ({str(error)[:200]}): {AGAIN}") from None
    return reader


def _named(pages: list[int]) -> str:
    """'page 3', 'pages 3-5, 9'."""
    runs: list[list[int]] = []
    for page in pages:
        if runs and page == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], page]
        else:
            runs.append([page])
    named = ", ".join("-".join(map(str, run)) for run in runs)
    return f"page {named}" if len(pages) == 1 else f"pages {named}"
