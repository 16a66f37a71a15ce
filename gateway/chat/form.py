"""What requests for answers have in common: how an answer is drawn, and messages."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from starlette.requests import Request

from gateway.errors import ApiError
from gateway.wire import Body, invalid, read_json

MOST_ANSWERS = 128
NAME = r"^[a-zA-Z0-9_-]{1,64}$"
# What clients send in a part of text, and in one of an earlier answer: of these only the text is read.
PART = frozenset({"type", "text", "annotations", "logprobs", "parsed", "prompt_cache_breakpoint", "cache_control"})
Form = TypeVar("Form", bound=Body)


async def read_form(request: Request, form: type[Form]) -> Form:
    """The request's body. Unlike wire.read_body, a null inside it stays: a schema may mean it."""
    values = await read_json(request)
    try:
        json.dumps(values, ensure_ascii=False).encode()
        return form.model_validate({name: value for name, value in values.items() if value is not None})
    except UnicodeEncodeError:
        raise ApiError(400, "The body of your request has half of a surrogate pair: text has to be UTF-8.") from None
    except ValidationError as error:
        raise invalid(error) from None


def refused(param: str, why: str) -> ApiError:
    return ApiError(400, f"Invalid value for '{param}': {why}.", param=param, code="invalid_value")


def joined(content: Any) -> Any:
    """A message's content as one text. Parts are texts; an image, a sound or a file is refused."""
    if not isinstance(content, list):
        return content
    texts = list[str]()
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in ("text", "input_text", "output_text") or not isinstance(part.get("text"), str):
            raise ValueError(f"part {number} is {kind or type(part).__name__}, and this model reads text only")
        if unknown := sorted(part.keys() - PART):
            raise ValueError(f"part {number} has {unknown[0]}, which isn't known")
        texts.append(part["text"])
    return "\n".join(texts)


def _stops(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


Text = Annotated[str, BeforeValidator(joined)]
Stops = Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_stops), Field(max_length=4)]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenId = Annotated[str, Field(pattern=r"^\d{1,9}$")]


class StreamOptions(Body):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Sampling(Body):
    """The fields of both kinds of completions. Of the second group nothing changes the answer."""

    model: str = Field(min_length=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[TokenId, Bias] | None = None
    stop: Stops | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    n: int | None = Field(None, ge=1, le=MOST_ANSWERS)
    max_tokens: int | None = Field(None, ge=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    user: str | None = None

    @property
    def with_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def drawn(self) -> dict[str, Any]:
        """The fields that a server gets as they are."""
        if self.stream_options and not self.stream:
            raise refused("stream_options", "it is only for `stream: true`")
        names = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias", "stop", "seed")
        values = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return values | ({"seed": values["seed"] % (2**32 - 1)} if "seed" in values else {})


class Function(Body):
    """A call. OpenAI's clients send `parsed_arguments` along, which are the arguments once more."""

    name: str
    arguments: str
    parsed_arguments: Any = None


class ToolCall(Body):
    id: str
    type: Literal["function"]
    function: Function
    index: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The call for a template."""
        return self.model_dump(exclude={"index": True, "function": {"parsed_arguments"}})


class Message(Body):
    """One turn. A message of an earlier answer may come back with all its fields; `parsed` is its content once more."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    reasoning_content: str | None = None
    audio: None = None
    function_call: None = None
    parsed: Any = None

    @model_validator(mode="after")
    def _whole(self) -> Message:
        if self.content is None and not (self.role == "assistant" and (self.tool_calls or self.refusal)):
            raise ValueError(f"a message of the role {self.role} has to have content")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only a message of the role assistant has tool_calls")
        if self.role == "tool" and not self.tool_call_id:
            raise ValueError("a message of the role tool has to have tool_call_id")
        return self

    def to_json(self) -> dict[str, Any]:
        """The message for a template: a developer's is a system message, which all templates know."""
        role = "system" if self.role == "developer" else self.role
        values: dict[str, Any] = {"role": role, "content": self.content or self.refusal or ""}
        values |= {name: getattr(self, name) for name in ("name", "tool_call_id") if getattr(self, name)}
        if self.tool_calls:
            values["tool_calls"] = [call.to_json() for call in self.tool_calls]
        return values


class JsonSchema(Body):
    name: str = Field(pattern=NAME)
    description: str | None = None
    content: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _whole(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema stands with the type json_schema, and only there")
        return self

    def to_json(self) -> dict[str, Any]:
        """The field for a server; empty for plain text."""
        if self.type == "text":
            return {}
        schema = (
            {"json_schema": self.json_schema.model_dump(by_alias=True, exclude_none=True)} if self.json_schema else {}
        )
        return {"response_format": {"type": self.type, **schema}}
