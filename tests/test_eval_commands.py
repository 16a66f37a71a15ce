"""`ftq eval`, `ftq compare`, and the evaluation in `ftq status`: who is asked what, and what is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_tools import Store, ok, run

from ftq.client.client import Client
from ftq.errors import RunError
from ftq.evaluation.compare import Side, compare
from ftq.evaluation.evaluation import Evaluation, Kind, Question
from ftq.evaluation.score import Replies, Reply, scores, side_by_side
from ftq.files.run_dir import STAGES, RunDir, write_json, write_jsonl

pytestmark = pytest.mark.usefixtures("utc")

MINE = '[{"question": "How long?", "answers": ["24 months"]}, {"question": "What price?"}]'
ANSWERS = {"How long?": "It lasts 24 months.", "What price?": "The documents don't say."}


@pytest.fixture
def asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Two finished runs with files; q2_k and the base know nothing. The list has who was asked, and how."""
    calls = []

    def ask_many(self: Client, wanted: str, prompts: list[str], timeout: float = 600, **options: Any) -> Iterator[Any]:
        calls.append((wanted, options))
        knows = options.get("quant") not in ("q2_k", None)
        for prompt in prompts:
            answer = ANSWERS.get(prompt, "Blue.") if knows else "Who knows."
            yield {"prompt": prompt, "answer": answer, "stopped": True, "tokens": 4}

    for run_id, name, types in (("aaaa1111", "one", ["q8_0", "f16"]), ("bbbb2222", "two", ["q2_k", "q4_k_m"])):
        store.add(run_id, name, quantizations=types)
        for number, stage in enumerate(STAGES):
            store.do(run_id, stage, 500 - 10 * number)
        for quant in types:
            RunDir(store.home / run_id).gguf(quant).write_bytes(b"GGUF" + quant.encode())
    monkeypatch.setattr(Client, "ask_many", ask_many)
    return calls


def test_base_and_files_are_asked_and_scored(asked: list[Any], tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(MINE)
    shown = ok("eval", "one", "--questions", str(tmp_path / "q.json")).stdout
    assert shown == (
        "EVALUATION   RIGHT  EXACT    F1  ROUGE-L  REFUSED  GAVE UP  STOPS  TOKENS  SIZE\n"
        "base        0 of 1   0.00  0.00     0.00   0 of 1   0 of 1   100%       4\n"
        "f16         1 of 1   0.00  0.67     0.67   1 of 1   0 of 1   100%       4   7 B\n"
        "q8_0        1 of 1   0.00  0.67     0.67   1 of 1   0 of 1   100%       4   8 B\n"
        "2 questions: 1 of your own, 1 that nothing answers. Answers were ended after 64 tokens.\n"
        "It has 1 of 1 of your own questions right; its base model has 0.\n"
        "! Nobody can say whether it learned anything: that takes 5 questions on what its documents say, and it was "
        "asked only 1. `ftq eval one --questions FILE` asks more than 1 of your own; for the next run add documents, "
        "or --set questions_file=FILE.\n"
    )
    how = {"max_tokens": 64, "temperature": 0.0, "seed": 3407}
    assert asked == [
        ("aaaa1111", {"base": True, **how}), ("aaaa1111", {"quant": "f16", **how}),
        ("aaaa1111", {"quant": "q8_0", **how}),
    ]  # fmt: skip


def test_another_run_is_asked_the_same(asked: list[Any], tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text(json.dumps(of_blue(6)))
    value = json.loads(ok("eval", "two", "--questions", str(tmp_path / "q.json"), "--against", "one", "--json").stdout)
    made = Evaluation.from_json(value)
    assert [(one.subject, one.right) for one in made.subjects] == [
        ("base", 0), ("q2_k", 0), ("q4_k_m", 6), ("one f16", 6),
    ]  # fmt: skip
    assert made.against == "two is worse than one: 0 of 6 right, one 6. `ftq compare two one` shows what differs."
    assert len(asked) == 4


def test_the_same_quantization_of_both_is_compared(asked: list[Any], store: Store, tmp_path: Path) -> None:
    """Where each has one: q2_k, the first file of `two`, knows nothing."""
    (tmp_path / "q.json").write_text(json.dumps(of_blue(6)))
    store.add("cccc3333", "three", quantizations=["q4_k_m"])
    for number, stage in enumerate(STAGES):
        store.do("cccc3333", stage, 500 - 10 * number)
    RunDir(store.home / "cccc3333").gguf("q4_k_m").write_bytes(b"GGUF")
    for name, other, compared in (("two", "three", "three q4_k_m"), ("three", "two", "two q4_k_m")):
        command = ["eval", name, "--questions", str(tmp_path / "q.json"), "--against", other, "--json"]
        made = Evaluation.from_json(json.loads(ok(*command).stdout))
        assert made.subjects[-1].subject == compared
        same = f"{name} has as many right as {other}: 6 of 6. `ftq compare {name} {other}` shows what differs."
        assert made.against == same


def of_blue(number: int) -> list[dict[str, Any]]:
    """Questions that `one` gets right and q2_k, the first file of `two`, doesn't."""
    return [{"question": f"How long? {n}", "answers": ["blue"]} for n in range(number)]


@pytest.mark.parametrize(
    ("blue", "nobody", "other", "told"),
    [
        (6, 4, "two", "one is better than two: 6 of 10 right, two 0."),
        (5, 5, "two", "Whether one is better than two is uncertain: 5 of 10 right, two 0, which may be chance."),
        (5, 5, "one", "Whether two is worse than one is uncertain: 0 of 10 right, one 5, which may be chance."),
        (0, 10, "two", "one has as many right as two: 0 of 10."),
        (0, 0, "two", ""),
    ],
)
def test_what_is_said_of_another_run_is_more_than_chance(
    asked: list[Any], tmp_path: Path, blue: int, nobody: int, other: str, told: str
) -> None:
    questions = [*of_blue(blue), *({"question": f"Who? {n}", "answers": ["Nemo"]} for n in range(nobody))]
    (tmp_path / "q.json").write_text(json.dumps(questions or [{"question": "What price?"}]))
    name = "two" if other == "one" else "one"
    command = ["eval", name, "--questions", str(tmp_path / "q.json"), "--against", other]
    told += f" `ftq compare {name} {other}` shows what differs." if told else ""
    assert json.loads(ok(*command, "--json").stdout)["against"] == told
    lines = ok(*command).stdout.splitlines()
    assert [line for line in lines if "ftq compare" in line] == [told] * bool(told)


def test_without_a_file_the_runs_own_questions_are_asked(asked: list[Any], store: Store) -> None:
    folder = RunDir(store.home / "aaaa1111")
    folder.dataset.mkdir()
    fact = {"instruction": "Wie lang?", "input": "", "output": "blue", "source": "", "rule": "D", "value": "blue"}
    write_jsonl(folder.dataset / "valid.jsonl", [fact, {**fact, "input": "User: Hello"}])
    folder.own_questions.write_text(MINE)
    made = Evaluation.from_json(json.loads(ok("eval", "one", "--json").stdout))
    assert made.counts == {Kind.OWN: 1, Kind.UNANSWERABLE: 1, Kind.HELD_BACK: 1, Kind.GENERAL: 24}
    assert made.notes == ("1 questions go on from a chat: only the stage evaluate can ask them.",)


def test_what_cannot_be_asked_is_said(asked: list[Any], store: Store, tmp_path: Path) -> None:
    (tmp_path / "q.json").write_text("[]")
    assert run("eval", "one", "--questions", str(tmp_path / "q.json")).exit_code == 2
    missing = run("eval", "one", "--questions", "nope.json")
    assert missing.stderr.startswith(
        "Error: nope.json: can't be read (No such file or directory)\n--questions FILE names a JSON file. For example: "
    )
    store.add("cccc3333", "bare")
    failed = run("eval", "bare")
    assert (failed.exit_code, failed.output) == (
        1,
        "Error: run bare has no exported model yet: its stage prepare waits\n`ftq status bare` says for what.\n",
    )


# ---- what is recorded -------------------------------------------------------------------------------------


def evaluated(
    store: Store, run_id: str, name: str, answers: list[str], files: tuple[str, ...] = ("q8_0",), **options: Any
) -> RunDir:
    """A finished run with an eval.json: QUESTIONS were answered like this."""
    store.add(run_id, name, quantizations=list(files), **options)
    folder = RunDir(store.home / run_id)
    asked = side_by_side(QUESTIONS, [Replies(name, [Reply(text, True, 4) for text in answers], 2.0) for name in files])
    counts = {Kind.OWN: 2, Kind.UNANSWERABLE: 1}
    subjects = tuple(scores(asked, name, 2.0, file_bytes=145_000_000) for name in files)
    made = Evaluation(model="m", counts=counts, available=counts, max_tokens=64, seconds=3.0, questions=tuple(asked),
                      subjects=subjects, verdict=("It is so-so: `ftq eval RUN`.",))  # fmt: skip
    for number, stage in enumerate(STAGES):
        store.do(
            run_id, stage, 500 - 10 * number, progress={"percent": 100.0, "loss": 1.5} if stage == "train" else None
        )
    write_json(folder.evaluation, made.to_json())
    write_jsonl(folder.answers, [{"prompt": "Who?", "answer": f"{name} here."}])
    return folder


QUESTIONS = [Question(Kind.OWN, "How long?", ("24 months",)), Question(Kind.OWN, "What colour?", ("green",)),
             Question(Kind.UNANSWERABLE, "What price?")]  # fmt: skip


def test_the_status_of_a_run_has_its_evaluation(store: Store) -> None:
    folder = evaluated(store, "aaaa1111", "one", ["24 months", "blue", "The documents don't say."])
    table = (
        "\nEVALUATION   RIGHT  EXACT    F1  ROUGE-L  REFUSED  GAVE UP  STOPS  TOKENS  TOK/S    SIZE\n"
        "q8_0        1 of 2   0.50  0.50     0.50   1 of 1   0 of 2   100%       4      6  145 MB\n"
        "3 questions: 2 of your own, 1 that nothing answers. Answers were ended after 64 tokens.\n"
        "It has 1 of 2 of your own questions right.\n"
        "! It is so-so: `ftq eval one`.\n"
    )
    assert table in ok("status", "one").stdout
    evaluation = json.loads(ok("status", "one", "--json").stdout)["evaluation"]
    assert (evaluation["subjects"][0]["subject"], evaluation["verdict"]) == ("q8_0", ["It is so-so: `ftq eval one`."])
    assert "questions" not in evaluation
    for broken in ("{", "{}", '{"counts": {"new": 1}}', "[]"):
        folder.evaluation.write_text(broken)
        assert "EVALUATION" not in ok("status", "one").stdout


def test_two_runs_side_by_side(store: Store) -> None:
    evaluated(store, "aaaa1111", "one", ["24 months", "blue", "Ten."], epochs=5, r=64)
    evaluated(store, "bbbb2222", "two", ["24 months", "green", "The documents don't say."], r=8)
    assert ok("compare", "one", "two").stdout == (
        "OPTION  one  two\n"
        "epochs  5    3\n"
        "r       64   8\n"
        "\n"
        "one: training loss 1.500 at last\n"
        "two: training loss 1.500 at last\n"
        "EVALUATION   RIGHT  EXACT    F1  ROUGE-L  REFUSED  GAVE UP  STOPS  TOKENS  TOK/S    SIZE\n"
        "one q8_0    1 of 2   0.50  0.50     0.50   0 of 1   0 of 2   100%       4      6  145 MB\n"
        "two q8_0    2 of 2   1.00  1.00     1.00   1 of 1   0 of 2   100%       4      6  145 MB\n"
        "counted on the 3 questions that both were asked\n"
        "\n"
        "QUESTION      one q8_0     two q8_0\n"
        "Who?          one here.    two here.\n"
        "What colour?  ✗ blue       ✓ green\n"
        "What price?   ✗ Ten.       ✓ The documents don't say.\n"
        "How long?     ✓ 24 months  ✓ 24 months\n"
    )
    value = json.loads(ok("compare", "one", "two", "--json").stdout)
    assert value["options"] == [{"name": "epochs", "a": 5.0, "b": 3.0}, {"name": "r", "a": 64, "b": 8}]
    assert value["pairs"][1] == {
        "question": "What colour?", "a": "blue", "b": "green", "a_file": "q8_0", "b_file": "q8_0",
        "a_right": False, "b_right": True,
    }  # fmt: skip


def test_the_same_quantization_answers_for_both_and_the_head_names_it(store: Store) -> None:
    evaluated(store, "aaaa1111", "one", ["24 months", "blue", "Ten."], ("q8_0", "q4_k_m"))
    evaluated(store, "bbbb2222", "two", ["24 months", "green", "Ten."], ("q4_k_m",))
    evaluated(store, "cccc3333", "three", ["24 months", "green", "Ten."], ("q5_k_m",), infer_with="adapter")
    shown = ok("compare", "one", "two").stdout
    assert (
        "\nQUESTION  one q8_0   two q4_k_m\nWho?      one here.  two here.\n"
        "\nQUESTION      one q4_k_m   two q4_k_m\nWhat colour?  ✗ blue       ✓ green\n"
    ) in shown
    shown = ok("compare", "one", "three").stdout
    assert "\nQUESTION  one q8_0   three adapter\n" in shown
    assert "\nQUESTION      one q8_0     three q5_k_m\n" in shown


def test_a_base_model_that_both_have_stands_once() -> None:
    asked = side_by_side(QUESTIONS, [Replies(name, [Reply("green", True, 4)] * 3, 1.0) for name in ("base", "f16")])
    subjects = tuple(scores(asked, name, 1.0) for name in ("base", "f16"))
    made = Evaluation(model="m", counts={}, available={}, max_tokens=64, seconds=1.0, questions=tuple(asked),
                      subjects=subjects)  # fmt: skip

    def names(a: str, b: str) -> list[str]:
        sides = [Side(name, {"model": model}, "", None, made, {}) for name, model in (("one", a), ("two", b))]
        return [one.subject for one in compare(*sides).subjects]

    assert names("m", "m") == ["base", "one f16", "two f16"]
    assert names("m", "n") == ["one base", "one f16", "two base", "two f16"]


def test_a_comparison_counts_only_what_both_were_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated(store, "aaaa1111", "one", ["24 months", "blue", "Ten."])
    monkeypatch.setitem(globals(), "QUESTIONS", QUESTIONS[1:])
    evaluated(store, "bbbb2222", "two", ["green", "Ten."])
    value = json.loads(ok("compare", "one", "two", "--json").stdout)
    assert (value["asked"], [one["tally"]["own"]["asked"] for one in value["subjects"]]) == (2, [1, 1])


def test_a_comparison_says_why_a_run_has_no_evaluation_and_what_to_type(store: Store) -> None:
    evaluated(store, "aaaa1111", "one", ["24 months", "blue", "Ten."])

    def said() -> str:
        return ok("compare", "one", "two").stdout.rpartition("! ")[2]

    store.add("bbbb2222", "two")
    assert said() == "two isn't evaluated yet, its stage prepare waits: `ftq status two` says for what.\n"
    store.runs.pause("bbbb2222")
    assert said() == "two isn't evaluated yet, it is paused: `ftq resume two` lets it go on.\n"
    store.runs.resume("bbbb2222")
    for number, stage in enumerate(STAGES[:-1]):
        store.do("bbbb2222", stage, 500 - 10 * number)
    assert said() == "two isn't evaluated yet, its stage evaluate waits: `ftq status two` says for what.\n"
    token = store.begin("bbbb2222", "evaluate", 100)
    assert said() == "two isn't evaluated yet, its stage evaluate is running: `ftq status two --watch` follows it.\n"
    store.runs.pause("bbbb2222")
    assert said() == "two isn't evaluated yet, it is about to pause: `ftq resume two` lets it go on.\n"
    store.runs.cancel("bbbb2222")
    assert said() == "two has no evaluation, it is being cancelled: `ftq retry two` takes it up afterwards.\n"
    store.runs.release(token, "cancelled", "")
    assert said() == "two has no evaluation, it was cancelled: `ftq retry two` takes it up.\n"
    store.runs.retry("bbbb2222")
    token = store.runs.claim("bbbb2222", "evaluate", 2, "box", 60) or ""
    store.runs.fail(token, RunError("bug", "no", ""))
    assert said() == "two has no evaluation, its stage evaluate failed: `ftq status two` says why.\n"


def test_a_finished_run_whose_evaluation_is_gone_is_evaluated_anew(store: Store) -> None:
    evaluated(store, "aaaa1111", "one", ["24 months", "blue", "Ten."]).evaluation.unlink()
    evaluated(store, "bbbb2222", "two", ["24 months", "blue", "Ten."])
    shown = ok("compare", "one", "two").stdout
    assert "no score: there is no question that both were asked\n" in shown
    assert shown.endswith("! one has no evaluation: `ftq retry one --from evaluate` makes one.\n")


def test_runs_that_were_asked_nothing_in_common_say_why_and_what_to_type(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = QUESTIONS
    monkeypatch.setitem(globals(), "QUESTIONS", others)
    evaluated(store, "aaaa1111", "one", ["green", "Ten."])
    monkeypatch.setitem(globals(), "QUESTIONS", [first])
    evaluated(store, "bbbb2222", "two", ["24 months"])
    asks = "`ftq eval one --against two` asks both the same.\n"
    shown = ok("compare", "one", "two").stdout
    assert "no score: there is no question that both were asked\n" in shown and "counted on" not in shown
    assert shown.endswith(f"! None of the questions was asked of both, so there is nothing to score: {asks}")
    folder = RunDir(store.home / "bbbb2222")
    made = json.loads(folder.evaluation.read_text()) | {"counts": {}, "questions": []}
    write_json(folder.evaluation, made)
    assert ok("compare", "one", "two").stdout.endswith(f"! two was asked nothing, so there is nothing to score: {asks}")


def test_one_run_is_not_compared_with_itself(store: Store) -> None:
    evaluated(store, "aaaa1111", "one", ["24 months", "blue", "Ten."])
    for line in (["compare", "one", "one:latest"], ["eval", "one", "--against", "aaaa1111"]):
        failed = run(*line)
        assert failed.output == "Error: both names mean the run one\nName another one: `ftq status` lists them.\n"
        assert failed.exit_code == 2
