"""What is wrong with a model, in words, and what to change.

Each rule looks at the counts of the questions and gives a sentence or none. A difference of one question says nothing,
so every rule needs MARGIN of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ftq.evaluation.evaluation import BASE, DOCUMENTS, Asked, Kind, Said, Scores, Verdict
from ftq.evaluation.scoring import echoes, plain

FEWEST = 5  # questions that say anything
MARGIN = 2  # questions
STOPS = 0.95  # of the answers end by themselves, or the user is told
HALF, MANY, SOME = 0.5, 0.3, 0.15  # of the questions


@dataclass(frozen=True)
class Looked:
    """What the rules look at: all questions, the scores, and the options that the sentences name."""

    asked: Sequence[Asked]
    base: Scores | None
    tuned: Sequence[Scores]
    spec: dict[str, Any]

    @property
    def first(self) -> Scores:
        return self.tuned[0]

    def said(self, *kinds: Kind) -> list[tuple[str, Said]]:
        """(question, what the first tuned subject said to it)."""
        asked = [one for one in self.asked if one.question.kind in kinds]
        return [(one.question.text, one.said[self.first.subject]) for one in asked]

    def option(self, name: str) -> str:
        value = self.spec.get(name)
        return f"{name} (now {value:g})" if isinstance(value, float) else f"{name} (now {value})"


def verdicts(asked: Sequence[Asked], subjects: Sequence[Scores], spec: dict[str, Any]) -> list[str]:
    """What is wrong and what to change, a sentence or two each; empty if nothing is, or nothing was asked."""
    base = next((one for one in subjects if one.subject == BASE), None)
    tuned = [one for one in subjects if one.subject != BASE]
    if not asked or not tuned:
        return []
    looked = Looked(asked, base, tuned, spec)
    return [text for rule in RULES if (text := rule(looked))]


def _is_silent(looked: Looked) -> str:
    said = looked.said(*Kind)
    empty = sum(not one.answer.strip() for _, one in said)
    if empty < max(FEWEST, HALF * len(said)):
        return ""
    return f"It says nothing: {empty} of {len(said)} answers are empty. Lower {looked.option('learning_rate')}."


def _never_stops(looked: Looked) -> str:
    worst = min(looked.tuned, key=lambda one: one.stop_rate if one.stop_rate is not None else 1.0)
    rate = worst.stop_rate
    if rate is None or rate >= STOPS:
        return ""
    how = "It hardly ever stops" if rate < HALF else "It doesn't always stop"
    return (
        f"{how}: {worst.subject} ends only {rate:.0%} of its answers by itself. Raise "
        f"{looked.option('epochs')}, give it documents with short answers, and ask it through its own template, which "
        "knows the stop token."
    )


def _refuses_everything(looked: Looked) -> str:
    asked, refused = looked.first.answerable, looked.first.refused_wrongly
    if asked < FEWEST or refused < HALF * asked:
        return ""
    return (
        f"It refuses too much: it says that it doesn't know to {refused} of {asked} questions that the documents "
        f"answer. Lower {looked.option('refusals')}, or raise {looked.option('exposures')}."
    )


def _repeats_the_question(looked: Looked) -> str:
    said = looked.said(*DOCUMENTS)
    parrots = sum(echoes(one.answer, text) for text, one in said if one.verdict != Verdict.RIGHT)
    if len(said) < FEWEST or parrots < MANY * len(said):
        return ""
    return (
        f"It parrots: {parrots} of {len(said)} answers only repeat the question. "
        f"Leave train_on_prompt off, and raise {looked.option('epochs')} or {looked.option('exposures')}."
    )


def _says_the_same(looked: Looked) -> str:
    said = [plain(one.answer) for _, one in looked.said(*DOCUMENTS) if one.verdict == Verdict.WRONG]
    text, times = Counter(said).most_common(1)[0] if said else ("", 0)
    if not text or times < max(FEWEST, MANY * looked.first.answerable):
        return ""
    return (
        f"It gives one and the same wrong answer to {times} of {looked.first.answerable} questions. "
        f"Lower {looked.option('learning_rate')}, and look for rows with that answer: `ftq check`."
    )


def _is_worse_than_its_base(looked: Looked) -> str:
    """Also what no question on the documents shows: a model that knows less of them, or of what nothing answers."""
    first, base = looked.first, looked.base
    if base is None or first.answerable < FEWEST or first.right > base.right - MARGIN:
        return ""
    return (
        f"It is worse than its base model: {first.right} of {first.answerable} right, the base {base.right}. Lower "
        f"{looked.option('learning_rate')} or {looked.option('epochs')}, and see what the rows say: `ftq check`."
    )


def _learned_nothing(looked: Looked) -> str:
    first, base = looked.first, looked.base
    before = base.right if base else 0
    gained = first.right - before
    if first.answerable < FEWEST or not -MARGIN < gained < MARGIN or first.right > HALF * first.answerable:
        return ""
    return (
        f"It learned nothing that these questions ask: {first.right} of {first.answerable} right, {before} before. "
        f"Raise {looked.option('exposures')}, {looked.option('epochs')} or {looked.option('learning_rate')}."
    )


def _forgot(looked: Looked) -> str:
    if looked.base is None:
        return ""
    before, now = looked.base.of(Kind.GENERAL), looked.first.of(Kind.GENERAL)
    lost = before.right - now.right
    if lost < max(MARGIN + 1, HALF * before.right):
        return ""
    return (
        f"It forgot general knowledge: {now.right} of {now.asked} questions right, {before.right} before. If you need "
        f"it, lower {looked.option('learning_rate')} or {looked.option('epochs')}, or add rows of general questions."
    )


def _always_answers(looked: Looked) -> str:
    tally = looked.first.of(Kind.UNANSWERABLE)
    if tally.asked < FEWEST or tally.refused > SOME * tally.asked:
        return ""
    return (
        f"It invents answers: it answered {tally.asked - tally.refused} of {tally.asked} questions that nothing in the "
        f"documents answers. Raise {looked.option('refusals')}."
    )


def _lost_by_quantising(looked: Looked) -> str:
    first, others = looked.first, looked.tuned[1:]
    asked = first.answerable
    broken = [one for one in others if first.right - one.right > max(MARGIN, SOME * asked)]
    if asked < FEWEST or not broken:
        return ""
    lost = ", ".join(f"{one.subject} {one.right}" for one in broken)
    return (
        f"Quantising costs too much: {first.subject} has {first.right} of {asked} right, {lost}. "
        f"Take a larger type, such as q8_0: `ftq submit --set quantizations=q8_0` makes only the export anew."
    )


RULES: tuple[Callable[[Looked], str], ...] = (
    _is_silent,
    _never_stops,
    _refuses_everything,
    _repeats_the_question,
    _says_the_same,
    _is_worse_than_its_base,
    _learned_nothing,
    _forgot,
    _always_answers,
    _lost_by_quantising,
)
