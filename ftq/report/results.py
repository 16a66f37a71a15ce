"""What came of a run: the evaluation in a sentence, as a table, and as answers side by side; the files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ftq.evaluation import words
from ftq.evaluation.evaluation import BASE, Asked, Evaluation, Kind, Said, Scores, Verdict
from ftq.evaluation.words import number, said, tally
from ftq.page.frame import code, name, text
from ftq.report.gather import File, Material
from ftq.words import plural, size

SHOWN = 20  # questions with their answers
QUOTAS = {Kind.OWN: 6, Kind.HELD_BACK: 6, Kind.UNANSWERABLE: 4, Kind.GENERAL: 4}  # of them, as far as there are
QUESTION, ANSWER, ACCEPTED = 500, 1000, 200  # characters
SENTENCES = 12
NAMES = {
    Kind.OWN: "Your own questions",
    Kind.HELD_BACK: "Put as the training puts them",
    Kind.UNANSWERABLE: "Nothing in the documents answers these",
    Kind.GENERAL: "General knowledge",
}


def lead(evaluation: Evaluation, run: str) -> str:
    """What it learned, in one sentence, and what that can't say; nothing if nobody was asked about it."""
    told, untold = words.learned(evaluation, "<b>{}</b>"), words.untold(evaluation, run)
    lines = [f'<p class="lead">{told}</p>'] * bool(told) + [f'<p class="dim">{code(untold)}</p>'] * bool(untold)
    return "".join(lines)


def wrong(evaluation: Evaluation) -> str:
    """What is wrong and what to change; if no rule found a fault, how many answers aren't right."""
    if evaluation.verdict:
        return _list(evaluation.verdict, "wrong")
    told = words.unblamed(evaluation)
    return f"<p>{told}</p>" if told else ""


# ---- the table ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measure:
    """A line of the table. `cell` gives a subject's number, or nothing where it isn't known."""

    name: str
    told: str
    cell: Callable[[Scores], str]


def _right(one: Scores) -> str:
    if not one.answerable:
        return ""
    bar = f'<i class="rest"><i style="width:{round(100 * one.right / one.answerable)}%"></i></i>'
    return f"{words.right(one)}{bar}"


KNOWS = (
    Measure("Right answers", "on the documents", _right),
    Measure("Word for word", "the accepted answer and nothing else", number("exact", "{:.0%}")),
    Measure("F1", "words shared with it", number("f1", "{:.2f}")),
    Measure("ROUGE-L", "the same in their order", number("rouge_l", "{:.2f}")),
    Measure("General knowledge", "right; what training may wipe out", tally(Kind.GENERAL, "right")),
)
BEHAVES = (
    Measure("Says it doesn't know", "where nothing answers", tally(Kind.UNANSWERABLE, "refused")),
    Measure("Gives up", "where the documents answer", words.gave_up),
    Measure("Ends its answer itself", "", number("stop_rate", "{:.0%}")),
    Measure("Length of an answer", "tokens", number("mean_tokens", "{:.0f}")),
)  # fmt: skip
COSTS = (
    Measure("Validation loss", "of the adapter", number("validation_loss", "{:.3f}")),
    Measure("Perplexity", "", number("perplexity", "{:,.2f}")),
    Measure("KL from f16", "nats a token", number("kl", "{:.4f}")),
    Measure("Speed", "tokens a second, one answer at a time", number("tokens_per_second", "{:,.0f}")),
    Measure("File", "", words.file_size),
)


def scoreboard(evaluation: Evaluation) -> str:
    """The table, base model first, with how it was asked and what is wrong."""
    subjects = evaluation.subjects
    head = "".join(f'<th scope="col">{name(one.subject, 60)}</th>' for one in subjects)
    bodies = "".join(_group(measures, subjects) for measures in (KNOWS, BEHAVES, COSTS))
    table = f'<div class="wide scores"><table><thead><tr><th></th>{head}</tr></thead>{bodies}</table></div>'
    notes = "".join(f'<p class="dim">{text(note, 600)}</p>' for note in evaluation.notes[:SENTENCES])
    return f"{wrong(evaluation)}{table}{_how(evaluation)}{notes}"


def _group(measures: Iterable[Measure], subjects: Sequence[Scores]) -> str:
    """The lines of one kind that say anything."""
    lines = []
    for measure in measures:
        cells = [measure.cell(one) for one in subjects]
        if any(cells):
            note = f"<small>{measure.told}</small>" if measure.told else ""
            numbers = "".join(f"<td>{cell}</td>" for cell in cells)
            first = ' class="first"' if measure is KNOWS[0] else ""
            lines.append(f'<tr{first}><th scope="row">{measure.name}{note}</th>{numbers}</tr>')
    return f"<tbody>{''.join(lines)}</tbody>" if lines else ""


def _how(evaluation: Evaluation) -> str:
    if not sum(evaluation.counts.values()):
        return ""
    return (
        f'<p class="dim">{words.asked(evaluation)}. Answers were drawn greedily and ended after '
        f"{evaluation.max_tokens:,} tokens; docs/evaluation.md says what each line means.</p>"
    )


# ---- the answers --------------------------------------------------------------------------------------


def answers(evaluation: Evaluation) -> str:
    """Twenty questions, what the base model and the first tuned file said to each."""
    chosen = list(pick(evaluation.questions))
    if not chosen:
        return ""
    by_kind = {kind: [one for one in chosen if one.question.kind == kind] for kind in QUOTAS}
    parts = [f"<h3>{NAMES[kind]}</h3>{''.join(map(_asked, asked))}" for kind, asked in by_kind.items() if asked]
    left = sum(evaluation.counts.values()) - len(chosen)
    there = len(evaluation.questions) - len(chosen)
    answered = "their answers" if there == left else f"the answers to {there:,} of them"
    more = f'<p class="dim">{plural(left, "more question")}: eval.json has {answered}.</p>'
    return "\n".join([*parts, more if left > 0 else ""])


def pick(asked: Sequence[Asked]) -> Iterator[Asked]:
    """The first ones of each kind; where a kind has few, more of the others, in the order of the kinds."""
    by_kind = {kind: [one for one in asked if one.question.kind == kind] for kind in QUOTAS}
    room = SHOWN - sum(min(quota, len(by_kind[kind])) for kind, quota in QUOTAS.items())
    for kind, quota in QUOTAS.items():
        shown = by_kind[kind][: quota + room]
        room -= max(0, len(shown) - quota)
        yield from shown


def _asked(one: Asked) -> str:
    question = one.question
    subjects = [BASE] * (BASE in one.said) + [subject for subject in one.said if subject != BASE][:1]
    said = "".join(_said(subject, one.said[subject], question.kind) for subject in subjects)
    accepted = " · ".join(text(answer, ACCEPTED) for answer in question.answers[:3])
    more = f" · and {len(question.answers) - 3} more" if len(question.answers) > 3 else ""
    note = f'<small dir="auto">accepted: {accepted}{more}</small>' if accepted else ""
    before = f'<p class="dim" dir="auto">{text(question.input, QUESTION)}</p>' if question.input else ""
    asked = f'<p class="question" dir="auto">{text(question.text, QUESTION)}</p>'
    return f'<div class="asked"><div>{before}{asked}{note}</div><div class="answers">{said}</div></div>'


def _said(subject: str, said: Said, kind: Kind) -> str:
    right = said.verdict == (Verdict.REFUSED if kind == Kind.UNANSWERABLE else Verdict.RIGHT)
    if said.verdict == Verdict.REFUSED:
        word = "says it doesn't know"
    else:
        word = "right" if right else "invents an answer" if kind == Kind.UNANSWERABLE else "wrong"
    sign, colour = ("✓", "good") if right else ("✗", "bad")
    cut = f" … ({said.cut:,} more characters)" if said.cut else "" if said.stopped else " …"
    shown = text(said.answer.strip(), ANSWER) + cut if said.answer.strip() else "<em>nothing</em>"
    return (
        f'<div><div class="says"><span>{name(subject, 60)}</span><span class="{colour}">{sign} {word}</span></div>'
        f'<p dir="auto">{shown}</p></div>'
    )


# ---- the files ----------------------------------------------------------------------------------------

DETAILS: tuple[tuple[str, Callable[[File], str]], ...] = (
    ("Size", lambda file: size(file.bytes)),
    ("Perplexity", lambda file: said(file.measured, "perplexity", "{:,.2f}")),
    ("KL from f16", lambda file: said(file.measured, "kl", "{:.4f}")),
    ("Ends itself", lambda file: f"{file.measured.stops.rate:.0%}" if file.measured else ""),
)


def files(material: Material) -> str:
    """The GGUF files with what the export has measured of them."""
    if not material.files:
        return ""
    shown = [(head, cell) for head, cell in DETAILS if any(map(cell, material.files))]
    heads = "".join(f'<th scope="col">{head}</th>' for head, _ in shown)
    rows = "".join(
        f'<tr><th scope="row">{name(file.name, 60)}</th>{"".join(f"<td>{cell(file)}</td>" for _, cell in shown)}</tr>'
        for file in material.files
    )
    table = f'<div class="wide"><table><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    return table + _list([note for file in material.files if file.measured for note in file.measured.notes], "wrong")


def _list(lines: Sequence[str], kind: str) -> str:
    items = "".join(f"<li>{code(line, 600)}</li>" for line in lines[:SENTENCES])
    more = f"<li>and {len(lines) - SENTENCES:,} more</li>" if len(lines) > SENTENCES else ""
    return f'<ul class="{kind}">{items}{more}</ul>' if items else ""
