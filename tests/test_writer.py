"""Questions that a language model writes: what it is asked, what goes wrong on the way, what is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ftq.errors import FtqError, Lost, UserError
from ftq.examples.read import read
from ftq.examples.records.given import Candidate, LeftOut
from ftq.files.run_dir import RunDir, read_jsonl
from tests.language_model import CUT, KEY, Fault, LanguageModel, answer, refusal
from worker.attempt.stage_process import spawn
from worker.llama.base import base_gguf
from worker.llama.pool import Pool
from worker.questions import writer
from worker.questions.ask import CONTEXT, BaseModel
from worker.questions.endpoint import TRIES, Access, Endpoint
from worker.questions.filters import Pair, sift
from worker.questions.schema import of_section, of_sentence
from worker.questions.section import Section, sections_of, sentences

GUIDE = """# Guide

## Limits

The option `memory_limit` holds 512 MB by default. It is small. A job that needs more is stopped after 3 seconds.

## Changelog

- The option `memory_limit` is new in version 2.

## Retries

Failed jobs start again after twelve minutes and keep their place.
"""
LIMITS = "The option `memory_limit` holds 512 MB by default."
STOPPED = "A job that needs more is stopped after 3 seconds."
FAILED = "Failed jobs start again after twelve minutes and keep their place."
ONE = Section("guide.md", ("Guide", "Limits"), "guide.md:4", "guide.md#Limits", f"{LIMITS} {STOPPED}")


@pytest.fixture
def model() -> Iterator[LanguageModel]:
    made = LanguageModel()
    yield made
    made.close()


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with one document, and a folder for its dataset."""
    run = RunDir(tmp_path / "run")
    run.dataset.mkdir(parents=True)
    run.documents.mkdir()
    (run.documents / "guide.md").write_text(GUIDE)
    (run.documents / "faq.jsonl").write_text('{"question": "Is it free?", "answer": "Yes, it is free of charge."}\n')
    return run


def opened(model: LanguageModel, pauses: list[float] | None = None, **environment: str) -> Endpoint:
    return Endpoint(
        Access.from_env({**model.environment, **environment}), (pauses if pauses is not None else []).append
    )


# ---- what is asked about --------------------------------------------------------------------------------


def test_sections_and_their_sentences(run: RunDir) -> None:
    found = list(sections_of(read(run.documents)))
    assert [(section.where, section.path, sentences(section, 9)) for section in found] == [
        ("guide.md:3", ("Guide", "Limits"), [LIMITS, STOPPED]),
        ("guide.md:11", ("Guide", "Retries"), [FAILED]),
    ]
    assert sentences(found[0], 1) == [LIMITS]  # the more it says, the better


def test_a_long_section_comes_in_parts_and_none_of_it_is_lost(tmp_path: Path) -> None:
    lines = [f"Line {number} of the long page is here. 数は{number}です。" for number in range(300)]
    (tmp_path / "long.md").write_text("# Long\n\n" + "\n\n".join(lines))
    found = list(sections_of(read(tmp_path)))
    assert len(found) > 3 and all(len(section.text.encode()) <= 4000 for section in found)
    assert "\n\n".join(section.text for section in found) == "\n\n".join(lines)


# ---- the whole way --------------------------------------------------------------------------------------


def test_a_run_has_its_questions_from_an_endpoint(
    run: RunDir, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in model.environment.items():
        monkeypatch.setenv(name, value)
    told, shares = list[tuple[str, str]](), list[float]()
    written = writer.of_run(
        run, run.dataset, "endpoint", "smollm2-135m", lambda *event: told.append(event), shares.append
    )(read(run.documents))
    assert list(read_jsonl(run.dataset / "questions.jsonl")) == [
        {"question": "What is known about The option `memory_limit` holds?", "answer": LIMITS,
         "source": "guide.md#Limits"},
        {"question": "What is known about A job that needs?", "answer": STOPPED, "source": "guide.md#Limits"},
        {"question": "Who says The option `memory_limit` holds?", "answer": "after 3 seconds.",
         "source": "guide.md#Limits"},
        {"question": "What is known about Failed jobs start again?", "answer": FAILED, "source": "guide.md#Retries"},
        {"question": "Who says Failed jobs start again?", "answer": "keep their place.", "source": "guide.md#Retries"},
    ]  # fmt: skip
    assert list(read_jsonl(run.dataset / "questions_dropped.log")) == [
        {"reason": "the question has under 4 or over 25 words", "question": "Well?", "answer": said, "source": source}
        for said, source in ((LIMITS, "guide.md#Limits"), (STOPPED, "guide.md#Limits"), (FAILED, "guide.md#Retries"))
    ]
    summary = "5 of 8 written questions are kept, from 2 sections; 3: the question has under 4 or over 25 words"
    assert told == [("note", summary)] and shares == [0.5, 1.0]
    assert [(fact.subject, fact.value, fact.line, fact.rule) for fact in written.facts] == [
        (pair.question, pair.answer, 3 if pair.section.path[-1] == "Limits" else 11, "W") for pair in written.kept
    ]
    assert sorted(model.prompts) == sorted(
        request.prompt
        for section in sections_of(read(run.documents))
        for request in (
            *(of_sentence(section, sentence, 3) for sentence in sentences(section, 6)),
            of_section(section, 5),
        )
    )
    assert set(model.keys) == {f"Bearer {KEY}"}
    assert KEY not in run.questions.read_text() + repr(Access.from_env())


def test_what_is_kept_is_a_document_and_what_is_dropped_is_none(run: RunDir, model: LanguageModel) -> None:
    written = writer.write(sections_of(read(run.documents)), opened(model), writer.Options(), run.questions)
    writer.save(written, run.dataset)
    rows = list(read(run.dataset))
    assert [(row.instruction, row.blocks) for row in rows if isinstance(row, Candidate)] == [
        (pair.question, (pair.answer,)) for pair in written.kept
    ]
    assert [row.document for row in rows if isinstance(row, LeftOut)] == ["questions_dropped.log"]
    assert list(sections_of(read(run.dataset))) == []  # and nobody asks about questions


def test_each_section_is_asked_once_by_one_writer(run: RunDir, model: LanguageModel) -> None:
    ask, options = opened(model), writer.Options()
    first = writer.write(sections_of(read(run.documents)), ask, options, run.questions)
    asked = len(model.prompts)
    again = writer.write(sections_of(read(run.documents)), ask, options, run.questions)
    assert (len(model.prompts), first.before, again.before) == (asked, 0, 2) and again.kept == first.kept
    (run.documents / "guide.md").write_text(GUIDE.replace("twelve", "two"))
    assert writer.write(sections_of(read(run.documents)), ask, options, run.questions).before == 1
    ask.name = "another model"
    assert writer.write(sections_of(read(run.documents)), ask, options, run.questions).before == 0


def test_what_a_killed_process_has_written_is_asked_no_second_time(run: RunDir, model: LanguageModel) -> None:
    text = "\n".join(
        f"# Part {number}\n\nThe part {number} of this machine weighs {number} kg.\n" for number in range(40)
    )
    (run.documents / "guide.md").write_text(text)
    model.most = 21
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(run.path)], env={**os.environ, **model.environment}, start_new_session=True
    )
    assert model.hangs.wait(300)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    with run.questions.open("ab") as file:
        file.write(b'{"section": "abc", "items": [{"questi')  # the power went, too
    done = {entry["section"] for entry in map(_whole, run.questions.read_text().splitlines()) if entry}
    assert 20 - 8 <= len(done) <= 20
    before, model.most = len(model.prompts), 10**9
    written = writer.write(sections_of(read(run.documents)), opened(model), writer.Options(), run.questions)
    asked = set(model.prompts[before:])  # each once, but for those that still came from the killed process
    assert (written.sections, written.before, len(asked)) == (40, len(done), 40 - len(done))
    assert [pair.answer for pair in written.kept] == [
        f"The part {number} of this machine weighs {number} kg." for number in range(40)
    ]


_CHILD = """
import sys
from ftq.examples.read import read
from ftq.files.run_dir import RunDir
from worker.questions import writer
from worker.questions.endpoint import Access, Endpoint
from worker.questions.section import sections_of
run = RunDir(sys.argv[1])
writer.write(sections_of(read(run.documents)), Endpoint(Access.from_env()), writer.Options(), run.questions)
"""


def _whole(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def test_a_check_asks_the_question_again(tmp_path: Path, model: LanguageModel) -> None:
    questions = ["How much memory does a job get?", "When is a job with 512 MB stopped?"]
    ask = opened(model)
    model.faults += [answer(json.dumps({"questions": [question]})) for question in questions]
    model.faults += [answer('{"answer": "It holds 512 MB by default."}'), answer('{"answer": "Never."}')]
    ask.at_once = 1
    written = writer.write([ONE], ask, writer.Options(check=True), tmp_path / "journal")
    assert [(pair.question, pair.again) for pair in written.kept] == [(questions[0], "It holds 512 MB by default.")]
    assert written.reasons == {"asked again, the model answers otherwise": 1}


# ---- an endpoint that fails -----------------------------------------------------------------------------


def test_what_may_pass_is_tried_again(model: LanguageModel) -> None:
    pauses = list[float]()
    ask = opened(model, pauses)
    model.faults += [refusal(429, "slow down", **{"Retry-After": "7"}), refusal(500, "oh"), CUT, Fault(200, "<html>"),
                     Fault(503), answer("here")]  # fmt: skip
    assert ask.ask(of_section(ONE, 3)) == "here"
    least = [7, 2, 4, 8, 16]
    assert len(pauses) == 5 and all(low <= pause <= 1.25 * low for low, pause in zip(least, pauses, strict=True))


def test_what_does_not_pass_ends_the_attempt_and_keeps_what_was_written(tmp_path: Path, model: LanguageModel) -> None:
    ask = opened(model)
    ask.at_once = 1
    other = Section("b.md", (), "b.md:1", "b.md", FAILED)
    model.faults += [answer('{"questions": ["How much memory does a job get?"]}')] * 2 + [refusal(500, KEY)] * TRIES
    with pytest.raises(Lost) as caught:
        writer.write([ONE, other], ask, writer.Options(), tmp_path / "journal")
    assert caught.value.message == (
        f"the language model at {model.url} failed {TRIES} times in a row: HTTP 500: *** (no code)"
    )
    assert writer.write([ONE, other], ask, writer.Options(), tmp_path / "journal").before == 1


@pytest.mark.parametrize(
    ("faults", "environment", "message", "hint"),
    [
        ([], {"FTQ_LLM_KEY": "wrong"},
         "the language model at URL refuses the key: HTTP 401: Not a key: Bearer *** (invalid_api_key)",
         "FTQ_LLM_KEY_FILE names a file with the key, where the worker runs."),
        ([], {"FTQ_LLM_KEY": ""},
         "the language model at URL wants a key: HTTP 401: Not a key:  (invalid_api_key)",
         "FTQ_LLM_KEY_FILE names a file with the key, where the worker runs."),
        ([], {"FTQ_LLM_MODEL": "huge"},
         "there is no model huge at URL (HTTP 404: The model `huge` does not exist (model_not_found))",
         "FTQ_LLM_MODEL names it. There are: big, small"),
        ([Fault(302, "", {"Location": "http://elsewhere"})], {},
         "the language model big at URL refuses the question: HTTP 302",
         "FTQ_LLM_URL has to end before /chat/completions, FTQ_LLM_MODEL to name a chat model there."),
        ([refusal(429, "Too much", "insufficient_quota")], {},
         "the language model at URL has no quota left for the key: HTTP 429: Too much (insufficient_quota)",
         "Raise it there, then `ftq retry RUN`: what has been written is kept."),
        ([Fault(200, "<html>Welcome</html>")] * 3, {},
         "the language model at URL can't be used: HTTP 200: <html>Welcome</html>",
         "FTQ_LLM_URL names it. Is its server up, and does it speak OpenAI's chat completions?"),
    ],
)  # fmt: skip
def test_what_never_works_is_said_at_the_start(
    model: LanguageModel, faults: list[Fault], environment: dict[str, str], message: str, hint: str
) -> None:
    model.faults += faults
    with pytest.raises(UserError) as caught:
        opened(model, **environment)
    assert (caught.value.message, caught.value.hint) == (message.replace("URL", model.url), hint)


def test_a_server_that_is_not_there(model: LanguageModel) -> None:
    model.close()
    with pytest.raises(UserError, match=r"can't be used: ConnectError: .*refused"):
        opened(model)


def test_a_server_that_dislikes_options_is_asked_without_them(model: LanguageModel) -> None:
    model.dislikes = {
        '"max_tokens"': "Use 'max_completion_tokens' instead.",
        '"temperature"': "Unsupported value: temperature",
        '"json_schema"': "response_format.type must be json_object",
    }
    ask = opened(model)
    before = len(model.bodies)
    assert json.loads(ask.ask(of_sentence(ONE, LIMITS, 1)))["questions"]
    body = model.bodies[before]
    assert len(model.bodies) == before + 1 and sorted(body) == [
        "max_completion_tokens", "messages", "model", "response_format",
    ]  # fmt: skip
    assert body["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    "bad",
    [refusal(400, "content filter"), answer(None), answer("Sure! Here is"), answer("[1]"), answer('{"pairs": []}'),
     answer('{"questions": 7}'), answer('{"questions": [7]}')],
)  # fmt: skip
def test_an_answer_that_is_none_is_counted(tmp_path: Path, model: LanguageModel, bad: Fault) -> None:
    ask = opened(model)
    model.faults.append(bad)
    written = writer.write([ONE], ask, writer.Options(), tmp_path / "journal")
    assert (written.unreadable, len(written.kept)) == (1, 1)
    assert written.summary().endswith("; 1 answers were no JSON")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "questions=endpoint needs FTQ_LLM_URL and FTQ_LLM_MODEL where the prepare stage runs"),
        ({"FTQ_LLM_URL": "http://h"}, "questions=endpoint needs FTQ_LLM_MODEL where the prepare stage runs"),
        *(({"FTQ_LLM_URL": url, "FTQ_LLM_MODEL": "m"},
           "FTQ_LLM_URL must be an http:// or https:// address without user, password or query")
          for url in ("localhost:8000", "ftp://h/v1", f"https://me:{KEY}@h/v1", f"https://h/v1?key={KEY}", "http://h:x")),
        ({"FTQ_LLM_URL": "http://h", "FTQ_LLM_MODEL": "m", "FTQ_LLM_KEY": f"{KEY}\nX: y"},
         "FTQ_LLM_KEY: a key holds ASCII characters only, and no spaces"),
        ({"FTQ_LLM_URL": "http://h", "FTQ_LLM_MODEL": "m", "FTQ_LLM_KEY": KEY, "FTQ_LLM_KEY_FILE": "/f"},
         "FTQ_LLM_KEY and FTQ_LLM_KEY_FILE are both set"),
        ({"FTQ_LLM_URL": "http://h", "FTQ_LLM_MODEL": "m", "FTQ_LLM_KEY_FILE": "/no/file"},
         "FTQ_LLM_KEY_FILE=/no/file: can't be read (No such file or directory)"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Access.from_env(environment)
    assert caught.value.message == message and caught.value.hint and KEY not in caught.value.text


def test_settings_in_their_forms(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    for url in ("http://h:8000", "http://h:8000/v1/", "http://h:8000/v1/chat/completions"):
        given = {"FTQ_LLM_URL": url, "FTQ_LLM_MODEL": "m", "FTQ_LLM_KEY_FILE": str(tmp_path / "key")}
        assert Access.from_env(given) == Access("http://h:8000/v1", "m", KEY)


@pytest.mark.parametrize(("stage", "sees"), [("prepare", True), ("train", False)])
def test_only_prepare_sees_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: LanguageModel, stage: str, sees: bool
) -> None:
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / f"{stage}.py").write_text("import os\nprint('FTQ_LLM_KEY' in os.environ)")
    for name, value in {**model.environment, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}.items():
        monkeypatch.setenv(name, value)
    with (tmp_path / "output").open("w+b") as output:
        process, pipe = spawn([f"some.{stage}"], output, 60, output.fileno())
        process.communicate()
        os.close(pipe)
        output.seek(0)
        assert output.read().decode().strip() == str(sees)


# ---- what is kept ---------------------------------------------------------------------------------------

LORA = Section(
    "lora.md", ("LoRA options",), "lora.md:3", "lora.md#LoRA options",
    "The LoRA rank `r` is 16 by default, `alpha` is 16 and `dropout` is 0.0. A larger rank learns more and takes more "
    "memory: 1,000 examples need about two minutes. Examples that are held out are never trained on.",
)  # fmt: skip
SHOP = ("When does the shop open?", "The shop opens at nine.")


@pytest.mark.parametrize(
    ("pairs", "reasons"),
    [
        ([("LoRA options", "`r` is 16 by default")], ["the question doesn't end in a question mark"]),
        ([("LoRA rank default?", "16")], ["the question has under 4 or over 25 words"]),
        ([("What is " + "the rank " * 13 + "?", "16")], ["the question has under 4 or over 25 words"]),
        ([("What is the difference between the LoRA rank r and the LoRA rank r?", "The LoRA rank is 16 by default")],
         ["the question says the same words twice"]),
        ([("What does the text say about alpha?", "`alpha` is 16")], ["the question speaks of the text"]),
        ([("Which default is named in this section?", "16")], ["the question speaks of the text"]),
        ([SHOP], ["the question shares no word with what it is on"]),
        ([("How large is `alpha` by default?", "16"), ("how large is alpha by default?", "`alpha` is 16")],
         ["the question is there already"]),
        ([("How large is the rank of LoRA?", "The rank is 32")], ["a number isn't in the section"]),
        ([("What are 64 examples for?", "held out")], ["a number isn't in the section"]),
        ([("Which dropout is the default one?", "`dropout` is 0")], []),
        ([("How long do 1000 examples take?", "about 2 minutes")], []),
        ([("Which default is 16 beside `alpha`?", "`r`")], []),
        ([("Which default is " + "9" * 5000 + "?", "`r`")], ["a number isn't in the section"]),
        ([("Which one takes about 2 minutes?", "1000 examples")], []),
        ([("Which option sets the rank?", "`lora_rank` sets the LoRA rank")], ["a piece of code isn't in the section"]),
        ([("What does a larger rank do?", "It makes training slow")], ["the answer has words that the section hasn't"]),
        ([("What does a larger rank do?", "The ")], ["the answer has no word of its own or over 60"]),
        ([("What does a larger rank do?", "rank " * 61)], ["the answer has no word of its own or over 60"]),
        ([("What is the dropout of LoRA?", value) for value in ("1,000", "16", "two")],
         ["the question has two answers"] * 3),
        ([("What is the LoRA rank by default?", "LoRA rank")], ["the answer stands in the question"]),
        ([("What is never trained on?", "Examples that are held out are never trained on.")], []),
    ],
)  # fmt: skip
def test_what_a_model_makes_up_is_dropped(pairs: list[tuple[str, str]], reasons: list[str]) -> None:
    kept, dropped = sift(Pair(question, answer, LORA) for question, answer in pairs)
    assert [one.reason for one in dropped] == reasons
    assert len(kept) == len(pairs) - len(reasons)


def test_a_question_on_a_sentence_is_on_that_sentence() -> None:
    sentence = "Examples that are held out are never trained on."
    on_others = Pair("How much memory does it take?", sentence, LORA, is_sentence=True)
    assert [one.reason for one in sift([on_others])[1]] == ["the question shares no word with what it is on"]


def test_a_question_that_the_documents_have_is_not_asked_again() -> None:
    pair = Pair("How large is `alpha` by default?", "16", LORA)
    assert sift([pair], {"How large is alpha by default"})[0] == []


@pytest.mark.parametrize(("rows", "same", "kept"), [(9, 1, 3), (2, 1, 1), (3, 3, 3)])
def test_one_answer_for_everything_is_a_habit(rows: int, same: int, kept: int) -> None:
    asked = ["rank", "alpha", "dropout", "memory", "examples", "minutes", "LoRA", "trained", "default"]
    pairs = [Pair(f"How large is the {word} here?", "16", LORA) for word in asked[:rows]]
    left, dropped = sift(pairs, same=same)
    assert left == pairs[:kept]
    assert {one.reason for one in dropped} <= {"one answer is given too often in its document"}


@pytest.mark.parametrize(
    ("again", "is_kept"), [(None, True), ("16", True), ("It is 16 by default", True), ("two minutes", False)]
)
def test_a_checked_answer_says_the_same(again: str | None, is_kept: bool) -> None:
    kept, dropped = sift([Pair("How large is the rank of LoRA?", "16 by default", LORA, again=again)])
    assert bool(kept) == is_kept and len(kept) + len(dropped) == 1


# ---- a real model ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_smallest_base_model_writes_json_and_goes_on_where_it_was(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTQ_LLM_KEY", KEY)
    pool = Pool(most=1, context=CONTEXT)
    base, options = BaseModel(base_gguf("smollm2-135m"), pool), writer.Options(wordings=2, pairs=3, check=True)
    found = list(sections_of(read(run.documents)))
    try:
        first = writer.write(found[:1], base, options, run.questions)
        both = writer.write(found, base, options, run.questions)
        with pool.server(base_gguf("smollm2-135m")) as server:
            assert KEY not in psutil.Process(server.pid).environ().values()
    finally:
        base.close()
    assert base.is_small
    assert (first.sections, first.before, both.sections, both.before) == (1, 0, 2, 1)
    entries = [json.loads(line) for line in run.questions.read_text().splitlines() if line]
    assert len(entries) == 2 and both.unreadable == 0  # the grammar leaves it no choice
    items = [item for entry in entries for item in entry["items"]]
    assert len(items) == len(both.kept) + len(both.dropped) >= 9
    assert sum(both.reasons.values()) == len(both.dropped)


@pytest.mark.slow
def test_a_base_model_without_a_file_is_an_error(tmp_path: Path) -> None:
    base = BaseModel(tmp_path / "gone.gguf")
    with pytest.raises(FtqError, match="isn't there"):
        base.ask(of_sentence(ONE, LIMITS, 1))
    base.close()
