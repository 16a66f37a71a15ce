"""The form that submits: a dry run first, which says what would come of it, then the same form again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ftq.client.recording import names
from ftq.errors import UserError, lines
from ftq.spec import models
from ftq.store.gateway.keys import Key
from ftq.words import plural
from gateway import limits
from gateway.access import caller_of
from gateway.errors import ApiError, without_paths
from gateway.files.arrival import room_of
from gateway.files.storage import sees
from gateway.page import arrival
from gateway.page.html import page
from gateway.page.sessions import READS
from gateway.shared import Gateway, gateway_of

if TYPE_CHECKING:
    from ftq.check.check import Check

FIELDS = ("model", "name", "folder", "options", "card", "upload")
ELSEWHERE = ("documents", "model", "name")  # options that the form has fields for
PATHS = ("questions_file", "validation")  # options that name files of the server's
FINDINGS = 50
INSTEAD = (
    (": --documents DIR", ", or choose files"),
    ("--set questions_file=FILE", "the option questions_file"),
    ("`ftq options` lists every option with its limits.", '"All options" below lists each with its limits.'),
)


@dataclass(frozen=True)
class Outcome:
    """What a dry run says: `lines` are (what, how much), `findings` are (level, message, fix, places)."""

    lines: list[tuple[str, str]]
    notes: list[str]
    findings: list[tuple[str, str, str, Sequence[str]]] = field(default_factory=list)


async def submit(request: Request) -> Response:
    """The empty form; a dry run of what it says; the run."""
    gateway, key = gateway_of(request), caller_of(request)
    if request.method in READS:
        return _form(request, {"model": request.query_params.get("model", "")})
    room = await run_in_threadpool(room_of, gateway, key)
    largest = min(gateway.options.largest_upload, arrival.MOST_BYTES)
    most = largest if room is None else min(largest, room + arrival.FIELD_BYTES)
    async with arrival.arriving(request, most, gateway.settings.home, key) as form:
        return await run_in_threadpool(_answer, request, form)


def _answer(request: Request, form: FormData) -> Response:
    gateway, key = gateway_of(request), caller_of(request)
    values = {name: str(form.get(name) or "").rstrip() for name in FIELDS}
    files = [part for part in form.getlist("files") if isinstance(part, UploadFile) and part.filename]
    try:
        if files:
            values["upload"] = arrival.keep(gateway.settings.home, key, files)
        options, name = _options(gateway, key, values), values["name"] or None
        if form.get("do") == "submit":
            limits.check_jobs(gateway.client.store, key)
            submitted = gateway.client.submit(options, name, key.id)
            if values["upload"]:
                arrival.forget(Path(options["documents"]))
            return RedirectResponse(f"/runs/{submitted.run.id}", 303)
        outcome = _dry_run(gateway, options, name, values["card"], key)
        return _form(request, values, outcome=_unplaced(outcome, options["documents"]) if values["upload"] else outcome)
    except (UserError, ApiError) as error:
        status, text = (400, error.text) if isinstance(error, UserError) else (error.status, error.message)
        return _form(request, values, status, wrong=_without_places(gateway, key, values["upload"], _on_the_page(text)))


def _on_the_page(text: str) -> str:
    """An error's text, with what the form has in place of what a terminal has."""
    for typed, instead in INSTEAD:
        text = text.replace(typed, instead)
    return text


def _form(
    request: Request, values: dict[str, str], status: int = 200, outcome: Outcome | None = None, wrong: str = ""
) -> Response:
    from ftq.spec.options import options as all_options

    gateway, key = gateway_of(request), caller_of(request)
    return page(
        request,
        "submit.html",
        status,
        values={name: values.get(name, "") for name in FIELDS},
        outcome=outcome,
        wrong=wrong,
        root=_root(gateway, key),
        models=[model.alias for model in models.MODELS],
        all_options=[one for one in all_options() if one["name"] not in ELSEWHERE],
        files=_uploaded(gateway, key, values.get("upload", "")),
    )


def _root(gateway: Gateway, key: Key) -> Path | None:
    """Below which folder the key may name documents; None if it may not."""
    named = gateway.options.documents
    return Path(named).resolve() if named or key.admin else None


def _uploaded(gateway: Gateway, key: Key, token: str) -> str:
    try:
        files = sorted(path.name for path in arrival.folder_of(gateway.settings.home, key, token).iterdir())
    except ApiError:
        return ""
    return f"{plural(len(files), 'file')}: {', '.join(files[:5])}{', …' if len(files) > 5 else ''}"


def _options(gateway: Gateway, key: Key, values: dict[str, str]) -> dict[str, Any]:
    """The options of the run. UserError or ApiError for what this key may not ask for."""
    options = _more_options(values["options"], key)
    if not key.admin and not (models.find(values["model"]) or models.is_hub_id(values["model"])):
        near = ", ".join(model.alias for model in models.MODELS)
        raise UserError(f"model {values['model'] or '(none)'}: not one of the catalogue", f"Known: {near}; or a hub id")
    return {**options, "model": values["model"], "documents": str(_documents(gateway, key, values))}


def _documents(gateway: Gateway, key: Key, values: dict[str, str]) -> Path:
    if values["upload"]:
        return arrival.folder_of(gateway.settings.home, key, values["upload"])
    root = _root(gateway, key)
    if root is None:
        raise UserError("no files were chosen", "Choose the documents to train on.")
    if not values["folder"]:
        raise UserError("no documents were named", f"Name a folder below {root}, or choose files.")
    folder = (root / Path(values["folder"]).expanduser()).resolve()
    home = gateway.settings.home.resolve()
    if not folder.is_relative_to(root) or folder.is_relative_to(home):
        raise UserError(
            f"documents {values['folder']}: not a folder below {root}", "Name one that is, or choose files."
        )
    return folder


def _more_options(text: str, key: Key) -> dict[str, Any]:
    """The lines of `key=value`. UserError for those that the form has fields for, or that would read others' files."""
    from ftq.spec.options import parse_assignment

    options = dict[str, Any]()
    for number, line in enumerate(lines(text), 1):
        if not line.strip():
            continue
        try:
            name, value = parse_assignment(line)
        except ValueError:
            hint = "For example: epochs=5"
            raise UserError(f"options, line {number}: {line.strip()!r} is no key=value", hint) from None
        if name in ELSEWHERE or (name in PATHS and not key.admin):
            why = "the form has its own field" if name in ELSEWHERE else "it names a file of the server's"
            raise UserError(f"options, line {number}: {name} can't be set here: {why}")
        options[name] = value
    return options


def _dry_run(gateway: Gateway, options: dict[str, Any], name: str | None, card: str, key: Key) -> Outcome:
    from ftq.report.forecast import told

    client = gateway.client
    spec, documents = client.dry_run(options, name)
    warnings, checked = client.look_over(spec, documents)
    forecast = client.forecast(spec, card or None, checked, documents)
    waits = client.would_wait(spec, key.id)
    renamed = names.renamed(names.free_name(client.store, name, sees(key)), name) if name else ""
    notes = [*forecast.notes, *filter(None, [renamed, f"It would wait. {waits}" if waits else ""])]
    notes += [] if checked else warnings
    notes = [_on_the_page(note) for note in notes]
    return Outcome(told(spec, documents, forecast), notes, _findings(checked) if checked else [])


def _unplaced(outcome: Outcome, folder: str) -> Outcome:
    """The same for uploaded files: where the server has put them is told to nobody."""
    lines = [(what, _uploaded_in(folder, text)) for what, text in outcome.lines]
    return replace(outcome, lines=lines, notes=[_uploaded_in(folder, note) for note in outcome.notes])


def _without_places(gateway: Gateway, key: Key, upload: str, text: str) -> str:
    """What went wrong: likewise, and the server's other paths are for admins."""
    with suppress(ApiError):
        text = _uploaded_in(str(arrival.folder_of(gateway.settings.home, key, upload)), text)
    return text if key.admin else without_paths(text)


def _uploaded_in(folder: str, text: str) -> str:
    for place, name in ((f" from {folder}", ", uploaded"), (f"{folder}/", ""), (folder, "as uploaded")):
        text = text.replace(place, name)
    return text


def _findings(checked: Check) -> list[tuple[str, str, str, Sequence[str]]]:
    return [(one.level, one.message, _on_the_page(one.fix), one.places[:5]) for one in checked.findings[:FINDINGS]]
