"""Questions to a finished run: asked by a client, taken and answered by one worker."""

from __future__ import annotations

import secrets
from typing import Any

import sqlalchemy as sa

from ftq.database import Database, storable
from ftq.errors import FtqError, NotFound
from ftq.schema import questions

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
            taken = db.execute(questions.update().where(_is_queued(question)).values(status="running"))
            if taken.rowcount != 1:
                return None
            row = db.execute(sa.select(questions).where(questions.c.id == question)).one()
        return row.run_id, row.prompt, row.options

    def withdraw(self, question: str) -> None:
        """Nobody waits for the answer any more: a question that no worker has taken is never answered."""
        with self._write() as db:
            db.execute(questions.update().where(_is_queued(question)).values(status="withdrawn"))

    def answer(self, question: str, answer: dict[str, Any] | None, error: dict[str, str] | None = None) -> None:
        error = error and {name: storable(text) for name, text in error.items()}
        with self._write() as db:
            values = {"status": "failed" if error else "succeeded", "answer": answer, "error": error}
            db.execute(questions.update().where(questions.c.id == question).values(**values))

    def read_answer(self, question: str) -> tuple[str, dict[str, Any] | None, dict[str, str] | None]:
        """(status, answer, error). FtqError if it is gone with its run."""
        with self._read() as db:
            row = db.execute(sa.select(questions).where(questions.c.id == question)).first()
        if row is None:
            raise FtqError("the run was deleted meanwhile, and the question with it", _LIST)
        return row.status, row.answer, row.error


def _is_queued(question: str) -> sa.ColumnElement[bool]:
    return (questions.c.id == question) & (questions.c.status == "queued")
