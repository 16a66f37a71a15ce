"""POST /v1/responses: text in, text out. Nothing is kept, so an answer can't be continued by its id."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, model_validator

from gateway.chat.answer import Head, event
from gateway.chat.form import NAME, Message, Text, refused
from gateway.chat.upstream.order import Order, Piece, Usage
from gateway.errors import ApiError
from gateway.wire import Body

NOT_KEPT = "answers aren't kept here: send the whole conversation as `input`"


class Item(Body):
    """A turn of the conversation, also one of an earlier answer's `output`."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class Format(Body):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(None, pattern=NAME)
    description: str | None = None
    content: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _whole(self) -> Format:
        if self.type == "json_schema" and (self.name is None or self.content is None):
            raise ValueError("the type json_schema has to have name and schema")
        return self


class TextConfig(Body):
    format: Format | None = None
    verbosity: Literal["medium"] | None = None  # the default


class StreamOptions(Body):
    include_obfuscation: bool | None = None


def _items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class ResponseForm(Body):
    """The body. Of the last group nothing changes the answer; the group before it may only say what is so."""

    model: str = Field(min_length=1)
    input: Annotated[list[Item], BeforeValidator(_items), Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    text: TextConfig | None = None
    stream: bool | None = None

    previous_response_id: str | None = None
    store: bool | None = None
    background: Literal[False] | None = None
    truncation: Literal["disabled"] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    include: Annotated[list[Any], Field(max_length=0)] | None = None
    top_logprobs: Literal[0] | None = None

    stream_options: StreamOptions | None = None
    parallel_tool_calls: bool | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    user: str | None = None

    def order(self) -> Order:
        """What a server is asked. ApiError 400 for what would need a memory."""
        for name in ("previous_response_id", "store"):
            if getattr(self, name):
                raise refused(name, NOT_KEPT)
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        turns = [Message(role=item.role, content=item.content).to_json() for item in self.input]
        body: dict[str, Any] = {"messages": [*system, *turns]}
        body |= {name: value for name in ("temperature", "top_p") if (value := getattr(self, name)) is not None}
        return Order("/chat/completions", body | self._format(), 1, self.max_output_tokens, "input")

    def _format(self) -> dict[str, Any]:
        wanted = self.text.format if self.text else None
        if wanted is None or wanted.type == "text":
            return {}
        schema = {"name": wanted.name, "schema": wanted.content, "strict": bool(wanted.strict)}
        return {"response_format": {"type": wanted.type} | ({"json_schema": schema} if wanted.name else {})}


class Answer:
    """A response as it grows."""

    def __init__(self, form: ResponseForm, head: Head) -> None:
        self._form, self._head, self.text = form, head, ""
        self.finish: str | None = None
        self.usage: Usage | None = None
        self.item = f"msg_{head.id}"

    def take(self, piece: Piece | Usage) -> str:
        """The text that the piece adds."""
        if isinstance(piece, Usage):
            self.usage = piece
            return ""
        self.finish = piece.finish or self.finish
        self.text += piece.text
        return piece.text

    @property
    def part(self) -> dict[str, Any]:
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}

    def message(self, status: str) -> dict[str, Any]:
        content = [] if status == "in_progress" else [self.part]
        return {"id": self.item, "type": "message", "role": "assistant", "status": status, "content": content}

    @property
    def status(self) -> str:
        return "incomplete" if self.finish == "length" else "completed"

    def to_json(self, status: str, error: ApiError | None = None) -> dict[str, Any]:
        form, over = self._form, status in ("completed", "incomplete")
        return {
            "id": f"resp_{self._head.id}",
            "object": "response",
            "created_at": self._head.created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "background": False,
            "error": {"code": "server_error", "message": error.message} if error else None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": form.instructions,
            "max_output_tokens": form.max_output_tokens,
            "metadata": form.metadata or {},
            "model": self._head.model,
            "output": [self.message(status)] if over else [],
            "parallel_tool_calls": form.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": 1.0 if form.temperature is None else form.temperature,
            "text": {"format": self._shown_format()},
            "tool_choice": form.tool_choice or "auto",
            "tools": [],
            "top_p": 1.0 if form.top_p is None else form.top_p,
            "truncation": "disabled",
            "usage": _usage(self.usage) if over and self.usage else None,
            "user": form.user,
        }

    def _shown_format(self) -> dict[str, Any]:
        wanted = self._form.text.format if self._form.text else None
        return wanted.model_dump(by_alias=True, exclude_none=True) if wanted else {"type": "text"}


class Stream:
    """The events of a response, numbered."""

    def __init__(self, form: ResponseForm, head: Head) -> None:
        self._answer, self._numbers = Answer(form, head), itertools.count()

    async def lines(self, pieces: AsyncIterator[Piece | Usage]) -> AsyncGenerator[bytes, None]:
        answer, here = self._answer, {"output_index": 0, "content_index": 0, "item_id": self._answer.item}
        begun = False
        async with aclosing(cast(Any, pieces)):
            async for piece in pieces:
                if not begun:
                    begun = True
                    yield self._event("response.created", response=answer.to_json("in_progress"))
                    yield self._event("response.in_progress", response=answer.to_json("in_progress"))
                    yield self._event("response.output_item.added", output_index=0, item=answer.message("in_progress"))
                    yield self._event("response.content_part.added", **here, part=answer.part)
                if text := answer.take(piece):
                    yield self._event("response.output_text.delta", **here, delta=text, logprobs=[])
        yield self._event("response.output_text.done", **here, text=answer.text, logprobs=[])
        yield self._event("response.content_part.done", **here, part=answer.part)
        yield self._event("response.output_item.done", output_index=0, item=answer.message(answer.status))
        yield self._event(f"response.{answer.status}", response=answer.to_json(answer.status))

    def failed(self, error: ApiError) -> bytes:
        """An error in the middle: an event of its own, and the response that has failed."""
        said = {"code": error.code, "message": error.message, "param": error.param}
        return self._event("error", **said) + self._event(
            "response.failed", response=self._answer.to_json("failed", error)
        )

    def _event(self, kind: str, **values: Any) -> bytes:
        return event({"type": kind, "sequence_number": next(self._numbers), **values}, kind)


async def whole(form: ResponseForm, head: Head, pieces: AsyncIterator[Piece | Usage]) -> dict[str, Any]:
    answer = Answer(form, head)
    async with aclosing(cast(Any, pieces)):
        async for piece in pieces:
            answer.take(piece)
    return answer.to_json(answer.status)


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt + usage.completion,
    }
