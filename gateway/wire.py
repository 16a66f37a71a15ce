"""Bodies, queries and pages as OpenAI's clients send and read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request

from gateway.errors import ApiError

Value = TypeVar("Value")
Form = TypeVar("Form", bound="Body")
DIGITS = 4000  # of an integer in a body
LARGEST_BODY = 16 * 2**20  # bytes of a JSON body; files are streamed elsewhere


class Body(BaseModel):
    """A JSON body: an unknown name is refused, an explicit null is the same as a name that is left out."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)  # built with the first one


async def read_body(request: Request, form: type[Form]) -> Form:
    """The request's body as `form`. ApiError 400 with the dotted path of what is wrong."""
    values = await read_json(request)
    try:
        return form.model_validate(_without_nulls(values))
    except ValidationError as error:
        raise invalid(error) from None


async def read_json(request: Request) -> dict[str, Any]:
    """The request's body, an object. ApiError 400 for anything else, 413 for one that is too long."""
    text = bytearray()
    try:
        async for piece in request.stream():
            text += piece
            if len(text) > LARGEST_BODY:
                raise ApiError(413, f"The body has more than {LARGEST_BODY:,} bytes.", code="request_too_large")
    except ClientDisconnect:
        raise ApiError(400, "The request broke off in its body.") from None  # nobody reads it, and it isn't logged
    try:
        values = loads(text.decode())
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ApiError(400, "We could not parse the JSON body of your request: it has to be a JSON object in UTF-8.")
    return values


def loads(text: str) -> Any:
    """JSON. ApiError 400 for an integer with more digits than Python reads, with the dotted path of it."""
    too_long: list[_Digits] = []

    def whole(digits: str) -> int | _Digits:
        if len(digits) <= DIGITS:
            return int(digits)
        too_long.append(_Digits(digits))
        return too_long[-1]

    values = json.loads(text, parse_int=whole)
    if too_long:
        path = _path_of(values)
        why = f"an integer of {len(too_long[0]):,} digits"
        raise ApiError(400, f"Invalid value for '{path}': {why}.", param=path, code="invalid_value")
    return values


class _Digits(str):
    __slots__ = ()


def _path_of(value: Any) -> str | None:
    """The dotted path of the first number that wasn't read; None if there is none in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        below = "" if isinstance(one, _Digits) else _path_of(one)
        if below is not None:
            return f"{key}.{below}" if below else str(key)
    return None


def invalid(error: ValidationError) -> ApiError:
    """The first thing that a body's check found."""
    first = error.errors(include_url=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return ApiError(400, f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter")
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"Unrecognized request argument supplied: {path}", param=path, code="unknown_parameter")
    why = first["msg"].removeprefix("Value error, ")
    return ApiError(400, f"Invalid value for '{path}': {why}.", param=path, code="invalid_value")


def page(
    values: Sequence[Value], limit: int, shown: Callable[[Value], dict[str, Any]], ends: bool = False
) -> dict[str, Any]:
    """A page of at most `limit`; `values` holds one more if there is a next page. `ends`: with first_id and last_id."""
    data = [shown(value) for value in values[:limit]]
    answer: dict[str, Any] = {"object": "list", "data": data, "has_more": len(values) > limit}
    if ends:
        answer |= {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return answer


def limit_of(request: Request, default: int, most: int) -> int:
    """The query's `limit`. ApiError 400 if it is no number from 1 to `most`."""
    text = request.query_params.get("limit", str(default))
    number = whole_number(text)
    if number is None or not 1 <= number <= most:
        raise ApiError(400, f"'limit' has to be a number from 1 to {most}, not {text[:40]!r}.", param="limit")
    return number


def sent_again(request: Request) -> bool:
    """Whether the client tries a request once more because it got no answer: what was done then isn't done twice."""
    return bool(whole_number(request.headers.get("x-stainless-retry-count", "")))


def whole_number(text: str) -> int | None:
    """The number that digits say; None for anything else. Python refuses to read thousands of digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _without_nulls(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _without_nulls(value) for name, value in values.items() if value is not None}
    return [_without_nulls(value) for value in values] if isinstance(values, list) else values
