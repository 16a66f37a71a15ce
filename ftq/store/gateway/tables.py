"""The gateway's tables. Importing this module adds them to the schema: RunStore does, before a database is opened."""

from __future__ import annotations

import sqlalchemy as sa

from ftq.store.schema import metadata

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(80), nullable=False, unique=True),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),  # SHA-256 of the secret, which nobody keeps
    sa.Column("hint", sa.String(16), nullable=False),  # the secret's first and last letters, for people
    sa.Column("admin", sa.Boolean, nullable=False, default=False),  # sees what other keys have made
    sa.Column("limits", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("used_at", sa.Float),
    sa.Column("revoked_at", sa.Float),
)

sessions = sa.Table(
    "sessions",  # people at the page: a cookie's hash stands for a key
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("key_id", sa.String(16), nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
)

files = sa.Table(
    "files",
    metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("owner", sa.String(16), nullable=False, index=True),  # the key's id
    sa.Column("filename", sa.Text, nullable=False),  # as it was sent: data, never a path
    sa.Column("purpose", sa.String(24), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("lines", sa.BigInteger),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("status", sa.String(12), nullable=False),
    sa.Column("status_details", sa.Text),
    sa.Column("created_at", sa.Float, nullable=False, index=True),
    sa.Column("expires_at", sa.Float),
    sa.Column("run_id", sa.String(16)),  # the run whose result file it is
)

# The copy of the documents that a key has sent with a run; a job's are its training file's.
documents = sa.Table(
    "documents",
    metadata,
    sa.Column("run_id", sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("owner", sa.String(16), nullable=False, index=True),
    sa.Column("bytes", sa.BigInteger, nullable=False),
)

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("owner", sa.String(16), nullable=False, index=True),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("purpose", sa.String(24), nullable=False),
    sa.Column("mime_type", sa.String(200), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("status", sa.String(12), nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
    sa.Column("file_expires", sa.BigInteger),  # seconds that the file will live
    sa.Column("file_id", sa.String(48)),
)

upload_parts = sa.Table(
    "upload_parts",
    metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("upload_id", sa.ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

# A row is written before its run is made, so that a request that is sent again finds it: no foreign key.
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("run_id", sa.String(16), primary_key=True),
    sa.Column("owner", sa.String(16), nullable=False),
    sa.Column("asked", sa.JSON, nullable=False),  # the body as it came
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("body_hash", sa.String(64), nullable=False),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Index("ix_jobs_owner_body", "owner", "body_hash"),
    sa.Index("ix_jobs_owner_key", "owner", "idempotency_key", unique=True),
)

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("owner", sa.String(16), nullable=False, index=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("secret", sa.String(80), nullable=False),
    sa.Column("types", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("seen", sa.Integer, nullable=False, default=0, server_default="0"),  # the last event that was looked at
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", sa.String(48), primary_key=True),
    sa.Column("webhook_id", sa.ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("run_id", sa.String(16), nullable=False),
    sa.Column("type", sa.String(40), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False, default=0),
    sa.Column("next_at", sa.Float),  # null: delivered, or given up
    sa.Column("error", sa.Text),
    sa.UniqueConstraint("webhook_id", "run_id", "type"),
)
