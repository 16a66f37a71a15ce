"""Conversations as ChatGPT exports them: a tree of messages, of which the branch that was shown last is taught."""

from __future__ import annotations

from typing import Any

from ftq.facts.records.names import EXPORTED

SPEAKERS = ("user", "assistant")


def messages_of(record: dict[str, Any]) -> list[dict[str, str]] | None:
    """The turns, oldest first; None if the record is no such conversation."""
    if not record.keys() >= EXPORTED or not isinstance(nodes := record["mapping"], dict):
        return None
    turns, at, seen = list[dict[str, str]](), record["current_node"], set[str]()
    while isinstance(at, str) and at not in seen and isinstance(node := nodes.get(at), dict):
        seen.add(at)
        turns += _turn(node.get("message"))
        at = node.get("parent")
    return turns[::-1]


def _turn(message: Any) -> list[dict[str, str]]:
    """What was said and shown; nothing of a tool, of pictures, of what is hidden."""
    author, content = (message.get(key) for key in ("author", "content")) if isinstance(message, dict) else (None, None)
    if not isinstance(author, dict) or not isinstance(content, dict) or author.get("role") not in SPEAKERS:
        return []
    if content.get("content_type") not in ("text", "multimodal_text") or message.get("recipient", "all") != "all":
        return []
    parts = content.get("parts")
    said = "\n".join(part for part in parts if isinstance(part, str)) if isinstance(parts, list) else ""
    return [{"role": author["role"], "content": said}] if said.strip() else []
