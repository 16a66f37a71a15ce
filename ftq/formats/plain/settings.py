"""Plain text that is settings: lines of `KEY=value` with `#` comments."""

from __future__ import annotations

import re

MOST = 400  # lines
OTHERS = 0.1  # of the settings: lines that are none
_SETTING = re.compile(r"\s*(?:export )?[A-Za-z_][\w.-]{0,79}\s?=(?!=).*")
_COMMENT = re.compile(r"\s*(?:[#;].*|\[[^\[\]]{1,80}\]\s*)")  # or a section's name


def fenced(text: str) -> str:
    """The text as a block of code, one line below where it stood; empty where it is none."""
    text = text.rstrip()
    if text.count("\n") >= MOST or "```" in text:
        return ""
    text = text.replace("\r\n", "\n")
    lines = text.split("\n")
    told = [line for line in lines if line.strip() and not _COMMENT.fullmatch(line)]
    settings = sum(_SETTING.fullmatch(line) is not None for line in told)
    if not settings or len(told) - settings > OTHERS * settings:
        return ""
    return f"```env\n{text}\n```\n"


def marks(markdown: str) -> tuple[tuple[int, str], ...]:
    """Where each line of it stands in the file."""
    return tuple((number + 1, f"line {number}") for number in range(1, markdown.count("\n") - 1))
