"""POST /v1/chat/completions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Literal, cast

from pydantic import Field

from gateway.chat.answer import Head, done, drained, event
from gateway.chat.form import NAME, Message, ResponseFormat, Sampling, refused
from gateway.chat.upstream.order import Order, Piece, Usage
from gateway.wire import Body

KIND = "chat.completion"


class FunctionTool(Body):
    name: str = Field(pattern=NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    type: Literal["function"]
    function: FunctionTool


class FunctionName(Body):
    name: str


class ToolChoice(Body):
    type: Literal["function"]
    function: FunctionName


class ChatForm(Sampling):
    """The body. Of the last group nothing changes the answer."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = Field(None, max_length=128)
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    modalities: list[Literal["text"]] | None = None

    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None

    def order(self) -> Order:
        """What a server is asked. ApiError 400 for fields that don't go together."""
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise refused("max_tokens", "max_completion_tokens is its new name, and differs: give one of them")
        if self.top_logprobs is not None and not self.logprobs:
            raise refused("top_logprobs", "it is only for `logprobs: true`")
        body = self.drawn() | {"messages": [message.to_json() for message in self.messages]}
        if self.logprobs:
            body |= {"logprobs": True, "top_logprobs": max(1, self.top_logprobs or 0)}
        if self.response_format:
            body |= self.response_format.to_json()
        most = self.max_completion_tokens or self.max_tokens
        return Order("/chat/completions", body | self._tools(), self.n or 1, most)

    def _tools(self) -> dict[str, Any]:
        if not self.tools:
            if self.tool_choice not in (None, "none", "auto"):
                raise refused("tool_choice", "there are no tools to choose from")
            return {}
        tools = [tool.model_dump(exclude_none=True) for tool in self.tools]
        choice = self.tool_choice or "auto"
        if choice not in ("none", "auto", "required"):
            wanted = self._named(choice)
            tools = [tool for tool in tools if tool["function"]["name"] == wanted]
            if not tools:
                raise refused("tool_choice", f"there is no tool {wanted!r}")
            choice = "required"
        parallel = {} if self.parallel_tool_calls is None else {"parallel_tool_calls": self.parallel_tool_calls}
        return {"tools": tools, "tool_choice": choice, **parallel}

    def _named(self, choice: Any) -> str:
        try:
            return ToolChoice.model_validate(choice).function.name
        except ValueError:
            raise refused("tool_choice", "it is none, auto, required, or names one function") from None


async def streamed(form: ChatForm, head: Head, pieces: AsyncIterator[Piece | Usage]) -> AsyncGenerator[bytes, None]:
    """Chunks as OpenAI sends them: the role first, the reason of the end last, the usage only if asked."""
    usage: dict[str, Any] = {"usage": None} if form.with_usage else {}
    begun = set[int]()

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return event({**head.values(f"{KIND}.chunk"), "choices": [choice], **usage})

    async with aclosing(cast(Any, pieces)):
        async for piece in pieces:
            if isinstance(piece, Usage):
                if form.with_usage:
                    yield event({**head.values(f"{KIND}.chunk"), "choices": [], "usage": piece.to_json()})
                continue
            if piece.index not in begun:
                begun.add(piece.index)
                yield chunk(piece.index, {"role": "assistant", "content": "", "refusal": None})
            if piece.text or piece.tool_calls or piece.logprobs:
                delta: dict[str, Any] = {"content": piece.text} if piece.text or piece.logprobs else {}
                delta |= {"tool_calls": piece.tool_calls} if piece.tool_calls else {}
                yield chunk(piece.index, delta, logprobs=_logprobs(form, piece.logprobs))
            if piece.finish:
                yield chunk(piece.index, {}, piece.finish)
    yield done()


async def whole(form: ChatForm, head: Head, pieces: AsyncIterator[Piece | Usage]) -> dict[str, Any]:
    answers, usage = await drained(pieces)
    choices = []
    for index, answer in sorted(answers.items()):
        calls = _calls([call for piece in answer for call in piece.tool_calls])
        text = "".join(piece.text for piece in answer)
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else ""), "refusal": None}
        message |= {"tool_calls": calls} if calls else {}
        logprobs = _logprobs(form, [one for piece in answer for one in piece.logprobs])
        finish = answer[-1].finish or "stop"
        choices.append({"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish})
    return {**head.values(KIND), "choices": choices, "usage": usage.to_json()}


def _logprobs(form: ChatForm, values: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not form.logprobs or not values:
        return None
    most = form.top_logprobs or 0
    return {
        "content": [
            _logprob(one) | {"top_logprobs": [_logprob(top) for top in one["top_logprobs"][:most]]} for one in values
        ],
        "refusal": None,
    }


def _logprob(one: dict[str, Any]) -> dict[str, Any]:
    return {name: one.get(name) for name in ("token", "bytes", "logprob")}


def _calls(deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tool calls, put together from what was streamed of them."""
    parts = defaultdict[int, list[dict[str, Any]]](list)
    for delta in deltas:
        parts[delta["index"]].append(delta)
    return [
        {
            "id": next((part["id"] for part in call if part.get("id")), f"call_{index}"),
            "type": "function",
            "function": {
                "name": "".join(part["function"].get("name") or "" for part in call),
                "arguments": "".join(part["function"].get("arguments") or "" for part in call),
            },
        }
        for index, call in sorted(parts.items())
    ]
