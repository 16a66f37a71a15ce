"""SQuAD and what is written like it: a question with a list of answers, of which the first is taught."""

from __future__ import annotations

from typing import Any

QUESTIONS, CONTEXT = "qas", "context"  # of a paragraph


def answer_of(record: dict[str, Any]) -> str | None:
    """The first of its `answers`, empty where there is none; None if the record isn't of this shape."""
    answers = record.get("answers")
    if "answer" in record or not isinstance(record.get("question"), str):
        return None
    texts = answers.get("text") if isinstance(answers, dict) else answers
    if not isinstance(texts, list):
        return None
    first = texts[0] if texts else ""
    first = first.get("text") if isinstance(first, dict) else first
    return first if isinstance(first, str) else None


def with_context(paragraph: dict[str, Any], key: str) -> Any:
    """What a key of an object holds; the questions on a paragraph with the paragraph."""
    value, context = paragraph[key], paragraph.get(CONTEXT)
    if key != QUESTIONS or not isinstance(value, list) or not isinstance(context, str):
        return value
    return [
        {CONTEXT: context, **one} if type(one) is dict else one  # one with a key twice stays as it is
        for one in value
    ]
