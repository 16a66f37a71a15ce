"""What a record holds, looked at: its texts, its messages, keys that stand twice."""

from __future__ import annotations

from typing import Any

from ftq.facts.records.json_text import Twice
from ftq.facts.text.blobs import without_blobs

SPEAKERS = {"system": "", "developer": "", "user": "User: ", "assistant": "Assistant: "}  # in an example's input
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
DEPTH = 20  # of a record's texts: as deep as data is read
PARTS = ("text", "input_text", "output_text")  # parts of a message that are text, as OpenAI calls them
NAMES_SHOWN, NAME_SHOWN = 12, 60  # keys of a record, and characters of each, in a reason
# What a record and a message are read for: a key of these that stands twice makes them unusable.
RECORD = frozenset({
    "instruction", "output", "prompt", "completion", "response", "question", "answer", "input", "context", "messages",
    "conversations", "system", "system_prompt", "history",
})  # fmt: skip
MESSAGE = frozenset({"role", "from", "content", "value", "weight", "train", "training"})

Message = tuple[str, str, str]  # role, text, what says that it isn't learned


def message_of(message: Any) -> Message:
    if not isinstance(message, dict):
        raise ValueError(f"a message must be an object, not {kind_of(message)}")
    once(message, MESSAGE)
    role = str(message.get("role") or message.get("from") or "")
    role = ROLES.get(role, role)
    if role not in SPEAKERS:
        other = listed([role]) if role else "missing"
        raise ValueError(f"a message's role must be system, user or assistant, not {other}")
    content = _content(message["content"] if "content" in message else message.get("value"), role)
    text = string_of(content, f"the {role} message's content", required=role in ("user", "assistant"))
    return role, text, _unlearned(message)


def _content(content: Any, role: str) -> Any:
    """A message's content; where it is a list of parts that are all text, their text."""
    if not isinstance(content, list) or not content:
        return content
    texts = []
    for part in content:
        kind = (
            part.get("type", "text") if isinstance(part, dict) else "text" if isinstance(part, str) else kind_of(part)
        )
        if kind not in PARTS:
            raise ValueError(f"the {role} message's content has a part that is no text ({listed([str(kind)])})")
        texts.append(string_of(part if isinstance(part, str) else part.get("text"), "a part's text", required=False))
    return "\n".join(texts)


def _unlearned(message: dict[str, Any]) -> str:
    """Which of its keys says that a message isn't learned: OpenAI's `weight` or Axolotl's `train`; either suffices."""
    weight = message.get("weight")
    if weight is not None and (isinstance(weight, str | list | dict) or weight not in (0, 1)):
        raise ValueError(f"a message's weight must be 0 or 1, not {listed([str(weight)])}")
    for key in ("train", "training"):
        value = message.get(key)
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"a message's {key} must be true or false, not {kind_of(value)}")
        if value is False:
            return f"with {key}: false"
    return "of weight 0" if weight == 0 and weight is not None else ""


def once(record: dict[str, Any], read: frozenset[str]) -> None:
    """Refuse an object in which a key that is read stands twice, for either value may be meant."""
    if isinstance(record, Twice) and (twice := sorted(record.keys_twice & read)):
        raise ValueError(f"the key {twice[0]} stands twice in it, with different values: keep one")


def string_of(value: Any, name: str, required: bool) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {kind_of(value)}")
    if required and not value.strip():
        raise ValueError(f"{name} is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{name} holds half a character (a lone surrogate)") from None
    return value.strip()


def take_blobs(value: Any, depth: int = 0) -> int:
    """Take out of a record's texts, in place, what is no text; how many characters that were."""
    lost = 0
    if depth < DEPTH and isinstance(value, dict | list):
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            if isinstance(inner, str):
                value[key], number = without_blobs(inner)
                lost += number
            else:
                lost += take_blobs(inner, depth + 1)
    return lost


def listed(names: list[str]) -> str:
    """Names from a document, for people: long lists and long names are shortened."""
    short = [name if len(name) <= NAME_SHOWN else f"{name[:NAME_SHOWN]}..." for name in names[:NAMES_SHOWN]]
    return ", ".join([*short, f"{len(names) - NAMES_SHOWN} more"] if len(names) > NAMES_SHOWN else short) or "nothing"


def kind_of(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true/false", type(None): "null"}
    return names.get(type(value), "a number")
