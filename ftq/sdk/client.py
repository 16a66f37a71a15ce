"""The client for programs: what `ftq` does on the command line, as methods with types."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import ftq.client
from ftq.errors import FtqError
from ftq.settings import Settings
from ftq.store.records import Event, Run

if TYPE_CHECKING:
    from ftq.delivery.pull import Pulled
    from ftq.evaluation.evaluation import Evaluation
    from ftq.plan.forecast import Forecast
    from ftq.spec.options import RunSpec

SECONDS = 1.0  # between two looks at a run that is followed
log = logging.getLogger("ftq")


class RunFailed(FtqError):
    """A run that was waited for has failed or was cancelled; `run` has its stages and its error."""

    def __init__(self, run: Run) -> None:
        stage = run.current.name if run.current else ""
        why = f"failed at {stage}: {run.error.message}" if run.error else f"is {run.status}"
        super().__init__(f"run {run.name} {why}", run.error.hint if run.error else f"`ftq retry {run.name}` goes on.")
        self.run = run


@dataclass(frozen=True)
class Answer:
    """What a model answered. `stopped` is false where `max_tokens` has cut it."""

    text: str
    stopped: bool
    tokens: int
    seconds: float

    def __str__(self) -> str:
        return self.text


class Client:
    """Runs, over the database of `home` or through the server of `server`; without both as the environment says.

    A run is named by its record, its id, its name or a version, such as handbook:latest. Every method raises FtqError.
    Notes for a person, such as documents that were left out, go to the log `ftq` as warnings.
    """

    def __init__(self, *, server: str | None = None, key: str | None = None, home: str | Path | None = None) -> None:
        variables = {"FTQ_SERVER": server, "FTQ_KEY": key, "FTQ_HOME": None if home is None else str(home)}
        if home is not None and server is None:
            variables |= {"FTQ_SERVER": ""}
        environ = {**os.environ, **{name: value for name, value in variables.items() if value is not None}}
        if key is not None:
            environ.pop("FTQ_KEY_FILE", None)
        self._client = ftq.client.open(Settings.from_env(environ), log.warning)

    def close(self) -> None:
        """Give back connections; a client that was closed may be used again."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- a run's life -----------------------------------------------------------------------------------

    def submit(self, spec: RunSpec, name: str | None = None) -> Run:
        """Check and record a run, and send it to the workers. UserError names every problem at once."""
        submitted = self._client.submit(spec.model_dump(exclude_unset=True), name)
        for note in submitted.notes:
            log.warning(note)
        return submitted.run

    def forecast(self, spec: RunSpec, card: str | None = None) -> Forecast:
        """What `submit` would take: memory, time, disk, on the workers' card or on another. Nothing is recorded."""
        checked, documents = self._client.dry_run(spec.model_dump(exclude_unset=True))
        _, looked = self._client.look_over(checked, documents)
        return self._client.forecast(checked, card, looked, documents)

    def follow(self, run: Run | str) -> Iterator[Run]:
        """The run each second, until it is finished. A database or a server that is gone is waited for, for a lease."""
        return self._client.follow(self._id(run), SECONDS)

    def wait(self, run: Run | str, timeout: float | None = None) -> Run:
        """The run once it has succeeded. RunFailed if it hasn't, TimeoutError if it takes longer than that."""
        until = None if timeout is None else time.monotonic() + timeout
        for state in self.follow(run):
            if state.status == "succeeded":
                return state
            if state.is_finished:
                raise RunFailed(state)
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"run {state.name} is {state.status} after {timeout:g} s")
        raise AssertionError("a run is followed until it is finished")

    def cancel(self, run: Run | str) -> Run:
        return self._client.cancel(self._id(run))

    def pause(self, run: Run | str) -> Run:
        return self._client.pause(self._id(run))

    def resume(self, run: Run | str) -> Run:
        return self._noted(self._client.resume(self._id(run)))

    def retry(self, run: Run | str, from_stage: str | None = None) -> Run:
        """Go on from the stage that isn't done, or do one and all after it anew."""
        return self._noted(self._client.retry(self._id(run), from_stage))

    def remove(self, run: Run | str) -> None:
        """Delete a run and its files. Refused while it is running."""
        self._client.room.remove(self.run(run))

    # ---- look -------------------------------------------------------------------------------------------

    def runs(self, limit: int | None = None) -> list[Run]:
        """Every run, or the latest so many; the newest first."""
        return self._client.all(limit)

    def run(self, run: Run | str) -> Run:
        """The run as it is now."""
        return self._client.find(run.id if isinstance(run, Run) else run)

    def events(self, run: Run | str, follow: bool = False) -> Iterator[Event]:
        """What happened; with `follow` also what comes, until the run is finished."""
        return self._client.follow_events(self._id(run), follow)

    # ---- use --------------------------------------------------------------------------------------------

    def ask(self, run: Run | str, prompt: str, **options: Any) -> Answer:
        """The answer of a run's model. Options: quant, base, max_tokens, temperature, seed."""
        return _answer(self._client.ask(self._id(run), prompt, **options))

    def stream(self, run: Run | str, prompt: str, **options: Any) -> Iterator[str]:
        """The same answer's text as it is written. Left early, the question is withdrawn."""
        with closing(self._client.stream(self._id(run), prompt, **options)) as pieces:
            yield from pieces

    def ask_many(self, run: Run | str, prompts: Sequence[str], **options: Any) -> Iterator[Answer]:
        """The answers in the prompts' order, several asked at once. FtqError at the first that failed."""
        for answer in self._client.ask_many(self._id(run), prompts, **options):
            if error := answer.get("error"):
                raise FtqError(error["message"], error["hint"])
            yield _answer(answer)

    def evaluate(
        self,
        run: Run | str,
        questions: str | Path | None = None,
        against: Run | str | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Evaluation:
        """Ask the base model and each of the run's files the same questions, and score what they answer.

        The questions are those of a file, else those of the run's own evaluation.
        """
        file = None if questions is None else Path(questions)
        other = None if against is None else self._id(against)
        return self._client.evaluate(self._id(run), file, other, progress)

    def pull(self, run: Run | str, to: str | Path | None = None, kind: str = "gguf") -> Pulled:
        """Copy a model's files into a folder, checked; called again it goes on where it was stopped.

        `kind` is gguf, gguf:q8_0, adapter or merged. Without a folder it is ./NAME-vN.
        """
        model = self._client.models.model(self._id(run), kind)
        return self._client.models.pull(model, None if to is None else Path(to))

    # ---- inside -----------------------------------------------------------------------------------------

    def _id(self, run: Run | str) -> str:
        return run.id if isinstance(run, Run) else self._client.find(run).id

    def _noted(self, told: tuple[Run, list[str]]) -> Run:
        run, notes = told
        for note in notes:
            log.warning(note)
        return run


def _answer(values: dict[str, Any]) -> Answer:
    return Answer(values["answer"], bool(values["stopped"]), int(values["tokens"]), float(values["seconds"]))
