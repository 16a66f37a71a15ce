"""What a file is: by its content first, by its suffix second."""

from __future__ import annotations

import os
import re
import stat
from enum import StrEnum
from pathlib import Path

from ftq.formats.plain import looks

HEAD, TAIL = 8192, 65536  # bytes that are looked at; a zip's list of names lies at the end
MOST_BYTES = 100_000_000  # of a file
MOST_TEXT_BYTES = 20_000_000  # of one that is text and nothing else: it lies in memory as a whole
MOST_LINES = 1_000_000  # of a text: each takes as much memory as fifty letters
MOST_JSON_BYTES = 50_000_000  # parsed as a whole
MOST_JSONL_BYTES = 10_000_000_000  # read line by line, so only the disk bounds it


class Unusable(ValueError):
    """A file that gives no text; the message says why and what to do."""


class Kind(StrEnum):
    MARKDOWN = "Markdown"
    TEXT = "plain text"
    HTML = "HTML"
    JSON = "JSON"
    JSONL = "JSON Lines"
    CSV = "CSV"
    PDF = "PDF"
    DOCX = "DOCX"
    PPTX = "PPTX"
    XLSX = "XLSX"
    EPUB = "EPUB"
    ODT = "ODT"
    ODS = "ODS"
    ODP = "ODP"
    RTF = "RTF"


OF_SUFFIX = {
    Kind.MARKDOWN: (".md", ".markdown", ".mdx", ".mkd", ".mdown", ".qmd", ".rmd"),
    Kind.TEXT: (".txt", ".text", ".rst"),
    Kind.HTML: (".html", ".htm", ".xhtml"),
    Kind.JSON: (".json",),
    Kind.JSONL: (".jsonl", ".ndjson"),
    Kind.CSV: (".csv", ".tsv"),
    Kind.PDF: (".pdf",),
    Kind.DOCX: (".docx", ".docm"),
    Kind.PPTX: (".pptx", ".pptm", ".ppsx"),
    Kind.XLSX: (".xlsx", ".xlsm"),
    Kind.EPUB: (".epub",),
    Kind.ODT: (".odt",),
    Kind.ODS: (".ods",),
    Kind.ODP: (".odp",),
    Kind.RTF: (".rtf",),
}
SUFFIXES = {suffix: kind for kind, suffixes in OF_SUFFIX.items() for suffix in suffixes}
TEXTS = (Kind.MARKDOWN, Kind.TEXT, Kind.HTML, Kind.CSV)
READ_AS_THEY_ARE = (*TEXTS, Kind.JSON, Kind.JSONL)

OPEN_DOCUMENTS = {
    b"application/epub+zip": Kind.EPUB,
    b"application/vnd.oasis.opendocument.text": Kind.ODT,
    b"application/vnd.oasis.opendocument.spreadsheet": Kind.ODS,
    b"application/vnd.oasis.opendocument.presentation": Kind.ODP,
}
OFFICE_PARTS = {b"word/document": Kind.DOCX, b"ppt/presentation": Kind.PPTX, b"xl/workbook": Kind.XLSX}

# What begins a file that is no document, in words.
_PICTURE = "a picture: run OCR on it first, if it shows text"
_SOUND = "audio or video: put its transcript here as text"
_ARCHIVE = "an archive: unpack it into the folder"
_PROGRAM = "a program"
SIGNATURES = {
    b"\x89PNG\r\n": _PICTURE, b"\xff\xd8\xff": _PICTURE, b"GIF8": _PICTURE, b"II*\0": _PICTURE, b"MM\0*": _PICTURE,
    b"BM": _PICTURE, b"ID3": _SOUND, b"OggS": _SOUND, b"fLaC": _SOUND, b"RIFF": _SOUND, b"\x1aE\xdf\xa3": _SOUND,
    b"\x1f\x8b": _ARCHIVE, b"BZh": _ARCHIVE, b"\xfd7zXZ": _ARCHIVE, b"7z\xbc\xaf": _ARCHIVE, b"Rar!": _ARCHIVE,
    b"(\xb5/\xfd": _ARCHIVE, b"\x7fELF": _PROGRAM, b"MZ": _PROGRAM, b"\xcf\xfa\xed\xfe": _PROGRAM,
    b"\xca\xfe\xba\xbe": _PROGRAM, b"\0asm": _PROGRAM, b"SQLite format 3": "a database: export what it holds as JSON",
    b"GGUF": "a model",
}  # fmt: skip
ZIP, OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # Office files since 2007, and before
UTF16 = (b"\xff\xfe", b"\xfe\xff")  # and UTF-32, which begins alike
_COMMENTS = rb"(?:<!--(?>.*?-->)\s*+)*+"  # possessive: many comments must not cost more than one look
_HTML = re.compile(rb"(?is)\s*+(?:<\?xml[^>]*>\s*+)?" + _COMMENTS + rb"<(?:!doctype\s+html|html)[\s>]")


def holds_records(name: str) -> bool:
    """Whether a file of this name is JSON or JSON Lines: records rather than text."""
    return SUFFIXES.get(Path(name).suffix.lower()) in (Kind.JSON, Kind.JSONL)


def of(path: Path, most_bytes: int = MOST_BYTES) -> Kind:
    """The kind of a document. Raises Unusable for all that is none, OSError if the file can't be read."""
    return begun(path, most_bytes)[0]


def begun(path: Path, most_bytes: int = MOST_BYTES) -> tuple[Kind, bytes]:
    """The same, with the first HEAD bytes."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise Unusable("not a file")
    if not status.st_size:
        raise Unusable("empty")
    with path.open("rb") as file:
        head, tail = file.read(HEAD), b""
        if head.startswith((ZIP, OLE)):
            file.seek(max(0, status.st_size - TAIL))
            tail = file.read(TAIL)
    kind = of_bytes(head, tail, path.suffix.lower())
    most = MOST_JSONL_BYTES if kind is Kind.JSONL else min(most_bytes, MOST_TEXT_BYTES if kind in TEXTS else most_bytes)
    if status.st_size > most:
        raise Unusable(f"{status.st_size / 1e6:,.0f} MB is too big (at most {most / 1e6:,.0f} MB): split it")
    return kind, head


def of_bytes(head: bytes, tail: bytes, suffix: str) -> Kind:
    """The kind of a file by its first and last bytes, and by its suffix where those leave it open."""
    if b"%PDF-" in head[:1024]:
        return Kind.PDF
    if head.startswith(b"{\\rtf"):
        return Kind.RTF
    if head.startswith(ZIP):
        return _in_zip(head, tail, suffix)
    if head.startswith(OLE):
        raise Unusable(_old_office(head + tail, suffix))
    if not head.startswith(UTF16):
        _refuse_binary(head)
    if _HTML.match(head.removeprefix(b"\xef\xbb\xbf")):
        return Kind.HTML
    if suffix not in SUFFIXES:
        what = f"a {suffix} file" if suffix else "its name has no suffix"
        raise Unusable(f"{what}: if it is a text to learn, rename it to .txt")
    if SUFFIXES[suffix] not in READ_AS_THEY_ARE:
        raise Unusable(f"named {suffix}, but not {SUFFIXES[suffix]} inside: save it again")
    return SUFFIXES[suffix]


def _in_zip(head: bytes, tail: bytes, suffix: str) -> Kind:
    """EPUB and OpenDocument say what they are in their first entry; Office files by the names of their parts."""
    if head[30:38] == b"mimetype":
        for name in sorted(OPEN_DOCUMENTS, key=len, reverse=True):
            if head[38:].startswith(name):
                return OPEN_DOCUMENTS[name]
    for part, kind in OFFICE_PARTS.items():
        if part in tail or part in head:
            return kind
    kind = SUFFIXES.get(suffix, Kind.TEXT)
    if kind in READ_AS_THEY_ARE:
        raise Unusable(_ARCHIVE)
    return kind


def _old_office(data: bytes, suffix: str) -> str:
    if "EncryptedPackage".encode("utf-16-le") in data:
        return "encrypted: save it without a password"
    new = {".doc": ".docx", ".xls": ".xlsx", ".ppt": ".pptx"}.get(suffix, ".docx, .xlsx or .pptx")
    return f"an Office file from before 2007, or encrypted: save it as {new} without a password"


def _refuse_binary(head: bytes) -> None:
    what = ""
    if name := looks.utf_16(head):
        raise Unusable(f"UTF-16 without a byte order mark: {looks.command(name)}")
    if head.startswith(tuple(SIGNATURES)):
        what = next(what for mark, what in SIGNATURES.items() if head.startswith(mark))
    if head[4:8] == b"ftyp":
        what = _SOUND
    if b"\0" in head or (what and not _is_text(head)):
        raise Unusable(f"binary: {what}" if what else "binary, not a text")


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8 but for a character that is cut at the end: a text may begin with 'BM' or 'MZ' as well."""
    try:
        head[:-3].decode()
    except UnicodeDecodeError:
        return False
    return all(byte >= 32 or byte in b"\t\n\r\f\x1b" for byte in head)
