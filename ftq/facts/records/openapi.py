"""OpenAPI in JSON: what its operations, parameters and schemas are said to be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ftq.facts.checks import words

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
LONGEST = 50  # words of a description that is asked for


class Said(NamedTuple):
    """What something is said to be, and what it is a part of."""

    name: str
    text: str
    path: tuple[str, ...]
    kind: str


def is_api(data: Any) -> bool:
    return isinstance(data, dict) and isinstance(data.get("paths"), dict) and ("openapi" in data or "swagger" in data)


def said_in(data: dict[str, Any]) -> Iterator[Said]:
    """All descriptions, in their order."""
    title = _object(data.get("info")).get("title")
    above = (title,) if isinstance(title, str) and title.strip() else ()
    for address, item in data["paths"].items():
        for method, operation in _object(item).items():
            if method in METHODS:
                name = f"`{method.upper()} {address}`"
                yield from _said(name, operation, above, "operation", "summary", "description")
                parameters = _object(operation).get("parameters")
                for parameter in parameters if isinstance(parameters, list) else ():
                    key = _object(parameter).get("name")
                    if isinstance(key, str):
                        yield from _said(f"`{key}`", parameter, (*above, name), "parameter", "description")
    schemas = _object(_object(data.get("components")).get("schemas")) or _object(data.get("definitions"))
    for name, schema in schemas.items():
        yield from _said(f"`{name}`", schema, above, "schema", "description")
        for key, value in _object(_object(schema).get("properties")).items():
            yield from _said(f"`{name}.{key}`", value, (*above, name), "property", "description")


def values_in(data: Any) -> int:
    """How many values that are neither objects nor lists. A stack, for nesting may be deep."""
    stack, count = [data], 0
    while stack:
        value = stack.pop()
        if isinstance(value, dict | list):
            stack.extend(value.values() if isinstance(value, dict) else value)
        else:
            count += 1
    return count


def _said(name: str, value: Any, path: tuple[str, ...], kind: str, *keys: str) -> Iterator[Said]:
    """The first of these texts that is short enough."""
    texts = (" ".join(text.split()) for key in keys if isinstance(text := _object(value).get(key), str))
    if text := next((text for text in texts if 0 < words(text) <= LONGEST), ""):
        yield Said(name, text, path, kind)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
