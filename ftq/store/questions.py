"""Questions to a finished run: asked by a client, taken and answered by one worker."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ftq.errors import FtqError, NotFound, RunError
from ftq.store.database import Database, storable, storable_error
from ftq.store.records import ASK
from ftq.store.schema import questions, runs, workers
from ftq.store.workers import WORKER_SILENCE

OLD_SECONDS = 86_400.0  # nobody waits for an older question: the next one deletes it, with its answer
LOST = RunError("lost", "the worker's process that was to answer died", "Ask again. The worker's log has the details.")
_LIST = "`ftq status` lists the runs."
_WORKER, _TAKEN_AT = "_worker", "_taken_at"  # who answers since when, kept among the question's options


@dataclass(frozen=True)
class Reply:
    """An answer as far as it is written: `written` is the text so far, `answer` the whole once it is complete."""

    status: str
    written: str = ""
    answer: dict[str, Any] | None = None
    error: RunError | None = None


class Questions(Database):
    """A part of RunStore."""

    def ask(self, run_id: str, prompt: str, options: dict[str, Any]) -> str:
        """Record a question and return its id; delete old questions. NotFound if the run was deleted meanwhile."""
        question = secrets.token_hex(8)
        values = {"id": question, "run_id": run_id, "prompt": prompt, "options": options}
        try:
            with self.writing() as db:
                now = self._now(db)
                db.execute(questions.delete().where(_older(now, OLD_SECONDS)))
                db.execute(questions.insert().values(**values, created_at=now))
        except sa.exc.IntegrityError:
            raise NotFound(f"run {run_id} was deleted", _LIST) from None
        return question

    def take_question(self, question: str, worker: str) -> tuple[str, str, dict[str, Any]] | None:
        """Take the question: (run id, prompt, options) for one process, None for every other."""
        with self.writing() as db:
            taken = db.execute(questions.update().where(_is(question, "queued")).values(status="running"))
            if taken.rowcount != 1:
                return None
            row = db.execute(sa.select(questions).where(questions.c.id == question)).one()
            noted = {**row.options, _WORKER: worker, _TAKEN_AT: self._now(db)}
            db.execute(questions.update().where(questions.c.id == question).values(options=noted))
        return row.run_id, row.prompt, row.options

    def write_answer(self, question: str, written: str) -> None:
        """Show the asker the text so far."""
        with self.writing() as db:
            db.execute(questions.update().where(_is(question, "running")).values(written=storable(written)))

    def withdraw(self, question: str) -> None:
        """Give up the question: no worker takes it any more, and a worker that has it stops."""
        with self.writing() as db:
            waits = _is(question, "queued", "running")
            db.execute(questions.update().where(waits).values(status="withdrawn"))

    def check_question(self, question: str, worker: str) -> tuple[bool, bool]:
        """(whether somebody still waits for the answer; whether the worker was asked to stop)."""
        draining = sa.select(workers.c.draining).where(workers.c.name == worker)
        query = sa.select(questions.c.id).where(_is(question, "running"))
        with self.reading() as db:
            return db.execute(query).first() is not None, bool(db.execute(draining).scalar())

    def answer(self, question: str, answer: dict[str, Any] | None, error: RunError | None = None) -> None:
        """Record the answer or the error of a question that was taken. Only the first call counts."""
        with self.writing() as db:
            failed = storable_error(error) if error else None
            values = {"status": "failed" if error else "succeeded", "answer": answer, "error": failed}
            db.execute(questions.update().where(_is(question, "running")).values(**values))

    def read_answer(self, question: str) -> Reply:
        """The answer as far as it is written. FtqError if its run was deleted."""
        with self.reading() as db:
            query = sa.select(questions, runs.c.name.label("run")).join(runs).where(questions.c.id == question)
            row = db.execute(query).first()
        if row is None:
            raise FtqError("the run was deleted meanwhile, and the question with it", _LIST)
        place = f"{ASK} on {row.options.get(_WORKER)}"
        error = RunError.from_json(row.error).of_run(row.run, place) if row.error else None
        return Reply(row.status, row.written, row.answer, error)

    def lose_question(self, question: str) -> None:
        """Fail a question whose process in the worker has died."""
        with self.writing() as db:
            _fail_lost(db, _is(question, "running"))

    def lose_question_if_silent(self, question: str) -> None:
        """Fail a question whose worker has given no sign of life for WORKER_SILENCE: only the asker notices that."""
        with self.writing() as db:
            silent_since = self._now(db) - WORKER_SILENCE
            alive = sa.select(workers.c.name).where(workers.c.seen_at > silent_since)
            lost = _is(question, "running") & _taken(before=silent_since)
            _fail_lost(db, lost & questions.c.options[_WORKER].as_string().not_in(alive))

    def lose_questions_of(self, worker: str, seconds: float) -> None:
        """Fail the questions that a worker of this name took more than `seconds` ago: that worker has died."""
        with self.writing() as db:
            before = self._now(db) - seconds
            _fail_lost(db, (questions.c.options[_WORKER].as_string() == worker) & _taken(before))

    def count_questions(self, seconds: float = OLD_SECONDS) -> int:
        """Count the questions that are older than `seconds`."""
        number = sa.select(sa.func.count()).select_from(questions)
        with self.reading() as db:
            return db.execute(number.where(_older(self._now(db), seconds))).scalar_one()

    def forget_questions(self, seconds: float = OLD_SECONDS) -> None:
        """Delete the questions that are older than `seconds`, with prompt and answer."""
        with self.writing() as db:
            db.execute(questions.delete().where(_older(self._now(db), seconds)))


def _fail_lost(db: sa.Connection, which: sa.ColumnElement[bool]) -> None:
    running = (questions.c.status == "running") & which
    db.execute(questions.update().where(running).values(status="failed", error=storable_error(LOST)))


def _older(now: float, seconds: float) -> sa.ColumnElement[bool]:
    return questions.c.created_at < now - seconds


def _is(question: str, *status: str) -> sa.ColumnElement[bool]:
    return (questions.c.id == question) & questions.c.status.in_(status)


def _taken(before: float) -> sa.ColumnElement[bool]:
    earlier: sa.ColumnElement[bool] = questions.c.options[_TAKEN_AT].as_float() < before
    return earlier
