"""Uploads in parts: what the parts are, until they become a file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa

from ftq.errors import Refused
from ftq.store.database import Verbs, storable
from ftq.store.gateway.files import File, check_room, insert
from ftq.store.gateway.tables import upload_parts, uploads

LIVES = 3600  # seconds that an upload takes parts


@dataclass(frozen=True)
class Upload:
    """`bytes` is the size that its file will have, `file_expires` the seconds that it will live."""

    id: str
    owner: str
    filename: str
    purpose: str
    mime_type: str
    bytes: int
    status: str = "pending"  # pending, completed, cancelled; expired by time
    created_at: float = 0.0
    expires_at: float = 0.0
    file_expires: int | None = None
    file_id: str | None = None


@dataclass(frozen=True)
class Part:
    id: str
    upload_id: str
    bytes: int
    created_at: float = 0.0


class Uploads(Verbs):
    """The uploads of a store, as `store.uploads`. An `owner` of None sees everybody's: an admin's key."""

    def add(self, upload: Upload) -> Upload:
        now = self._database.clock()
        dated = replace(
            upload,
            filename=storable(upload.filename),
            mime_type=storable(upload.mime_type),
            created_at=now,
            expires_at=now + LIVES,
        )
        with self._database.writing() as db:
            db.execute(uploads.insert().values(**asdict(dated)))
        return dated

    def find(self, upload_id: str, owner: str | None) -> Upload | None:
        query = sa.select(uploads).where(uploads.c.id == upload_id)
        with self._database.reading() as db:
            row = db.execute(query if owner is None else query.where(uploads.c.owner == owner)).mappings().first()
        return self._upload(row) if row else None

    def parts(self, upload_id: str) -> dict[str, Part]:
        with self._database.reading() as db:
            rows = db.execute(sa.select(upload_parts).where(upload_parts.c.upload_id == upload_id)).mappings()
            return {row["id"]: Part(**row) for row in rows}

    def add_part(self, part: Part, owner: str, most: int = 0) -> Part:
        """Record a part whose bytes are in place. Refused if the upload takes none any more, or the key is full."""
        with self._database.writing() as db:
            self._lock(db, part.upload_id)
            if most:
                check_room(db, owner, part.bytes, most)
            dated = replace(part, created_at=self._database.clock())
            db.execute(upload_parts.insert().values(**asdict(dated)))
            return dated

    def complete(self, upload_id: str, file: File, lives: int | None) -> File:
        """Record the file that the parts became, whose bytes are in place. The caller deletes the parts.

        Refused if another call has ended the upload meanwhile.
        """
        with self._database.writing() as db:
            self._lock(db, upload_id)
            recorded = insert(db, file, self._database.clock(), lives)
            done = uploads.update().where(uploads.c.id == upload_id)
            db.execute(done.values(status="completed", file_id=file.id))
            return recorded

    def cancel(self, upload_id: str) -> None:
        """Refused if the upload isn't pending. The caller deletes its parts."""
        with self._database.writing() as db:
            self._lock(db, upload_id)
            db.execute(uploads.update().where(uploads.c.id == upload_id).values(status="cancelled"))

    def expired_parts(self) -> list[str]:
        """The ids of the parts that no upload will take up: it has ended."""
        late = (uploads.c.status != "pending") | (uploads.c.expires_at <= self._database.clock())
        with self._database.reading() as db:
            return list(db.scalars(sa.select(upload_parts.c.id).join(uploads).where(late)))

    def delete_part(self, part_id: str) -> None:
        with self._database.writing() as db:
            db.execute(upload_parts.delete().where(upload_parts.c.id == part_id))

    def _lock(self, db: sa.Connection, upload_id: str) -> None:
        query = sa.select(uploads).where(uploads.c.id == upload_id).with_for_update()
        upload = self._upload(db.execute(query).mappings().one())
        if upload.status != "pending":
            raise Refused(f"Upload {upload_id} is {upload.status}.")

    def _upload(self, row: Any) -> Upload:
        upload = Upload(**row)
        late = upload.status == "pending" and upload.expires_at <= self._database.clock()
        return replace(upload, status="expired") if late else upload
