"""What a file may be for, and how long it lives, as forms and JSON bodies say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import ApiError
from gateway.wire import Body, invalid

PURPOSES = ("fine-tune", "batch", "assistants", "vision", "user_data", "evals")
RESULTS = "fine-tune-results"  # what jobs make; nobody uploads it
Purpose = Literal["fine-tune", "batch", "assistants", "vision", "user_data", "evals"]
SECONDS = (3600, 2_592_000)  # an hour to thirty days


class ExpiresAfter(BaseModel):
    model_config = ConfigDict(extra="forbid", defer_build=True)
    anchor: Literal["created_at"]
    seconds: int = Field(ge=SECONDS[0], le=SECONDS[1])


class _Fields(BaseModel):
    """The fields of a form, which are all text."""

    model_config = ConfigDict(extra="forbid", defer_build=True)
    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class NewUpload(Body):
    bytes: int = Field(ge=1)
    filename: str = Field(min_length=1, max_length=4096)
    mime_type: str = Field(min_length=1, max_length=200)
    purpose: Purpose
    expires_after: ExpiresAfter | None = None


class Completion(Body):
    part_ids: list[str] = Field(min_length=1)
    md5: str | None = Field(default=None, pattern="^[0-9a-fA-F]{32}$")


@dataclass(frozen=True)
class Wanted:
    """`lives` is in seconds; None is for ever."""

    purpose: str
    lives: int | None


def wanted_of(fields: dict[str, str]) -> Wanted:
    """What the fields of a form say. ApiError 400 naming the field that is wrong or missing."""
    values: dict[str, Any] = {}
    for name, value in fields.items():
        outer, bracket, inner = name.removesuffix("]").partition("[")
        if bracket and outer == "expires_after":
            values.setdefault(outer, {})[inner] = value
        else:
            values[name] = value
    try:
        form = _Fields.model_validate(values)
    except ValidationError as error:
        raise invalid(error) from None
    return Wanted(form.purpose, form.expires_after.seconds if form.expires_after else None)


def check_purpose(purpose: str | None) -> str | None:
    """The query's `purpose`. ApiError 400 for one that no file has."""
    if purpose is not None and purpose not in (*PURPOSES, RESULTS):
        known = ", ".join((*PURPOSES, RESULTS))
        raise ApiError(400, f"Invalid value for 'purpose': {purpose!r} is none of {known}.", param="purpose")
    return purpose
