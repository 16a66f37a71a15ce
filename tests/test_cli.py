"""What `ftq` shows: whole outputs, and what goes to which stream."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_tools import NOW, START, TRAINING, Store, ok, run
from click.testing import CliRunner
from rich.console import Console

import ftq
from cli import common
from cli.commands import look
from cli.common import wrap
from cli.main import main
from cli.screens import terminal
from cli.screens.words import duration, short
from ftq.errors import RunError, Unavailable
from ftq.files.artifact import Artifact
from ftq.files.log_head import OneAttempt, head
from ftq.files.run_dir import STAGES
from ftq.spec.options import parse
from ftq.store.gateway.keys import Limits
from ftq.store.records import Worker
from ftq.store.store import RunStore
from tests.tools import instead_of_sleep

pytestmark = pytest.mark.usefixtures("utc")
ROOT = Path(__file__).parent.parent
MANUAL = [*(ROOT / "documents").glob("*.md"), *(ROOT / "docs").glob("*.md")]


# ---- help -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(main.commands))
def test_every_command_has_help_an_example_and_a_place_in_the_manual(name: str) -> None:
    text = ok(name, "--help").stdout
    assert re.search(rf"\n  Examples?:\n    ftq {name}\b", text)
    assert main.commands[name].get_short_help_str(70)[-3:] != "..."
    assert any(f"`ftq {name}" in page.read_text() for page in MANUAL)


def test_the_help_lists_each_command_once_under_what_it_is_about() -> None:
    text = ok("--help").stdout
    assert re.findall(r"(?m)^(\w+):$", text) == ["Options", "Runs", "Models", "Machines"]
    assert sorted(re.findall(r"(?m)^  (\w+) +[A-Z]", text)) == sorted(main.commands)


def test_version() -> None:
    assert ok("--version").stdout == f"ftq {ftq.__version__}\n"


# ---- status -----------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_and_says_who_is_missing(store: Store) -> None:
    done = store.add("aaaa1111", "old", ago=90_000)
    for number, stage in enumerate(STAGES):
        store.do(done, stage, 80_000 - 100 * number, progress=TRAINING if stage == "train" else None)
    broken = store.add("bbbb2222", "broken", ago=7200)
    store.fail(broken, "prepare", 7000, RunError("user", "no"))
    store.do(store.add("cccc3333", "busy", ago=300), "prepare", 290)
    store.train("cccc3333", 200, 1)
    store.add("dddd4444", "next", ago=5)
    result = ok("status")
    assert result.stdout == (
        "ID        NAME    MODEL         STATUS       STAGE     %   LOSS  AGE\n"
        "dddd4444  next    smollm2-135m  ○ queued                          5s\n"
        "cccc3333  busy    smollm2-135m  ● running    train    63  1.834   5m\n"
        "bbbb2222  broken  smollm2-135m  ✗ failed     prepare              2h\n"
        "aaaa1111  old     smollm2-135m  ✓ succeeded               1.834   1d\n"
    )
    assert result.stderr == f"Note: No worker is up, so busy stands still until one is. {START}\n"


def test_a_narrow_list_loses_columns_and_cuts_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    done = store.add("aaaa1111", "smollm2-135m-with-a-long-name", ago=90_000)
    store.do(done, "prepare", 80_000)
    store.do(done, "train", 70_000, progress=TRAINING)
    store.begin(done, "export", 10)
    shown = {}
    for width in (100, 75, 59, 50, 40, 30):
        screen = io.StringIO()
        out = Console(file=screen, force_terminal=True, color_system=None, width=width)
        monkeypatch.setattr(terminal, "console", lambda stderr=False, out=out: out)
        ok("status")
        shown[width] = [line.rstrip() for line in screen.getvalue().splitlines()]
    columns = "ID NAME MODEL STATUS STAGE % LOSS AGE"
    assert shown[100][0].split() == columns.split()
    assert shown[75] == [
        "ID        NAME               MODEL         STATUS     STAGE   %   LOSS  AGE",
        "aaaa1111  smollm2-135m-with  smollm2-135m  ● running  export     1.834   1d",
        "          -a-long-name",
    ]
    assert [shown[width][0].split() for width in (59, 50, 40, 30)] == [
        name.split()
        for name in ("ID NAME STATUS STAGE % AGE", "ID NAME STATUS STAGE %", "ID NAME STATUS", "NAME STATUS")
    ]
    assert "".join(line.split()[0] for line in shown[30][1:]) == "smollm2-135m-with-a-long-name"


def test_the_list_shows_twenty_unless_asked_for_all(store: Store) -> None:
    for number in range(22):
        store.add(f"id{number:06}", f"run-{number}", ago=100 - number)
    store.worker()
    result = ok("status")
    assert (len(result.stdout.splitlines()), result.stderr) == (21, "2 more: --all\n")
    assert len(ok("status", "--all").stdout.splitlines()) == 23
    assert len(json.loads(ok("status", "--json").stdout)) == 22


def test_an_older_run_at_work_stays_in_the_list(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.worker()
    busy = store.add("cccc3333", "busy", ago=300)
    store.do(busy, "prepare", 290)
    store.train(busy, 200, reported=1)
    for number in range(22):
        store.add(f"id{number:06}", f"run-{number}", ago=100 - number)
    result = ok("status")
    assert [line.split()[1] for line in result.stdout.splitlines()[1:]] == [
        *(f"run-{number}" for number in range(21, 1, -1)), "busy",
    ]  # fmt: skip
    assert result.stderr == "2 more: --all\n"

    def twice(seconds: float, looks: list[float] = []) -> None:  # noqa: B006
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    instead_of_sleep(monkeypatch, twice)
    watched = run("status", "--watch")
    assert [line.split("  ")[1:4] for line in watched.stdout.splitlines()] == [
        ["busy", "running", "train"], *([f"run-{number}", "queued", "prepare"] for number in range(2, 22)),
    ]  # fmt: skip
    assert (watched.exit_code, watched.stderr.strip()) == (0, "2 more: --all")


def test_an_empty_list_says_so(home: Path) -> None:
    result = ok("status")
    assert (result.stdout, result.stderr[:12]) == ("", "No runs yet ")
    assert json.loads(ok("status", "--json").stdout) == []


def test_a_run_at_work(store: Store) -> None:
    busy = store.add("cccc3333", "busy", ago=300, epochs=5, prompts=["Who?", "When, then?"])
    store.do(busy, "prepare", 290, 1.9, artifacts=[Artifact("dataset", "dataset", 123_456)])
    (store.home / busy / "dataset").mkdir()
    store.train(busy, 200, 2)
    store.worker()
    assert (
        ok("status", "busy").stdout
        == f"""\
busy  cccc3333  smollm2-135m  ● running
submitted 2026-01-02 02:55:00 (5m ago)
documents /docs

STAGE     STATUS       ATTEMPT   TIME
prepare   ✓ succeeded        1  1.9 s
train     ● running          1   3:20  on box
export    ○ queued
infer     ○ queued
evaluate  ○ queued

train  ━━━━━━━━━━━━━━━━━━━━━━╸               63 %  58 s left
step 120 of 190, loss 1.834, 412 tokens/s
last report 2s ago

ARTIFACT    SIZE  PATH
dataset   123 kB  {store.home}/cccc3333/dataset

asked for beyond the defaults
  epochs=5
  prompts=Who? | When, then?
"""
    )


def test_a_failed_run_names_the_cause_and_the_next_command(store: Store) -> None:
    broken = store.add("bbbb2222", "broken")
    store.do(broken, "prepare", 500, cached=True)
    error = RunError("user", "the disk is\x1b[31m full", "Make room, then `ftq retry RUN --from train`.")
    store.fail(broken, "train", 480, error)
    shown = ok("status", "bbbb").stdout
    assert "prepare   ✓ succeeded          1  10 s  cached: its inputs haven't changed\n" in shown
    assert "evaluate    not started\n" in shown
    assert (
        "train failed (user): the disk is\ufffd[31m full\nMake room, then `ftq retry broken --from train`.\n" in shown
    )
    assert shown.endswith("next: ftq logs broken --stage train   ftq retry broken\n")


def test_no_retry_is_advised_where_the_same_options_would_fail_again(store: Store) -> None:
    broken = store.add("bbbb2222", "broken")
    store.do(broken, "prepare", 500)
    store.fail(broken, "train", 480, RunError("user", "the training diverged", "Lower learning_rate.", about="options"))
    assert ok("status", "bbbb").stdout.endswith("next: ftq logs broken --stage train\n")


def test_the_json_of_a_run(store: Store) -> None:
    busy = store.add("cccc3333", "busy", ago=300)
    store.do(busy, "prepare", 290, 1.9, artifacts=[Artifact("dataset", "dataset", 123)])
    store.train(busy, 200, 2)
    waiting = {"status": "queued", "attempt": 1, "cached": False, "started_at": None, "finished_at": None,
               "seconds": None, "plan": None}  # fmt: skip
    assert json.loads(ok("status", "busy", "--json").stdout) == {
        "id": "cccc3333",
        "name": "busy",
        "version": None,
        "status": "running",
        "model": "smollm2-135m",
        "revision": None,
        "created_at": "2026-01-02T02:55:00.000Z",
        "started_at": "2026-01-02T02:55:10.000Z",
        "finished_at": None,
        "stage": "train",
        "progress": {**TRAINING, "doing": None, "updated_at": "2026-01-02T02:59:58.000Z"},
        "stages": [
            {"stage": "prepare", "status": "succeeded", "attempt": 1, "cached": False,
             "started_at": "2026-01-02T02:55:10.000Z", "finished_at": "2026-01-02T02:55:11.900Z", "seconds": 1.9,
             "plan": None},
            {"stage": "train", "status": "running", "attempt": 1, "cached": False,
             "started_at": "2026-01-02T02:56:40.000Z", "finished_at": None, "seconds": 200.0,
             "plan": None},
            {"stage": "export", **waiting},
            {"stage": "infer", **waiting},
            {"stage": "evaluate", **waiting},
        ],
        "artifacts": [{"kind": "dataset", "path": f"{store.home}/cccc3333/dataset", "bytes": 123}],
        "evaluation": None,
        "error": None,
    }  # fmt: skip


def test_waiting_is_no_running_time(store: Store) -> None:
    busy = store.add("cccc3333", "busy", ago=300_000)
    store.do(busy, "prepare", 290_000)
    token = store.begin(busy, "train", 280_000)
    store.at(279_950).progress(token, TRAINING)
    store.runs.pause(busy)
    store.at(279_940).release(token, "paused", "saved")
    paused = ok("status", "busy").stdout
    assert (
        " left" not in paused and re.search(r"^train +‖ paused +2\b", paused, re.M) and "export    ○ queued" in paused
    )
    shown = json.loads(ok("status", "busy", "--json").stdout)
    assert (shown["progress"]["step"], shown["progress"]["eta_seconds"]) == (120, None)
    store.at(20_000).cancel(busy)
    assert re.search(r"^train       not started +2 *$|^train +– cancelled +2 *$", ok("status", "busy").stdout, re.M)
    train = json.loads(ok("status", "busy", "--json").stdout)["stages"][1]
    assert (train["attempt"], train["started_at"], train["seconds"]) == (2, None, None)


def test_the_json_of_a_failed_run(store: Store) -> None:
    error = {
        "kind": "bug",
        "message": "it broke",
        "hint": "`ftq logs broken`",
        "place": "prepare.1 on box",
        "about": "",
    }
    store.fail(store.add("bbbb2222", "broken"), "prepare", 480, RunError("bug", "it broke", "`ftq logs RUN`"))
    shown = json.loads(ok("status", "broken", "--json").stdout)
    assert (shown["status"], shown["stage"], shown["progress"]) == ("failed", "prepare", None)
    assert (shown["error"], shown["finished_at"]) == (error, "2026-01-02T02:52:00.000Z")


def test_the_base_models_revision_is_shown(store: Store) -> None:
    store.runs.succeed(store.begin(store.add("cccc3333", "busy", ago=300), "prepare", 290), None, [], revision="c" * 40)
    assert f"\nbase model's revision {'c' * 40}\n" in ok("status", "busy").stdout
    assert json.loads(ok("status", "busy", "--json").stdout)["revision"] == "c" * 40


PLAN = {"engine": "unsloth", "load_in_4bit": False, "gradient_checkpointing": False, "steps": 190,
        "predicted": {"peak": 56_000_000_000, "seconds": 720.0, "step_seconds": 3.7}}  # fmt: skip


def test_a_plan_and_how_far_its_prediction_was_off(store: Store) -> None:
    done = store.add("cccc3333", "busy", ago=3000)
    store.do(done, "prepare", 2990)
    token = store.begin(done, "train", 2900)
    store.runs.plan(token, "16-bit base, 8 examples at once: 52.2 of 79.1 GiB", PLAN)
    shown = ok("status", "busy").stdout
    assert "\n\nplan: 16-bit base, 8 examples at once: 52.2 of 79.1 GiB\n" in shown
    assert "predicted" not in shown
    measured = {"peak": 54_000_000_000, "seconds": 778.0, "steps": 190, "step_seconds": 4.069}
    store.runs.plan(token, "", {"measured": measured})
    store.at(2000).succeed(token, None, [])
    assert (
        "plan: 16-bit base, 8 examples at once: 52.2 of 79.1 GiB\n"
        "predicted 52.2 GiB and 12:00, measured 50.3 GiB (-4 %) and 12:58 (+8 %)\n"
    ) in ok("status", "busy").stdout
    assert json.loads(ok("status", "busy", "--json").stdout)["stages"][1]["plan"] == {
        **PLAN, "message": "16-bit base, 8 examples at once: 52.2 of 79.1 GiB", "measured": measured,
        "compared": {"peak": {"predicted": 56_000_000_000, "measured": 54_000_000_000, "error": -0.0357},
                     "seconds": {"predicted": 720.0, "measured": 778.0, "error": 0.0806}},
    }  # fmt: skip


def test_nothing_from_the_database_reaches_the_terminal_as_a_command(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    plain = Console(file=screen, force_terminal=True, color_system=None, width=200)
    monkeypatch.setattr(terminal, "console", lambda stderr=False: plain)
    title = "\x1b]0;owned\x07\x9b"
    spec = {
        **parse({"model": "m"}).model_dump(),
        "model": f"m{title}",
        "documents": f"/docs{title}",
        "prompts": [title],
        title: title,
    }
    store.at(300).create("cccc3333", f"busy{title}", spec, "0" * 64)
    token = store.at(200).claim("cccc3333", "prepare", 1, f"box{title}", 60)
    assert token
    store.runs.progress(token, {"step": title, "percent": 5, "eta_seconds": 8})
    store.runs.plan(token, title, {})
    store.at(190).release(token, "retried", title, changes={title: title}, counts=True)
    error = RunError(title, title, title)
    first = store.at(180).claim("cccc3333", "prepare", 2, f"box{title}", 60)
    assert first
    for command in (["status"], ["status", "cccc"]):
        ok(*command)
    store.at(170).fail(first, error)
    shown_by = (["status"], ["status", "cccc"], ["events", "cccc"], ["retry", "cccc"], ["cancel", "cccc"])
    said = [ok(*command).output for command in shown_by]
    said += [f"{item.value} {item.help}" for item in common.complete_run(None, None, "busy")]  # type: ignore[arg-type]
    ok("rm", "cccc", "--yes")
    shown = "".join([screen.getvalue(), *said])
    assert "/docs\ufffd]0;owned" in shown and "on box\ufffd]0;owned" in shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown)


def test_silence_longer_than_a_lease_is_a_warning(store: Store) -> None:
    store.begin(store.add("cccc3333", "busy", ago=300), "prepare", 200)
    silent = "no sign of life for 3:20, longer than a lease (60 s): a live worker takes it up"
    stands_still = f"No worker is up, so busy stands still until one is. {START}"
    assert f"\n! {silent}\n! {stands_still}\n" in ok("status", "busy").stdout
    assert ok("status").stderr == f"Note: busy: {silent}\nNote: {stands_still}\n"


def test_until_when_a_silent_stages_lease_is_waited_for_is_said(store: Store) -> None:
    store.begin(store.add("cccc3333", "busy", ago=300), "prepare", 30)
    store.begin(store.add("dddd4444", "quiet", ago=300), "prepare", 31)
    store.worker()
    silent = "no sign of life from box for 31 s: if it has ended, its lease is waited for, until 2026-01-02 03:00:29"
    assert f"\n! {silent}\n" in ok("status", "quiet").stdout
    assert ok("status").stderr == f"Note: quiet: {silent}\n"
    assert "sign of life" not in ok("status", "busy").stdout


def test_a_silent_worker_is_listed_with_what_takes_it_off_the_list(store: Store) -> None:
    store.now = time.clock_gettime(time.CLOCK_REALTIME) - 3600
    store.runs.see_worker("gone@box", "box", ["cpu"], None, 1)
    store.runs.set_drained("gone@box", True)
    store.worker()
    shown = ok("workers")
    assert [line.split()[:2] for line in shown.stdout.splitlines()] == [
        ["NAME", "STATE"], ["box", "up"], ["gone@box", "silent"]]  # fmt: skip
    assert shown.stderr == "`ftq workers forget gone@box` takes one off the list that is gone for good.\n"
    assert ok("workers", "forget", "gone").stdout == "gone@box is off the list.\n"
    assert ok("workers").stderr == ""
    refused = run("workers", "forget", "box")
    assert (refused.exit_code, refused.stderr) == (1,
        "Error: box is up: only a silent worker can be forgotten\n"
        "Stop it on box (Ctrl-C or SIGTERM): it leaves the list by itself.\n",
    )  # fmt: skip


def test_a_run_whose_workers_are_all_gone_is_said_to_stand_still_before_its_lease_ends(store: Store) -> None:
    """Only what the database says can be shown: a power cut leaves `running` there."""
    store.begin(store.add("cccc3333", "busy", ago=300), "prepare", 30)
    said = f"No worker is up, so busy stands still until one is. {START}"
    assert ok("status").stderr == f"Note: {said}\n"
    store.worker()
    assert (ok("status").stderr, "stands still" in ok("status", "busy").stdout) == ("", False)


def test_what_an_attempt_before_has_reached_is_no_sign_of_life(store: Store) -> None:
    """And its time is not this attempt's."""
    run_id = store.add("cccc3333", "busy", ago=900)
    store.do(run_id, "prepare", 800)
    token = store.begin(run_id, "train", 700)
    store.runs.plan(token, "4-bit base", {"predicted": {"seconds": 60.0}, "steps": 190})
    store.runs.plan(token, "", {"measured": {"seconds": 30.0, "steps": 190}})
    store.runs.progress(token, TRAINING)
    store.at(100).release(token, "retried", "handed back", counts=False)
    shown = ok("status", "busy").stdout
    assert "\nplan: 4-bit base\n\ntrain" in shown
    assert "63 %\nstep 120 of 190, loss 1.834\n!" in shown


def test_watch_without_a_terminal_prints_changes_and_exits_by_result(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = store.add("cccc3333", "busy", ago=300)
    state: dict[str, str] = {}
    steps: list[Callable[[], object]] = [
        lambda: state.update(token=store.begin(busy, "prepare", 60)),
        lambda: None,
        lambda: store.runs.progress(state["token"], {**TRAINING, "percent": 50.0}),
        lambda: store.runs.fail(state["token"], RunError("bug", "it broke")),
    ]
    instead_of_sleep(monkeypatch, lambda seconds: steps.pop(0)())
    result = run("status", "busy", "--watch")
    assert result.exit_code == 1
    nobody = "Note: No worker is up. The run is recorded and starts as soon as one is there."
    stands = "Note: No worker is up, so busy stands still until one is."
    assert result.stderr == f"{nobody} {START}\n{stands} {START}\n"
    assert result.stdout.splitlines()[:4] == [
        "2026-01-02 03:00:00  busy  queued  prepare",
        "2026-01-02 03:00:00  busy  running  prepare",
        "2026-01-02 03:00:00  busy  running  prepare  50 %  step 120 of 190, loss 1.834, 412 tokens/s  58 s left",
        "2026-01-02 03:00:00  busy  failed  prepare",
    ]


def test_nothing_is_cut_into_letters_on_a_narrow_terminal(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    busy = store.add("cccc3333", "busy", ago=300)
    store.do(busy, "prepare", 200)
    store.do(busy, "train", 100, progress=TRAINING)
    key = store.runs.keys.create("nightly-imports-of-the-handbook", Limits(jobs=5, requests_per_minute=60)).key
    for width in (40, 80):
        for words in (("options",), ("status", "busy"), ("keys", "list")):
            screen = io.StringIO()
            out = Console(file=screen, force_terminal=True, color_system=None, width=width)
            monkeypatch.setattr(terminal, "console", lambda stderr=False, out=out: out)
            ok(*words)
            text = screen.getvalue()
            assert not re.search(r"(?m)^ {10,}\S{1,3}$", text), (words, width)
            assert words[0] != "keys" or (key.name in text and "…" not in text)


def test_watch_on_a_terminal_leaves_the_whole_view_behind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "console", lambda stderr=False: Console(file=screen, force_terminal=True, width=80))
    store.begin(store.add("cccc3333", "busy", ago=300), "prepare", 2)
    instead_of_sleep(monkeypatch, lambda seconds: store.runs.cancel("cccc3333") and store.runs.expire(60))
    store.runs.clock = lambda: NOW + 100
    assert run("status", "busy", "--watch").exit_code == 1
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "● running" in shown
    assert shown.rstrip().endswith("next: ftq retry busy")


def test_watch_outlasts_a_database_that_is_unreachable_for_a_moment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, away = store.add("cccc3333", "busy", ago=300), [Unavailable("the server is starting")] * 3
    real = RunStore.workers

    def workers(self: RunStore) -> list[Worker]:
        if away:
            raise away.pop()
        return real(self)

    screen = io.StringIO()
    monkeypatch.setattr(terminal, "console", lambda stderr=False: Console(file=screen, force_terminal=True, width=80))
    monkeypatch.setattr(RunStore, "workers", workers)
    instead_of_sleep(monkeypatch, lambda seconds: None if away else store.runs.cancel(busy))
    result = run("status", "busy", "--watch")
    assert (result.exit_code, result.stderr, away) == (1, "", [])
    assert "cancelled" in screen.getvalue()


def test_files_of_another_machine_are_not_shown_as_here(store: Store) -> None:
    folder = store.home / store.add("aaaa1111", "handbook")
    made = {"prepare": ["dataset"], "export": ["export.json", "model-q8_0.gguf"]}
    for number, stage in enumerate(STAGES):
        artifacts = [Artifact("gguf" if "gguf" in name else "other", name, 5) for name in made.get(stage, [])]
        store.do("aaaa1111", stage, 500 - 10 * number, artifacts=artifacts)
    message = f"the export of handbook has succeeded, but its files aren't in FTQ_HOME ({store.home})"
    hint = "Set FTQ_ARTIFACTS_URL if the queue's machines share a bucket, or FTQ_HOME to the folder that they share."

    def is_told() -> None:
        shown = ok("status", "handbook").stdout
        assert re.search(r"^gguf +5 B  not on this machine$", shown, re.M) and "ftq infer" not in shown
        assert shown.endswith(f"\n! {message}\n{hint}\n")
        for command in (["infer", "handbook", "Who?"], ["pull", "handbook"], ["eval", "handbook"]):
            refused = run(*command)
            assert (refused.exit_code, refused.stdout, refused.stderr) == (1, "", f"Error: {message}\n{hint}\n")

    is_told()
    (folder / ".bucket").mkdir()
    (folder / "export.json").write_text("{}")  # what people look at was fetched while the bucket was named
    is_told()
    (folder / ".bucket").rmdir()  # the model was deleted here

    def is_made_anew(stage: str) -> None:
        """Whatever is typed next leads there, and to nothing that fails too."""
        anew = f"`ftq retry handbook --from {stage}` makes it anew.\n"
        gone = f"run handbook has no exported model any more: it was deleted\n{anew}"
        assert ok("status", "handbook").stdout.endswith(f"\n! {gone}")
        assert run("infer", "handbook", "Who?").stderr == run("eval", "handbook").stderr == f"Error: {gone}"
        assert run("pull", "handbook").stderr == f"Error: run handbook has no GGUF file\n{anew}"

    is_made_anew("train")
    (folder / "adapter").mkdir()
    is_made_anew("export")
    (folder / "model-q8_0.gguf").write_bytes(b"GGUF!")
    shown = ok("status", "handbook").stdout
    assert f"{folder}/model-q8_0.gguf\n" in shown and shown.endswith(
        'next: ftq infer handbook "..."   ftq pull handbook\n'
    )


# ---- logs and events --------------------------------------------------------------------------------------


def test_logs_of_all_stages_or_one(store: Store) -> None:
    made = store.add("aaaa1111", "handbook")
    for stage in ("prepare", "train"):
        (store.home / made / "logs" / f"{stage}.log").write_bytes(f"{stage} \xff\n".encode("latin-1"))
    result = ok("logs", "handbook")
    assert result.stdout_bytes == b"prepare \xff\ntrain \xff\n"
    assert result.stderr == "==> prepare <==\n==> train <==\n"
    one = ok("logs", "handbook", "--stage", "train")
    assert (one.stdout_bytes, one.stderr) == (b"train \xff\n", "")


def test_the_log_of_one_attempt_is_named_as_its_first_line_says(store: Store) -> None:
    logs = store.home / store.add("aaaa1111", "handbook") / "logs"
    heads = [head("train", ["--attempt", str(number)]) for number in (1, 2)]
    assert heads[1].endswith(b" UTC train, attempt 2\n")
    (logs / "train.log").write_bytes(heads[0] + b"a half line" + heads[1] + b"step 1\n--- failed (bug): no\n")
    (logs / "prepare.log").write_bytes(b"--- 2025-01-02 03:00:00 UTC --attempt 1\nof an earlier version\n")
    assert ok("logs", "handbook", "--stage", "train", "--attempt", "2").stdout_bytes == (
        heads[1].lstrip() + b"step 1\n--- failed (bug): no\n"
    )
    first = ok("logs", "handbook", "--attempt", "1")
    assert first.stdout.splitlines()[1::2] == ["of an earlier version", "a half line"]
    assert first.stderr == "==> prepare <==\n==> train <==\n"
    none = ok("logs", "handbook", "--attempt", "7")
    assert (none.stdout, none.stderr) == ("", "No log of attempt 7: there are those of 1, 2.\n")
    assert "questions have none" in run("logs", "handbook", "--stage", "ask", "--attempt", "1").stderr


def test_an_attempt_may_begin_in_one_piece_of_the_log_and_go_on_in_the_next() -> None:
    second = head("train", ["--attempt", "2"]).lstrip() + b"b\n---\n50 %\r99 %"
    log = head("train", ["--attempt", "1"]) + b"a\n--\n" + second
    for size in (1, 7, len(log)):
        part = OneAttempt(2)
        pieces = [part.take(log[begin : begin + size]) for begin in range(0, len(log), size)]
        assert b"".join(pieces) == second
        assert part.met == [1, 2]


def test_why_there_is_no_log(store: Store) -> None:
    store.add("aaaa1111", "bad")
    store.do("aaaa1111", "prepare", 590, cached=True)
    store.fail("aaaa1111", "train", 500, RunError("bug", "the process ended"))
    failed = "train failed before it wrote one: the process ended\n`ftq events bad` tells what happened.\n"
    assert ok("logs", "bad").stderr == f"No log of bad: {failed}"
    assert ok("logs", "bad", "--stage", "train").stderr == f"No log of the train stage of bad: {failed}"
    assert ok("logs", "bad", "--stage", "prepare").stderr == (
        "No log of the prepare stage of bad: prepare came from the cache, nothing ran.\n"
    )
    assert ok("logs", "bad", "--stage", "export").stderr == (
        "No log of the export stage of bad: it never started (status: failed).\n"
    )
    store.add("bbbb2222", "worse")
    store.fail("bbbb2222", "prepare", 500, RunError("user", "no documents", "Give some."))
    assert ok("logs", "worse").stderr == (
        "No log of worse: prepare failed before it wrote one: no documents\nGive some.\n"
        "`ftq events worse` tells what happened.\n"
    )
    store.add("cccc3333", "gone")
    store.do("cccc3333", "prepare", 500)
    store.runs.cancel("cccc3333")
    assert ok("logs", "gone").stderr == (
        "No log of gone: none was written, or it was deleted. `ftq events gone` tells what happened.\n"
    )


def test_a_terminal_gets_a_log_without_its_control_characters(store: Store) -> None:
    log = b"\x1b]0;owned\x07\xc2\x9b \xff\r 50 % \xe2\x96\x88\r100 %\n"
    (store.home / store.add("aaaa1111", "handbook") / "logs" / "train.log").write_bytes(log)
    command = [sys.executable, "-c", "from cli.main import main; main()", "logs", "handbook", "--stage", "train"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == log
    terminal, slave = pty.openpty()
    tty.setraw(slave)  # \n stays \n
    subprocess.run(command, check=True, stdout=slave)
    assert os.read(terminal, 1000).decode() == "\ufffd]0;owned\ufffd\ufffd \ufffd\r 50 % \u2588\r100 %\n"
    for end in (terminal, slave):
        os.close(end)


def test_a_terminal_gets_lines_that_end_between_words(store: Store, documents: Path) -> None:
    store.fail(store.add("aaaa1111", "handbook"), "prepare", 500, RunError("user", "a word " * 12 + "ends", ""))
    program = [sys.executable, "-c", "from cli.main import main; main()"]
    for words in (["events", "handbook"], ["events", "nobody"], ["check", "nowhere"], ["check", str(documents)]):
        shown = re.sub(r"\x1b\[[0-9;]*m", "", on_a_terminal([*program, *words], 40))
        piped = subprocess.run([*program, *words], capture_output=True, text=True)
        long = [line for line in shown.splitlines() if len(line) > 40]
        assert all(len(line.split()) == 1 for line in long), long
        is_whole = shown.split() == (piped.stdout + piped.stderr).split()
        assert is_whole or "DOCUMENT" in shown, "tables of a terminal are other ones"


def on_a_terminal(command: list[str], columns: int) -> str:
    """What the program shows on a terminal of so many columns."""
    terminal, slave = pty.openpty()
    tty.setraw(slave)
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    shown = b""
    with subprocess.Popen(command, stdout=slave, stderr=slave, env=environ):
        os.close(slave)
        with contextlib.suppress(OSError):  # nobody has the other end open any more
            while piece := os.read(terminal, 1000):
                shown += piece
    os.close(terminal)
    return shown.decode()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one two three", ["one two", "three"]),
        ("  -> one two three\nfour", ["  -> one", "  two", "  three", "four"]),
        ("see (`ftq gc --last 5`) now", ["see", "(`ftq gc --last 5`)", "now"]),
        ("/a/path/that/is/long it", ["/a/path/that/is/long", "it"]),
        ("\x1b[31mone\x1b[0m two x", ["\x1b[31mone\x1b[0m two x"]),
        ("日本 日本 x", ["日本 日本", "x"]),
        ("one `two", ["one `two"]),
        ("", [""]),
    ],
)
def test_lines_are_wrapped_at_blanks(text: str, lines: list[str]) -> None:
    assert wrap(text, 9).split("\n") == lines


def test_a_character_of_a_log_may_come_in_two_pieces() -> None:
    shown = look._Shown()
    assert shown.take(b"\xe2\x96") + shown.take(b"\x88\x1b") == "\u2588\ufffd".encode()


def test_the_log_of_questions_is_one_of_its_own(store: Store) -> None:
    log = store.home / store.add("aaaa1111", "handbook") / "logs" / "ask.log"
    nobody = "No log of questions to handbook: `ftq infer handbook` asks one.\n"
    assert ok("logs", "handbook", "--stage", "ask").stderr == nobody
    log.write_text("llama.cpp\n")
    assert ok("logs", "handbook", "--stage", "ask").stdout == "llama.cpp\n"
    assert "llama.cpp" not in ok("logs", "handbook").stdout


def test_logs_follow_across_stages_until_the_run_is_finished(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = store.add("aaaa1111", "handbook")
    logs = store.home / made / "logs"

    def second() -> None:
        with (logs / "prepare.log").open("a") as file:
            file.write("two\n")
        (logs / "train.log").write_text("three\n")
        store.runs.cancel(made)

    steps: list[Callable[[], object]] = [lambda: (logs / "prepare.log").write_text("one\n"), second]
    instead_of_sleep(monkeypatch, lambda seconds: steps.pop(0)())
    result = ok("logs", "handbook", "-f")
    assert result.stdout == "one\ntwo\nthree\n"
    assert result.stderr.startswith("No log of handbook yet (status: queued). No worker is up.")


def test_events(store: Store) -> None:
    store.do(store.add("aaaa1111", "handbook"), "prepare", 500, cached=True)
    assert ok("events", "handbook").stdout == (
        "2026-01-02 02:50:00              submitted    submitted as handbook: smollm2-135m\n"
        "2026-01-02 02:51:40  prepare.1   claimed      claimed by box\n"
        "2026-01-02 02:51:50  prepare.1   cache_hit    cache hit: nothing that goes into this stage has changed\n"
    )
    lines = [json.loads(line) for line in ok("events", "handbook", "--json").stdout.splitlines()]
    assert lines[1] == {"id": 2, "at": "2026-01-02T02:51:40.000Z", "stage": "prepare", "attempt": 1,
                        "kind": "claimed", "message": "claimed by box",
                        "data": {"worker": "box", "lease_seconds": 60}}  # fmt: skip


def test_a_run_that_waits_after_losses_says_why_and_until_when(store: Store) -> None:
    run_id = store.add("cccc3333", "unlucky", ago=500)
    for attempt, ago in [(1, 500), (2, 490), (3, 480), (4, 470), (5, 460), (6, 10)]:
        token = store.at(ago).claim(run_id, "prepare", attempt, "box", 60)
        assert token
        store.runs.lose(token, "prepare was killed by signal 9")
    assert store.runs.events(run_id)[-1].message == (
        "prepare was killed by signal 9; tried again in 32 s, as it was lost 6 times in a row"
    )
    store.worker()
    shown = " ".join(ok("status", "unlucky").output.split())
    assert "prepare was lost 6 times in a row, `ftq events unlucky` says how: it is tried again in 22 s, " in shown
    assert "`ftq retry unlucky` does it now" in shown


# ---- catalogue, options, words ----------------------------------------------------------------------------


def test_models_and_options() -> None:
    shown = ok("models")
    assert shown.stdout.splitlines()[1].split("  ")[0] == "smollm2-135m"
    assert "smollm2-135m comes with ftq's worker." in shown.stderr
    first = json.loads(ok("models", "--json").stdout)[0]
    assert (first["hub_id"], first["parameters_b"]) == ("HuggingFaceTB/SmolLM2-135M-Instruct", 0.135)
    assert set(first["least_memory"]) == {"4bit", "16bit", "16bit_without_checkpointing"}
    assert re.search(r"^epochs +3 +number over 0 to 1000", ok("options").stdout, re.M)
    assert json.loads(ok("options", "--json").stdout)[0]["name"] == "model"
    example = re.search(r"ftq options \| grep (-i )?(\w+)\n", ok("options", "--help").stdout)
    assert example and re.search(example[2], ok("options").stdout, re.I if example[1] else 0)


def test_durations_and_ages() -> None:
    assert [duration(value) for value in (0, 9.94, 9.96, 59.4, 60, 3599, 3600)] == [
        "0.0 s", "9.9 s", "10 s", "59 s", "1:00", "59:59", "1:00:00",
    ]  # fmt: skip
    assert [short(value) for value in (-1, 59, 60, 3600, 90_000)] == ["0s", "59s", "1m", "1h", "1d"]


def test_completion_offers_names_ids_and_models(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add("aaaa1111", "handbook")

    def complete(line: str) -> str:
        environment = {"_FTQ_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
        return CliRunner().invoke(main, env=environment, prog_name="ftq").stdout

    assert complete("ftq status hand") == "plain,handbook\n"
    assert complete("ftq rm aaaa") == "plain,aaaa1111\n"
    assert complete("ftq submit --model phi-3-") == "plain,phi-3-medium\n"
    other = store.home.parent / "other"
    monkeypatch.setenv("FTQ_HOME", str(other))
    assert complete("ftq status hand").strip() == ""
    assert not other.exists()  # a look makes no database
    monkeypatch.setenv("FTQ_DATABASE_URL", f"sqlite:///{store.home}/ftq.db")
    assert complete("ftq status hand") == "plain,handbook\n"
    monkeypatch.setenv("FTQ_DATABASE_URL", "sqlite:////nonexistent/x.db")
    assert complete("ftq status hand").strip() == ""
