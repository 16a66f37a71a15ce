"""Questions to a finished run: asked by a client, taken and answered by one worker."""

from __future__ import annotations

import secrets
from typing import Any

import sqlalchemy as sa

from ftq.database import Database, storable
from ftq.errors import FtqError, NotFound
from ftq.schema import questions, workers

_LIST = "`ftq status` lists the runs."


class Questions(Database):
    """A part of RunStore."""

    def ask(self, run_id: str, prompt: str, options: dict[str, Any]) -> str:
        """The question's id. NotFound if the run was deleted since it was found."""
        question = secrets.token_hex(8)
        try:
            with self._write() as db:
                db.execute(questions.insert().values(id=question, run_id=run_id, prompt=prompt, options=options,
                                                     created_at=self.clock()))  # fmt: skip
        except sa.exc.IntegrityError:
            raise NotFound(f"run {run_id} was deleted", _LIST) from None
        return question

    def take_question(self, question: str) -> tuple[str, str, dict[str, Any]] | None:
        """(run id, prompt, options) for the one process that gets it, None for every other."""
        with self._write() as db:
            taken = db.execute(questions.update().where(_is(question, "queued")).values(status="running"))
            if taken.rowcount != 1:
                return None
            row = db.execute(sa.select(questions).where(questions.c.id == question)).one()
        return row.run_id, row.prompt, row.options

    def withdraw(self, question: str) -> None:
        """Nobody waits for the answer any more: no worker takes the question, and one that has it stops."""
        with self._write() as db:
            waits = _is(question, "queued", "running")
            db.execute(questions.update().where(waits).values(status="withdrawn"))

    def check_question(self, question: str, worker: str) -> tuple[bool, bool]:
        """(whether somebody waits for the answer to a question that was taken; whether its worker was told to stop)."""
        draining = sa.select(workers.c.draining).where(workers.c.name == worker)
        query = sa.select(questions.c.id).where(_is(question, "running"))
        with self._read() as db:
            return db.execute(query).first() is not None, bool(db.execute(draining).scalar())

    def answer(self, question: str, answer: dict[str, Any] | None, error: dict[str, str] | None = None) -> None:
        """What came of a question that was taken, once."""
        error = error and {name: storable(text) for name, text in error.items()}
        with self._write() as db:
            values = {"status": "failed" if error else "succeeded", "answer": answer, "error": error}
            db.execute(questions.update().where(_is(question, "running")).values(**values))

    def read_answer(self, question: str) -> tuple[str, dict[str, Any] | None, dict[str, str] | None]:
        """(status, answer, error). FtqError if it is gone with its run."""
        with self._read() as db:
            row = db.execute(sa.select(questions).where(questions.c.id == question)).first()
        if row is None:
            raise FtqError("the run was deleted meanwhile, and the question with it", _LIST)
        return row.status, row.answer, row.error

    def count_questions(self, seconds: float) -> int:
        """How many questions were asked longer ago than that; nobody waits for their answers any more."""
        number = sa.select(sa.func.count()).select_from(questions)
        with self._read() as db:
            return db.execute(number.where(self._older(seconds))).scalar_one()

    def forget_questions(self, seconds: float) -> None:
        """Delete these, with prompt and answer."""
        with self._write() as db:
            db.execute(questions.delete().where(self._older(seconds)))

    def _older(self, seconds: float) -> sa.ColumnElement[bool]:
        return questions.c.created_at < self.clock() - seconds


def _is(question: str, *status: str) -> sa.ColumnElement[bool]:
    return (questions.c.id == question) & questions.c.status.in_(status)
