"""Webhooks: which ended runs somebody wants to hear of, and how far telling has come."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ftq.store.database import Verbs
from ftq.store.gateway.tables import deliveries, webhooks
from ftq.store.schema import events, runs, stages

LEASE = 60.0  # seconds in which a gateway that took a delivery has to have sent it
FIRST_WAIT, LONGEST_WAIT = 5.0, 3600.0  # seconds between tries
MOST_TRIES = 80  # about three days
ENDED = "fine_tuning.job."


@dataclass(frozen=True)
class Delivery:
    """`body` is what is sent, byte for byte at each try."""

    id: str
    run_id: str
    type: str
    body: str
    tries: int


class Webhooks(Verbs):
    """As `store.webhooks`."""

    def keep(self, webhook_id: str, url: str) -> None:
        """Record a webhook, or its new address. What happened before it was there isn't told to it.

        Its secret stays with whoever sends: the database has none.
        """
        with self._database.writing() as db:
            if db.execute(webhooks.update().where(webhooks.c.id == webhook_id).values(url=url)).rowcount:
                return
            seen = db.scalar(sa.select(sa.func.max(events.c.id))) or 0
            row: dict[str, Any] = {"id": webhook_id, "owner": "", "url": url, "secret": "", "types": [], "seen": seen}
            db.execute(webhooks.insert().values(**row, created_at=self._database.clock()))

    def note_ended(self, webhook_id: str) -> None:
        """Queue a delivery for each run that has ended since. Two gateways that do it at once make one."""
        with self._database.reading() as db:
            new = db.execute(_untold(webhook_id)).all()
        for run_id, how, at in new:
            self._queue(webhook_id, run_id, event(ENDED + how, at, {"id": f"ftjob-{run_id}"}))

    def take(self, webhook_id: str) -> Delivery | None:
        """The next delivery that is due. Nobody else gets it for LEASE seconds."""
        with self._database.writing() as db:
            now = self._database.clock()
            due = (deliveries.c.webhook_id == webhook_id) & (deliveries.c.next_at <= now)
            query = sa.select(deliveries).where(due).order_by(deliveries.c.next_at).limit(1)
            row = db.execute(query.with_for_update(skip_locked=True)).first()
            if row is None:
                return None
            mine = deliveries.c.id == row.id
            db.execute(deliveries.update().where(mine).values(next_at=now + LEASE, tries=row.tries + 1))
            return Delivery(row.id, row.run_id, row.type, row.body, row.tries + 1)

    def settle(self, delivery: Delivery, error: str = "") -> None:
        """Record how a try ended: without an error it is delivered, else it is tried again, later and later."""
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(delivery.tries - 1, 20))
        with self._database.writing() as db:
            again = error and delivery.tries < MOST_TRIES
            values = {"next_at": self._database.clock() + wait if again else None, "error": error or None}
            db.execute(deliveries.update().where(deliveries.c.id == delivery.id).values(**values))

    def _queue(self, webhook_id: str, run_id: str, body: dict[str, Any], number: str = "") -> None:
        """Queue a delivery; `number` tells events of one type apart."""
        row = {"id": body["id"], "webhook_id": webhook_id, "run_id": run_id, "type": body["type"] + number}
        try:
            with self._database.writing() as db:
                now = self._database.clock()
                db.execute(deliveries.insert().values(**row, body=json.dumps(body), tries=0, next_at=now))
        except sa.exc.IntegrityError:
            pass  # another gateway has seen it first


def event(kind: str, at: float, data: dict[str, Any]) -> dict[str, Any]:
    """What is told: OpenAI's event object."""
    return {
        "id": f"evt_{secrets.token_hex(12)}",
        "object": "event",
        "created_at": int(at),
        "type": kind,
        "data": data,
    }


def _untold(webhook_id: str) -> sa.Select[Any]:
    """(run, how it ended, when) of all that ended after the webhook was made and aren't told yet."""

    def has(condition: Any) -> Any:
        return sa.exists().where(stages.c.run_id == runs.c.id, condition).correlate(runs)

    failed, left = has(stages.c.status == "failed"), has(stages.c.status != "succeeded")
    cancelled = runs.c.wanted == "cancel"
    how = sa.case((cancelled, "cancelled"), (failed, "failed"), else_="succeeded")
    ended_at = (
        sa.select(sa.func.max(sa.func.coalesce(stages.c.finished_at, stages.c.started_at)))
        .where(stages.c.run_id == runs.c.id)
        .correlate(runs)
        .scalar_subquery()
    )
    since = sa.select(webhooks.c.created_at).where(webhooks.c.id == webhook_id).scalar_subquery()
    told = sa.exists().where(
        deliveries.c.webhook_id == webhook_id, deliveries.c.run_id == runs.c.id, deliveries.c.type == ENDED + how
    )
    # A stage of an attempt before may have ended long ago: whoever cancels a run that trains changes no stage at once.
    ended = failed | ~left | cancelled
    is_new = (ended_at >= since) | (runs.c.created_at >= since)
    return sa.select(runs.c.id, how, ended_at).where(ended, is_new, ~told)
