"""Sessions: a person at the page has a cookie, of which only a hash is kept, and acts as the key of the login."""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from ftq.store.database import Database
from ftq.store.gateway.keys import Key, hash_of, key_of
from ftq.store.gateway.tables import keys, sessions

LIVES = 14 * 86_400.0  # seconds


class Sessions:
    """As `store.sessions`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, secret: str) -> str | None:
        """The token of a new session for the key of this secret; None if there is no such key.

        What has expired is forgotten.
        """
        with self._database.writing() as db:
            now = self._database.clock()
            mine = keys.select().where(keys.c.hash == hash_of(secret), keys.c.revoked_at.is_(None))
            key = db.execute(mine).first()
            if key is None:
                return None
            token = secrets.token_urlsafe(32)
            db.execute(sessions.delete().where(sessions.c.expires_at < now))
            db.execute(sessions.insert().values(hash=hash_of(token), key_id=key.id, expires_at=now + LIVES))
        return token

    def find(self, token: str) -> Key | None:
        """The key of a session; None where it has ended, or the key was revoked."""
        living = (sessions.c.hash == hash_of(token)) & (sessions.c.expires_at > self._database.clock())
        query = sa.select(keys).join(sessions, sessions.c.key_id == keys.c.id)
        with self._database.reading() as db:
            row = db.execute(query.where(living, keys.c.revoked_at.is_(None))).mappings().first()
        return key_of(row) if row else None

    def end(self, token: str) -> None:
        with self._database.writing() as db:
            db.execute(sessions.delete().where(sessions.c.hash == hash_of(token)))
