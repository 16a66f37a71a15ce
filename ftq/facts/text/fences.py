"""Fences of code: which line opens one, and which closes it."""

from __future__ import annotations

import re

FENCE = re.compile(r"[ \t>]*(?:[-*+][ \t]+|\d{1,9}[.)][ \t]+)?(`{3,}|~{3,})([^`]{0,200})")


def opened(line: str) -> re.Match[str] | None:
    """The fence of a line that opens code, in quotes and lists too, and what stands behind it."""
    if "``" not in line and "~~~" not in line:
        return None
    match = FENCE.match(line)
    return match if match and match.end() == len(line) else None


def closes(line: str, fence: str) -> bool:
    stripped = line.strip(" \t>")
    return stripped.startswith(fence) and not stripped.strip(fence[0])
