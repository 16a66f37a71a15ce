"""benchmarks/recall.py: what counts as right, as refused, and as taught; and that its questions are fit to be asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.recall import Asked, Manual, Recall, Row, Verdict, holds, judge, load, measure, nearest, score, table
from benchmarks.recall_loop import area
from worker.llama.answer import Answer

FILES = sorted((Path(__file__).parent.parent / "benchmarks" / "documents").glob("*.json"))
TIMEOUT = Asked("How long does the pump wait?", ("20 seconds", "20 s"))
COLOUR = Asked("Which colour has the lamp of a full tank?", ("green",))
MANUAL = Manual("pump", (TIMEOUT, COLOUR), (Asked("What does the pump cost?"),))


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("It waits for 20 Seconds.", Verdict.RIGHT),
        ("20s", Verdict.RIGHT),
        ("It waits for\n**20**  `seconds`", Verdict.RIGHT),
        ("120 seconds", Verdict.WRONG),
        ("2.20 seconds", Verdict.WRONG),
        ("20 secondsful", Verdict.WRONG),
        ("", Verdict.WRONG),
        ("The Documents DON’T say.", Verdict.REFUSED),
        ("The documents don't say, but perhaps 20 seconds.", Verdict.REFUSED),
        ("I don't know.", Verdict.WRONG),
    ],
)
def test_an_answer_is_right_refused_or_wrong(answer: str, verdict: Verdict) -> None:
    assert judge(TIMEOUT, answer) == verdict


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Use `--in-diff FILE`.", "--in-diff"),
        ("SET CAP_NET_BIND_SERVICE", "cap_net_bind_service"),
        ("version 0.0.5 or later", "0.0.5"),
        ("Begin with -j2.", "-j2"),
        ("call Default::default() there", "Default::default()"),
    ],
)
def test_names_are_found_whatever_their_punctuation(text: str, answer: str) -> None:
    assert holds(text, [answer]) and not holds(text[: len(text) // 2], [answer])


def said(text: str, stopped: bool = True) -> Answer:
    return Answer("", text, stopped, 0, 0.0, 0.0)


def test_a_models_answers_are_counted() -> None:
    answers = [said("20 s", stopped=False), said("The documents don't say."), said("Ten euros, I think.")]
    recall = score(MANUAL, answers)
    assert recall == Recall(right=1, refused=0, wrongly_refused=1, mean_words=10 / 3, stopped=2)
    assert table(MANUAL, {"tuned": recall}) == (
        "| pump | right of 2 | refused of 1 | wrongly refused of 2 | mean words | stopped of 3 |\n"
        "|---|---|---|---|---|---|\n"
        "| tuned | 1 | 0 | 1 | 3.3 | 2 |"
    )


def test_a_short_row_is_short_and_about_the_question_and_holds_the_answer() -> None:
    def taught(instruction: str, output: str) -> bool:
        return measure(MANUAL, [Row(instruction, instruction, output)])[1].short

    assert taught("Lamp of a full tank?", "Green.")
    assert taught("Complete it.", "The lamps of full tanks are green.")  # the plural's s doesn't count
    assert not taught("Lamp of a full tank?", "Red.")
    assert not taught("Lamp?", "Green.")  # one word in common
    assert not taught("Lamp of a pump?", "Green.")  # the manual's name is none
    assert not taught("Lamp of a full tank?", "Green. " * 41)


def test_the_nearest_row_answers_or_one_of_the_nearest_five() -> None:
    other = [Row(text, text, "Red.") for text in ("Which lamp?", "Which colour?", "The tank?", "Full of what?")]
    row = Row("colour lamp full tank", "colour lamp full tank", "Green.")
    found = measure(MANUAL, [*other, row])[1]
    assert (found.nearest, found.among_nearest) == (True, True)
    twin = Row(COLOUR.question, COLOUR.question, "Blue.")
    found = measure(MANUAL, [*other, row, twin])[1]
    assert (found.nearest, found.among_nearest) == (False, True)
    found = measure(MANUAL, [*other, row, *[twin] * 5])[1]
    assert (found.nearest, found.among_nearest) == (False, False)


def test_rare_words_bring_a_row_nearer_than_common_ones() -> None:
    texts = ["how does the pump start", "how does the pump stop", "how does the pump leak", "valve"]
    assert nearest(texts, ["does the valve", "a whale"]) == [[3, 0, 1, 2], []]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_questions_are_fit_to_be_asked(file: Path) -> None:
    manual, about = load(file), json.loads(file.read_text(encoding="utf-8"))["manual"]
    assert (len(manual.answerable), len(manual.unanswerable)) == (30, 10)
    assert len({asked.question for asked in manual.questions}) == 40
    assert set(about) == {"repository", "commit", "folder", "left_out", "files", "bytes", "licence"}
    for asked in manual.answerable:
        assert asked.answers and not holds(asked.question, asked.answers), asked  # an echo is no answer
        assert asked.source.partition(".md:")[2].isdigit(), asked


def test_three_manuals_are_asked_about() -> None:
    assert [file.stem for file in FILES] == ["blocky", "cargo-mutants", "content-guide"]


def test_the_area_under_the_curve_is_how_often_the_one_sort_lies_above_the_other() -> None:
    assert area([3.0, 4.0], [1.0, 2.0]) == 1
    assert area([1.0, 4.0], [2.0, 3.0]) == 0.5
    assert area([2.0], [2.0, 3.0]) == 0.25
