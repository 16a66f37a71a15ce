"""The records of how stages were planned and what they measured; ftq/plan/calibration.py says what is in one."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ftq.store.database import Database
from ftq.store.schema import runs, stages

NEWEST = 50  # runs on a kind of card that are read


class Plans(Database):
    """A part of RunStore."""

    def plan(self, token: str, message: str, values: dict[str, Any]) -> None:
        """Keep a stage's plan, or add measured values to it. `message` describes a new plan; it is empty for values.

        A new plan replaces an earlier one with its measured values.
        """
        with self.writing() as db:
            stage = self._owned(db, token)
            merged = {**(stage.plan or {}), **values}
            if message:
                merged = {**values, "message": message}
                self._event(db, stage.run_id, "plan", message, stage.name, stage.attempt)
            db.execute(stages.update().where(stages.c.owner == token).values(plan=merged))

    def plans_on(self, card: str, model: str) -> list[dict[str, Any] | None]:
        """The records of runs that were trained on this kind of card: `model`'s first, then others', newest first.

        In each is whose it is: "worker", "model" and "documents_hash".
        """
        query = (
            sa.select(runs.c.model, runs.c.documents_hash, stages.c.worker, stages.c.plan)
            .join(runs)
            .where(stages.c.name == "train", stages.c.status == "succeeded", _card() == card)
            .order_by(stages.c.finished_at.desc())
        )
        with self.reading() as db:
            rows = sorted(db.execute(query.limit(NEWEST)), key=lambda row: bool(row.model != model))
        return [
            row.plan and {**row.plan, "worker": row.worker, "model": row.model, "documents_hash": row.documents_hash}
            for row in rows
        ]

    def last_plan(self, card: str | None = None) -> dict[str, Any] | None:
        """The record of the newest run on this kind of card, or on any."""
        named = _card() == card if card else _card().is_not(None)
        query = sa.select(stages.c.plan).where(stages.c.name == "train", named)
        newest = stages.c.started_at.desc().nulls_last()  # PostgreSQL would put waiting ones first
        with self.reading() as db:
            return db.execute(query.order_by(newest).limit(1)).scalar()


def _card() -> sa.ColumnElement[str]:
    card: sa.ColumnElement[str] = stages.c.plan["card"].as_string()
    return card
