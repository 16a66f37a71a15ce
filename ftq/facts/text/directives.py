"""Directives of Sphinx and MyST: which are notes, whose content is text, and which no reader sees."""

from __future__ import annotations

import re

_NOTES = """
note tip hint warning caution attention danger error important seealso admonition versionadded versionchanged deprecated
dropdown details topic sidebar margin aside epigraph pull-quote rubric tab-set tab-item card grid grid-item
grid-item-card exercise solution
"""
_DROPPED = """
toctree contents index include literalinclude raw eval-rst automodule autoclass autofunction automethod autosummary
autodata bibliography image figure meta highlight currentmodule module only tags
"""
NOTES, DROPPED = frozenset(_NOTES.split()), frozenset(_DROPPED.split())
_INFO = re.compile(r"\s*\{([\w:-]{1,60})\}\s*(.*)")


def named(info: str) -> tuple[str, str]:
    """(a directive's name, what stands behind it), by the words behind a fence."""
    match = _INFO.match(info)
    return (match[1].rpartition(":")[2], match[2]) if match else ("", "")


def is_note(info: str) -> bool:
    """Whether what the fence holds is text; `{r}` and `{code-block}` are code."""
    return named(info)[0] in NOTES
