"""What a person should know of the documents before a training run, each with what to do about it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ftq.check.finding import LEVELS, Finding, Level, told
from ftq.check.limits import DROPPED, LEFT_OUT, LIMITED, MUCH, VALUES
from ftq.check.near import MOST as NEAR
from ftq.check.survey import HEADER, HELD_OUT, TAUGHT, Survey
from ftq.examples.dataset import COMPARED, FACTS, LIMIT
from ftq.examples.json_records import KNOWN
from ftq.examples.read import OWN_VALID
from ftq.examples.records.unread import UNREAD
from ftq.examples.report import DatasetReport, Skipped, SkippedRecord, Used
from ftq.files.snapshot import HIDDEN, IGNORED, OTHER
from ftq.formats.convert import INSTALL
from ftq.formats.documents import NEEDS_OCR
from ftq.words import plural

PLACES = 50  # of a finding that are named
SECRETS = {  # what becomes of them -> what is to be said
    TAUGHT: "The model would tell it to whoever asks: take it out, and make it invalid where it was in use.",
    HELD_OUT: "They are only measured on, so the model doesn't learn them; but the run's files have them: take them "
    "out.",
    HEADER: "The key's own characters are left out, so no model learns them. Take it out all the same: whoever reads "
    "the documents has it.",
}
SHORT = (
    "They are learned as whole sections alone, which seldom makes them answers. Headings that say what is below them, "
    "tables, lists of `name: what it is` and commands under a sentence become questions."
)
LEAVE = "What needn't be learned, name in .ftqignore: it takes its share of the time too."
LONG, MOST = 50_000, 0.5  # tokens that documents without questions have, and their share: then the model learns these
NO_VALID = "no validation set"
VALID = (
    "Nothing in them is used, and what is held out is as without them. Write records, in valid.jsonl one a line: "
    '{"question": "...", "answer": "..."}. Or give the file another name.'
)
CORRECT = "Correct them: "  # begins what is to be done about records that are left out
OUTSIDE = "a link"  # begins the reason of what leads out of the folder, or to nothing


NOTHING = Finding("error", "no example in it", f"ftq takes texts, and JSON records with {KNOWN}.")


def findings_of(report: DatasetReport, survey: Survey) -> list[Finding]:
    """All of them, the worst first."""
    found = [
        *_nothing(report),
        *_skipped(report),
        *_left_out(report),
        *_records(report),
        *_notes(report),
        *_contradictions(report),
        *_secrets(survey),
        *_repeated(report, survey),
        *_short(report, survey),
        *_few(report),
        *_dropped(report),
        *_cuts(report, survey),
    ]
    return [replace(one, places=one.places[:PLACES]) for level in LEVELS for one in found if one.level == level]


def warnings_in(report: Path) -> tuple[list[Finding], int | None]:
    """Those that prepare wrote into a run's report.json, and how many questions of valid test what train teaches.

    OSError, ValueError, KeyError, TypeError if it hasn't.
    """
    value = json.loads(report.read_text(encoding="utf-8"))
    findings = [Finding(**{**one, "places": tuple(one["places"])}) for one in value["findings"]]
    return [finding for finding in findings if finding.level == "warning"], value.get("tested")


def outcome(file: Skipped) -> str:
    """What became of a document that gives nothing, in a word or two."""
    if file.reason in (HIDDEN, OTHER) or file.reason.startswith((IGNORED, OUTSIDE)):
        return "left out"
    if file.reason == "empty" or file.reason.startswith(("no text in it", "nothing usable: no text")):
        return "empty"
    if INSTALL in file.reason:
        return "no converter"
    return "needs OCR" if NEEDS_OCR in file.reason else "unusable"


def is_copy(file: Used) -> bool:
    """Whether all that the document gives is in another one already."""
    return bool(file.duplicates) and not file.examples


def _nothing(report: DatasetReport) -> Iterator[Finding]:
    if not report.examples:
        yield NOTHING
    elif not report.train:
        yield Finding("error", "all examples are held out, none is left to train on", "Add documents to train on.")


def _skipped(report: DatasetReport) -> Iterator[Finding]:
    kinds: dict[str, list[Skipped]] = defaultdict(list)
    for file in report.documents.skipped:
        kind = outcome(file)
        kinds[NO_VALID if kind in ("unusable", "empty") and file.path in OWN_VALID else kind].append(file)
    fixes: dict[str, tuple[Level, str, str]] = {
        NO_VALID: ("warning", "for validation without a record of a known shape", VALID),
        "unusable": ("warning", "can't be used", "Correct them, or name them in .ftqignore."),
        "no converter": ("warning", "can't be read without a converter", f"Run: {INSTALL}"),
        "needs OCR": ("warning", "can't be read without OCR", "Run OCR on them first: ocrmypdf IN.pdf OUT.pdf"),
        "empty": ("note", "without text", "Write text below the headings, or name them in .ftqignore."),
    }
    for kind, (level, what, fix) in fixes.items():
        if files := kinds[kind]:
            places = tuple(f"{file.path}: {file.reason}" for file in files)
            yield told(level, f"{plural(len(files), 'document')} {what}", fix, places)


def _left_out(report: DatasetReport) -> Iterator[Finding]:
    kinds: dict[str, list[Skipped]] = defaultdict(list)
    for file in report.documents.skipped:
        kind = next((start for start in (OUTSIDE, OTHER, IGNORED) if file.reason.startswith(start)), "")
        kinds[kind].append(file)
    fixes: dict[str, tuple[Level, str, str]] = {
        OUTSIDE: ("warning", "left out: a link that can't be followed", "Copy into the folder what it leads to."),
        OTHER: ("note", "left out: of another kind", "Save what is to be learned as text, PDF or an Office format."),
        IGNORED: ("note", "left out by .ftqignore", "Nothing to do, unless a line there fits more than was meant."),
    }
    for kind, (level, what, fix) in fixes.items():
        if files := kinds[kind]:
            yield told(level, f"{plural(len(files), 'file')} {what}", fix, tuple(map(_named, files)))


def _named(file: Skipped) -> str:
    return file.path if file.reason == OTHER else f"{file.path}: {file.reason.removeprefix(IGNORED)}"


def _records(report: DatasetReport) -> Iterator[Finding]:
    kinds: dict[bool, list[SkippedRecord]] = defaultdict(list)
    for record in report.records_skipped:
        kinds[record.reason.endswith(f"({LIMIT})")].append(record)
    if records := kinds[False]:
        number = sum(record.count for record in records)
        what = "1 record or section is" if number == 1 else f"{number:,} records or sections are"
        fix, places = f"{CORRECT}{_rest(report, records)}.", tuple(map(_record, records))
        yield Finding("warning", f"{what} left out", fix, places, number)
    if records := kinds[True]:
        fix = f"Raise {LIMIT}, which is {report.max_seq_length:,}, as far as the model's context and memory go."
        what = f"{plural(len(records), 'row')} too long for {LIMIT} left out"
        yield told("warning", what, fix, tuple(dict.fromkeys(map(_record, records))))


def _rest(report: DatasetReport, records: list[SkippedRecord]) -> str:
    """What becomes of the documents that have these records left out."""
    unusable = tuple(f"{file.path}{sign}" for file in report.documents.skipped for sign in ":,")
    lost = sum(record.where.startswith(unusable) for record in records)
    if lost == len(records):
        return "nothing else is in their documents"
    return "the rest of their documents is used" + (", where there is any" if lost else "")


def _record(record: SkippedRecord) -> str:
    others = f" and {record.count - 1:,} before it" if record.count > 1 else ""
    return f"{record.where}{others}: {record.reason}"


def _notes(report: DatasetReport) -> Iterator[Finding]:
    notes = report.documents.notes
    pages = [note for note in notes if "OCR" in note]
    unread = [note for note in notes if UNREAD in note]
    others = [note for note in notes if note not in {*pages, *unread}]
    if pages:
        fix = "Run OCR on them first (ocrmypdf IN.pdf OUT.pdf), or go without these pages."
        yield told("warning", f"{plural(len(pages), 'document')} with pages that are left out", fix, tuple(pages))
    if unread:
        level: Level = "warning" if any("did you mean" in note for note in unread) else "note"
        fix = "Correct what is misspelt. What else stands there isn't taught: only role, content and weight are read."
        yield told(
            level, f"{plural(len(unread), 'document')} whose messages have keys that nothing reads", fix, tuple(unread)
        )
    if others:
        fix = "Look at their rows: what was read may not be what was meant."
        yield told("note", f"{plural(len(others), 'document')} that may have been read wrongly", fix, tuple(others))


def _contradictions(report: DatasetReport) -> Iterator[Finding]:
    of_facts = report.questions.contradictions if report.questions else ()
    fix = "Keep the right one, or say under which heading each holds: as it is, the question may not be asked at all."
    if of_facts:
        what = f"{plural(len(of_facts), 'contradiction')} between documents"
        yield told("warning", what, fix, tuple(map(str, of_facts)))
    if of_records := report.contradictions:
        what = f"{plural(len(of_records), 'question')} that records answer differently"
        yield told(
            "warning", what, "Keep the right answer: both are learned, and either is said.", tuple(map(str, of_records))
        )


def _secrets(survey: Survey) -> Iterator[Finding]:
    for kind, fix in SECRETS.items():
        if number := survey.secrets[kind].count:
            what = "1 text looks like a secret" if number == 1 else f"{number:,} texts look like secrets"
            what = f"{plural(number, 'private key')} in documents" if kind == HEADER else what
            what += " in validation" if kind == HELD_OUT else ""
            yield Finding("warning", what, fix, tuple(survey.secrets[kind].named), number)


def _repeated(report: DatasetReport, survey: Survey) -> Iterator[Finding]:
    copies = [file for file in report.documents.used if is_copy(file)]
    fix = "Nothing to do: each text is taken once."
    if copies:
        places = tuple(f"{file.path} is in {file.same_as}" for file in copies)
        yield told("note", f"{plural(len(copies), 'document')} with nothing but what others have", fix, places)
    elif report.duplicates:
        places = tuple(f"{file.path}: {file.duplicates:,}" for file in report.documents.used if file.duplicates)
        what = "1 row was" if report.duplicates == 1 else f"{report.duplicates:,} rows were"
        yield Finding("note", f"{what} there already", fix, places, len(places))
    if number := survey.near.count:
        what = "1 section is nearly" if number == 1 else f"{number:,} sections are nearly"
        fix = "Keep one of each: what is repeated is learned at the cost of the rest."
        yield Finding("note", f"{what} the same as others", fix, tuple(survey.near.named), number)

    if number := survey.leaked.count:
        what = f"{plural(number, 'section')} nearly the same in training and in validation"
        fix = "Leave each out of one of the two: what was learned by heart measures nothing."
        yield Finding("note", what, fix, tuple(survey.leaked.named), number)


def _short(report: DatasetReport, survey: Survey) -> Iterator[Finding]:
    if report.questions is None:
        return
    files = [file.path for file in report.documents.used if file.examples and not is_json(file.path)]
    trained = {name: tally for name, tally in survey.files.items() if not survey.is_held_out(name)}
    bare = [name for name in files if name in trained and not trained[name].short]
    if not bare:
        return
    message = f"{plural(len(bare), 'document')} without one short question"
    tokens = Counter({name: trained[name].tokens for name in bare})
    share = tokens.total() / sum(tally.tokens for tally in trained.values())
    if tokens.total() < LONG or share < MOST:
        yield told("note", message, SHORT, tuple(bare))
    else:
        places = tuple(f"{name}: {number:,} tokens" for name, number in tokens.most_common())
        yield told("warning", f"{message}, {int(100 * share)} % of what is trained on", f"{SHORT} {LEAVE}", places)


def is_json(name: str) -> bool:
    """Whether it holds records, which are questions as they are, or rows of a table."""
    return name.lower().endswith((".json", ".jsonl", ".ndjson", ".csv", ".tsv"))


def _few(report: DatasetReport) -> Iterator[Finding]:
    if report.questions and (few := report.questions.few):
        what = "1 fact is" if len(few) == 1 else f"{len(few):,} facts are"
        places = tuple(":".join(key.split(":")[:2]) + f": {key.rpartition(':')[2]}" for key in few)
        fix = "Say each in a table, a list or a sentence of its own, or ask for more: --set exposures=24"
        yield told("note", f"{what} met too rarely to be learned", fix, places)


def _dropped(report: DatasetReport) -> Iterator[Finding]:
    for reason, number in (report.questions.left_out if report.questions else {}).items():
        if number:
            word, what, fix = DROPPED.get(reason, ("row", f"of {reason}", ""))
            places = _numbered((report.questions.left_out_of if report.questions else {}).get(reason, {}))
            ending = "" if what.startswith("left out") else " left out"
            yield Finding("note", f"{plural(number, word)} {what}{ending}", fix, places, len(places))


def _cuts(report: DatasetReport, survey: Survey) -> Iterator[Finding]:
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    for cut in report.cuts:
        kinds[cut.what][cut.where] += cut.count
    for what, places in kinds.items():
        level, fix = LIMITED.get(what, ("note", "Split what is there, if questions on it are wanted."))
        word, _, rest = what.partition(" ")
        numbered = _numbered(places)
        message = f"{plural(places.total(), word)}{f' {rest}' if rest else ''}"
        message += "" if what == COMPARED else " left out" if what in LEFT_OUT else " beyond a limit left out"
        if (share := _share(what, places, report)) >= MUCH:
            level, message = "warning", f"{message}, {share:.0%} of them".replace("%", " %")
        yield Finding(level, message, fix, numbered, len(numbered))
    if number := survey.not_compared:
        message = f"{plural(number, 'section')} not compared: only the first {NEAR:,} can be near duplicates of others"
        yield Finding("note", message, "Look at a part of the folder, if that matters: ftq check DIR/PART")


def _share(what: str, places: Counter[str], report: DatasetReport) -> float:
    """How much of what their files state isn't asked for; 0 where that isn't known."""
    if what not in (FACTS, VALUES):
        return 0.0
    files = {where if where in places and ":" not in where else where.rpartition(":")[0] or where for where in places}
    kept = sum(file.facts for file in report.documents.used if file.path in files)
    return places.total() / (places.total() + kept)


def _numbered(places: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{place}: {number:,}" if number > 1 else place for place, number in places.items() if place)
