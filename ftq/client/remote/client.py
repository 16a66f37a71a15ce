"""The client through `ftq serve`: the methods of ftq.client.client.Client as requests.

What needs the user's files (documents, options) is checked here, what needs the runs' files or the queue there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftq.client import asking, submit, workers
from ftq.client.asking import Pieces
from ftq.client.follow import Following
from ftq.client.remote import submit as sending
from ftq.client.remote.connection import Connection
from ftq.client.remote.fleet import RemoteFleet
from ftq.client.remote.mirror import Mirror, file_path
from ftq.client.remote.models import RemoteModels
from ftq.client.remote.records import Records
from ftq.client.remote.room import RemoteRoom
from ftq.client.submit import Submitted
from ftq.errors import FtqError, NotFound, Unavailable
from ftq.files import run_dir
from ftq.files.snapshot import Snapshot
from ftq.settings import Settings
from ftq.store.records import Run
from ftq.store.wire.records import decode

if TYPE_CHECKING:
    from ftq.check.check import Check
    from ftq.client.evaluate import Progress
    from ftq.evaluation.compare import Comparison
    from ftq.evaluation.evaluation import Evaluation
    from ftq.plan.forecast import Forecast


class RemoteClient(Following):
    """`note` gets what a person should know: that the server is another version's."""

    log_seconds = 0.5

    def __init__(self, settings: Settings, note: Callable[[str], None] = lambda text: None) -> None:
        self._server = Connection(settings.server, settings.server_key, note)
        self._mirror, self._records = Mirror(self._server), Records(self._server)
        self._settings = replace(settings, home=self._mirror.home)
        self.models = RemoteModels(self._server, self._records)
        self.fleet = RemoteFleet(self._server)
        self.room = RemoteRoom(self._server, self._mirror.home)

    @cached_property
    def settings(self) -> Settings:
        """The settings of this process, with the server's lease and the mirror as the artifacts folder."""
        return replace(self._settings, lease_seconds=float(self._server.get("/about")["lease_seconds"]))

    @property
    def store(self) -> Records:
        return self._records

    @property
    def place(self) -> str:
        """Where the runs are, for people."""
        return self._server.url

    def close(self) -> None:
        self._server.close()

    # ---- submit -----------------------------------------------------------------------------------------

    def submit(self, options: dict[str, Any], name: str | None = None) -> Submitted:
        spec, documents = self.dry_run(options, name)
        warnings, _ = self.look_over(spec, documents)
        return sending.send(self._server, self._mirror, spec, name, warnings)

    def dry_run(self, options: dict[str, Any], name: str | None = None) -> tuple[dict[str, Any], Snapshot]:
        spec, documents = submit.validate(options, name, self._mirror.home)
        sending.check_model(spec, self._server.url)
        return spec, documents

    def forecast(
        self,
        spec: dict[str, Any],
        card: str | None = None,
        checked: Check | None = None,
        documents: Snapshot | None = None,
    ) -> Forecast:
        from ftq.plan.forecast import forecast

        self._fetch_reports(spec, documents)
        return forecast(spec, self._records, self._mirror.home, card, checked, documents.hash if documents else None)

    def look_over(self, spec: dict[str, Any], documents: Snapshot) -> tuple[list[str], Check | None]:
        self._fetch_reports(spec, documents)
        return submit.look_over(spec, documents, self._mirror.home, self._records)

    def check(self, options: dict[str, Any], progress: Callable[[float], None] = lambda share: None) -> Check:
        return submit.check(options, self._mirror.home, progress, self._bytes_per_token)

    def _bytes_per_token(self, spec: dict[str, Any]) -> float:
        """As the server's runs tell it, if it can be asked: a check needs no server."""
        from ftq.examples.lengths import BYTES_PER_TOKEN
        from ftq.plan.forecast import bytes_per_token

        with suppress(FtqError):
            self._fetch_reports(spec, None)
            return bytes_per_token(spec, self._records, self._mirror.home)
        return BYTES_PER_TOKEN

    def _fetch_reports(self, spec: dict[str, Any], documents: Snapshot | None) -> None:
        """Have what earlier runs tell of these documents, and of the tokens of this model, if the server has it now."""
        runs = self._records.all(submit.RUNS)
        with suppress(Unavailable):  # its bucket is out of reach
            submit.fetch_reports(runs, spec, documents.hash if documents else None, self._fetch_of_prepare)

    def _fetch_of_prepare(self, run: Run, names: tuple[str, ...]) -> bool:
        prepare = run.stage("prepare")
        at = prepare.finished_at or 0.0
        return prepare.status == "succeeded" and all(self._mirror.fetch(run.id, name, at) for name in names)

    # ---- control ----------------------------------------------------------------------------------------

    def cancel(self, wanted: str) -> Run:
        return self._tell(wanted, "cancel")[0]

    def pause(self, wanted: str) -> Run:
        return self._tell(wanted, "pause")[0]

    def resume(self, wanted: str) -> tuple[Run, list[str]]:
        return self._tell(wanted, "resume")

    def retry(self, wanted: str, from_stage: str | None = None) -> tuple[Run, list[str]]:
        return self._tell(wanted, "retry", from_stage=from_stage)

    def keep(self, wanted: str, kept: bool = True) -> Run:
        return self._tell(wanted, "keep", kept=kept)[0]

    def _tell(self, wanted: str, verb: str, **values: Any) -> tuple[Run, list[str]]:
        answer = self._server.post(f"/runs/{self.find(wanted).id}/{verb}", values)
        return decode(Run, answer["run"]), answer["notes"]

    # ---- look -------------------------------------------------------------------------------------------

    def find(self, wanted: str) -> Run:
        return self._records.find(wanted)

    def all(self, limit: int | None = None) -> list[Run]:
        return self._records.all(limit)

    def count(self) -> int:
        return self._records.count()

    def missing_worker(self, *runs: Run) -> str:
        return workers.missing_for(runs, self._records) if runs else ""

    def would_wait(self, spec: dict[str, Any]) -> str:
        return workers.would_wait(spec, self._records, str(self._server.get("/about").get("owner", "")))

    def has_database(self) -> bool:
        return True

    def home_of(self, *runs: Run) -> Path:
        """The mirror, with what a view of these runs reads in place."""
        for run in runs:
            self._mirror.fetch_viewed(run)
        return self._mirror.home

    def elsewhere(self, run: Run) -> None:
        """The server has the files, or says where they are."""

    def lost(self, run: Run) -> None:
        """The server says that too, when it is asked."""

    def urls(self, *runs: Run) -> dict[str, str]:
        """The server's bucket isn't known here."""
        return {run.id: self._settings.artifacts_url for run in runs}

    def has_log(self, run_id: str, stages: Sequence[str]) -> bool:
        there = {one["name"] for one in self._server.get(f"/runs/{run_id}/files")["data"]}
        return any(_log(stage) in there for stage in stages)

    def report(self, run: Run, path: Path | None = None) -> Path:
        """The server's page on the run, written into the mirror unless there is another path."""
        page = b"".join(self._server.bytes(f"/runs/{run.id}/report"))
        if path is None:
            path = run_dir.run_dir(self._mirror.home, run.id).path / "report.html"
            self._mirror.make(path.parent)
        run_dir.put_text(path, page.decode())
        return path

    def log_from(self, run_id: str, stage: str, offset: int) -> Iterator[bytes]:
        with suppress(NotFound):
            yield from self._server.bytes(file_path(run_id, _log(stage)), offset)

    # ---- ask --------------------------------------------------------------------------------------------

    def ask(self, wanted: str, prompt: str, timeout: float = 600.0, **options: Any) -> dict[str, Any]:
        return asking.drain(self.stream(wanted, prompt, timeout, **options))

    def stream(self, wanted: str, prompt: str, timeout: float = 600.0, **options: Any) -> Pieces:
        asking.check_prompt(prompt)
        asking.check_options(options)
        return self._pieces({"run": wanted, "prompt": prompt, "timeout": timeout, "options": options})

    def ask_many(
        self, wanted: str, prompts: Sequence[str], timeout: float = 600.0, **options: Any
    ) -> Iterator[dict[str, Any]]:
        for prompt in prompts:
            asking.check_prompt(prompt)
        asking.check_options(options)
        body = {"run": wanted, "prompts": list(prompts), "timeout": timeout, "options": options}
        return (line["answer"] for line in self._server.lines("/ask", body))

    def _pieces(self, body: dict[str, Any]) -> Pieces:
        for line in self._server.lines("/ask", body):
            if "answer" in line:
                answer: dict[str, Any] = line["answer"]
                return answer
            yield line["piece"]
        raise self._server.cut_off()

    def evaluate(
        self, wanted: str, questions: Path | None = None, against: str | None = None, progress: Progress | None = None
    ) -> Evaluation:
        from ftq.evaluation import own
        from ftq.evaluation.evaluation import Evaluation

        asked = own.to_json(own.read(questions, "--questions FILE")) if questions else None
        for line in self._server.lines("/evaluate", {"run": wanted, "questions": asked, "against": against}):
            if "evaluation" in line:
                return Evaluation.from_json(line["evaluation"])
            if progress:
                progress(*line["progress"])
        raise self._server.cut_off()

    def compare(self, a: str, b: str) -> Comparison:
        from ftq.evaluation.compare import Comparison

        return decode(Comparison, self._server.get("/compare", a=a, b=b))


def _log(stage: str) -> str:
    return f"logs/{stage}.log"
