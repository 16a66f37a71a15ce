"""What a request for an answer may say: checked before a model is touched."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ParsedChatCompletionMessage
from starlette.testclient import TestClient

from ftq.errors import UserError
from gateway import models
from gateway.chat import chat
from gateway.chat.answer import Head
from gateway.chat.form import Message
from gateway.chat.settings import ChatSettings
from gateway.chat.upstream import local
from gateway.chat.upstream.events import refusal
from gateway.chat.upstream.order import Order, Piece, Usage
from gateway.chat.upstream.pieces import without_space
from gateway.chat.upstream.room import Room
from tests.gateway_tools import make_gateway

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
MESSAGES = [{"role": "user", "content": "Hello"}]
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
SCHEMA = {"name": "a", "schema": {"type": "object"}}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    def resolve(*_: Any) -> models.Served:
        raise models.not_found("m")

    monkeypatch.setattr(models, "resolve", resolve)
    app, secret = make_gateway(tmp_path / "home")
    return TestClient(app, headers={"authorization": f"Bearer {secret}"})


def says(content: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content, **more}]}


CHAT_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"), ({"messages": "Hello"}, "messages"), ({"messages": None}, "messages"),
    (says("x", "wizard"), "messages.0.role"), (says("x", "function"), "messages.0.role"),
    (says(None), "messages.0"), (says(None, "assistant"), "messages.0"), (says(7), "messages.0.content"),
    (says("x", "tool"), "messages.0"), (says("x", tool_calls=[CALL]), "messages.0"),
    (says("x", wight=1), "messages.0.wight"), (says("x", "assistant", function_call={}), "messages.0.function_call"),
    (says([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]), "messages.0.content"),
    (says([{"type": "input_audio", "input_audio": {}}]), "messages.0.content"), (says(["x"]), "messages.0.content"),
    (says([{"type": "text", "text": "a", "txet": "b"}]), "messages.0.content"),
    (says("x", "assistant", tool_calls=[{**CALL, "type": "custom"}]), "messages.0.tool_calls.0.type"),
    ({"temperature": -1}, "temperature"), ({"temperature": 2.1}, "temperature"), ({"temperature": "1"}, "temperature"),
    ({"top_p": 1.5}, "top_p"), ({"frequency_penalty": 3}, "frequency_penalty"),
    ({"presence_penalty": -3}, "presence_penalty"),
    ({"max_tokens": 0}, "max_tokens"), ({"max_completion_tokens": 0}, "max_completion_tokens"),
    ({"max_tokens": 1.5}, "max_tokens"), ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ({"n": 0}, "n"), ({"n": 129}, "n"), ({"n": True}, "n"), ({"seed": "x"}, "seed"), ({"seed": 2**63}, "seed"),
    ({"stop": ["a"] * 5}, "stop"), ({"stop": ""}, "stop.0"), ({"stop": [1]}, "stop.0"),
    ({"logit_bias": {"x": 1}}, "logit_bias.x.[key]"), ({"logit_bias": {"7": 101}}, "logit_bias.7"),
    ({"top_logprobs": 2}, "top_logprobs"), ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logprobs": 1}, "logprobs"), ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format"),
    ({"response_format": {"type": "json_object", "json_schema": SCHEMA}}, "response_format"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}}, "response_format.json_schema.name"),
    ({"tools": [{"type": "function"}]}, "tools.0.function"), ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
    ({"tool_choice": "required"}, "tool_choice"), ({"tools": TOOLS, "tool_choice": "some"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
    ({"modalities": ["text", "audio"]}, "modalities.1"), ({"functions": []}, "functions"), ({"top_k": 3}, "top_k"),
    ({"reasoning_effort": "low"}, "reasoning_effort"), ({"metadata": {"a": 1}}, "metadata.a"), ({"model": ""}, "model"),
]  # fmt: skip
CHAT_TAKEN: list[dict[str, Any]] = [
    {}, says([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), says("Be brief.", "developer"),
    {"messages": [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None,
     "audio": None},
                  {"role": "tool", "content": "7", "tool_call_id": "call_1"}]},
    {"temperature": 0, "top_p": 1, "n": 128, "seed": -1, "stop": "a", "max_tokens": 5, "max_completion_tokens": 5},
    {"stop": ["a", "b", "c", "d"], "logit_bias": {"7": -100}, "logprobs": True, "top_logprobs": 0},
    {"stream": True, "stream_options": {"include_usage": True}}, {"response_format": {"type": "text"}},
    {"response_format": {"type": "json_schema", "json_schema": {**SCHEMA, "strict": True}}},
    {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "look"}}, "parallel_tool_calls": False},
    {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "safety_identifier": "s"},
    {name: None for name in ("temperature", "stop", "seed", "n", "tools", "response_format", "stream", "user",
     "metadata")},
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), CHAT_REFUSED, ids=str)
def test_a_chat_that_is_wrong_is_refused_with_the_path(api: TestClient, body: dict[str, Any], param: str) -> None:
    refuses(api, "chat/completions", {"messages": MESSAGES, **body}, param)


@pytest.mark.parametrize("body", CHAT_TAKEN, ids=str)
def test_a_chat_that_is_right_gets_as_far_as_the_model(api: TestClient, body: dict[str, Any]) -> None:
    takes(api, "chat/completions", {"messages": MESSAGES, **body})


COMPLETION_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "prompt"), ({"prompt": []}, "prompt"), ({"prompt": [1, "a"]}, "prompt"),
    ({"prompt": [-1]}, "prompt"),
    ({"prompt": [[]]}, "prompt"), ({"prompt": ["a"] * 129}, "prompt"), ({"prompt": None}, "prompt"),
    ({"logprobs": 6}, "logprobs"), ({"best_of": 3}, "best_of"), ({"suffix": "x"}, "suffix"),
    ({"echo": True, "logprobs": 1}, "echo"), ({"echo": True, "prompt": [1, 2]}, "echo"),
    ({"messages": MESSAGES}, "messages"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), COMPLETION_REFUSED, ids=str)
def test_a_completion_that_is_wrong_is_refused(api: TestClient, body: dict[str, Any], param: str) -> None:
    refuses(api, "completions", {"prompt": "Once", **body}, param)


@pytest.mark.parametrize("prompt", ["a", ["a", "b"], [1, 2], [[1], [2, 3]]], ids=str)
def test_prompts_are_texts_or_tokens_one_or_several(api: TestClient, prompt: Any) -> None:
    takes(api, "completions", {"prompt": prompt, "n": 2, "best_of": 2, "logprobs": 0})


RESPONSE_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"previous_response_id": "resp_1"}, "previous_response_id"), ({"store": True}, "store"), ({"input": []}, "input"),
    ({"background": True}, "background"), ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"truncation": "auto"}, "truncation"),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content"),
    ({"input": [{"type": "function_call_output", "call_id": "a", "output": "b"}]}, "input.0.type"),
    ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format"),
    ({"conversation": "c"}, "conversation"),
    ({"max_output_tokens": 0}, "max_output_tokens"), ({"include": ["message.output_text.logprobs"]}, "include"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), RESPONSE_REFUSED, ids=str)
def test_a_response_that_is_wrong_is_refused(api: TestClient, body: dict[str, Any], param: str) -> None:
    refuses(api, "responses", {"input": "Hello", **body}, param)


def test_an_earlier_answer_may_be_sent_back_as_openais_client_parsed_it(api: TestClient) -> None:
    call = {**CALL, "function": {**CALL["function"], "parsed_arguments": {"city": "Oslo"}}}  # type: ignore[dict-item]
    answer = {"role": "assistant", "content": "{}", "parsed": {"city": "Oslo"}, "refusal": None, "tool_calls": [call]}
    earlier = ParsedChatCompletionMessage.model_validate(answer)
    secret = api.headers["authorization"].split()[1]
    client = openai.OpenAI(base_url="http://testserver/v1", api_key=secret, http_client=api, max_retries=0)
    tool: Any = {"role": "tool", "content": "7", "tool_call_id": "call_1"}
    for told in (earlier, earlier.to_dict()):
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="m", messages=[*MESSAGES, told, tool])  # type: ignore[list-item]
    assert Message.model_validate(answer).to_json()["tool_calls"] == [CALL]


def test_an_earlier_answers_output_may_be_sent_back(api: TestClient) -> None:
    part = {"type": "output_text", "text": "Hi", "annotations": [], "logprobs": [], "parsed": None}
    turn = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
        "phase": None,
    }
    takes(api, "responses", {"input": [{"role": "user", "content": "Hello"}, turn], "store": False, "tools": []})


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("v1/chat/completions", '"messages": [{"role": "user", "content": "a"}], "seed": N', "seed"),
        ("v1/chat/completions", '"tools": [{}, {"function": {"parameters": {"most": -N}}}]',
         "tools.1.function.parameters.most"),
        ("v1/responses", '"input": "a", "max_output_tokens": N', "max_output_tokens"),
        ("v1/fine_tuning/jobs", '"training_file": "f", "hyperparameters": {"n_epochs": N}', "hyperparameters.n_epochs"),
        ("ftq/v1/runs", '"id": "zzzzzzzz", "spec": {"max_steps": N}', "spec.max_steps"),
    ],
)  # fmt: skip
def test_an_integer_of_thousands_of_digits_is_refused_by_its_path(
    api: TestClient, path: str, body: str, param: str
) -> None:
    answer = api.post(f"/{path}", content=f'{{"model": "m", {body}}}\n'.replace("N", "9" * 5000).encode())
    error = answer.json()["error"]
    digits = 5001 if "-N" in body else 5000
    assert (answer.status_code, error["param"], error["code"]) == (400, param, "invalid_value")
    assert error["message"] == f"Invalid value for '{param}': an integer of {digits:,} digits."


def test_half_a_character_is_refused(api: TestClient) -> None:
    answer = api.post(
        "/v1/chat/completions", content=b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}'
    )
    assert answer.status_code == 400 and "surrogate" in answer.json()["error"]["message"]


def refuses(api: TestClient, path: str, body: dict[str, Any], param: str) -> None:
    answer = api.post(f"/v1/{path}", json={"model": "m", **body})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param), error


def takes(api: TestClient, path: str, body: dict[str, Any]) -> None:
    answer = api.post(f"/v1/{path}", json={"model": "m", **body})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found"), answer.json()


# ---- answers -----------------------------------------------------------------------------------------------


def test_a_call_of_a_tool_is_put_together_from_what_is_streamed() -> None:
    """The deltas are llama.cpp's."""
    first = {"index": 0, "id": "x1", "type": "function", "function": {"name": "look", "arguments": ""}}
    more = [{"index": 0, "function": {"arguments": text}} for text in ('{"at"', ": 7}")]
    pieces = [
        Piece(0, " Well. "),
        *(Piece(0, tool_calls=[one]) for one in (first, *more)),
        Piece(0, finish="tool_calls"),
    ]
    form, head = chat.ChatForm.model_validate({"model": "m", "messages": MESSAGES}), Head("chatcmpl", "m")

    async def stream() -> AsyncIterator[Piece | Usage]:
        for piece in [*pieces, Usage(5, 7)]:
            yield piece

    async def told() -> tuple[dict[str, Any], list[bytes]]:
        whole = await chat.whole(form, head, without_space(stream()))
        return whole, [line async for line in chat.streamed(form, head, without_space(stream()))]

    whole, lines = asyncio.run(told())
    [choice] = ChatCompletion.model_validate(whole, strict=True).choices
    assert choice.message.content == "Well. " and choice.finish_reason == "tool_calls" and choice.message.tool_calls
    function = {"name": "look", "arguments": '{"at": 7}'}
    assert [one.model_dump() for one in choice.message.tool_calls] == [
        {"id": "x1", "type": "function", "function": function}
    ]
    assert lines.pop() == b"data: [DONE]\n\n"
    chunks = [ChatCompletionChunk.model_validate_json(line.removeprefix(b"data: ")) for line in lines]
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert "".join(call.function.arguments or "" for call in calls if call.function) == function["arguments"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_whoever_leaves_the_queue_for_a_context_takes_nothing_with_him() -> None:
    """Some leave while they wait, some at the moment of their turn, some in the middle."""
    chance = random.Random(7)

    async def hold(room: Room) -> None:
        async with room.taken(chance.randint(1, 60)):
            assert room._free >= 0
            await asyncio.sleep(0 if chance.random() < 0.5 else 0.001)

    async def crowd() -> int:
        room = Room(100)
        tasks = [asyncio.ensure_future(hold(room)) for _ in range(300)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            next_ones = [task for task in tasks if not task.done()][:8]
            chance.choice(next_ones or tasks).cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(end) for end in ends} == {type(None), asyncio.CancelledError}
        assert not room._waiting
        return room._free

    assert asyncio.run(crowd()) == 100


# ---- llama.cpp's errors ------------------------------------------------------------------------------------

REFUSALS = [
    (400, {"code": 400, "message": "too long", "type": "exceed_context_size_error"},
     (400, "messages", "context_length_exceeded")),
    (400, {"code": 400, "message": "JSON schema error at #"}, (400, "response_format", "invalid_json_schema")),
    (500, {"code": 500, "message": "Jinja Exception: turns must alternate"}, (400, "messages", "invalid_value")),
    (401, {"code": 401, "message": "Invalid API Key", "type": "authentication_error"}, (502, None, None)),
    (429, {"message": "slow down"}, (429, None, "rate_limit_exceeded")),
    (500, {"code": 500, "message": "no"}, (500, None, None)),
    (400, {"message": "This model's maximum context length is 9"}, (400, "messages", "context_length_exceeded")),
]  # fmt: skip


@pytest.mark.parametrize(("status", "error", "expected"), REFUSALS, ids=str)
def test_an_error_of_the_server_behind_is_told_as_openai_tells_it(
    status: int, error: dict[str, Any], expected: tuple[int, str | None, str | None]
) -> None:
    order = Order("/chat/completions", {"messages": [], "response_format": {}})
    told = refusal(status, json.dumps({"error": error}).encode(), order, "3600")
    assert (told.status, told.param, told.code) == expected
    assert told.headers.get("Retry-After", "60") == "60"


# ---- how this process answers ------------------------------------------------------------------------------


def test_without_llama_cpp_the_answer_says_what_may_serve_instead(
    api: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(models, "resolve", lambda *_: models.Served("m", tmp_path / "m.gguf", None, 1, "ftq"))
    monkeypatch.setattr(local, "find_spec", lambda name: None)
    answer = api.post("/v1/chat/completions", json={"model": "m", "messages": MESSAGES})
    assert (answer.status_code, answer.headers["x-should-retry"]) == (501, "false")
    assert all(name in answer.json()["error"]["message"] for name in ("FTQ_LLAMA_SERVER", "FTQ_CHAT_URL"))


@pytest.mark.parametrize(
    "variables",
    [{"FTQ_CHAT_URL": "localhost"}, {"FTQ_CHAT_KEY_FILE": "/none"}, {"FTQ_CHAT_NAMES": "a"}, {"FTQ_CHAT_MODELS": "0"},
     {"FTQ_CHAT_MEMORY_GB": "x"}],
    ids=str,
)  # fmt: skip
def test_a_setting_that_is_wrong_is_named(variables: dict[str, str]) -> None:
    with pytest.raises(UserError, match=next(iter(variables))) as caught:
        ChatSettings.from_env(variables)
    assert caught.value.hint


def test_the_settings_are_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    names = {"FTQ_CHAT_URL": "http://x/v1", "FTQ_CHAT_NAMES": "handbook:3=a, b=c", "FTQ_CHAT_MEMORY_GB": "2"}
    settings = ChatSettings.from_env({**names, "FTQ_CHAT_KEY_FILE": str(tmp_path / "key"), "FTQ_CHAT_MODELS": "3"})
    assert settings == ChatSettings("http://x/v1", "secret", {"handbook:3": "a", "b": "c"}, 3, 2 * 2**30)
    assert "secret" not in repr(settings)
