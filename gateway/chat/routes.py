"""Which path is answered how: the body is checked, then the model is found and asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

from starlette.requests import Request
from starlette.routing import Route

from ftq.errors import FtqError
from gateway import errors, models
from gateway.access import caller_of
from gateway.chat import chat, completions, responses
from gateway.chat.answer import Head, failed
from gateway.chat.form import read_form
from gateway.chat.reply import Streamed, Whole
from gateway.chat.upstream.order import Order, Piece, Usage
from gateway.chat.upstream.pieces import answers, without_space
from gateway.chat.upstream.threads import in_thread
from gateway.errors import ApiError
from gateway.shared import gateway_of


async def chat_completions(request: Request) -> Streamed | Whole:
    form = await read_form(request, chat.ChatForm)
    head = Head("chatcmpl", form.model)
    pieces = without_space(_pieces(request, form.model, [form.order()]))
    if form.stream:
        return Streamed(chat.streamed(form, head, pieces), failed)
    return Whole(lambda: chat.whole(form, head, pieces))


async def text_completions(request: Request) -> Streamed | Whole:
    form = await read_form(request, completions.CompletionForm)
    head = Head("cmpl", form.model)
    pieces = _pieces(request, form.model, form.orders())
    if form.stream:
        return Streamed(completions.streamed(form, head, pieces), failed)
    return Whole(lambda: completions.whole(form, head, pieces))


async def create_response(request: Request) -> Streamed | Whole:
    form = await read_form(request, responses.ResponseForm)
    head = Head("resp", form.model)
    pieces = without_space(_pieces(request, form.model, [form.order()]))
    if form.stream:
        stream = responses.Stream(form, head)
        return Streamed(stream.lines(pieces), stream.failed)
    return Whole(lambda: responses.whole(form, head, pieces))


routes = [
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/completions", text_completions, methods=["POST"]),
    Route("/v1/responses", create_response, methods=["POST"]),
]


async def _pieces(request: Request, name: str, orders: list[Order]) -> AsyncIterator[Piece | Usage]:
    gateway, key = gateway_of(request), caller_of(request)
    try:
        if gateway.chat.url and name in gateway.chat.names:
            served = models.Served(name, Path(), None, 0, "")
        else:
            served = await in_thread(lambda: models.resolve(gateway, key, name))
        async with aclosing(cast(Any, answers(gateway.answering, served, orders))) as pieces:
            async for piece in pieces:
                yield piece
    except ApiError as error:
        raise errors.for_caller(error, key) from error
    except FtqError as error:
        raise errors.for_caller(errors.of_ftq(error), key) from error
