"""/openapi.json: what ftq adds to OpenAI's API, described by the table of its paths and the forms that check it."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ftq.store.wire.records import adapter
from ftq.version import VERSION
from gateway.own import answers
from gateway.own.entry import PREFIX, Entry

REF = "#/components/schemas/{model}"
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
                "ftq": {
                    "type": "object",
                    "description": "the error as ftq raised it",
                    "required": ["kind", "message", "hint"],
                    "properties": {name: {"type": "string"} for name in ("kind", "message", "hint")},
                },
            },
        }
    },
}
REFUSALS = {"400": "wrong", "401": "no key", "403": "not with this key", "404": "not there, or another's",
            "413": "too large", "429": "too much for this key", "503": "the database is gone for a while"}  # fmt: skip


def describe(table: list[Entry]) -> Route:
    """The path that answers the description of a table."""

    @cache
    def text() -> str:
        return json.dumps(description(table))

    def openapi(request: Request) -> Response:
        return Response(text(), media_type="application/json")

    return Route("/openapi.json", openapi)


def description(table: list[Entry]) -> dict[str, Any]:
    schemas: dict[str, Any] = {"Error": ERROR}
    paths: dict[str, dict[str, Any]] = {}
    for entry in table:
        path = PREFIX + entry.path.replace("{name:path}", "{name}")
        paths.setdefault(path, {})[entry.method.lower()] = _operation(entry, path, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ftq", "version": VERSION, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "security": [{"key": []}],
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}, "schemas": schemas},
    }


def _operation(entry: Entry, path: str, schemas: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    inside = [_parameter(name, "path", text, True) for name in re.findall("{(.*?)}", path)]
    operation: dict[str, Any] = {
        "operationId": f"{entry.handler.__module__.rpartition('.')[2]}_{entry.handler.__name__}",
        "summary": entry.summary,
        "parameters": [*inside, *_query(entry)],
        "responses": {"200": {"description": "done", "content": _answer(entry, schemas)}, **_refusals(entry)},
    }
    if entry.body:
        content = {"application/json": {"schema": _schema(entry.body, schemas)}}
        operation["requestBody"] = {"required": True, "content": content}
    elif entry.method == "POST":
        _schema(answers.Submit, schemas)
        what = "a line of JSON, which is a Submit, then the bytes of its files in that order"
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"required": True, "description": what, "content": content}
    return operation


def _query(entry: Entry) -> list[dict[str, Any]]:
    form = entry.query.model_json_schema()
    required = form.get("required", [])
    return [
        _parameter(name, "query", _without_null(schema), name in required)
        for name, schema in form.get("properties", {}).items()
    ]


def _parameter(name: str, place: str, schema: dict[str, Any], required: bool) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A query has no null: a name may be left out instead."""
    choices = [one for one in schema.get("anyOf", []) if one != {"type": "null"}]
    return choices[0] if len(choices) == 1 else schema


def _answer(entry: Entry, schemas: dict[str, Any]) -> dict[str, Any]:
    if isinstance(entry.answer, str):
        binary = {"type": "string", **({"format": "binary"} if "octet" in entry.answer else {})}
        return {entry.answer: {"schema": binary}}
    kind = entry.answer if isinstance(entry.answer, type) else entry.answer()
    return {"application/json": {"schema": _schema(kind, schemas, "serialization")}}


def _refusals(entry: Entry) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": REF.format(model="Error")}}}
    ranges = {"206": {"description": "a range", "content": _answer(entry, {})}, "416": {"description": "beyond it"}}
    refused = {status: {"description": why, "content": content} for status, why in REFUSALS.items()}
    return refused | (ranges if entry.path.endswith("path}") else {})


def _schema(kind: Any, schemas: dict[str, Any], mode: Any = "validation") -> dict[str, Any]:
    """A reference to the kind's schema, which is put among the schemas with those that it needs."""
    schema = adapter(kind).json_schema(mode=mode, ref_template=REF)
    schemas.update(schema.pop("$defs", {}))
    schemas[kind.__name__] = schema
    return {"$ref": REF.format(model=kind.__name__)}
