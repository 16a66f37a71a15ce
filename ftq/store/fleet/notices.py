"""Notices: which events somebody is told, and how far telling has come. Each is queued once, whoever sees it first."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import sqlalchemy as sa

from ftq.files.run_dir import STAGES
from ftq.store.gateway.tables import deliveries, webhooks
from ftq.store.gateway.webhooks import Delivery, Webhooks, event
from ftq.store.schema import events, runs, stages, workers

SETTLED = 60.0  # seconds after which no transaction brings an event with a lower number any more
TOLD = {"succeeded": "finished", "cache_hit": "finished", "failed": "failed", "stalled": "stalled"}


class Notices(Webhooks):
    """As `store.notices`. An address is one row of `webhooks`, a notice to it one of `deliveries`.

    `keep` is given the address's id, and how it is shown.
    """

    def note(self, address: str) -> None:
        """Queue what has happened since to runs and workers."""
        with self._database.reading() as db:
            now = self._database.clock()
            seen = db.scalar(sa.select(webhooks.c.seen).where(webhooks.c.id == address)) or 0
            rows = db.execute(_told(seen)).all()
            settled = sa.select(sa.func.max(events.c.id)).where(events.c.id > seen, events.c.at < now - SETTLED)
            new_seen = db.scalar(settled) if rows else None
            drained = db.execute(_drained(address)).all()
            known = {(row.run_id, row.type) for row in db.execute(self._known(address, [row.run_id for row in rows]))}
        for row in rows:
            kind, number = f"ftq.run.{TOLD[row.kind]}", f".{row.id}"
            if (row.run_id, kind + number) not in known:
                self._queue(address, row.run_id, event(kind, row.at, _about_run(row)), number)
        for name, host, at in drained:
            number = f".{hashlib.sha256(f'{name} {at}'.encode()).hexdigest()[:12]}"
            if ("", f"ftq.worker.drained{number}") not in known:
                self._queue(address, "", event("ftq.worker.drained", at, _about_worker(name, host)), number)
        if new_seen:
            with self._database.writing() as db:
                db.execute(webhooks.update().where(webhooks.c.id == address).values(seen=new_seen))

    def _known(self, address: str, run_ids: list[str]) -> sa.Select[Any]:
        mine = (deliveries.c.webhook_id == address) & deliveries.c.run_id.in_({*run_ids, ""})
        return sa.select(deliveries.c.run_id, deliveries.c.type).where(mine)

    def say_failed(self, delivery: Delivery, shown: str, error: str) -> None:
        """Record an event of the run: somebody wasn't told, and is tried again."""
        message = f"{shown} wasn't told of this ({error}); tried again later"
        with self._database.writing() as db:
            if db.scalar(sa.select(runs.c.id).where(runs.c.id == delivery.run_id)):
                self._database._event(db, delivery.run_id, "warning", message)


def _told(seen: int) -> sa.Select[Any]:
    last = (events.c.stage == STAGES[-1]) | events.c.kind.in_(("failed", "stalled"))
    columns = (events, runs.c.name, runs.c.model, runs.c.family, runs.c.version)
    query = sa.select(*columns).join(runs).where(events.c.id > seen, events.c.kind.in_(TOLD), last)
    return query.order_by(events.c.id)


def _drained(address: str) -> sa.Select[Any]:
    """(name, host, since) of the drained workers that have nothing left to do, drained since the address was there."""
    busy = sa.exists().where(stages.c.worker == workers.c.name, stages.c.status == "running")
    since = sa.select(webhooks.c.created_at).where(webhooks.c.id == address).scalar_subquery()
    return sa.select(workers.c.name, workers.c.host, workers.c.drained_at).where(workers.c.drained_at >= since, ~busy)


def _about_run(row: Any) -> dict[str, Any]:
    how = TOLD[row.kind]
    version = f"{row.family or row.name}:{row.version}" if row.version else None
    text = {
        "finished": f'The model is ready: ftq infer {row.name} "A question?"',
        "failed": f"{row.stage}: {row.message}\nftq status {row.name}",
        "stalled": f"{row.stage}: {row.message}\nftq status {row.name}",
    }[how]
    title = f"ftq: {row.name} {'has ' if how != 'stalled' else 'is '}{how}" + (f" ({version})" if version else "")
    run = {"id": row.run_id, "run": row.name, "model": row.model, "version": version, "stage": row.stage}
    return {**run, "message": row.message, "title": title, "text": text}


def _about_worker(name: str, host: str) -> dict[str, Any]:
    text = f"It has nothing left to do. ftq workers undrain {name}"
    return {"worker": name, "host": host, "title": f"ftq: {name} is drained", "text": text}


def sample_body(host: str, now: float) -> str:
    """What `ftq notify --test` sends."""
    data = {"host": host, "title": "ftq: a test", "text": f"{host} can tell you what happens to runs."}
    return json.dumps(event("ftq.test", now, data))
