"""API keys, and the sessions of people who have logged in with one. Only hashes of the secrets are kept."""

from __future__ import annotations

import getpass
import hashlib
import secrets
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from ftq.errors import NotFound, UserError, printable, utf8
from ftq.store.database import Verbs
from ftq.store.gateway.tables import keys, sessions
from ftq.store.schema import runs, stages

MOST_NAME = 80  # characters
USED_SECONDS = 60
LIVES = 14 * 86_400.0  # seconds of a session


@dataclass(frozen=True)
class Limits:
    """What a key may use; 0 is no limit.

    `jobs` counts those that aren't finished, `bytes` its files and the documents that it has submitted.
    """

    jobs: int = 0
    requests_per_minute: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Key:
    """A key without its secret. `hint` shows people which one it is; an admin's sees what the others have made."""

    id: str
    name: str
    hint: str
    admin: bool
    limits: Limits
    created_at: float
    used_at: float | None = None
    revoked_at: float | None = None


@dataclass(frozen=True)
class NewKey:
    """A key with its secret, which is told once."""

    key: Key
    secret: str = field(repr=False)


class KeyTaken(UserError):
    def __init__(self, name: str) -> None:
        super().__init__(f"another key is called {name}", "Choose another name; a revoked key keeps its own.")


class Keys(Verbs):
    """The keys of a store, as `store.keys`."""

    def create(self, name: str, limits: Limits, admin: bool = False) -> NewKey:
        """Make a key. UserError for a name that is no good or another's."""
        if not name.strip() or len(name) > MOST_NAME or printable(utf8(name), keep="") != name:
            raise UserError(
                f"{printable(utf8(name))!r} is no name for a key", f"1 to {MOST_NAME} printable characters."
            )
        secret = f"sk-ftq-{secrets.token_urlsafe(32)}"
        key_id = secrets.token_hex(8)
        values: dict[str, Any] = {"id": key_id, "name": name, "hint": f"{secret[:9]}…{secret[-4:]}", "admin": admin}
        try:
            with self._database.writing() as db:
                now = self._database.clock()
                db.execute(keys.insert().values(**values, hash=hash_of(secret), limits=asdict(limits), created_at=now))
        except sa.exc.IntegrityError:
            raise KeyTaken(name) from None
        return NewKey(Key(**values, limits=limits, created_at=now), secret)

    def first(self) -> NewKey | None:
        """An admin's key, named after the system's user, where there has never been a key; None otherwise."""
        with self._database.reading() as db:
            if db.execute(sa.select(keys.c.id).limit(1)).first():
                return None
        try:
            return self.create(_user(), Limits(), admin=True)
        except KeyTaken:  # another process did the same at this moment
            return None

    def find(self, secret: str) -> Key | None:
        """The key of a secret; None if there is none, or it was revoked."""
        query = sa.select(keys).where(keys.c.hash == hash_of(secret), keys.c.revoked_at.is_(None))
        with self._database.reading() as db:
            row = db.execute(query).mappings().first()
        return key_of(row) if row else None

    def all(self) -> list[Key]:
        """Every key, the revoked ones too, the oldest first."""
        with self._database.reading() as db:
            return [key_of(row) for row in db.execute(sa.select(keys).order_by(keys.c.created_at)).mappings()]

    def touch(self, key: Key) -> None:
        """Note that the key is used, at most once a minute."""
        now = self._database.clock()
        old = keys.c.used_at.is_(None) | (keys.c.used_at < now - USED_SECONDS)
        if key.used_at is None or key.used_at < now - USED_SECONDS:
            with self._database.writing() as db:
                db.execute(keys.update().where(keys.c.id == key.id, old).values(used_at=now))

    def unfinished(self, key_id: str) -> int:
        """How many runs that the key asked for aren't finished: they wait, run or are paused."""
        ended = sa.select(stages.c.run_id).where(stages.c.status.in_(("failed", "cancelled")))
        waits = sa.select(stages.c.run_id).where(stages.c.status.in_(("queued", "running")))
        running = sa.select(stages.c.run_id).where(stages.c.status == "running")
        open_runs = runs.c.id.in_(waits) & (runs.c.id.not_in(ended) | runs.c.id.in_(running))
        query = sa.select(sa.func.count()).select_from(runs).where(runs.c.owner == key_id, open_runs)
        with self._database.reading() as db:
            return int(db.execute(query).scalar_one())

    def revoke(self, name: str) -> None:
        """End a key at once. UserError if it has ended, or none has that name; what it made stays."""
        if utf8(name) != name:  # no database takes it
            raise NotFound(f"no key {utf8(name)}", "`ftq keys list` shows them.")
        ended = keys.update().where(keys.c.name == name, keys.c.revoked_at.is_(None))
        with self._database.writing() as db:
            if db.execute(ended.values(revoked_at=self._database.clock())).rowcount:
                return
            if db.execute(sa.select(keys.c.id).where(keys.c.name == name)).first():
                raise UserError(f"the key {name} is revoked already", "`ftq keys list --json` says since when.")
            raise NotFound(f"no key {name}", "`ftq keys list` shows them.")


class Sessions(Verbs):
    """People at the page, as `store.sessions`: each has a cookie, and acts as the key of the login."""

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


def _user() -> str:
    try:
        return printable(utf8(getpass.getuser()), keep="")[:MOST_NAME].strip() or "admin"
    except (KeyError, OSError):  # a container's user has no name
        return "admin"


def hash_of(secret: str) -> str:
    """A fast hash suffices: the secret is 32 random bytes, which nobody guesses."""
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


def key_of(row: Any) -> Key:
    values = {name: row[name] for name in ("id", "name", "hint", "admin", "created_at", "used_at", "revoked_at")}
    return Key(**values, limits=Limits(**row["limits"]))
