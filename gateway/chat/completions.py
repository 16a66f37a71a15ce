"""POST /v1/completions: a text that is continued, without a chat template."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, cast

from pydantic import AfterValidator, Field

from gateway.chat.answer import Head, done, drained, event
from gateway.chat.form import MOST_ANSWERS, Sampling, refused
from gateway.chat.upstream.order import Order, Piece, Usage

KIND = "text_completion"
DEFAULT_TOKENS = 16  # OpenAI's
MOST_PROMPTS = 128
Tokens = list[int]


def _prompts(prompt: Any) -> list[str | Tokens]:
    """One prompt or several, each a text or token ids."""
    several = prompt if isinstance(prompt, list) and not _tokens(prompt) else [prompt]
    if not several or len(several) > MOST_PROMPTS:
        raise ValueError(f"give 1 to {MOST_PROMPTS} prompts")
    for one in several:
        if not (isinstance(one, str) and one) and not _tokens(one):
            raise ValueError("a prompt is a text or a list of token ids, and not empty")
    return several


def _tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(one) is int and 0 <= one < 2**31 for one in value)


class CompletionForm(Sampling):
    """The body. `best_of` may only say what `n` says."""

    prompt: Annotated[Any, AfterValidator(_prompts)]
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=5)
    best_of: int | None = Field(None, ge=1, le=MOST_ANSWERS)

    def orders(self) -> list[Order]:
        """What a server is asked, prompt by prompt. ApiError 400 for fields that don't go together."""
        n = self.n or 1
        if self.best_of not in (None, n):
            raise refused("best_of", f"only {n}, the number of answers: the best of more can't be chosen here")
        if self.echo and (self.logprobs is not None or not all(isinstance(one, str) for one in self.prompt)):
            raise refused("echo", "it is only for prompts that are texts, without `logprobs`")
        body = self.drawn() | ({} if self.logprobs is None else {"logprobs": max(1, self.logprobs)})
        most = self.max_tokens or DEFAULT_TOKENS
        return [Order("/completions", body | {"prompt": one}, n, most, "prompt") for one in self.prompt]

    def echoed(self, index: int) -> str:
        """What an answer begins with: its prompt if `echo` is true."""
        return str(self.prompt[index // (self.n or 1)]) if self.echo else ""


async def streamed(
    form: CompletionForm, head: Head, pieces: AsyncIterator[Piece | Usage]
) -> AsyncGenerator[bytes, None]:
    """Chunks as OpenAI sends them, the usage only if asked."""
    usage = {"usage": None} if form.with_usage else {}
    written = dict[int, int]()
    async with aclosing(cast(Any, pieces)):
        async for piece in pieces:
            if isinstance(piece, Usage):
                if form.with_usage:
                    yield event({**head.values(KIND), "choices": [], "usage": piece.to_json()})
                continue
            before = written.get(piece.index, 0)
            text = piece.text if piece.index in written else form.echoed(piece.index) + piece.text
            written[piece.index] = before + len(text)
            yield event({**head.values(KIND), "choices": [_choice(form, piece.index, text, [piece], before)], **usage})
    yield done()


async def whole(form: CompletionForm, head: Head, pieces: AsyncIterator[Piece | Usage]) -> dict[str, Any]:
    answers, usage = await drained(pieces)
    choices = [
        _choice(form, index, form.echoed(index) + "".join(piece.text for piece in answer), answer, 0)
        for index, answer in sorted(answers.items())
    ]
    return {**head.values(KIND), "choices": choices, "usage": usage.to_json()}


def _choice(form: CompletionForm, index: int, text: str, pieces: list[Piece], offset: int) -> dict[str, Any]:
    logprobs = [one for piece in pieces for one in piece.logprobs]
    return {
        "index": index,
        "text": text,
        "logprobs": _logprobs(logprobs, form.logprobs, offset) if form.logprobs is not None and logprobs else None,
        "finish_reason": pieces[-1].finish,
    }


def _logprobs(values: list[dict[str, Any]], most: int, offset: int) -> dict[str, Any]:
    """Completions have a shape of their own: lists side by side. `offset`: characters that were written before."""
    offsets = []
    for one in values:
        offsets.append(offset)
        offset += len(one["token"])
    top = [{other["token"]: other["logprob"] for other in one["top_logprobs"][:most]} for one in values]
    return {
        "tokens": [one["token"] for one in values],
        "token_logprobs": [one["logprob"] for one in values],
        "top_logprobs": top if most else None,
        "text_offset": offsets,
    }
