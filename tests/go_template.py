"""The part of Go's text/template that a Modelfile's TEMPLATE needs, and what Ollama hands to it.

No Go is needed to run the tests. What this renders was compared with Go 1.19's own text/template, for all templates and
chats of test_template.py: the same, byte for byte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

Chat = list[dict[str, str]]
ACTION = re.compile(r"\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.DOTALL)
WORD = re.compile(r'"(?:[^"\\]|\\.)*"|:=|[|=(),]|[^\s|=(),"]+')
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": lambda a, b: a == b, "lt": lambda a, b: a < b, "len": len, "slice": lambda items, start: items[start:],
    "print": lambda *parts: "".join(parts), "and": lambda a, b: a and b, "or": lambda a, b: a or b,
}  # fmt: skip


def ollama(template: str, chat: Chat) -> str:
    """Render as Ollama does: messages of one role in a row are one, and the system's are also .System."""
    joined = [
        {"Role": role, "Content": "\n\n".join(one["content"] for one in some)}
        for role, some in groupby(chat, key=lambda one: one["role"])
    ]
    system = "\n\n".join(one["content"] for one in chat if one["role"] == "system")
    data = {"System": system, "Messages": joined}
    out = list[str]()
    _render(_tree(iter(_pieces(template)))[0], data, data, {}, out)
    return "".join(out)


def _pieces(template: str) -> Iterator[tuple[str, str]]:
    """("text", ...) and ("action", ...), white space gone where an action trims it."""
    place, trims = 0, False
    for action in ACTION.finditer(template):
        text = template[place : action.start()]
        text = text.lstrip() if trims else text
        yield "text", text.rstrip() if action[1] else text
        yield "action", action[2]
        place, trims = action.end(), bool(action[3])
    yield "text", template[place:].lstrip() if trims else template[place:]


def _tree(pieces: Iterator[tuple[str, str]]) -> tuple[list[Any], str]:
    """(nodes, the action that ended them): a text, an action, or ("if" | "range", condition, nodes, else nodes)."""
    nodes = list[Any]()
    for kind, text in pieces:
        word = text.split(" ", 1)[0]
        if kind == "text":
            nodes.append(text)
        elif word in ("if", "range"):
            nodes.append(_block(word, text.removeprefix(word), pieces))
        elif word in ("end", "else"):
            return nodes, text
        else:
            nodes.append(("do", text))
    return nodes, ""


def _block(word: str, condition: str, pieces: Iterator[tuple[str, str]]) -> Any:
    inner, ended = _tree(pieces)
    other = list[Any]()
    if ended.startswith("else if"):
        other = [_block("if", ended.removeprefix("else if"), pieces)]
    elif ended == "else":
        other, ended = _tree(pieces)
    return (word, condition, inner, other)


def _render(nodes: list[Any], dot: Any, root: Any, names: dict[str, Any], out: list[str]) -> None:
    for node in nodes:
        if isinstance(node, str):
            out.append(node)
        elif node[0] == "do":
            _do(WORD.findall(node[1]), dot, root, names, out)
        elif node[0] == "if":
            _render(node[2] if _value(WORD.findall(node[1]), dot, root, names) else node[3], dot, root, names, out)
        else:
            index, _, items = re.fullmatch(r"\s*(\$\w+), (\$\w+) := (.*)", node[1]).groups()  # type: ignore[union-attr]
            for number, item in enumerate(_value(WORD.findall(items), dot, root, names)):
                names[index] = number
                _render(node[2], item, root, names, out)


def _do(words: list[str], dot: Any, root: Any, names: dict[str, Any], out: list[str]) -> None:
    if len(words) > 1 and words[1] in (":=", "="):
        names[words[0]] = _value(words[2:], dot, root, names)
    else:
        out.append(_value(words, dot, root, names))


def _value(words: list[str], dot: Any, root: Any, names: dict[str, Any]) -> Any:
    """A pipeline: what stands before a bar is the last argument of what follows."""
    values, stages = list[Any](), " ".join(words).split(" | ") if '"' not in "".join(words) else [""]
    if stages == [""]:  # a string may hold a bar
        return _call(words, [], dot, root, names)
    for stage in stages:
        values = [_call(WORD.findall(stage), values, dot, root, names)]
    return values[0]


def _call(words: list[str], last: list[Any], dot: Any, root: Any, names: dict[str, Any]) -> Any:
    if words[0] not in FUNCTIONS:
        return _operand(words[0], dot, root, names)
    arguments, rest = list[Any](), words[1:]
    while rest:
        if rest[0] == "(":
            end = rest.index(")")
            arguments.append(_value(rest[1:end], dot, root, names))
            rest = rest[end + 1 :]
        else:
            arguments.append(_operand(rest.pop(0), dot, root, names))
    return FUNCTIONS[words[0]](*arguments, *last)


def _operand(word: str, dot: Any, root: Any, names: dict[str, Any]) -> Any:
    if word.startswith('"'):
        return json.loads(word)
    if word.startswith("$."):
        return root[word[2:]]
    if word.startswith("."):
        return dot[word[1:]]
    return {"true": True, "false": False}.get(word, int(word) if word.isdigit() else names.get(word))
