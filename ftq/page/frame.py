"""A page of one file: light or dark as the reader's system is, on any width, and on paper.

All that comes from elsewhere goes through `text`, and the page allows no script and loads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

from ftq.errors import printable
from ftq.page.style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body class="{kind}">
"""


def document(title: str, kind: str, parts: Iterable[str]) -> str:
    """The page's HTML; `kind` is the part of the style that is its own."""
    head = HEAD.format(policy=POLICY, title=text(title), style=STYLE, kind=kind)
    return "\n".join([head, *(part for part in parts if part), "</body>\n</html>\n"])


def section(title: str, content: str, anchor: str = "") -> str:
    """A heading and what stands under it; nothing if that is empty."""
    name = f' id="{anchor}"' if anchor else ""
    return f"<section{name}><h2>{text(title)}</h2>\n{content}\n</section>" if content else ""


def text(value: object, most: int | None = None) -> str:
    """Escaped, `most` characters of it. What no UTF-8 file can hold becomes `?`, control characters U+FFFD."""
    whole = printable(str(value), keep="\n\t\r")
    if most is None or len(whole) <= most:
        return escape(whole).encode(errors="replace").decode()
    return f"<bdi>{text(whole[:most])}</bdi> … ({len(whole) - most:,} more characters)"


def code(value: object, most: int | None = None) -> str:
    """`text` in which what stands between backquotes is to be typed."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", text(value, most))


def name(value: object, most: int = 200) -> str:
    """A word in a line, from elsewhere: text that is written from right to left doesn't turn the rest around."""
    return f"<bdi>{text(value, most)}</bdi>"
