"""What the Markdown of an Excel file lacks: hidden sheets, cells whose formula has no stored value."""

from __future__ import annotations

import io
import re
import zipfile  # noqa: TID251 — parts are read by their names, nothing is unpacked
from collections.abc import Iterator
from html import unescape

MOST = 64_000_000  # bytes of a part that are looked at
NAMED = 5  # sheets of each kind
_WORKBOOK, _RELATIONS = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
_SHEET, _RELATION = re.compile(rb"<(?:\w+:)?sheet\s[^<>]*>"), re.compile(rb"<Relationship\s[^<>]*>")
_ATTRIBUTE = re.compile(rb"([\w:]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_FORMULA = re.compile(
    rb"<(?:\w+:)?f(?:\s[^<>]*)?(?:/>|>[^<]*</(?:\w+:)?f>)\s*"
    rb"(?:</(?:\w+:)?c>|<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</)"
)


def notes(data: bytes) -> Iterator[str]:
    """What to tell of an XLSX; nothing of one that can't be looked at."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sheets = list(map(_attributes, _SHEET.findall(_part(archive, _WORKBOOK))))
            hidden = [sheet for sheet in sheets if sheet.get("state", "visible") != "visible"]
            if hidden:
                named = "all sheets are" if len(hidden) == len(sheets) else _named(hidden)
                yield f"{named} hidden and left out: unhide what is to be learned"
            targets = dict(map(_target, _RELATION.findall(_part(archive, _RELATIONS))))
            for sheet in sheets:
                name = targets.get(sheet.get("r:id", ""), "").removeprefix("/xl/")
                count = len(_FORMULA.findall(_part(archive, f"xl/{name}"))) if sheet not in hidden else 0
                if count:
                    formulas = "formula" if count == 1 else "formulas"
                    yield (
                        f"sheet {sheet.get('name', '')}: {count} {formulas} without a stored value, left "
                        "empty: open it in Excel or LibreOffice and save it again"
                    )
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, OSError, EOFError, ValueError):
        return


def _part(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as part:
        return part.read(MOST)


def _attributes(tag: bytes) -> dict[str, str]:
    found = {name: first or second for name, first, second in _ATTRIBUTE.findall(tag)}
    return {name.decode(): unescape(value.decode(errors="replace")) for name, value in found.items()}


def _target(tag: bytes) -> tuple[str, str]:
    found = _attributes(tag)
    return found.get("Id", ""), found.get("Target", "")


def _named(sheets: list[dict[str, str]]) -> str:
    names = [sheet.get("name", "") for sheet in sheets[:NAMED]]
    more = f" and {len(sheets) - NAMED} more" if len(sheets) > NAMED else ""
    return f"sheet {names[0]} is" if len(sheets) == 1 else f"sheets {', '.join(names)}{more} are"
