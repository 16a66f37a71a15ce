"""Submitting a run: its options are checked, its documents copied, then its files and its row are put in place."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftq.errors import UNREADABLE, UserError, did_you_mean
from ftq.files import run_dir
from ftq.files.snapshot import Snapshot, snapshot
from ftq.servers import sqlite_file
from ftq.settings import Settings
from ftq.spec import models
from ftq.spec.given import with_options
from ftq.words import size

if TYPE_CHECKING:
    from ftq.check.check import Check
    from ftq.check.finding import Finding
    from ftq.store.records import Run
    from ftq.store.wire.reads import Reads

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
RUNS = 50  # earlier runs that are looked at
TELLS, ROWS = f"dataset/{run_dir.REPORT}", "dataset/train.jsonl"  # what prepare tells; the tokens are counted in rows
ANY_MODEL, SOME_MODEL = "any", "smollm2-135m"  # where none is named; one that options can be checked with


@dataclass
class Submitted:
    """`notes` are for people: documents left behind, no worker to start it; `others` names other kinds of files."""

    run: Run
    documents: int
    notes: list[str] = field(default_factory=list)
    others: str = ""


def validate(
    options: dict[str, Any], name: str | None, home: Path, *, layers: bool = True
) -> tuple[dict[str, Any], Snapshot]:
    """(the spec as it is recorded, the documents it takes). UserError with all problems, a line each.

    `layers`: whether the model has to have the layers of target_modules.
    """
    from ftq.spec.options import parse  # pydantic takes 0.1 s to import: not for `ftq status`

    problems: list[UserError] = []
    spec = documents = None
    with _noted(problems):
        spec = parse(options)
    model = str(options.get("model") or "")
    with _noted(problems):
        model = models.check(model) if model else ""
    folder = os.path.expanduser(spec.documents if spec else str(options.get("documents", "documents")))
    with _noted(problems):
        documents = snapshot(Path(folder), None, home) if folder else None
    held_out = os.path.expanduser(str(options.get("validation") or ""))
    with _noted(problems):
        if held_out and documents:
            from ftq.client.recording.record import with_validation  # which imports the database's libraries

            documents = with_validation(documents, _held_out(Path(held_out), home))
    file = os.path.expanduser(str(options.get("questions_file") or ""))
    with _noted(problems):
        if file:
            from ftq.evaluation import own

            own.read(Path(file))
    missing = _unknown_layers(spec.target_modules, model) if spec and model and layers else ""
    problems += [UserError(wrong) for wrong in (missing, _wrong_name(name)) if wrong]
    if len(problems) == 1:
        raise problems[0]
    if problems or spec is None or documents is None:
        hints = dict.fromkeys(problem.hint for problem in problems if problem.hint)
        raise UserError("\n".join(problem.message for problem in problems), "\n".join(hints))
    paths = {
        name: os.path.realpath(path) if path else ""
        for name, path in (("documents", folder), ("validation", held_out), ("questions_file", file))
    }
    return {**spec.model_dump(), "model": model, **paths}, documents


@contextmanager
def _noted(problems: list[UserError]) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        problems.append(error)


def _held_out(folder: Path, home: Path) -> Snapshot:
    """The documents of `validation`. UserError that speaks of that option."""
    try:
        return snapshot(folder, None, home)
    except UserError as error:
        message = error.message.replace("documents ", "validation ", 1)
        raise type(error)(message, error.hint.replace("--documents DIR", "--set validation=DIR")) from None


def _unknown_layers(wanted: list[str], model: str) -> str:
    """What is wrong with target_modules, where it is known here which layers the model has."""
    layers = models.layers_of(model)
    missing = [name for name in wanted if layers and name not in layers]
    if not layers or not missing:
        return ""
    near = did_you_mean(missing[0], sorted(layers))
    return f"target_modules: {model} has no layer named {', '.join(missing)}.{near} It has {', '.join(sorted(layers))}"


def _wrong_name(name: str | None) -> str:
    if name is None:
        return ""
    from ftq.store.versions import LATEST  # which imports the database's libraries: not for `ftq check`

    if not _NAME.fullmatch(name):
        return f"name {name!r}: letters, digits, `.`, `_` and `-` only, 80 at most"
    if name.lower() == LATEST:
        return f"name {name!r}: NAME:{LATEST} means the promoted version, take another"
    return ""


def check(
    options: dict[str, Any],
    home: Path,
    progress: Callable[[float], None] = lambda share: None,
    bytes_per_token: Callable[[dict[str, Any]], float] | None = None,
) -> Check:
    """What the documents would teach. UserError for options or a folder that can't be used.

    `bytes_per_token` tells those of a spec whose model's tokenizer isn't here.
    """
    from ftq.check import check as checking
    from ftq.spec.options import parse

    model = options.get("model") or ANY_MODEL
    named = model != ANY_MODEL
    try:
        spec, _ = validate(with_options(options, model=model if named else SOME_MODEL), None, home, layers=named)
    except UserError as error:
        error.hint = error.hint.replace("--documents DIR", "ftq check DIR")
        raise
    ratio = {"bytes_per_token": partial(bytes_per_token, spec)} if named and bytes_per_token else {}
    checked = checking.check(Path(spec["documents"]), parse({**spec, "model": model}), home, progress, **ratio)
    if fault := _fault(spec, home):
        checked = checked.refused(*fault)
    few = _few(checked.report.tested, spec)
    return checked.with_finding("warning", *few) if few else checked


def look_over(
    spec: dict[str, Any], documents: Snapshot, home: Path, store: Reads | None = None
) -> tuple[list[str], Check | None]:
    """(a line on what is wrong with the documents, if anything is; what they would teach, where that was looked at).

    They aren't where they are many, which is said, or where an earlier run with these options has. UserError if nothing
    can be learned from them, or where prepare would fail on a line.
    """
    from ftq.check.check import quick
    from ftq.plan.forecast import bytes_per_token
    from ftq.spec.options import parse

    folder, checked, known = spec["documents"], None, _known(spec, documents, home, store)
    if known is None and (fault := _fault(spec, home)):
        raise UserError(*fault)
    findings, tested = known or ([], None)
    if known is None:
        checked = quick(Path(folder), documents.bytes, parse(spec), home, lambda: bytes_per_token(spec, store, home))
    if checked:
        findings, tested = checked.of("warning"), checked.report.tested
    said = set(documents.skipped)  # those are told one by one
    warnings = [one.message for one in findings if not said.issuperset(f"{folder}/{place}" for place in one.places)]
    command, few = f"`ftq check {shlex.quote(folder)}`", _few(tested, spec)
    checked = checked.with_finding("warning", *few) if checked and few else checked  # for who shows the findings alone
    lines = [f"{'; '.join(warnings)}. {command} says where and what to do"] if warnings else []
    if known is None and checked is None:
        lines = [f"{size(documents.bytes)} of documents are too much to look for faults in them now: {command} does"]
    return [*lines, *([". ".join(few)] if few else [])], checked


def _fault(spec: dict[str, Any], home: Path) -> tuple[str, str] | None:
    """(what is wrong, what to do) of the first line on which prepare would fail; None if there is none."""
    from ftq.check.chats import first_fault

    folders = (spec["documents"], spec["validation"]) if spec["strict"] else ()
    for folder in filter(None, folders):
        if found := first_fault(Path(folder), home):
            path, fault = found
            hint = "or leave out strict=true: it takes chats, and prompts with their completions, alone."
            return fault.message, f"Correct {path}, {hint}"
    return None


def _few(tested: int | None, spec: dict[str, Any]) -> tuple[str, str] | None:
    """What to say where the documents, and the user's own questions, test too little; None where that isn't known."""
    from ftq.evaluation import own
    from ftq.evaluation.evaluation import Kind
    from ftq.evaluation.verdicts import few_ahead

    mine = own.read(Path(spec["questions_file"])) if spec["questions_file"] else []
    number = sum(question.kind is Kind.OWN for question in mine)
    return None if tested is None else few_ahead(tested, number, spec)


def _known(
    spec: dict[str, Any], documents: Snapshot, home: Path, store: Reads | None
) -> tuple[list[Finding], int | None] | None:
    """The warnings that an earlier run had, and its questions that test, if one made the same of these documents."""
    from ftq.check.findings import warnings_in
    from ftq.plan.forecast import DECIDING

    deciding = ("model", "max_seq_length", *DECIDING)
    for run in store.all(RUNS) if store else []:
        if run.documents_hash == documents.hash and all(run.spec.get(name) == spec[name] for name in deciding):
            with suppress(*UNREADABLE):  # not prepared, or by another version
                return warnings_in(run_dir.run_dir(home, run.id).path / TELLS)
    return None


def fetch_reports(
    runs: Iterable[Run], spec: dict[str, Any], documents_hash: str | None, fetch: Callable[[Run, tuple[str, ...]], bool]
) -> None:
    """Have what earlier runs tell of these documents, and the newest one's rows of this model and format.

    `fetch` gets files of a run, if its prepare has succeeded; False if they can't be had.
    """
    has_rows = False
    for run in runs:
        asked = not has_rows and all(run.spec.get(name) == spec[name] for name in ("model", "format"))
        if asked or (documents_hash and run.documents_hash == documents_hash):
            there = fetch(run, (TELLS, ROWS) if asked else (TELLS,))
            has_rows = has_rows or (asked and there)


def is_new(settings: Settings) -> bool:
    """Whether the artifacts folder has no database yet, and could have one."""
    file, home = sqlite_file(settings.database_url), settings.home
    above = next(folder for folder in (home, *home.parents) if folder.exists())
    return file is not None and file.is_relative_to(home) and not file.exists() and above.is_dir()
