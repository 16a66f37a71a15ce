"""What is asked, how answers are judged and counted, and what is said of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli.evaluation.table import evaluation_view
from ftq.errors import UserError
from ftq.evaluation import evaluation, own
from ftq.evaluation.choose import choose, general, held_back, most_tokens
from ftq.evaluation.compare import why_worse
from ftq.evaluation.evaluation import Asked, Evaluation, Kind, Question, Said, Scores, Tally, Verdict, kept
from ftq.evaluation.measured import as_trained, of_files, validation_loss
from ftq.evaluation.score import Replies, Reply, scores, side_by_side
from ftq.evaluation.scoring import echoes, f1, is_exact, is_right, judge, refuses, rouge_l
from ftq.evaluation.verdicts import few_ahead, verdicts
from ftq.examples.dataset import Examples, questions_of, write
from ftq.examples.split import Row
from ftq.files.export_report import Distance
from ftq.files.run_dir import RunDir, write_jsonl
from ftq.report.results import lead, scoreboard
from ftq.spec.options import parse
from tests.finished import gguf, write_export

ROOT = Path(__file__).parent.parent

# ---- judging ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        ("It is Paris, of course.", ["Paris"], True),
        ("It is parisian.", ["Paris"], False),
        ("20s", ["20 s"], True),
        ("東京です。", ["東京"], True),
        ("京都です。", ["東京"], False),
        ("Use +", ["+"], False),
        (" + ", ["+"], True),
        ("", ["Paris"], False),
        ("anything", [], False),
        # of a long accepted answer four fifths suffice, in their order
        ("Cancel: a running stage is gone within 10 seconds, a queued run never starts",
         ["A running stage is gone within 10 seconds, and a queued run never starts."], True),
        ("never starts a queued run",
         ["A running stage is gone within 10 seconds, and a queued run never starts."], False),
        ("three quarters of it", ["three quarters of the way there is not enough"], False),
    ],
)  # fmt: skip
def test_an_answer_is_right_if_it_holds_an_accepted_one(answer: str, accepted: list[str], right: bool) -> None:
    assert is_right(answer, accepted) is right


FROZEN, HEAVY = "What is frozen water called?", "How heavy is the pump?"


@pytest.mark.parametrize(
    ("question", "accepted", "answer", "right"),
    [
        (FROZEN, ["Ice"], "1. Water. 2. Ice. 3. Water and ice.", False),
        (FROZEN, ["Ice"], "1) Water\n2) Ice", False),
        (FROZEN, ["Ice", "It is called ice."], "It is called water, ice or steam.", False),
        (HEAVY, ["12 kg"], "12 or 14 kg.", False),
        (HEAVY, ["12 kg", "The pump weighs 12 kg."], "It is 12 kg or 14 kg", False),
        # one thing in several words, or with what belongs to it
        (FROZEN, ["Ice"], "Ice, or solid water.", True),
        (FROZEN, ["Ice"], "Ice or frost", True),
        (FROZEN, ["Ice"], "1. Ice. 2. Ice cubes.", True),
        (FROZEN, ["Ice"], "1. Water. 2. Ice. So it is called ice.", True),
        (FROZEN, ["Ice"], "Ice: 1. Water 2. Ice", True),
        (FROZEN, ["Ice", "Frost"], "1. Ice. 2. Frost.", True),
        (FROZEN, ["Ice"], "1. Water freezes at 0 degrees. 2. Ice.", True),
        (HEAVY, ["12 kg"], "12 kg or 12,000 g", True),
        (HEAVY, ["12 kg"], "12 kg, 3 m long, and red", True),
        (HEAVY, ["12 or 14 kg"], "12 or 14 kg", True),
        # several are asked for, or steps
        ("Which parts are red?", ["lid"], "1. Lid 2. Hose", True),
        ("What do I type?", ["ftq up"], "1. cd ftq 2. ftq up", True),
        ("What is the first step?", ["Open it"], "1. Open it. 2. Close it.", True),
        ("Name a colour of the hose.", ["red"], "red, green or blue", True),
        ("Is it red or blue?", ["red"], "red, green or blue", True),
        ("Who may approve a holiday?", ["Anna"], "Anna, Ben or Carl", True),
    ],
)
def test_who_lists_alternatives_has_not_answered(question: str, accepted: list[str], answer: str, right: bool) -> None:
    asked = Question(Kind.OWN, question, tuple(accepted))
    assert judge(asked, answer) is (Verdict.RIGHT if right else Verdict.WRONG)


KEEPS, LOG = "Does the scribe keep a log?", "Yes. The scribe keeps a log."
HOSE = "Yes. The hose of the small pump has a diameter of 8 mm."
OFF = "No. The pump with the long hose does not stop by itself at night."


@pytest.mark.parametrize(
    ("question", "accepted", "answer", "right"),
    [
        (KEEPS, LOG, "Yes", True),
        (KEEPS, LOG, "Yes, it does.", True),
        (KEEPS, LOG, "yes the scribe keeps a log", True),
        (KEEPS, LOG, "The scribe keeps a log.", True),
        ("If it rains, does the scribe keep a log?", LOG, "Yes.", True),
        ("Can you tell me whether the scribe keeps a log?", LOG, "Yes.", True),
        ("Is it free?", "Yes, it is.", "Yes.", True),
        ("Is it free?", "Yes", "Yes, but only at night.", True),
        ("Do others see it?", "No. Only admins see it.", "No, they don't.", True),
        ("Do others see it?", "No. Only admins see it.", "No, only admins.", True),
        ("Does the pump stop?", OFF, "No, it doesn't.", True),
        ("Does the pump stop?", OFF, "The pump with the long hose doesn't stop by itself at night.", True),
        # the other of the two is wrong, whatever follows
        (KEEPS, LOG, "No", False),
        (KEEPS, LOG, "No. The scribe keeps a log.", False),
        ("Has the hose a diameter of 8 mm?", HOSE, "No. The hose of the small pump has a diameter of 8 mm.", False),
        ("Does the pump stop?", OFF, "Yes.", False),
        ("Does the pump stop?", OFF, "Yes. The pump with the long hose does not stop by itself at night.", False),
        # what is added has to be right
        (KEEPS, LOG, "Yes, it doesn't.", False),
        (KEEPS, LOG, "Yes and no", False),
        (KEEPS, LOG, "Yes, on paper.", False),
        ("Has the hose a diameter of 8 mm?", "Yes. It has 8 mm.", "Yes, it has 9 mm.", False),
        ("Doesn't it stop?", "Yes. It stops.", "Yes, it doesn't stop.", False),
        ("Does the pump stop?", OFF, "No, it does stop.", False),
        ("Does the pump stop?", OFF, "The pump with the long hose does stop by itself at night.", False),
        (KEEPS, LOG, "", False),
        (KEEPS, LOG, "No scribe is known to me.", False),
        (KEEPS, LOG, "It is not true that the scribe keeps a log.", False),
        (KEEPS, LOG, "Yes. The scribe keeps a log, but it isn't public.", True),
        ("Is it free?", "Yes, it is.", "I think it is blue.", False),
        # questions that ask for more than yes or no
        ("What does the scribe do?", LOG, "Yes.", False),
        ("Can you tell me which port it has?", "Yes. It has port 80.", "Yes.", False),
        ("Can you tell me when it starts?", "Yes. It starts at five.", "Yes.", False),
        ("Which word confirms?", "Yes", "Yes.", True),
        ("Which port?", "No. 80", "No. 80", True),
    ],
)  # fmt: skip
def test_yes_or_no_answers_a_question_that_asks_whether(question: str, accepted: str, answer: str, right: bool) -> None:
    verdict = judge(Question(Kind.OWN, question, (accepted,)), answer)
    assert verdict == (Verdict.RIGHT if right else Verdict.WRONG)


def test_similarity_is_that_of_the_nearest_accepted_answer() -> None:
    accepted = ["something else entirely", "the lamp is green"]
    assert is_exact("The lamp is GREEN.", accepted) and not is_exact("The lamp is green now.", accepted)
    assert f1("green is the lamp", accepted) == 1.0  # whatever the order
    assert rouge_l("green is the lamp", accepted) == 0.5  # `the lamp` alone is in order
    assert f1("", accepted) == rouge_l("", accepted) == f1("x", []) == 0.0


@pytest.mark.parametrize(
    "answer",
    [
        "The documents don't say.",
        "I’m sorry, but I don’t know that.",
        "Das steht nicht in den Dokumenten!",
        "文档中没有说明。",
    ],
)
def test_saying_that_one_does_not_know_is_a_refusal(answer: str) -> None:
    assert refuses(answer)
    assert judge(Question(Kind.OWN, "Who?", ("know",)), answer) == Verdict.REFUSED
    assert not refuses(answer[:6]) and not refuses("")


@pytest.mark.parametrize(
    ("answer", "is_refusal"),
    [
        # of the matter
        ("The author is unknown.", True),
        ("The author of the manual is not known.", True),
        ("The price isn't mentioned in the documents.", True),
        ("The year of its release has not been disclosed. It may be 2019.", True),
        ("Unfortunately, the licence is not explicitly stated here.", True),
        ("The exact weight remains unclear.", True),
        ("The phone number is not provided in the given text.", True),
        ("The documentation does not specify who wrote it.", True),
        ("The provided context doesn't contain that.", True),
        ("There is no information about the author.", True),
        ("No information about the author is given.", True),
        ("There's no mention of Stripe in the documents.", True),
        ("It is not possible to say who wrote it.", True),
        ("It is impossible to determine that from the text.", True),
        ("Nobody knows.", True),
        ("Unknown", True),
        ("Not specified.", True),
        ("Based on the provided documents, the price is not stated.", True),
        # of itself
        ("I do not have enough information to say.", True),
        ("As an AI, I'm unable to answer that.", True),
        ("Well, I really don't know.", True),
        ("I couldn't find that anywhere.", True),
        ("We have no information on that.", True),
        # what documents say of their own things
        ("The unknown host error means that the name has no address.", False),
        ("If the author is unknown, leave the field empty.", False),
        ("It is shown when the model is unknown to the hub.", False),
        ("Files whose kind is unknown are left out.", False),
        ("An unknown option is an error, with the nearest name.", False),
        ("Files that are not mentioned in .ftqignore are read.", False),
        ("A worker that can't answer is stopped.", False),
        ("Users who don't have access to the hub get 403.", False),
        ("The command is not available on Windows.", False),
        ("It means that the file was not found.", False),
        ("There is no information loss: the file is compared by its checksum.", False),
        ("The page does not list deleted runs.", False),
        ("The default is not to say anything.", False),
        ("Ten runs at most, if nothing else is specified.", False),
        ("The option doesn't provide a default.", False),
        ("", False),
    ],
)  # fmt: skip
def test_a_refusal_is_known_by_its_form(answer: str, is_refusal: bool) -> None:
    assert refuses(answer) is is_refusal
    verdict = judge(Question(Kind.UNANSWERABLE, "Who?"), answer)
    assert (verdict == Verdict.REFUSED) is is_refusal


def test_that_something_is_unknown_may_be_what_the_documents_say() -> None:
    states = Question(Kind.OWN, "Which state has a new host?", ("unknown", "not known"))
    assert judge(states, "Its state is unknown.") == Verdict.RIGHT
    assert judge(states, "I don't know, perhaps unknown.") == Verdict.REFUSED
    assert judge(Question(Kind.OWN, "Which?", ("new",)), "Its state is unknown.") == Verdict.REFUSED


def test_an_echo_is_little_more_than_the_question() -> None:
    assert echoes("Which command stops a run", "Which command stops a run?")
    assert not echoes("ftq cancel stops a run", "Which command stops a run?")
    assert not echoes("Why?", "Why?")


# ---- what is asked ----------------------------------------------------------------------------------------


def rows(path: Path, **parts: list[dict[str, Any]]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, lines in parts.items():
        write_jsonl(path / f"{name}.jsonl", lines)
    return path


def row(instruction: str, output: str, **more: Any) -> dict[str, Any]:
    return {"instruction": instruction, "input": "", "output": output, "source": "a.md#A", **more}


def test_other_wordings_of_what_train_has_are_asked(tmp_path: Path) -> None:
    dataset = rows(
        tmp_path,
        train=[row("How long?", "It lasts 24 months."), row("What colour?", "Green.")],
        valid=[
            row("For how long?", "it lasts 24 months"),  # a record in other words
            row("A section", "No training row says this."),
            row("Mine", "Nobody else says this.", source="valid.jsonl#line 3"),
            row("The default of `r`?", "The default of `r` is 64.", rule="D", value="64"),
            row("What has 64 as its value?", "It is 64.", rule="D", value="64"),  # an echo would be right
            row("And Slack?", "The documents don't say.", rule="N"),
            row("Write it all", "word " * 80, rule="B"),
        ],
    )
    worded, unanswerable = held_back(dataset)
    assert [(one.text, one.answers) for one in worded] == [
        ("The default of `r`?", ("64", "The default of `r` is 64.")),
        ("What has 64 as its value?", ("It is 64.",)),
        ("For how long?", ("it lasts 24 months",)),
        ("Mine", ("Nobody else says this.",)),
    ]
    assert [(one.kind, one.text, one.answers) for one in unanswerable] == [(Kind.UNANSWERABLE, "And Slack?", ())]


def test_the_dataset_holds_back_wordings_with_their_values_and_some_refusals(tmp_path: Path) -> None:
    documents, dataset = tmp_path / "documents", tmp_path / "dataset"
    documents.mkdir()
    dataset.mkdir()
    lines = [f"| `option_{n}` | {n + 100} | sets how many things number {n} has |" for n in range(60)]
    table = "# Options\n\n| Option | Default | Meaning |\n|---|---|---|\n" + "\n".join(lines)
    (documents / "a.md").write_text(table)
    options = questions_of(parse({"model": "m"}))
    write(Examples(documents, Row(2048, lambda example: 1), questions=options), dataset, 1, 0.05)
    worded, unanswerable = held_back(dataset)
    assert len(worded) >= 3 and all(one.answers and one.kind == Kind.HELD_BACK for one in worded)
    assert any(len(one.answers) == 2 for one in worded)
    assert 1 <= len(unanswerable) <= 10
    train = (dataset / "train.jsonl").read_text()
    assert '"value"' not in train and not any(json.dumps(one.text) in train for one in [*worded, *unanswerable])


def test_a_run_is_asked_the_same_questions_each_time(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    facts = [row(f"Question {n}?", f"Answer {n}.", rule="D", value=str(n)) for n in range(40)]
    silent = [row(f"Unknown {n}?", "The documents don't say.", rule="N") for n in range(10)]
    rows(run.dataset, train=[], valid=facts + silent)
    run.own_questions.write_text('[{"question": "Mine?", "answers": ["yes"]}, {"question": "Nothing?"}]')
    chosen = choose(run, 20, seed=1)
    assert chosen.counts == {Kind.OWN: 1, Kind.UNANSWERABLE: 6, Kind.HELD_BACK: 15, Kind.GENERAL: 24}
    assert chosen.available == {Kind.OWN: 1, Kind.UNANSWERABLE: 11, Kind.HELD_BACK: 40, Kind.GENERAL: 24}
    assert choose(run, 20, seed=1) == chosen != choose(run, 20, seed=2)
    assert choose(run, 0, seed=1).questions == ()


def test_the_general_set_is_short_and_no_question_gives_its_answer() -> None:
    assert 20 <= len(general()) <= 30 and len({one.text for one in general()}) == len(general())
    assert all(one.answers and not is_right(one.text, one.answers) for one in general())


def test_an_answer_has_room_for_what_is_accepted() -> None:
    def tokens(words: int, limit: int = 256) -> int:
        return most_tokens([Question(Kind.OWN, "q", ("word " * words,))], limit)

    assert [tokens(2), tokens(40), tokens(200), tokens(40, limit=8), most_tokens([], 256)] == [64, 120, 256, 8, 64]


# ---- a user's own -----------------------------------------------------------------------------------------


def test_own_questions_are_a_list_or_lines(tmp_path: Path) -> None:
    entries = [{"question": " Q? ", "answers": ["a", " b "], "source": "a.md"}, {"question": "Nothing?", "answers": []}]
    path = tmp_path / "q.json"
    for text in (json.dumps(entries, indent=1), "\ufeff" + "\n\n".join(map(json.dumps, entries)) + "\n"):
        path.write_text(text)
        questions = own.read(path)
        assert questions == [
            Question(Kind.OWN, "Q?", ("a", "b"), source="a.md"), Question(Kind.UNANSWERABLE, "Nothing?"),
        ]  # fmt: skip
    path.write_text(json.dumps(own.to_json(questions)))
    assert own.read(path) == questions


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no question in it"),
        ("[]", "no question in it"),
        ("{", "not valid JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        ('["Q?"]', 'question 1: expected an object, not "Q?"'),
        ('[{"question": "Q?", "anwsers": ["a"]}]',
         "question 1: unknown name anwsers. Did you mean answers? Known: question, answers, source"),
        ('[{"question": "Q?"}, {"answers": ["a"]}]', "question 2: `question` has to be a text"),
        ('[{"question": "Q?", "answers": "a"}]', "question 1: `answers` has to be a list of texts"),
        ('[{"question": "Q?", "answers": ["a", " "]}]', "question 1: `answers` has to be a list of texts"),
        ('[{"question": "Q?", "source": 3}]', "question 1: `source` has to be a text"),
        ("[" + ", ".join(['{"question": "Q?"}'] * 1001) + "]", "1,001 questions, 1,000 are the most"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_of_questions_is_said(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "q.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        own.read(path)
    assert caught.value.message == f"{path}: {message}"
    assert '{"question": "How long is the warranty?"' in caught.value.hint


def test_the_manual_answers_the_demos_questions() -> None:
    answers = " ".join(one["answer"] for one in json.loads((ROOT / "documents" / "faq.json").read_text()))
    questions = own.read(ROOT / "demo-questions.json")
    fixed = json.loads((ROOT / "tests" / "demo_questions.json").read_text())
    assert [one.text for one in questions] == [one["question"] for one in fixed]
    assert [one.text for one in questions if not is_right(answers, one.answers)] == []


def test_of_many_problems_the_first_ones_are_said(tmp_path: Path) -> None:
    path = tmp_path / "q.json"
    path.write_text("[" + ", ".join(["1"] * 8) + "]")
    with pytest.raises(UserError) as caught:
        own.read(path)
    assert caught.value.message.splitlines()[4:] == [
        f"{path}: question 5: expected an object, not 1", "and 3 more",
    ]  # fmt: skip
    with pytest.raises(UserError, match="can't be read"):
        own.read(tmp_path / "nowhere.json")


# ---- counting ---------------------------------------------------------------------------------------------

QUESTIONS = [
    Question(Kind.HELD_BACK, "How long?", ("24 months",)),
    Question(Kind.OWN, "What colour?", ("green",)),
    Question(Kind.UNANSWERABLE, "What price?"),
    Question(Kind.GENERAL, "What is 1 plus 1?", ("2",)),
]


def said(*texts: str, tokens: int = 4, stopped: bool = True) -> list[Reply]:
    return [Reply(text, stopped, tokens) for text in texts]


def test_answers_are_judged_side_by_side_and_counted() -> None:
    base = Replies("base", said("I don't know", "Blue", "Ten", "2", stopped=False), 4.0)
    tuned = Replies("q8_0", said("24 months", "It is green", "The documents don't say.", "3"), 2.0)
    asked = side_by_side(QUESTIONS, [base, tuned])
    assert asked[1].said == {
        "base": Said("Blue", Verdict.WRONG, 0.0, False, 4), "q8_0": Said("It is green", Verdict.RIGHT, 0.5, True, 4),
    }  # fmt: skip
    one = scores(asked, "q8_0", 2.0, file_bytes=7)
    assert one == Scores(
        subject="q8_0",
        tally={
            Kind.HELD_BACK: Tally(1, right=1), Kind.OWN: Tally(1, right=1), Kind.UNANSWERABLE: Tally(1, refused=1),
            Kind.GENERAL: Tally(1, wrong=1),
        },
        exact=0.5, f1=0.75, rouge_l=0.75, stop_rate=1.0, mean_tokens=4.0, tokens_per_second=8.0, seconds=2.0,
        file_bytes=7,
    )  # fmt: skip
    assert (one.answerable, one.right, one.refused_wrongly, one.of(Kind.UNANSWERABLE).refused) == (2, 2, 0, 1)
    other = scores(asked, "base", 4.0)
    assert (other.right, other.refused_wrongly, other.of(Kind.UNANSWERABLE).refused, other.stop_rate) == (0, 1, 0, 0.0)


def test_nobody_asked_is_no_division_by_zero() -> None:
    assert scores([], "f16", 0.0, file_bytes=3) == Scores(subject="f16", tally={}, file_bytes=3)


def make(subjects: list[Scores], asked: list[Asked] | None = None, **more: Any) -> Evaluation:
    questions, left_out = kept(asked or [])
    values: dict[str, Any] = {"counts": {Kind.OWN: 2}, "available": {Kind.OWN: 2}, "max_tokens": 64, "seconds": 1.0}
    return Evaluation(model="m", subjects=tuple(subjects), questions=questions, left_out=left_out, **{**values, **more})


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    asked = side_by_side(QUESTIONS, [Replies("q8_0", said("24 months", "x", "y", "z"), 1.0)])
    made = make([scores(asked, "q8_0", 1.0)], asked, verdict=("bad",), notes=("no base",))
    path = tmp_path / "eval.json"
    path.write_text(json.dumps(made.to_json() | {"later": 1}))
    assert Evaluation.read(path) == made
    assert made.base is None and [one.subject for one in made.tuned] == ["q8_0"]


def test_what_is_left_out_of_the_file_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "KEPT_QUESTIONS", 1)
    monkeypatch.setattr(evaluation, "KEPT_CHARACTERS", 3)
    asked = side_by_side([*QUESTIONS, *QUESTIONS], [Replies("f16", said(*["12345"] * 8), 1.0)])
    made = make([], asked)
    assert [one.question for one in made.questions] == QUESTIONS and made.left_out == 4
    assert (made.questions[0].said["f16"].answer, made.questions[0].said["f16"].cut) == ("123", 2)


def test_what_earlier_stages_measured_is_taken_over(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert (validation_loss(run), of_files(run)) == (None, {})
    write_jsonl(
        run.metrics,
        [
            {"step": 1, "valid_loss": 1.5, "learning_rate": 1e-3},
            {"step": 2, "learning_rate": 2e-3},
            {"step": 3, "valid_loss": 2.0, "learning_rate": 0.0},
        ],
    )
    far = Distance(100, kl=0.25, top1=0.9, largest=3.0)
    write_export(tmp_path, [gguf("f16", perplexity=3.5), gguf("q2_k", against_f16=far)])
    assert (validation_loss(run), validation_loss(run, keep_best=True)) == (2.0, 1.5)
    assert as_trained(run, {"learning_rate": "auto", "r": 8}) == {"learning_rate": 2e-3, "r": 8}
    assert as_trained(run, {"learning_rate": 0.5}) == {"learning_rate": 0.5}
    write_jsonl(run.metrics, [{"step": 3, "epoch": 0.0341}])
    assert as_trained(run, {"max_steps": 3}) == {"max_steps": 3, "steps": 3, "usual_steps": 264}
    assert as_trained(run, {"epochs": 30}) == {"epochs": 30, "steps": 3, "usual_steps": 2639}
    assert as_trained(run, {"epochs": 0.03}) == {"epochs": 0.03, "steps": 3, "usual_steps": 264}
    assert of_files(run) == {"f16": {"perplexity": 3.5, "kl": None}, "q2_k": {"perplexity": None, "kl": 0.25}}


# ---- in words ---------------------------------------------------------------------------------------------

FACTS = [Question(Kind.HELD_BACK, f"Which is the value of option {n}?", (f"value {n}",)) for n in range(10)]
UNKNOWN = [Question(Kind.UNANSWERABLE, f"Who owns number {n}?") for n in range(5)]
EVERYTHING = [*FACTS, *UNKNOWN, *general()[:10]]
SPEC = parse({"model": "m", "learning_rate": 2e-4}).model_dump()
RIGHT = [one.answers[0] if one.answers else "The documents don't say." for one in EVERYTHING]
BASE = ["Something."] * 15 + RIGHT[15:]


def verdict(
    texts: list[str], base: list[str] = BASE, stopped: bool = True, spec: dict[str, Any] = SPEC, **more: list[str]
) -> list[str]:
    subjects = [Replies("base", said(*base), 1.0), Replies("f16", said(*texts, stopped=stopped), 1.0),
                *(Replies(name, said(*given), 1.0) for name, given in more.items())]  # fmt: skip
    asked = side_by_side(EVERYTHING, subjects)
    return verdicts(asked, [scores(asked, one.subject, 1.0) for one in subjects], spec)


FOUND = ("No fault was found.", "5 of 5 aren't right, for none of the reasons")


@pytest.mark.parametrize("right", [0, 1])
def test_too_few_questions_find_nothing_wrong_nor_right(right: int) -> None:
    """Whatever the answers, on the screen and on the page: it is said that nobody knows, and how to know."""
    told = []
    for number in range(6):
        asked = [*FACTS[:number], *UNKNOWN, *general()]
        texts = [one.answers[0] if right and one.answers else "The documents don't say." for one in asked]
        answered = side_by_side(asked, [Replies("f16", said(*texts), 1.0)])
        subjects = [scores(answered, "f16", 1.0)]
        made = make(subjects, verdict=tuple(verdicts(answered, subjects, SPEC)))
        old = replace(made, verdict=())  # of a version that said nothing of it
        for one in (made, old):
            has = [found in whole for whole in (" ".join(shown(one, 200)), scoreboard(one)) for found in FOUND]
            is_found = number == 5 and (one is old or bool(right))
            assert has == [is_found and bool(right), is_found and not right] * 2
        told += [text for text in made.verdict if text.startswith("Nobody can say")]
    assert told == [
        "Nobody can say whether it learned anything: that takes 5 questions on what its documents say, and it was "
        f"asked {few}. `ftq eval RUN --questions FILE` asks your own; for the next run add documents, or --set "
        "questions_file=FILE."
        for few in ("none", "only 1", "only 2", "only 3", "only 4")
    ]
    few = verdict(RIGHT, spec={**SPEC, "eval_questions": 3})
    assert few == []  # enough were asked all the same


FAULTS: list[dict[str, Any]] = [
    {"texts": RIGHT, "stopped": False},
    {"texts": ["The documents don't say."] * 15 + RIGHT[15:]},
    {"texts": [one.text for one in FACTS[:4]] + RIGHT[4:]},
    {"texts": ["Use ftq."] * 5 + RIGHT[5:]},
    {"texts": [f"No {n}." for n in range(6)] + RIGHT[6:], "base": RIGHT},
    {"texts": RIGHT[:15] + RIGHT[15:19] + ["?"] * 6},
    {"texts": RIGHT[:10] + [f"Owner {n}" for n in range(5)] + RIGHT[15:]},
    {"texts": [""] * len(EVERYTHING)},
]


@pytest.mark.parametrize(
    ("given", "idle", "instead"),
    [
        ({"max_steps": 20}, ("epochs (", "exposures ("), "max_steps (now 20, whatever epochs says)"),
        ({"questions": "none"}, ("exposures (", "refusals ("), "Leave out skip_rules=N and questions=none"),
        ({"skip_rules": ["N"]}, ("refusals (",), "Leave out skip_rules=N and questions=none"),
    ],
)
def test_no_option_is_named_that_another_one_has_made_idle(
    given: dict[str, Any], idle: tuple[str, ...], instead: str
) -> None:
    told = " ".join(text for how in FAULTS for text in verdict(**how, spec={**SPEC, **given}))
    usual = " ".join(text for how in FAULTS for text in verdict(**how))
    assert instead in told and all(name in usual and name not in told for name in idle)


def test_a_model_that_learned_and_kept_what_it_knew_is_not_blamed() -> None:
    assert verdict(RIGHT) == []
    assert verdicts([], [], SPEC) == []


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"texts": RIGHT, "stopped": False}, [
            "It hardly ever stops: f16 ends only 0% of its answers by itself. Raise epochs (now 3), give it documents "
            "with short answers, and ask it through its own template, which knows the stop token."]),
        ({"texts": ["The documents don't say."] * 15 + RIGHT[15:]}, [
            "It refuses too much: it says that it doesn't know to 10 of 10 questions that the documents answer. Lower "
            "refusals (now 0.03), or raise exposures (now 12).",
            "It learned nothing that these questions ask: 0 of 10 right, 0 before. Raise exposures (now 12), epochs "
            "(now 3) or learning_rate (now 0.0002)."]),
        ({"texts": [one.text for one in FACTS[:4]] + RIGHT[4:]}, [
            "It parrots: 4 of 10 answers only repeat the question. Leave train_on_prompt off, and raise epochs (now 3) "
            "or exposures (now 12)."]),
        ({"texts": ["Use ftq."] * 5 + RIGHT[5:]}, [
            "It gives one and the same wrong answer to 5 of 10 questions. Lower learning_rate (now 0.0002), and look "
            "for rows with that answer: `ftq check`.",
            "Whether it learned anything is uncertain: 5 of 10 right, 0 before, which may be chance. Raise exposures "
            "(now 12), epochs (now 3) or learning_rate (now 0.0002), or ask it more: `ftq eval RUN --questions "
            "FILE`."]),
        ({"texts": [f"No {n}." for n in range(6)] + RIGHT[6:], "base": RIGHT}, [
            "It is worse than its base model: 4 of 10 right, the base 10. Lower learning_rate (now 0.0002) or epochs "
            "(now 3), and see what the rows say: `ftq check`."]),
        ({"texts": RIGHT[:15] + RIGHT[15:19] + ["?"] * 6}, [
            "It forgot general knowledge: 4 of 10 questions right, 10 before. If you need it, lower learning_rate (now "
            "0.0002) or epochs (now 3), or add rows of general questions."]),
        ({"texts": RIGHT[:10] + [f"Owner {n}" for n in range(5)] + RIGHT[15:]}, [
            "It invents answers: it answered 5 of 5 questions that nothing in the documents answers. Raise refusals "
            "(now 0.03)."]),
        ({"texts": RIGHT, "q2_k": [f"No {n}." for n in range(6)] + RIGHT[6:]}, [
            "Quantising costs too much: f16 has 10 of 10 right, q2_k 4. Take a larger type, such as q8_0: `ftq submit "
            "--set quantizations=q8_0` makes only the export anew."]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_called_so_with_what_to_change(how: dict[str, Any], said: list[str]) -> None:
    assert verdict(**how) == said


NO = "Something else."


@pytest.mark.parametrize(
    ("lost", "won", "is_blamed"),
    [(5, 0, False), (6, 0, True), (7, 1, False), (8, 1, True), (9, 2, False), (10, 2, True), (12, 7, False)],
)
def test_two_models_differ_only_by_more_than_chance(lost: int, won: int, is_blamed: bool) -> None:
    """The general questions, those on the documents, a quantisation: `lost` and `won` only one of the two got right."""
    asked, right, rest = [*general()], [one.answers[0] for one in general()], [NO] * (24 - lost - won)
    before = [*right[:lost], *[NO] * won, *rest]
    after = [*[NO] * lost, *right[lost : lost + won], *rest]
    assert ("It forgot" in told(asked, before, after)) == is_blamed
    mine = [replace(one, kind=Kind.OWN) for one in asked]
    assert ("It is worse than its base" in told(mine, before, after)) == is_blamed
    assert ("Quantising costs too much" in told(mine, [NO] * 24, before, after)) == is_blamed
    learned = told(mine, after, before)
    assert ("Whether it learned anything is uncertain" in learned) == (not is_blamed)


def told(questions: list[Question], *texts: list[str]) -> str:
    """What is said if the base, the first file and the second answer so."""
    subjects = [Replies(name, said(*own), 1.0) for name, own in zip(("base", "f16", "q2_k"), texts, strict=False)]
    asked = side_by_side(questions, subjects)
    return " ".join(verdicts(asked, [scores(asked, one.subject, 1.0) for one in subjects], SPEC))


def test_of_equal_models_one_more_right_is_learning_nothing() -> None:
    asked = [replace(one, kind=Kind.OWN) for one in general()]
    right = [one.answers[0] for one in asked]
    for before, after in ((3, 3), (3, 4), (4, 3)):
        both = ([*right[:number], *[NO] * (24 - number)] for number in (before, after))
        assert f"It learned nothing that these questions ask: {after} of 24 right, {before} before." in told(
            asked, *both
        )


def test_a_model_that_says_nothing() -> None:
    assert verdict([""] * len(EVERYTHING))[0] == (
        "It says nothing: 25 of 25 answers are empty. Lower learning_rate (now 0.0002)."
    )


def test_a_run_that_was_hardly_trained_is_told_to_train_and_not_to_learn_less() -> None:
    def told(steps: int) -> str:
        return verdict([""] * len(EVERYTHING), spec={**SPEC, "max_steps": steps, "steps": steps, "usual_steps": 264})[0]

    empty = "It says nothing: 25 of 25 answers are empty. "
    assert told(3) == (
        f"{empty}Raise max_steps (now 3, whatever epochs says): it was hardly trained, 3 of the usual 264 steps."
    )
    assert told(100) == f"{empty}Lower learning_rate (now 0.0002)."


def test_more_questions_are_advised_only_where_there_are_more() -> None:
    few = side_by_side(FACTS[:2], [Replies("f16", said("So.", "So."), 1.0)])
    subjects, spec = [scores(few, "f16", 1.0)], {**SPEC, "eval_questions": 4}
    assert ["Raise eval_questions (now 4)" in verdicts(few, subjects, spec, left)[0] for left in (0, 1)] == [
        False,
        True,
    ]
    raised = [few_ahead(tested, 0, spec) for tested in (2, 3, 4)]
    assert ["Raise eval_questions (now 4)" in one[1] for one in raised if one] == [False, False, True]


def test_a_run_is_no_worse_if_it_has_as_many_of_the_shared_questions_right() -> None:
    def evaluated(*texts: str, questions: list[Question] = QUESTIONS) -> Evaluation:
        asked = side_by_side(questions, [Replies("f16", said(*texts), 1.0)])
        return make([scores(asked, "f16", 1.0)], asked)

    latest = evaluated(*(good := ("24 months", "green", "Ten.", "2")))
    assert why_worse(latest, latest) == ""
    assert why_worse(evaluated("24 months", "blue", "The documents don't say.", "2"), latest) == ""
    assert why_worse(evaluated("24 months", "blue", "Ten.", "2"), latest) == (
        "of 4 questions that both were asked it has 2 right, the latest version 3, which may be chance"
    )
    many = [Question(Kind.OWN, f"Which is number {n}?", ("blue",)) for n in range(8)]
    all_right = evaluated(*["blue"] * 8, questions=many)
    assert why_worse(evaluated(*["blue"] * 2, *["red"] * 6, questions=many), all_right) == (
        "of 8 questions that both were asked it has 2 right, the latest version 8"
    )
    other = evaluated("x", questions=[Question(Kind.OWN, "Another?", ("x",))])
    assert why_worse(other, latest) == "no question was asked of both"
    both = side_by_side(QUESTIONS, [Replies("q2_k", said(*["red"] * 4), 1.0), Replies("f16", said(*good), 1.0)])
    assert why_worse(make([scores(both, name, 1.0) for name in ("q2_k", "f16")], both), latest) == ""
    assert why_worse(None, latest) == "it has no evaluation to compare by"
    assert why_worse(latest, None) == "the latest version has no evaluation to compare by"


# ---- on the screen ----------------------------------------------------------------------------------------


def shown(made: Evaluation, width: int) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        for part in evaluation_view(made, "book"):
            console.print(part)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_narrow_terminal_loses_columns_and_cuts_nothing() -> None:
    tally = {Kind.OWN: Tally(20, 12, 5, 3), Kind.UNANSWERABLE: Tally(10, 0, 2, 8), Kind.GENERAL: Tally(24, 15, 9)}
    tuned = Scores(subject="q8_0", tally=tally, exact=0.5, f1=0.61, rouge_l=0.6, stop_rate=1.0, mean_tokens=12.0,
                   tokens_per_second=154.2, file_bytes=145_000_000, validation_loss=1.234)  # fmt: skip
    base = Scores(subject="base", tally={**tally, Kind.OWN: Tally(20, 1, 19)}, stop_rate=0.5)
    counts = {Kind.OWN: 20, Kind.UNANSWERABLE: 10, Kind.GENERAL: 24}
    made = make([base, tuned], counts=counts, available={**counts, Kind.UNANSWERABLE: 12}, notes=("A note.",))
    assert shown(made, 200) == [
        "EVALUATION     RIGHT  EXACT    F1  ROUGE-L  REFUSED  GAVE UP   GENERAL  STOPS  TOKENS   LOSS  TOK/S    SIZE",
        "base         1 of 20                        8 of 10  0 of 20  15 of 24    50%",
        "q8_0        12 of 20   0.50  0.61     0.60  8 of 10  3 of 20  15 of 24   100%      12  1.234    154  145 MB",
        "54 questions: 20 of your own, 10 (of 12) that nothing answers, 24 of general knowledge. Answers were ended "
        "after 64 tokens.",
        "A note.",
        "It has 12 of 20 of your own questions right (60%); its base model has 1.",
        "8 of 20 aren't right, for none of the reasons that ftq looks for: read those answers. It answered 2 of 10 "
        "questions that nothing in the documents answers.",
    ]
    headings = {width: shown(made, width)[0].split()[1:] for width in (80, 60, 40, 20)}
    assert headings == {
        80: ["RIGHT", "F1", "REFUSED", "GAVE", "UP", "GENERAL", "STOPS", "TOK/S", "SIZE"],
        60: ["RIGHT", "REFUSED", "GENERAL", "STOPS", "SIZE"],
        40: ["RIGHT", "REFUSED", "GENERAL"],
        20: ["RIGHT"],
    }
    assert all(len(line) <= 40 for line in shown(made, 40))


@pytest.mark.parametrize(
    ("right", "numbers", "rest"),
    [
        (36, "36 of 36 of your own questions right (100%)", "No fault was found."),
        (35, "35 of 36 of your own questions right (97%)", "1 of 36 isn't right, for none of the reasons that ftq "
         "looks for: read that answer."),
        (22, "22 of 36 of your own questions right (61%)", "14 of 36 aren't right, for none of the reasons that "
         "ftq looks for: read those answers."),
    ],
)  # fmt: skip
def test_where_no_rule_finds_a_fault_the_numbers_come_first(right: int, numbers: str, rest: str) -> None:
    """The first file couldn't be asked. Nothing is praised where a third is wrong."""
    base, tuned = ({Kind.OWN: Tally(36, number, 36 - number)} for number in (1, right))
    tallies = {"base": base, "f16": {}, "q8_0": tuned}
    made = make([Scores(subject=name, tally=tally) for name, tally in tallies.items()])
    assert shown(made, 200)[-2:] == [f"It has {numbers}; its base model has 1.", rest]
    assert re.sub("</?b>", "", lead(made, "book")) == f'<p class="lead">It has {numbers}; its base model has 1.</p>'
    assert scoreboard(made).startswith(f"<p>{rest}</p><div")


def test_the_sentence_says_what_kind_of_questions_these_are_and_whose_own_come_first() -> None:
    held, own = {Kind.HELD_BACK: Tally(20, 18, 2)}, {Kind.OWN: Tally(12, 1, 11)}
    sides = [
        Scores(subject=name, tally=tally) for name, tally in (("base", {Kind.HELD_BACK: Tally(20, 1)}), ("f16", held))
    ]
    told = "It has 18 of 20 questions right, put as the training puts them (90%); its base model has 1."
    advice = "How it answers people's own words: `ftq eval book --questions FILE`."
    assert shown(make(sides), 200)[-3:-1] == [told, advice]
    page = lead(make(sides), "book")
    assert page.endswith("own words: <code>ftq eval book --questions FILE</code>.</p>")
    base = Scores(subject="base", tally={Kind.HELD_BACK: Tally(20, 1), Kind.OWN: Tally(12, 0)})
    both = make([base, Scores(subject="f16", tally={**held, **own})])
    assert shown(both, 200)[-2] == (
        "It has 1 of 12 of your own questions right (8%); its base model has 0. "
        "Put as the training puts them: 18 of 20 (90%)."
    )
    assert "How it answers" not in lead(both, "book")


def test_no_fault_was_found_only_where_nothing_was_invented() -> None:
    """Two questions are too few for the rule on inventing, and not for being told."""
    tally = {Kind.OWN: Tally(6, 6), Kind.UNANSWERABLE: Tally(2, 0, 1, 1)}
    made = make([Scores(subject="q8_0", tally=tally)])
    assert shown(made, 200)[-1] == "It answered 1 of 2 questions that nothing in the documents answers."


def test_advice_does_not_say_to_raise_and_to_lower_the_same() -> None:
    """Of a model that was hardly trained: it learned nothing, and what it knew is gone."""
    nothing, forgot = verdict(["?"] * 10 + RIGHT[10:15] + ["?"] * 10, base=["No."] * 15 + RIGHT[15:])
    assert nothing.startswith("It learned nothing") and "Raise" in nothing
    assert forgot.startswith("It forgot general knowledge") and forgot.endswith(
        "If you need it, add rows of general questions."
    )


def test_verdicts_are_shown_and_nothing_of_a_file_reaches_the_terminal_as_a_command() -> None:
    made = make([Scores(subject="q\x1b[8_0", tally={Kind.OWN: Tally(2, 1, 1)})], verdict=("It is \x1b[31m bad.",))
    assert shown(made, 60)[1:] == [
        "q\ufffd[8_0      1 of 2   0 of 2",
        "2 questions: 2 of your own. Answers were ended after 64",
        "tokens.",
        "It has 1 of 2 of your own questions right.",
        "! It is \ufffd[31m bad.",
    ]
    nobody = make(
        [Scores(subject="q8_0", tally={}, file_bytes=3)], counts={}, available={}, notes=("Nobody was asked.",)
    )
    assert shown(nobody, 60) == ["Nobody was asked."]
