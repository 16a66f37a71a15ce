"""Lines of chats, or of prompts and completions, as OpenAI's fine-tuning takes them: the first that can't be learned.

What is said of a line is in the words that its clients know.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ftq.errors import did_you_mean
from ftq.examples import json_records
from ftq.examples.json_records import Malformed
from ftq.examples.records.called import line_of
from ftq.examples.records.checked import SPEAKERS
from ftq.files import snapshot

ROLES = tuple(SPEAKERS)  # a role may be anything, also what no dictionary takes as a key
# A message's keys, as OpenAI has them, and Axolotl's `train`. A null is as good as no key.
KEYS = frozenset({
    "role", "content", "weight", "train", "training", "name", "refusal", "audio", "annotations", "tool_calls",
    "tool_call_id", "function_call",
})  # fmt: skip
PART = frozenset({"type", "text", "annotations", "logprobs"})
NO_TOOLS = "ftq trains no tool calls"
FORMAT = "Unexpected file format, expected either prompt/completion pairs or chat messages."


@dataclass(frozen=True)
class Fault:
    """`line` counts from 1."""

    line: int
    message: str


def first_fault(folder: Path, home: Path | None = None) -> tuple[Path, Fault] | None:
    """(file, fault) of the first line that can't be learned in the documents' JSON Lines. `home` as for a snapshot."""
    for path, reason in snapshot.walk(folder, home):
        if not reason and json_records.is_lines(path) and (fault := fault_in(path)):
            return path, fault
    return None


def fault_in(path: Path, most: int | None = None) -> Fault | None:
    """The first line that can't be learned; with `most` only that many lines are looked at."""
    try:
        for where, record in islice(json_records.lines(path), most):
            if why := str(record) if isinstance(record, ValueError) else why_not(record):
                line = line_of(where)
                return Fault(line, f"Invalid file format. Line {line}, {why}")
    except Malformed as error:
        return Fault(1, f"Invalid file format. {error}")
    return None


def why_not(record: Any) -> str:
    """Why the record of a line can't be learned; empty if it can."""
    if not isinstance(record, dict):
        return "every line has to be a JSON object"
    if record.get("tools") or record.get("functions"):
        return NO_TOOLS
    if "messages" in record:
        why = _why_no_chat(record["messages"])
    else:
        why = "" if {"prompt", "completion"} <= record.keys() else FORMAT
    if not why:
        try:  # what prepare leaves out of a chat is no fault
            json_records.read(record)
        except ValueError as error:
            return str(error)
    return why


def first_question(path: Path) -> str:
    """What the file's first record asks; empty where it has none."""
    for _, record in json_records.lines(path):
        if isinstance(record, dict):
            asked = [one for one in json_records.read(record) if not isinstance(one, str)]
            return asked[0]["instruction"] if asked else ""
    return ""


def _why_no_chat(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        return "'messages' has to be a list of messages"
    for number, message in enumerate(messages, start=1):
        if why := _why_no_message(message):
            return f"message {number}: {why}"
    if not any(message["role"] == "assistant" for message in messages):
        return "there has to be at least one message of the role 'assistant'"
    if messages[-1]["role"] != "assistant":
        return "the last message has to be of the role 'assistant'"
    return ""


def _why_no_message(message: Any) -> str:
    if not isinstance(message, dict):
        return "a message has to be an object"
    role, weight = message.get("role"), message.get("weight")
    if why := _why_no_keys(message, KEYS):
        return why
    if role is None:
        return "Discriminator 'role' is missing in value"
    if role in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
        return NO_TOOLS
    if role not in ROLES:
        return f"role {role!r} is none of {', '.join(ROLES)}"
    content = message.get("content")
    if not _is_text(content):
        return "'content' has to be text, or a list of parts of the type 'text'"
    if why := next(filter(None, (_why_no_keys(part, PART) for part in content or () if isinstance(part, dict))), ""):
        return f"a part of 'content': {why}"
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        return "'weight' has to be 0 or 1"
    return "'weight' is for messages of the role 'assistant'" if weight is not None and role != "assistant" else ""


def _why_no_keys(value: dict[str, Any], known: frozenset[str]) -> str:
    """What is wrong with the keys: one that is misspelt would be left out without a word."""
    for key in value:
        if key not in known and value[key] is not None:
            return f"the key {key!r} isn't known.{did_you_mean(key, sorted(known))}"
    return ""


def _is_text(content: Any) -> bool:
    parts = content if isinstance(content, list) and content else [{"type": "text", "text": content}]
    return all(
        isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in parts
    )
