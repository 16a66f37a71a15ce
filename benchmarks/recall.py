"""What a tuned model knows of a manual: 30 questions with an answer in it, 10 without (benchmarks/documents/).

    python -m benchmarks.recall short --dataset DIR/train.jsonl --questions benchmarks/documents/NAME.json [--missed]
    python -m benchmarks.recall ask --run RUN [--base] --questions benchmarks/documents/NAME.json [--show]

`short` needs no training. It counts the questions for which the dataset has a short row: an output of at most 40 words
that holds an accepted answer, in a row that shares two content words with the question. And it counts those that the
row with the nearest instruction answers, or one of the nearest five. Read that beside the mean words of an output: a
whole section holds much that nobody learns from it.

`ask` puts the questions to a finished run's GGUF, and with --base to its base model too. No judge: an answer is right
if one of the accepted ones occurs in it, word for word, whatever the case and the punctuation.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftq.client.client import Client
from ftq.errors import printable
from ftq.evaluation.evaluation import Verdict
from ftq.evaluation.scoring import holds, words_of
from ftq.files.run_dir import read_jsonl
from ftq.settings import Settings
from worker.llama.answer import Answer, Question
from worker.llama.base import base_gguf
from worker.llama.pool import Pool

REFUSAL = "documents don't say"
SHORT = 40  # words of a short row's output
SHARED = 2  # content words that it has in common with the question
NEAREST = 5  # rows
# Words that say nothing about what is asked.
STOP_WORDS = """
a about after all also am an and any are as at be because been before but by can could did do does don each for from get
gets give given had has have how i if in instead into is isn it its just know long make makes many may me more most much
must my no not of off on one only or other our out over say says shall should so some such t than that the their them
then there these they this those through to too under unless until up use used uses using want was way we what when
where whether which while who whom why will with within without would write you your
"""


@dataclass(frozen=True)
class Asked:
    """A question, the answers that are accepted, and the file and line that say it. Without answers: nothing does."""

    question: str
    answers: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Manual:
    name: str
    answerable: tuple[Asked, ...]
    unanswerable: tuple[Asked, ...]

    @property
    def questions(self) -> tuple[Asked, ...]:
        return self.answerable + self.unanswerable

    @property
    def topic(self) -> frozenset[str]:
        """The words of its name. They occur everywhere, so they are no content words."""
        return frozenset(stems(self.name))


@dataclass(frozen=True)
class Row:
    instruction: str
    text: str  # all of it but the output
    output: str


@dataclass(frozen=True)
class Taught:
    """What a dataset holds for one question."""

    asked: Asked
    short: bool
    nearest: bool
    among_nearest: bool


@dataclass(frozen=True)
class Recall:
    """How one model answered: the counts of the table."""

    right: int
    refused: int  # of the unanswerable
    wrongly_refused: int  # of the answerable
    mean_words: float
    stopped: int


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.recall")
    commands = arguments.add_subparsers(dest="command", required=True)
    short = commands.add_parser("short", help="what a dataset holds for the questions, without training")
    short.add_argument("--dataset", type=Path, required=True, help="a run's dataset/train.jsonl")
    short.add_argument("--missed", action="store_true", help="print the questions that have no short row")
    ask = commands.add_parser("ask", help="put the questions to a finished run")
    ask.add_argument("--run", required=True, help="id or name")
    ask.add_argument("--base", action="store_true", help="ask its base model too")
    ask.add_argument("--show", action="store_true", help="print the answers too")
    for command in (short, ask):
        command.add_argument("--questions", type=Path, required=True, help="benchmarks/documents/NAME.json")
    given = arguments.parse_args()
    manual = load(given.questions)
    if given.command == "short":
        print_taught(manual, given.dataset, given.missed)
    else:
        print_recall(manual, given.run, given.base, given.show)


def load(path: Path) -> Manual:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    answerable = [Asked(one["question"], tuple(one["answers"]), one["source"]) for one in value["questions"]]
    return Manual(path.stem, tuple(answerable), tuple(map(Asked, value["unanswerable"])))


# ---- scoring --------------------------------------------------------------------------------------------


def judge(asked: Asked, answer: str) -> Verdict:
    if holds(answer, [REFUSAL]):
        return Verdict.REFUSED
    return Verdict.RIGHT if holds(answer, asked.answers) else Verdict.WRONG


def score(manual: Manual, answers: list[Answer]) -> Recall:
    """The counts; `answers` are those to manual.questions, in their order."""
    verdicts = [judge(asked, answer.answer) for asked, answer in zip(manual.questions, answers, strict=True)]
    known = len(manual.answerable)
    return Recall(
        right=verdicts[:known].count(Verdict.RIGHT),
        refused=verdicts[known:].count(Verdict.REFUSED),
        wrongly_refused=verdicts[:known].count(Verdict.REFUSED),
        mean_words=sum(len(answer.answer.split()) for answer in answers) / len(answers),
        stopped=sum(answer.stopped for answer in answers),
    )


# ---- a dataset, without training ------------------------------------------------------------------------


def print_taught(manual: Manual, dataset: Path, missed: bool) -> None:
    rows = read_rows(dataset)
    taught = measure(manual, rows)
    words = sum(len(row.output.split()) for row in rows) / len(rows)
    header = ["manual", "rows", "words an output", f"short row of {len(taught)}", "nearest row answers"]
    print(f"| {' | '.join(header)} | in the nearest {NEAREST} |\n|---|---|---|---|---|---|")
    print(
        f"| {manual.name} | {len(rows):,} | {words:.1f} | {sum(one.short for one in taught)} "
        f"| {sum(one.nearest for one in taught)} | {sum(one.among_nearest for one in taught)} |"
    )
    for one in taught:
        if missed and not one.short:
            print(f"  no short row: {one.asked.question} ({one.asked.source})")


def read_rows(dataset: Path) -> list[Row]:
    rows = read_jsonl(dataset)
    return [Row(row["instruction"], f"{row['instruction']} {row.get('input') or ''}", row["output"]) for row in rows]


def measure(manual: Manual, rows: list[Row]) -> list[Taught]:
    """What the rows hold for each question that has an answer."""
    short = [(row, content(f"{row.text} {row.output}")) for row in rows if len(row.output.split()) <= SHORT]
    order = nearest([row.text for row in rows], [asked.question for asked in manual.answerable])
    taught = []
    for asked, indices in zip(manual.answerable, order, strict=True):
        wanted = content(asked.question) - manual.topic
        has_short = any(len(wanted & words) >= SHARED and holds(row.output, asked.answers) for row, words in short)
        near = [holds(rows[index].output, asked.answers) for index in indices]
        taught.append(Taught(asked, has_short, any(near[:1]), any(near)))
    return taught


def content(text: str) -> frozenset[str]:
    """The text's words but for the stop words and single letters."""
    silent = set(STOP_WORDS.split())
    return frozenset(stem(word) for word in words_of(text) if word not in silent and len(word) > 1)


def stems(text: str) -> list[str]:
    return [stem(word) for word in words_of(text)]


def stem(word: str) -> str:
    """The word without its plural's s: two words that differ by more are two words."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def nearest(texts: list[str], questions: list[str]) -> list[list[int]]:
    """For each question the indices of the texts that are nearest to it, best first: the cosine of their TF-IDF."""
    counts = [Counter(stems(text)) for text in texts]
    documents = Counter(word for each in counts for word in each)
    weight = {word: math.log((1 + len(texts)) / (1 + number)) + 1 for word, number in documents.items()}
    found_in: dict[str, list[tuple[int, float]]] = defaultdict(list)  # word -> (text, its share of the text's length)
    for index, each in enumerate(counts):
        length = math.sqrt(sum((number * weight[word]) ** 2 for word, number in each.items()))
        for word, number in each.items():
            found_in[word].append((index, number * weight[word] / length))
    order = []
    for question in questions:
        similarity: dict[int, float] = defaultdict(float)
        for word in stems(question):
            for index, share in found_in.get(word, ()):
                similarity[index] += weight[word] * share
        order.append(sorted(similarity, key=lambda index: (-similarity[index], index))[:NEAREST])
    return order


# ---- a finished run -------------------------------------------------------------------------------------


def print_recall(manual: Manual, name: str, base: bool, show: bool) -> None:
    client = Client(Settings.from_env())
    run = client.find(name)
    kind = run.spec["quantizations"][0]
    pool = Pool(slots=1)
    try:
        answers = {f"{run.model}, untuned": ask_all(pool, base_gguf(run.model), manual, chat=True)} if base else {}
        answers[f"{run.name}, {kind}"] = ask_all(pool, client.run_dir(run.id).gguf(kind), manual)
    finally:
        pool.close()
    print(table(manual, {model: score(manual, said) for model, said in answers.items()}))
    for model, said in answers.items() if show else ():
        print(f"\n{model}:")
        for asked, answer in zip(manual.questions, said, strict=True):
            print(f"  {judge(asked, answer.answer):8} {asked.question}\n           {printable(answer.answer[:200])}")


def ask_all(pool: Pool, file: Path, manual: Manual, chat: bool = False) -> list[Answer]:
    """The answers to manual.questions, as many at once as a server answers."""
    return list(pool.ask_all(file, [Question(asked.question, chat=chat) for asked in manual.questions]))


def table(manual: Manual, recalls: dict[str, Recall]) -> str:
    known, unknown = len(manual.answerable), len(manual.unanswerable)
    lines = [
        f"| {manual.name} | right of {known} | refused of {unknown} | wrongly refused of {known} | mean words "
        f"| stopped of {known + unknown} |",
        "|---|---|---|---|---|---|",
    ]
    for model, one in recalls.items():
        lines.append(
            f"| {model} | {one.right} | {one.refused} | {one.wrongly_refused} | {one.mean_words:.1f} | {one.stopped} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
