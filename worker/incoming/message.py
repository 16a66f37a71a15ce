"""Whether what lies in a queue is a message that ftq.queue sends: Celery trusts it to be one.

An exception of Celery's ends the worker, which puts the message back as it goes: it would end one worker after another.
"""

from __future__ import annotations

import base64
from typing import Any

from kombu.utils.json import loads

from ftq.files.run_dir import STAGES

NOT_JSON = "isn't JSON"
NO_MESSAGE = "is no message of Celery's"
OTHER_TYPE = "has another content type or encoding than ftq's"
OTHER_TASK = "is for a task that this version of ftq doesn't have"
OTHER_FORM = "has settings that this version of ftq doesn't use"
OTHER_ARGUMENTS = "has arguments that this version of ftq doesn't know"
FELL_OVER = "is something that Celery falls over"

# The tasks and their arguments. Celery has tasks of its own in every app: nobody sends them to ftq.
TASKS: dict[str, tuple[type, ...]] = {**{f"ftq.{stage}": (str, int) for stage in STAGES}, "ftq.answer": (str,)}
_TEXTS = ("lang", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin")
_UNSET = ("eta", "expires", "compression")
_NO_LIMIT: tuple[object, ...] = (None, [], [None, None])


def unusable(raw: bytes) -> str:
    """Why a worker can't use this; empty if it can.

    It refuses no more than it has to: another version of Celery may send other headers beside.
    """
    message = _read(raw)
    return _unframed(message) or _other(message["headers"]) or _body(message["headers"]["task"], message["body"])


def undeliverable(raw: bytes) -> str:
    """Why kombu can't deliver this, a task's message or one to all workers; empty if it can."""
    return _unframed(_read(raw))


def _read(raw: bytes | str) -> Any:
    """What kombu's own reader makes of it; None if that isn't JSON."""
    try:
        return loads(raw)
    except Exception:  # whatever its hooks for dates and numbers raise
        return None


def _unframed(message: Any) -> str:
    match message:
        case None:
            return NOT_JSON
        case {
            "body": str(),
            "headers": dict(),
            "properties": {"delivery_tag": str(), "delivery_info": {"exchange": str(), "routing_key": str()}},
        }:
            pass
        case _:
            return NO_MESSAGE
    encoding = message["properties"].get("body_encoding"), message.get("content-type"), message.get("content-encoding")
    return "" if encoding == ("base64", "application/json", "utf-8") else OTHER_TYPE


def _other(headers: dict[str, Any]) -> str:
    """What its headers ask for that ftq doesn't have."""
    task, name = headers.get("task"), headers.get("id")
    if not isinstance(task, str) or not isinstance(name, str):
        return NO_MESSAGE
    if task not in TASKS:
        return OTHER_TASK
    is_text = all(isinstance(headers.get(header, ""), str | None) for header in _TEXTS)
    is_plain = not any(headers.get(header) for header in _UNSET) and headers.get("timelimit") in _NO_LIMIT
    return "" if is_text and is_plain else OTHER_FORM


def _body(task: str, body: str) -> str:
    """What its body holds beside the arguments of the task and of those that follow it in the chain."""
    try:
        text = base64.b64decode(body)
    except ValueError:
        return NOT_JSON
    match _read(text):
        case [list() as arguments, {**keywords}, {**embedded}]:
            chain = embedded.pop("chain", None)
        case _:
            return OTHER_FORM
    if any(embedded.values()) or not isinstance(chain, list | None) or not all(map(_is_link, chain or [])):
        return OTHER_FORM
    return "" if not keywords and tuple(map(type, arguments)) == TASKS[task] else OTHER_ARGUMENTS


def _is_link(link: Any) -> bool:
    """A later stage: what exactly it asks for is looked at when its own message comes."""
    match link:
        case {"task": str(), "args": list(), "kwargs": dict(), "options": {"task_id": str(), "queue": str()}}:
            return True
    return False
