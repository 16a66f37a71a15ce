"""The Python API: one method for each thing a person does with runs. The CLI only parses, calls and prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftq.client import asking, submit, workers
from ftq.client.asking import Asking, Pieces
from ftq.client.bucket.access import RunFiles
from ftq.client.models import Models
from ftq.client.recording import names, record
from ftq.client.submit import Submitted
from ftq.doorbell.bell import Doorbell
from ftq.errors import NotFound, utf8
from ftq.files.snapshot import Snapshot
from ftq.servers import sqlite_file
from ftq.settings import Settings
from ftq.store.records import Run
from ftq.store.store import RunStore
from ftq.trace import spans

if TYPE_CHECKING:
    from ftq.check.check import Check
    from ftq.client.evaluate import Progress
    from ftq.evaluation.compare import Comparison
    from ftq.evaluation.evaluation import Evaluation
    from ftq.plan.forecast import Forecast


class Client(RunFiles):
    """Everything a person can do with runs. Most of it needs the database, only sending needs the broker."""

    def __init__(self, settings: Settings, hung_up: Callable[[], bool] = lambda: False) -> None:
        """`hung_up` says whether nobody waits for an answer any more."""
        self._settings, self._hung_up = settings, hung_up

    @property
    def settings(self) -> Settings:
        return self._settings

    @cached_property
    def store(self) -> RunStore:
        file = sqlite_file(self.settings.database_url)
        if file and file.is_relative_to(self.settings.home):
            record.make_home(self.settings)
        return RunStore(self.settings.database_url)

    @cached_property
    def models(self) -> Models:
        """Finished runs as versions of a model."""
        return Models(self.store, self.settings.home, self._bucket, self.elsewhere)

    @property
    def fleet(self) -> workers.Fleet:
        """The workers."""
        return workers.Fleet(self.store)

    @property
    def place(self) -> str:
        """Where the runs are, for people."""
        return self.settings.artifacts_url or str(self.settings.home)

    def close(self) -> None:
        """Give back the database's connections; a client that was closed may be used again."""
        if "store" in self.__dict__:
            self.store.close()

    @cached_property
    def _doorbell(self) -> Doorbell:
        return Doorbell(self.settings, lambda: self.store)

    def check_database(self) -> None:
        """UserError if the broker's workers use another database than this client."""
        self._doorbell.check()

    # ---- submit -----------------------------------------------------------------------------------------

    def submit(self, options: dict[str, Any], name: str | None = None, owner: str = "") -> Submitted:
        """Validate, snapshot the documents, record the run, send its stages. UserError names every problem at once.

        `owner` is the id of the gateway's key that asks for it, else it is this process's user.
        """
        began = spans.now()
        spec, documents = self.dry_run(options, name)
        store = self.store if self.has_database() else None
        record.check_bucket(self.settings, store)  # before `look_over` asks it what earlier runs tell
        warnings, _ = self.look_over(spec, documents)
        self._doorbell.check()
        asker = record.Asker(owner or names.user(), names.new_id())
        run, documents = record.record(self.settings, self.store, spec, name, asker)  # opens the database first
        sees = not owner or not name or self.store.find(name).owner == owner
        said = [names.renamed(run.name, name, sees), self.unlike_last(run)]
        notes = documents.skipped + warnings + [text for text in said if text]
        notes += self.send(run)
        spans.record(run.id, "submit", began, run=run.name, model=run.model, documents=documents.files)
        return Submitted(run, documents.files, notes, documents.others)

    def submit_once(
        self, options: dict[str, Any], family: str, run_id: str, owner: str = "", said: Mapping[str, str] | None = None
    ) -> Run:
        """Submit the next run of a family under an id of `names.new_id()`. A second call gives the run of the first.

        `owner` is the id of the key that asks for it, `said` what people read instead of the paths of its files.
        """
        began = spans.now()
        if (run := record.recorded(self.settings, self.store, run_id)) is None:
            spec, _ = self.dry_run(options)
            self._doorbell.check()
            run = record.record_once(self.settings, self.store, spec, family, run_id, owner, said or {})
            spans.record(run.id, "submit", began, run=run.name, model=run.model)
        self.send(run)
        return run

    def dry_run(self, options: dict[str, Any], name: str | None = None) -> tuple[dict[str, Any], Snapshot]:
        """What submit would record: (spec, the documents it would take). Nothing is written.

        UserError with all problems, a line each.
        """
        return submit.validate(options, name, self.settings.home)

    def forecast(
        self,
        spec: dict[str, Any],
        card: str | None = None,
        checked: Check | None = None,
        documents: Snapshot | None = None,
    ) -> Forecast:
        """Memory, time and disk for a spec of `dry_run`, on the worker's card or on another. UserError if it can't fit.

        `checked` is from `look_over`, `documents` from `dry_run`: without these the documents are read. Nothing is
        written: where there is no database yet, there is no worker either.
        """
        from ftq.plan.forecast import forecast

        store = self.store if self.has_database() else None
        documents_hash = documents.hash if documents else None
        if store and self._bucket:
            self._bucket.fetch_reports(spec, documents_hash)
        return forecast(spec, store, self.settings.home, card, checked, documents_hash)

    def look_over(self, spec: dict[str, Any], documents: Snapshot) -> tuple[list[str], Check | None]:
        """(what is wrong with the documents of `dry_run`, in a line; what they would teach, where that was looked at).

        They aren't where they are many, or where an earlier run with these options has. UserError if nothing can be
        learned from them.
        """
        store = self.store if self.has_database() else None
        if store and self._bucket:
            self._bucket.fetch_reports(spec, documents.hash)
        return submit.look_over(spec, documents, self.settings.home, store)

    def check(self, options: dict[str, Any], progress: Callable[[float], None] = lambda share: None) -> Check:
        """What a folder of documents would teach: these are submit's options, of which `model` may be missing.

        Nothing is written, and no database is needed. UserError for options or a folder that submit would refuse.
        """
        return submit.check(options, self.settings.home, progress)

    # ---- control ----------------------------------------------------------------------------------------

    def cancel(self, wanted: str) -> Run:
        return self.store.cancel(self.find(wanted).id)

    def pause(self, wanted: str) -> Run:
        return self.store.pause(self.find(wanted).id)

    def resume(self, wanted: str) -> tuple[Run, list[str]]:
        run = self.find(wanted)
        self._doorbell.check()
        run = self.store.resume(run.id)
        return run, self.send(run)

    def retry(self, wanted: str, from_stage: str | None = None) -> tuple[Run, list[str]]:
        before = self.find(wanted)
        self._doorbell.check()
        run = self.store.retry(before.id, from_stage)
        ended = f"{before.version_name} is gone: {run.name} gets a new number when it succeeds"
        return run, ([ended] if before.version and not run.version else []) + self.send(run)

    def keep(self, wanted: str, kept: bool = True) -> Run:
        """Whether `gc` spares the run."""
        run_id = self.find(wanted).id
        self.store.keep(run_id, kept)
        return self.store.get(run_id)

    # ---- look -------------------------------------------------------------------------------------------

    def find(self, wanted: str) -> Run:
        """A run by id, unique prefix of an id, or name; as a version, such as handbook:2 or handbook:latest.

        A look into a folder without runs leaves nothing there.
        """
        if submit.is_new(self.settings):
            where = f"There is no run in {self.settings.home}: `ftq submit` makes one, FTQ_HOME names another folder."
            raise NotFound(f"no run matches {utf8(wanted)}", where)
        return self.store.find(wanted)

    def all(self, limit: int | None = None) -> list[Run]:
        """Every run, or the latest `limit`; the newest first."""
        return [] if submit.is_new(self.settings) else self.store.all(limit)

    def count(self) -> int:
        return 0 if submit.is_new(self.settings) else self.store.count()

    def missing_worker(self, *runs: Run) -> str:
        """Why no worker takes the first run that waits in vain, and what to do; empty if all are taken."""
        return workers.missing_for(runs, self.store) if runs else ""

    def would_wait(self, spec: dict[str, Any], owner: str = "") -> str:
        """What `missing_worker` would say of a run that isn't recorded. Writes nothing, not even a new database."""
        return workers.would_wait(spec, self.store if self.has_database() else None, owner or names.user())

    def has_database(self) -> bool:
        """Whether there is a database. Opening a missing one would create it."""
        file = sqlite_file(self.settings.database_url)
        return file is None or file.is_file()

    def report(self, run: Run, path: Path | None = None) -> Path:
        """Write the page on a run, in its folder unless there is another path, and return where it is."""
        from ftq.report.page import write

        return write(run, self.report_dir(run), path)

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
        """The run, checked to have the model that is asked for and a worker that answers."""
        asking.check_options(options)
        run = self.find(wanted)
        asking.check_model(run, self.quantizations(run), options, self.no_model(run))
        self._asking.check_worker()
        self._doorbell.check()
        self._doorbell.check_heard()
        return run

    def evaluate(
        self, wanted: str, questions: Path | None = None, against: str | None = None, progress: Progress | None = None
    ) -> Evaluation:
        """Ask a finished run's models questions and score the answers: those of the file, else the evaluation's.

        `against` names a run that is asked the same. `progress` is told (who answers, how many, of how many).
        """
        from ftq.client.evaluate import evaluate

        return evaluate(self, wanted, questions, against, progress or (lambda subject, done, of: None))

    def compare(self, a: str, b: str) -> Comparison:
        """Two runs side by side: options, scores and answers, as they are recorded."""
        from ftq.client.evaluate import compare

        return compare(self, a, b)

    def waiting(self, hung_up: Callable[[], bool]) -> Client:
        """The same client, whose questions end once `hung_up()` says that nobody waits for the answer any more."""
        other = Client(self.settings, hung_up)
        other.store, other._doorbell, other._bucket = self.store, self._doorbell, self._bucket
        return other

    @cached_property
    def _asking(self) -> Asking:
        return Asking(self.store, self._doorbell.ring, self._doorbell.no_broker, self._hung_up)

    # ---- inside -----------------------------------------------------------------------------------------

    def send(self, run: Run) -> list[str]:
        """Send the run's remaining stages. Returns notes for the person: no broker, no worker."""
        note = self._doorbell.deliver(run) or self.missing_worker(run)
        return [note] if note else []
