"""The Python API: one method for each thing a person does with runs. The CLI only parses, calls and prints."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftq.client import asking, removal
from ftq.client import follow as following
from ftq.client.asking import START, Asking, Pieces
from ftq.errors import NameTaken, Unavailable, UserError
from ftq.files import run_dir
from ftq.files import snapshot as documents
from ftq.files.run_dir import RunDir
from ftq.settings import Settings, sqlite_file, without_password
from ftq.spec import models
from ftq.store.records import MAX_GPUS, Event, Run, gpu_queue, queue_of
from ftq.store.store import RunStore

if TYPE_CHECKING:
    from celery import Celery

    from ftq.plan.forecast import Forecast

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_ID_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # no letter that reads like another


@dataclass
class Submitted:
    """`notes` are for people: documents left behind, nobody there yet to start it; `others` a word on other files."""

    run: Run
    documents: int
    notes: list[str] = field(default_factory=list)
    others: str = ""


class Client:
    """Everything a person can do with runs. Most of it needs the database, only sending needs the broker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def store(self) -> RunStore:
        file = sqlite_file(self.settings.database_url)
        if file and file.is_relative_to(self.settings.home):
            _make_home(self.settings)
        return RunStore(self.settings.database_url)

    def close(self) -> None:
        """Give back the database's connections; a client that was closed may be used again."""
        if "store" in self.__dict__:
            self.store.close()

    @cached_property
    def _app(self) -> Celery:
        from ftq.queue import make_app  # celery takes 0.2 s to import: only for commands that send

        app = make_app(self.settings)
        # A person waits: a broker that is away or mute is said so within five seconds, the run is recorded anyway.
        app.conf.task_publish_retry_policy = {"max_retries": 0}
        app.conf.broker_transport_options |= {"max_retries": 0, "socket_connect_timeout": 1.5, "socket_timeout": 3}
        return app

    # ---- submit -----------------------------------------------------------------------------------------

    def submit(self, options: dict[str, Any], name: str | None = None) -> Submitted:
        """Validate, snapshot the documents, record the run, send its stages. UserError names every problem at once."""
        spec, _ = self.dry_run(options, name)
        self.store  # noqa: B018  a database that can't be reached: said before anything is made
        _make_home(self.settings)
        while True:
            try:
                run, taken = self._record(spec, name or self._free_name(spec["model"]))
                break
            except NameTaken:
                if name:
                    raise  # a name of ours was taken at the same moment by another submit: take the next
        return Submitted(run, taken.files, taken.skipped + self._send(run), taken.others)

    def _record(self, spec: dict[str, Any], name: str) -> tuple[Run, documents.Snapshot]:
        """(the run, its files and its row in place; the documents that it took)."""
        run_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))
        final, partial = self.run_dir(run_id), RunDir(self.settings.home / f".{run_id}.partial")
        try:
            partial.documents.mkdir(parents=True)
            taken = documents.snapshot(Path(spec["documents"]), partial.documents, self.settings.home)
            record = {"id": run_id, "name": name, "spec": spec, "documents_hash": taken.hash}
            run_dir.write_json(partial.run_json, record)
            partial.submitting.touch()
            run_dir.sync_tree(partial.path)
            partial.path.rename(final.path)
            run_dir.sync(self.settings.home)
            run = self.store.create(run_id, name, spec, taken.hash)
            run_dir.remove(final.submitting)
            return run, taken
        except BaseException as error:
            run_dir.remove(partial.path)
            if not removal.is_recorded(self.store, run_id):  # an answer can be lost after the commit
                run_dir.remove(final.path)
            if isinstance(error, OSError):
                raise removal.cannot_write(self.settings.home, error) from None
            raise

    def dry_run(self, options: dict[str, Any], name: str | None = None) -> tuple[dict[str, Any], documents.Snapshot]:
        """What submit would record: (spec, the documents it would take). Nothing is written.

        UserError with all problems, a line each.
        """
        return validate(options, name, self.settings.home, self._is_taken)

    def forecast(self, spec: dict[str, Any], card: str | None = None) -> Forecast:
        """Memory, time and disk for a spec of `dry_run`, on the worker's card or on another. UserError if it can't fit.

        Nothing is written: where there is no database yet, there is no worker either.
        """
        from ftq.plan.forecast import forecast

        store = self.store if self.has_database() else None
        return forecast(spec, store, self.settings.home, card)

    # ---- control ----------------------------------------------------------------------------------------

    def cancel(self, wanted: str) -> Run:
        return self.store.cancel(self.store.find(wanted).id)

    def pause(self, wanted: str) -> Run:
        return self.store.pause(self.store.find(wanted).id)

    def resume(self, wanted: str) -> tuple[Run, list[str]]:
        run = self.store.resume(self.store.find(wanted).id)
        return run, self._send(run)

    def retry(self, wanted: str, from_stage: str | None = None) -> tuple[Run, list[str]]:
        run = self.store.retry(self.store.find(wanted).id, from_stage)
        return run, self._send(run)

    def keep(self, wanted: str, kept: bool = True) -> Run:
        """Whether `gc` spares the run."""
        self.store.keep(self.store.find(wanted).id, kept)
        return self.store.find(wanted)

    # ---- look -------------------------------------------------------------------------------------------

    def find(self, wanted: str) -> Run:
        """A run by id, unique prefix of an id, or name."""
        return self.store.find(wanted)

    def all(self, limit: int | None = None) -> list[Run]:
        """Every run, or the latest so many; the newest first."""
        return self.store.all(limit)

    def count(self) -> int:
        return self.store.count()

    def missing_worker(self, *found: Run) -> str:
        """Why nobody takes up the first of these runs that waits in vain, and what to do; empty if somebody can."""
        live = self.store.live_queues()
        for run in found:
            needed = {queue_of(stage.name, run.spec) for stage in run.remaining}
            if run.wanted == "run" and not run.is_finished and (missing := needed - live):
                why, start = _explain_missing(run.name, missing, live)
                return f"{why}. The run is recorded and starts as soon as one is there. {start}"
        return ""

    def would_wait(self, spec: dict[str, Any]) -> str:
        """The same for a run that isn't recorded. Nothing is written: where there is no database, no worker is up."""
        live = self.store.live_queues() if self.has_database() else set[str]()
        needed = {queue_of(stage, spec) for stage in run_dir.STAGES}
        missing = needed - live
        return ". ".join(_explain_missing("It", missing, live)) if missing else ""

    def has_database(self) -> bool:
        """Whether a database is there: looking into one that isn't would make it."""
        file = sqlite_file(self.settings.database_url)
        return file is None or file.is_file()

    def run_dir(self, run_id: str) -> RunDir:
        return run_dir.run_dir(self.settings.home, run_id)

    def follow(self, run_id: str, seconds: float = 1.0) -> Iterator[Run]:
        """The run as it changes, once a second, until it is finished. A database away for a lease is an error."""
        return following.states(self.store, run_id, seconds, self.settings.lease_seconds)

    def follow_events(self, run_id: str, follow: bool) -> Iterator[Event]:
        """The run's events; with `follow` the coming ones too, until the run is finished."""
        return following.events(self.store, self._states(run_id, follow, 0.5), self.settings.lease_seconds)

    def follow_logs(self, run_id: str, stages: Sequence[str], follow: bool) -> Iterator[tuple[str, bytes]]:
        """(stage, the next piece of its log); with `follow` the coming ones too, until the run is finished."""
        return following.logs(self.run_dir(run_id), self._states(run_id, follow, 0.3), stages)

    def _states(self, run_id: str, follow: bool, seconds: float) -> Iterator[Run]:
        return self.follow(run_id, seconds) if follow else iter([self.store.get(run_id)])

    # ---- ask --------------------------------------------------------------------------------------------

    def ask(self, wanted: str, prompt: str, timeout: float = 600.0, **options: Any) -> dict[str, Any]:
        """The answer of the run's exported model: {"prompt", "answer", "stopped", "tokens", "seconds",
        "first_token_seconds"}, the last two as the worker measured them.

        Options: quant (which GGUF), base (True asks the untuned model), max_tokens, temperature, seed. FtqError if
        nobody answers, or nothing new is written for `timeout` seconds.
        """
        return asking.drain(self.stream(wanted, prompt, timeout, **options))

    def stream(self, wanted: str, prompt: str, timeout: float = 600.0, **options: Any) -> Pieces:
        """The same answer's text as it is written; the generator's return value is the whole answer.

        The question is asked with the first `next`, and withdrawn when the generator is closed before its end.
        """
        asking.check_prompt(prompt)
        run = self._askable(wanted, options)
        return self._asking.stream(run.id, prompt, options, timeout)

    def ask_many(
        self, wanted: str, prompts: Sequence[str], timeout: float = 600.0, **options: Any
    ) -> Iterator[dict[str, Any]]:
        """The answers in the prompts' order, several asked at once; {"prompt", "error"} where the worker had one."""
        for prompt in prompts:
            asking.check_prompt(prompt)
        run = self._askable(wanted, options)
        return self._asking.many(run.id, prompts, options, timeout)

    def _askable(self, wanted: str, options: dict[str, Any]) -> Run:
        """The run, which has the model that is asked for and somebody who can answer."""
        asking.check_options(options)
        run = self.store.find(wanted)
        asking.check_model(run, self.run_dir(run.id), options)
        self._asking.check_worker()
        return run

    @cached_property
    def _asking(self) -> Asking:
        return Asking(self.store, self._ring, self._find_broker())

    def _ring(self, question: str) -> bool:
        from ftq.queue import send_question

        return send_question(self._app, question)

    # ---- make room --------------------------------------------------------------------------------------

    def removable(self, last: int) -> list[tuple[Run, int]]:
        """(run, bytes) that `gc` would delete: finished, not kept, and not among the last so many."""
        old = [run for run in self.store.all() if run.is_finished and not run.kept][last:]
        return [(run, self.size(run)) for run in old]

    def size(self, run: Run) -> int:
        return run_dir.size_of(self.run_dir(run.id).path)

    def freed(self, runs: list[Run]) -> int:
        """Bytes that deleting the runs gives back; files that a cache hit shares with another run stay."""
        return run_dir.freed_by([self.run_dir(run.id).path for run in runs])

    def staying(self, runs: list[Run]) -> int:
        """Bytes of these runs' files that deleting them doesn't give back."""
        return run_dir.staying_of([self.run_dir(run.id).path for run in runs])

    def leftovers(self) -> list[tuple[Path, int]]:
        """(path, bytes) of what nothing needs, `room.why` says why; `clear` deletes one."""
        return [(path, run_dir.size_of(path)) for path in removal.leftovers(self.store, self.settings.home)]

    def old_questions(self) -> int:
        """How many questions, with their answers, are older than a day; `forget_questions` deletes them."""
        return self.store.count_questions()

    def forget_questions(self) -> None:
        self.store.forget_questions()

    def remove(self, run: Run, old: bool = False) -> None:
        """Delete a run's record and its files. Refused while it is running; with `old` also if `gc` has to spare it."""
        removal.remove(self.store, self.run_dir(run.id).path, run.id, old)

    def clear(self, leftover: Path) -> None:
        removal.clear(leftover)

    # ---- inside -----------------------------------------------------------------------------------------

    def _send(self, run: Run) -> list[str]:
        """Ring the doorbell; what a person should know if nobody answers it."""
        from ftq.queue import send

        if not send(self._app, run):
            recorded = "The run is recorded and starts as soon as it is there."
            return [f"The broker can't be reached. {recorded} {self._find_broker()}"]
        missing = self.missing_worker(run)
        return [missing] if missing else []

    def _find_broker(self) -> str:
        """What to do when none answers."""
        if self.settings.embedded:
            return ("`ftq up` starts it; where the workers run in Docker, "
                    "`docker compose run --rm cli` takes the place of `ftq`.")  # fmt: skip
        return f"Check that a server is there: FTQ_BROKER_URL={without_password(self.settings.broker_url)}"

    def _is_taken(self, name: str) -> bool:
        """Whether a run has the name. An unreachable database counts as no: recording the run reports it."""
        with contextlib.suppress(Unavailable):
            return self.has_database() and name in self.store.names(name)
        return False

    def _free_name(self, model: str) -> str:
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", model.rstrip("/").rpartition("/")[2]).strip("-.")[:60] or "run"
        taken = self.store.names(base)
        number = 1
        while f"{base}-{number}" in taken:
            number += 1
        return f"{base}-{number}"


def _explain_missing(name: str, missing: set[str], live: set[str]) -> tuple[str, str]:
    """(what is missing for the run of that name, how to start it)."""
    wide = next((count for count in range(2, MAX_GPUS + 1) if gpu_queue(count) in missing), 0)
    if wide and live:
        most = next((count for count in range(MAX_GPUS, 1, -1) if gpu_queue(count) in live), 1)
        example = ",".join(map(str, range(wide)))
        return (f"{name} needs a worker with {wide} GPUs, and no worker here has more than {most}",
                f"`ftq worker --gpus {example}` starts one.")  # fmt: skip
    if not live:
        return "No worker is up", START
    queues = sorted(missing)
    return f"No worker serves the queue {' or '.join(queues)}", f"`ftq worker --queues {','.join(queues)}` starts one."


def validate(
    options: dict[str, Any], name: str | None, home: Path, taken: Callable[[str], bool]
) -> tuple[dict[str, Any], documents.Snapshot]:
    """(the spec as it is recorded, the documents it takes). UserError with all problems, a line each.

    `taken` says whether another run has a name.
    """
    from ftq.spec import options as spec  # pydantic takes 0.1 s to import: not for `ftq status`

    problems: list[UserError] = []
    checked = found = None
    try:
        checked = spec.parse(options)
    except UserError as error:
        problems.append(error)
    model = str(options.get("model") or "")
    try:
        if model:
            model = models.check(model)
    except UserError as error:
        problems.append(error)
    folder = checked.documents if checked else str(options.get("documents", "documents"))
    try:
        found = documents.snapshot(Path(os.path.expanduser(folder)), None, home) if folder else None
    except UserError as error:
        problems.append(error)
    if name is not None and not _NAME.fullmatch(name):
        problems.append(UserError(f"name {name!r}: letters, digits, `.`, `_` and `-` only, 80 at most"))
    elif name is not None and taken(name):
        problems.append(NameTaken(name))
    if len(problems) == 1:
        raise problems[0]
    if problems or checked is None or found is None:
        hints = dict.fromkeys(problem.hint for problem in problems if problem.hint)
        raise UserError("\n".join(problem.message for problem in problems), "\n".join(hints))
    return {**checked.model_dump(), "model": model, "documents": os.path.realpath(os.path.expanduser(folder))}, found


def _make_home(settings: Settings) -> None:
    """The closed door: whoever may not enter here can read nothing below, whatever its mode."""
    home = settings.home
    try:
        run_dir.make_home(home, settings.umask)
    except OSError as error:
        raise Unavailable(
            f"the artifacts folder {home} can't be made ({error.strerror})", "Set FTQ_HOME to another."
        ) from None
