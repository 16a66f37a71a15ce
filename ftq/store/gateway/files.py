"""The gateway's files as rows; their bytes are in the artifacts folder, see ftq/files/uploads.py."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from ftq.errors import NotFound, Refused
from ftq.store.database import Verbs, storable
from ftq.store.gateway.tables import documents, files, keys, upload_parts, uploads
from ftq.words import size

SENT_AGAIN = 600  # seconds in which a retry finds what the first request has made
RETRIED = "r"  # the last letter of a file's id that a retry has made; the others are hexadecimal


@dataclass(frozen=True)
class File:
    """A file of a key. `lines` is None where nobody counted them, `run_id` is that of a result file."""

    id: str
    owner: str
    filename: str
    purpose: str
    bytes: int
    sha256: str
    lines: int | None = None
    status: str = "processed"
    status_details: str | None = None
    created_at: float = 0.0
    expires_at: float | None = None
    run_id: str | None = None


class Full(Refused):
    """The key may store no more."""


class Files(Verbs):
    """The files of a store, as `store.files`. An `owner` of None sees everybody's: an admin's key."""

    def add(self, file: File, lives: int | None = None, most: int = 0, began: float | None = None) -> File:
        """Record a file whose bytes are in place. If there is one of that id, that one is returned.

        It expires `lives` seconds later. Full if its owner's files would take more than `most` bytes, unless 0. With
        the time at which its request `began`, a request that was sent twice makes one file: the one that is there.
        """
        with self._database.writing() as db:
            lock(db, file.owner)
            if earlier := self._of_id(db, file.id) or self._same(db, file, lives, began):
                return earlier
            if most:
                check_room(db, file.owner, file.bytes, most)
            return insert(db, file, self._database.clock(), lives)

    def _same(self, db: sa.Connection, file: File, lives: int | None, began: float | None) -> File | None:
        """What the other request has made, if this one is a retry or was retried. All but the id is the same."""
        if began is None:
            return None
        alike = [files.c[name] == getattr(file, name) for name in ("owner", "purpose", "bytes", "sha256")]
        alike.append(files.c.filename == storable(file.filename))
        if file.id.endswith(RETRIED):
            alike.append(files.c.created_at > self._database.clock() - SENT_AGAIN)
        else:  # slower than its own retry, which has come since
            alike += [files.c.created_at > began, files.c.id.endswith(RETRIED)]
        query = self._living(file.owner).where(*alike).order_by(files.c.created_at)
        rows = [File(**row) for row in db.execute(query).mappings()]
        return next((row for row in rows if row.expires_at == _expires_at(row.created_at, lives)), None)

    def find(self, file_id: str, owner: str | None) -> File | None:
        """None where there is none, it isn't the owner's, or it has expired."""
        return next(iter(self._all(self._living(owner).where(files.c.id == file_id))), None)

    def page(
        self, owner: str | None, limit: int, after: str | None = None, purpose: str | None = None, rising: bool = False
    ) -> list[File]:
        """At most `limit` files by time, the newest first unless `rising`. NotFound for an `after` that isn't there."""
        query = self._living(owner)
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        place = sa.tuple_(files.c.created_at, files.c.id)
        if after is not None:
            last = self.find(after, owner)
            if last is None:
                raise NotFound(f"No such File object: {after}")
            edge = sa.tuple_(sa.literal(last.created_at), sa.literal(last.id))
            query = query.where(place > edge if rising else place < edge)
        order = [column.asc() if rising else column.desc() for column in (files.c.created_at, files.c.id)]
        return self._all(query.order_by(*order).limit(limit))

    def of_run(self, run_id: str) -> list[File]:
        """A run's result files, the oldest first."""
        return self._all(self._living(None).where(files.c.run_id == run_id).order_by(files.c.created_at, files.c.id))

    def delete(self, file_id: str) -> None:
        """Delete the row; the caller deletes the bytes afterwards."""
        with self._database.writing() as db:
            db.execute(files.delete().where(files.c.id == file_id))

    def used(self, owner: str) -> int:
        """Bytes of a key's files, of the parts that it has uploaded, and of the documents that it has submitted."""
        with self._database.reading() as db:
            return _used(db, owner)

    def recorded(self, ids: Collection[str]) -> set[str]:
        """Those of the ids that are a file's or a part's."""
        with self._database.reading() as db:
            return {
                *db.scalars(sa.select(files.c.id).where(files.c.id.in_(ids))),
                *db.scalars(sa.select(upload_parts.c.id).where(upload_parts.c.id.in_(ids))),
            }

    def expired(self) -> list[File]:
        """Everybody's files whose time is over: nobody finds them any more."""
        return self._all(sa.select(files).where(files.c.expires_at <= self._database.clock()))

    def _all(self, query: sa.Select[Any]) -> list[File]:
        with self._database.reading() as db:
            return [File(**row) for row in db.execute(query).mappings()]

    def _living(self, owner: str | None) -> sa.Select[Any]:
        query = sa.select(files).where(files.c.expires_at.is_(None) | (files.c.expires_at > self._database.clock()))
        return query if owner is None else query.where(files.c.owner == owner)

    def _of_id(self, db: sa.Connection, file_id: str) -> File | None:
        row = db.execute(sa.select(files).where(files.c.id == file_id)).mappings().first()
        return File(**row) if row else None


def new_id(kind: str = "file-") -> str:
    return kind + secrets.token_hex(12)


def insert(db: sa.Connection, file: File, now: float, lives: int | None) -> File:
    """Write the row in a transaction that is open."""
    dated = replace(file, filename=storable(file.filename), created_at=now, expires_at=_expires_at(now, lives))
    db.execute(files.insert().values(**asdict(dated)))
    return dated


def _expires_at(now: float, lives: int | None) -> float | None:
    return now + lives if lives else None


def lock(db: sa.Connection, owner: str) -> None:
    """What else the key stores waits until this transaction ends."""
    db.execute(sa.select(keys.c.id).where(keys.c.id == owner).with_for_update())


def check_room(db: sa.Connection, owner: str, more: int, most: int) -> None:
    """Full if `more` bytes don't fit. The key's row is locked, so that two at once don't both fit."""
    lock(db, owner)
    if (wanted := _used(db, owner) + more) > most:
        raise Full(
            f"This would take {size(wanted)} of the {size(most)} that the key may store.",
            "Delete files or runs, or ask for a key with a higher limit.",
        )


def hold_documents(db: sa.Connection, run_id: str, owner: str, number: int) -> None:
    """Count a run's documents as bytes that its key stores, if a key has sent it. Full if they are too many."""
    limits = db.execute(sa.select(keys.c.limits).where(keys.c.id == owner)).scalar()
    if limits is not None:
        if most := int(limits.get("bytes", 0)):
            check_room(db, owner, number, most)
        db.execute(documents.insert().values(run_id=run_id, owner=owner, bytes=number))


def _used(db: sa.Connection, owner: str) -> int:
    parts = sa.select(sa.func.sum(upload_parts.c.bytes)).join(uploads).where(uploads.c.owner == owner)
    sums = [sa.select(sa.func.sum(table.c.bytes)).where(table.c.owner == owner) for table in (files, documents)]
    return sum(int(db.execute(query).scalar() or 0) for query in (*sums, parts))
