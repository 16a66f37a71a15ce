"""What the model is asked, and the JSON that it may answer: as a schema, and as a grammar for llama.cpp.

The grammar allows no white space outside the strings: a small model fills minutes with empty lines there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from worker.questions.section import Section

Schema = dict[str, Any]

QUESTION, ANSWER = 200, 400  # characters
LIMITS = ("minItems", "maxItems", "maxLength")  # that not every server knows
CHAR = r'char ::= [^"\\\x00-\x1F\x7F] | "\\" ["\\/bfnrt]'
FENCED = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Request:
    prompt: str
    schema: Schema
    most_tokens: int


def of_sentence(section: Section, sentence: str, wordings: int) -> Request:
    """Ask for questions whose answer is the sentence. No example stands there: a small model says nothing else then."""
    count = "one question" if wordings == 1 else f"{wordings} differently worded questions"
    prompt = (
        f"Write {count} that a user would ask and this statement answers, in the language of the statement. Name what "
        "is asked about, so that the question can be understood alone, and don't give the answer away.\n\n"
        f"Topic: {_topic(section)}\nStatement: {sentence}\n\n"
        'Answer with JSON only: {"questions": ["..."]}'
    )
    schema = _object(questions=_array(_text(QUESTION), 1, wordings))
    return Request(prompt, schema, 40 + 100 * wordings)


def of_section(section: Section, pairs: int) -> Request:
    """Ask for questions on the whole section with their answers."""
    prompt = (
        f"Write 3 to {pairs} questions that a reader of this text would ask, each with its answer, in the language of "
        "the text. Ask about different facts: numbers, names, defaults, conditions, reasons. A question names what it "
        "asks about and is understood without the text; never mention the text. An answer is one or two short "
        "sentences in the words of the text and says nothing that the text does not say.\n\n"
        f"Topic: {_topic(section)}\nText:\n{section.text}\n\n"
        'Answer with JSON only: {"pairs": [{"question": "...", "answer": "..."}]}'
    )
    schema = _object(pairs=_array(_object(question=_text(QUESTION), answer=_text(ANSWER)), min(3, pairs), pairs))
    return Request(prompt, schema, 40 + 200 * pairs)


def of_check(section: Section, question: str) -> Request:
    """Ask the question itself, with the section to read."""
    prompt = (
        f"Answer the question in the words of the text.\n\nText:\n{section.text}\n\nQuestion: {question}\n\n"
        'Answer with JSON only: {"answer": "..."}'
    )
    return Request(prompt, _object(answer=_text(ANSWER)), 200)


def value(text: str) -> dict[str, Any]:
    """The object in a model's answer, which may stand behind its thoughts or inside a fence. Raises ValueError."""
    text = text.rpartition("</think>")[2].strip()
    fenced = FENCED.search(text)
    parsed = json.loads(fenced[1] if fenced else text)
    if not isinstance(parsed, dict):
        raise ValueError("no object")
    return parsed


def without_limits(schema: Schema) -> Schema:
    """The schema without lengths and counts, which strict servers refuse."""
    return {
        name: without_limits(part) if isinstance(part, dict) else part
        for name, part in schema.items()
        if name not in LIMITS
    }


def grammar(schema: Schema) -> str:
    """The schema in llama.cpp's notation (GBNF), the fields in their order."""
    return f"root ::= {_rule(schema)}\n{CHAR}\n"


def _rule(schema: Schema) -> str:
    if schema["type"] == "string":
        return rf'"\"" char{{1,{schema["maxLength"]}}} "\""'
    if schema["type"] == "array":
        item, least, most = _rule(schema["items"]), schema["minItems"], schema["maxItems"]
        return rf'"[" {item} ("," {item}){{{least - 1},{most - 1}}} "]"' if most > 1 else f'"[" {item} "]"'
    fields = [rf'"\"{name}\":" {_rule(part)}' for name, part in schema["properties"].items()]
    return '"{" ' + ' "," '.join(fields) + ' "}"'


def _topic(section: Section) -> str:
    return " > ".join(section.path) or section.document


def _text(most: int) -> Schema:
    return {"type": "string", "maxLength": most}


def _array(items: Schema, least: int, most: int) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def _object(**fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


GREETING = Request('Answer with JSON only: {"answer": "ready"}', _object(answer=_text(ANSWER)), 40)
