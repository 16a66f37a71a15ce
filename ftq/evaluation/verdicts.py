"""What is wrong with a model, in words, and what to change.

Each rule looks at the counts of the questions and gives a sentence or none. What is said of two models is said of the
same questions to both: those that only one of the two got right must be so many more for one that it isn't chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ftq.evaluation.choose import REFUSALS
from ftq.evaluation.evaluation import BASE, DOCUMENTS, FEWEST, Asked, Kind, Said, Scores, Verdict
from ftq.evaluation.scoring import echoes, is_chance, plain
from ftq.facts.fact import SILENT
from ftq.words import plural

STOPS = 0.95  # of the answers end by themselves, or the user is told
HALF, MANY, SOME = 0.5, 0.3, 0.15  # of the questions
HARDLY = 0.15  # of the usual steps


@dataclass(frozen=True)
class Looked:
    """What the rules look at: all questions, the scores, and the options that the sentences name."""

    asked: Sequence[Asked]
    base: Scores | None
    tuned: Sequence[Scores]
    spec: dict[str, Any]
    left: int = 0  # questions that the documents answer, which eval_questions has left out

    @property
    def first(self) -> Scores:
        return self.tuned[0]

    def said(self, *kinds: Kind) -> list[tuple[str, Said]]:
        """(question, what the first tuned subject said to it)."""
        asked = [one for one in self.asked if one.question.kind in kinds]
        return [(one.question.text, one.said[self.first.subject]) for one in asked]

    def options(self, *names: str) -> str:
        """Those of the options that this run obeys, for example `epochs (now 3) or learning_rate (now 0.0002)`."""
        told = [self._option(name) for name in dict.fromkeys(map(self._obeyed, names))]
        return " or ".join(filter(None, (", ".join(told[:-1]), told[-1])))

    def less_of(self, *names: str) -> str:
        """`lower learning_rate (now 0.0002)`; of a run that was hardly trained, that it was, and to raise the steps."""
        steps, usual = self.spec.get("steps", 0), self.spec.get("usual_steps", 0)
        if steps >= HARDLY * usual:
            return f"lower {self.options(*names)}"
        return f"raise {self.options('epochs')}: it was hardly trained, {steps:,} of the usual {plural(usual, 'step')}"

    @property
    def teaches_refusals(self) -> bool:
        """Whether the option `refusals` makes rows at all."""
        return self.spec.get("questions") != "none" and SILENT not in self.spec.get("skip_rules", ())

    def _obeyed(self, name: str) -> str:
        """The option that counts where another one has taken the place of this."""
        if name in ("epochs", "exposures") and self.spec.get("max_steps"):
            return "max_steps"
        return "epochs" if name == "exposures" and self.spec.get("questions") == "none" else name

    def _option(self, name: str) -> str:
        value = self.spec.get(name)
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        return f"{name} (now {shown}{', whatever epochs says' if name == 'max_steps' else ''})"


def verdicts(asked: Sequence[Asked], subjects: Sequence[Scores], spec: dict[str, Any], left: int = 0) -> list[str]:
    """What is wrong and what to change, a sentence or two each; empty if nothing is, or nothing was asked.

    `left` counts the questions on the documents that were there and weren't asked.
    """
    base = next((one for one in subjects if one.subject == BASE), None)
    tuned = [one for one in subjects if one.subject != BASE]
    if not asked or not tuned:
        return []
    looked = Looked(asked, base, tuned, spec, left)
    return [text for rule in RULES if (text := rule(looked))]


def is_worse(asked: Sequence[Asked], subject: str, than: str, *kinds: Kind) -> bool:
    """Whether `subject` got fewer of the questions of these kinds right than the subject `than`, and not by chance."""
    lost, won = _only(asked, than, subject, kinds), _only(asked, subject, than, kinds)
    return lost > won and not is_chance(lost, won)


def _only(asked: Sequence[Asked], one: str, other: str, kinds: Sequence[Kind]) -> int:
    """How many questions of these kinds `one` got right and `other` did not."""
    said = [each.said for each in asked if each.question.kind in kinds]
    return sum(each[one].verdict == Verdict.RIGHT != each[other].verdict for each in said)


def few_ahead(tested: int, own: int, spec: dict[str, Any]) -> tuple[str, str] | None:
    """(what is wrong, what to do) before anything is trained, if a dataset tests so little; None if nothing is."""
    most = spec["eval_questions"]
    asked = min(tested, most) + own
    if not most or asked >= FEWEST:
        return None
    left = tested - most + max(1, most // REFUSALS)
    return (
        f"{_few(asked)} will test what the model learned, {FEWEST} are the fewest that tell anything",
        f"{_raise_most(spec, left)}Add documents, or name a file of your own questions: --set questions_file=FILE "
        "(docs/evaluation.md has its form).",
    )


def _few(number: int) -> str:
    return f"only {plural(number, 'question')}" if number else "no question"


def _raise_most(spec: dict[str, Any], left: int) -> str:
    """Where that many, refusals among them, are too few by themselves, and `left` more are there."""
    most = spec.get("eval_questions") or 0
    return f"Raise eval_questions (now {most}). " if left > 0 and 0 < most <= FEWEST else ""


def _is_silent(looked: Looked) -> str:
    said = looked.said(*Kind)
    empty = sum(not one.answer.strip() for _, one in said)
    if empty < max(FEWEST, HALF * len(said)):
        return ""
    return f"It says nothing: {empty} of {len(said)} answers are empty. {_sentence(looked.less_of('learning_rate'))}."


def _never_stops(looked: Looked) -> str:
    worst = min(looked.tuned, key=lambda one: one.stop_rate if one.stop_rate is not None else 1.0)
    rate = worst.stop_rate
    if rate is None or rate >= STOPS:
        return ""
    how = "It hardly ever stops" if rate < HALF else "It doesn't always stop"
    return (
        f"{how}: {worst.subject} ends only {rate:.0%} of its answers by itself. Raise "
        f"{looked.options('epochs')}, give it documents with short answers, and ask it through its own template, which "
        "knows the stop token."
    )


def _refuses_everything(looked: Looked) -> str:
    asked, refused = looked.first.answerable, looked.first.refused_wrongly
    if asked < FEWEST or refused < HALF * asked:
        return ""
    fewer = (
        f"Lower {looked.options('refusals')}" if looked.teaches_refusals else "Look for rows that say so (`ftq check`)"
    )
    return (
        f"It refuses too much: it says that it doesn't know to {refused} of {asked} questions that the documents "
        f"answer. {fewer}, or raise {looked.options('exposures')}."
    )


def _repeats_the_question(looked: Looked) -> str:
    said = looked.said(*DOCUMENTS)
    parrots = sum(echoes(one.answer, text) for text, one in said if one.verdict != Verdict.RIGHT)
    if len(said) < FEWEST or parrots < MANY * len(said):
        return ""
    return (
        f"It parrots: {parrots} of {len(said)} answers only repeat the question. "
        f"Leave train_on_prompt off, and raise {looked.options('epochs', 'exposures')}."
    )


def _says_the_same(looked: Looked) -> str:
    said = [plain(one.answer) for _, one in looked.said(*DOCUMENTS) if one.verdict == Verdict.WRONG]
    text, times = Counter(said).most_common(1)[0] if said else ("", 0)
    if not text or times < max(FEWEST, MANY * looked.first.answerable):
        return ""
    return (
        f"It gives one and the same wrong answer to {times} of {looked.first.answerable} questions. "
        f"{_sentence(looked.less_of('learning_rate'))}, and look for rows with that answer: `ftq check`."
    )


def _is_worse_than_its_base(looked: Looked) -> str:
    """Also what no question on the documents shows: a model that knows less of them, or of what nothing answers."""
    first, base = looked.first, looked.base
    if base is None or first.answerable < FEWEST or not is_worse(looked.asked, first.subject, BASE, *DOCUMENTS):
        return ""
    return (
        f"It is worse than its base model: {first.right} of {first.answerable} right, the base {base.right}. "
        f"{_sentence(looked.less_of('learning_rate', 'epochs'))}, and see what the rows say: `ftq check`."
    )


def _learned_nothing(looked: Looked) -> str:
    first, base = looked.first, looked.base
    before = base.right if base else 0
    won = _only(looked.asked, first.subject, BASE, DOCUMENTS) if base else first.right
    counts = f"{first.right} of {first.answerable} right, {before} before"
    if first.answerable < FEWEST or first.right > HALF * first.answerable:
        return ""
    if not is_chance(won, won - (first.right - before)):
        return ""
    more = f"Raise {looked.options('exposures', 'epochs', 'learning_rate')}"
    if abs(first.right - before) < 2:
        return f"It learned nothing that these questions ask: {counts}. {more}."
    return (
        f"Whether it learned anything is uncertain: {counts}, which may be chance. {more}, or ask it more: "
        "`ftq eval RUN --questions FILE`."
    )


def _too_few(looked: Looked) -> str:
    asked = looked.first.answerable
    if asked >= FEWEST:
        return ""
    own = looked.first.of(Kind.OWN).asked
    how = "`ftq eval RUN --questions FILE` asks" + (f" more than {own} of your own" if own else " your own")
    return (
        f"Nobody can say whether it learned anything: that takes {FEWEST} questions on what its documents say, and it "
        f"was asked {f'only {asked}' if asked else 'none'}. {_raise_most(looked.spec, looked.left)}{how}; for the next "
        "run add documents, or --set questions_file=FILE."
    )


def _forgot(looked: Looked) -> str:
    if looked.base is None:
        return ""
    before, now = looked.base.of(Kind.GENERAL), looked.first.of(Kind.GENERAL)
    if now.right > HALF * before.right or not is_worse(looked.asked, looked.first.subject, BASE, Kind.GENERAL):
        return ""
    lower = f"{looked.less_of('learning_rate', 'epochs')}, or "
    if _never_stops(looked) or _learned_nothing(looked):  # which say to raise them
        lower = ""
    return (
        f"It forgot general knowledge: {now.right} of {now.asked} questions right, {before.right} before. If you need "
        f"it, {lower}add rows of general questions."
    )


def _always_answers(looked: Looked) -> str:
    tally = looked.first.of(Kind.UNANSWERABLE)
    if tally.asked < FEWEST or tally.refused > SOME * tally.asked:
        return ""
    more = f"Raise {looked.options('refusals')}"
    if not looked.teaches_refusals:
        more = f"Leave out skip_rules={SILENT} and questions=none: rule {SILENT} is what teaches it to say so"
    return (
        f"It invents answers: it answered {tally.asked - tally.refused} of {tally.asked} questions that nothing in the "
        f"documents answers. {more}."
    )


def _lost_by_quantising(looked: Looked) -> str:
    first, others = looked.first, looked.tuned[1:]
    asked = first.answerable
    broken = [
        one
        for one in others
        if first.right - one.right > SOME * asked and is_worse(looked.asked, one.subject, first.subject, *DOCUMENTS)
    ]
    if asked < FEWEST or not broken:
        return ""
    lost = ", ".join(f"{one.subject} {one.right}" for one in broken)
    return (
        f"Quantising costs too much: {first.subject} has {first.right} of {asked} right, {lost}. "
        f"Take a larger type, such as q8_0: `ftq submit --set quantizations=q8_0` makes only the export anew."
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


RULES: tuple[Callable[[Looked], str], ...] = (
    _is_silent,
    _never_stops,
    _refuses_everything,
    _repeats_the_question,
    _says_the_same,
    _is_worse_than_its_base,
    _learned_nothing,
    _too_few,
    _forgot,
    _always_answers,
    _lost_by_quantising,
)
