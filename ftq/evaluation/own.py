"""A user's own questions: a JSON list, or JSON lines, of {"question": "...", "answers": ["...", ...]}.

An answer is right if one of `answers` occurs in it. A question without answers is one that the documents don't answer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ftq.errors import NotFound, UserError, did_you_mean, utf8
from ftq.evaluation.evaluation import Kind, Question
from ftq.facts.records.json_text import decode

MOST = 1000
OPTION = "--set questions_file=FILE"
KEYS = ("question", "answers", "source")
EXAMPLE = '[{"question": "How long is the warranty?", "answers": ["24 months", "two years"]}]'
HINT = f"For example: {EXAMPLE}. docs/evaluation.md says more."
SHOWN = 5  # problems


def read(path: Path, option: str = OPTION) -> list[Question]:
    """The file's questions. UserError names its problems, each with the number of its question.

    `option` is what the user has typed to name the file.
    """
    entries = _entries(path, option)
    problems = [f"{path}: question {number}: {text}" for number, one in enumerate(entries, 1) if (text := _wrong(one))]
    if len(entries) > MOST:
        problems.append(f"{path}: {len(entries):,} questions, {MOST:,} are the most")
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError("\n".join(problems[:SHOWN] + more), HINT)
    return [question(one) for one in entries]


def question(entry: dict[str, Any]) -> Question:
    """One of what `read` has checked."""
    answers = tuple(answer.strip() for answer in entry.get("answers") or ())
    kind = Kind.OWN if answers else Kind.UNANSWERABLE
    return Question(kind, entry["question"].strip(), answers, source=entry.get("source", ""))


def to_json(questions: list[Question]) -> list[dict[str, Any]]:
    """What `read` makes the same questions of."""
    return [{"question": one.text, "answers": list(one.answers), "source": one.source} for one in questions]


def _entries(path: Path, option: str) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise NotFound(f"{path}: can't be read ({error.strerror})", f"{option} names a JSON file. {HINT}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    try:
        entries = decode(text) if text.startswith("[") else [decode(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error})", HINT) from None
    if not entries:
        raise UserError(f"{path}: no question in it", HINT)
    return list(entries)


def _wrong(entry: Any) -> str:
    """What is wrong with an entry; empty if nothing is. A name that nobody knows may be a misspelt `answers`."""
    if not isinstance(entry, dict):
        return f"expected an object, not {json.dumps(entry)[:60]}"
    for name in entry:
        if name not in KEYS:
            return f"unknown name {name}.{did_you_mean(name, list(KEYS))} Known: {', '.join(KEYS)}"
    answers = entry.get("answers") or []
    if not _is_text(entry.get("question")):
        return "`question` has to be a text"
    if not isinstance(answers, list) or not all(map(_is_text, answers)):
        return "`answers` has to be a list of texts"
    return "" if isinstance(entry.get("source", ""), str) else "`source` has to be a text"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value == utf8(value) and "\0" not in value
