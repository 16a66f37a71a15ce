"""Texts for people: how a message and its hint are put together, everywhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftq.errors import FtqError, in_line

ROOT = Path(__file__).parent.parent
SOURCES = [path for folder in ("cli", "ftq", "gateway", "worker") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        (("the broker is full", "Make room."), "the broker is full. Make room."),
        (("no kind of model x.", "Known: gguf"), "no kind of model x. Known: gguf"),
        (("no worker a\nno worker b", "There are: c\nType it."), "no worker a; no worker b. There are: c; Type it."),
        (("no worker a", ""), "no worker a"),
        (("", "Type `ftq up`"), "Type `ftq up`"),
        (("make the bucket:\npython -c x", "See `ftq doctor`"), "make the bucket: python -c x. See `ftq doctor`"),
        ((" \n", ""), ""),
    ],
)  # fmt: skip
def test_texts_become_sentences_of_one_line(texts: tuple[str, ...], line: str) -> None:
    assert in_line(*texts) == line
    assert len(texts) != 2 or FtqError(*texts).line == line


def test_message_and_hint_are_put_together_by_the_error_itself() -> None:
    """By hand the sign between them was forgotten, or stood there twice, or a blank hint left one."""
    by_hand = [
        f"{path.relative_to(ROOT)}:{text.lineno}: {ast.unparse(text)}"
        for path in SOURCES
        for text in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(text, ast.JoinedStr) and {"message", "hint"} <= set(_attributes(text))
    ]
    assert [where for where in by_hand if not where.startswith(("ftq/errors.py", "ftq/doorbell/bell.py"))] == []


def _attributes(text: ast.JoinedStr) -> Iterator[str]:
    for value in text.values:
        if isinstance(value, ast.FormattedValue) and isinstance(value.value, ast.Attribute):
            yield value.value.attr


def test_no_written_text_has_two_signs_or_a_sentence_without_a_blank_before_it() -> None:
    """`a. B`, never `a.B`, `a..` or `a  B`; names of modules and versions have a point, too."""
    wrong = re.compile(r"[a-z]{2}[.!?;][A-Z][a-z]|(?<![.{/])\.\.(?![./}])|[a-z]\. \.|: :|[a-z] [.,;]( |$)")
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {text}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (text := _text_for_people(node)) and wrong.search(text)
    ]
    assert found == []


RAISED = {"UserError", "FtqError", "NotFound", "Refused", "Unavailable", "OutOfReach", "Misnamed", "Gone", "Lost",
          "OutOfMemory", "Finding", "note", "say"}  # fmt: skip


def _text_for_people(node: ast.AST) -> str:
    """What the call of one of these says, its values as a letter."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in RAISED:
        return ""
    return " | ".join(_shown(argument) for argument in [*node.args, *(keyword.value for keyword in node.keywords)])


def _shown(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(value.value if isinstance(value, ast.Constant) else "x" for value in node.values)
    return ""
