"""The statements that add the gateway's tables to a database of schema version 4 to 6, for SQLite and PostgreSQL."""

GATEWAY = (
    "CREATE TABLE keys (id VARCHAR(16) NOT NULL, name VARCHAR(80) NOT NULL, hash VARCHAR(64) NOT NULL, hint "
    "VARCHAR(16) NOT NULL, admin BOOLEAN NOT NULL, limits JSON NOT NULL, created_at FLOAT NOT NULL, used_at FLOAT, "
    "revoked_at FLOAT, PRIMARY KEY (id), UNIQUE (name), UNIQUE (hash))",
    "CREATE TABLE files (id VARCHAR(48) NOT NULL, owner VARCHAR(16) NOT NULL, filename TEXT NOT NULL, purpose "
    "VARCHAR(24) NOT NULL, bytes BIGINT NOT NULL, lines BIGINT, sha256 VARCHAR(64) NOT NULL, status VARCHAR(12) NOT"
    " NULL, status_details TEXT, created_at FLOAT NOT NULL, expires_at FLOAT, run_id VARCHAR(16), PRIMARY KEY (id))",
    "CREATE INDEX ix_files_created_at ON files (created_at)",
    "CREATE INDEX ix_files_owner ON files (owner)",
    "CREATE TABLE uploads (id VARCHAR(48) NOT NULL, owner VARCHAR(16) NOT NULL, filename TEXT NOT NULL, purpose "
    "VARCHAR(24) NOT NULL, mime_type VARCHAR(200) NOT NULL, bytes BIGINT NOT NULL, status VARCHAR(12) NOT NULL, "
    "created_at FLOAT NOT NULL, expires_at FLOAT NOT NULL, file_expires BIGINT, file_id VARCHAR(48), PRIMARY KEY "
    "(id))",
    "CREATE INDEX ix_uploads_owner ON uploads (owner)",
    "CREATE TABLE upload_parts (id VARCHAR(48) NOT NULL, upload_id VARCHAR(48) NOT NULL, bytes BIGINT NOT NULL, "
    "created_at FLOAT NOT NULL, PRIMARY KEY (id), FOREIGN KEY(upload_id) REFERENCES uploads (id) ON DELETE CASCADE)",
    "CREATE INDEX ix_upload_parts_upload_id ON upload_parts (upload_id)",
    "CREATE TABLE jobs (run_id VARCHAR(16) NOT NULL, owner VARCHAR(16) NOT NULL, asked JSON NOT NULL, seed BIGINT "
    "NOT NULL, body_hash VARCHAR(64) NOT NULL, idempotency_key VARCHAR(255), created_at FLOAT NOT NULL, PRIMARY KEY"
    " (run_id))",
    "CREATE INDEX ix_jobs_owner_body ON jobs (owner, body_hash)",
    "CREATE UNIQUE INDEX ix_jobs_owner_key ON jobs (owner, idempotency_key)",
    "CREATE TABLE webhooks (id VARCHAR(48) NOT NULL, owner VARCHAR(16) NOT NULL, url TEXT NOT NULL, secret "
    "VARCHAR(80) NOT NULL, types JSON NOT NULL, created_at FLOAT NOT NULL, seen INTEGER DEFAULT 0 "
    "NOT NULL, PRIMARY KEY (id))",
    "CREATE INDEX ix_webhooks_owner ON webhooks (owner)",
    "CREATE TABLE deliveries (id VARCHAR(48) NOT NULL, webhook_id VARCHAR(48) NOT NULL, run_id VARCHAR(16) NOT "
    "NULL, type VARCHAR(40) NOT NULL, body TEXT NOT NULL, tries INTEGER NOT NULL, next_at FLOAT, error TEXT, "
    "PRIMARY KEY (id), UNIQUE (webhook_id, run_id, type), FOREIGN KEY(webhook_id) REFERENCES webhooks (id) ON "
    "DELETE CASCADE)",
)
DOCUMENTS = (
    "CREATE TABLE documents (run_id VARCHAR(16) NOT NULL, owner VARCHAR(16) NOT NULL, bytes BIGINT NOT NULL, PRIMARY "
    "KEY (run_id), FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE)",
    "CREATE INDEX ix_documents_owner ON documents (owner)",
)
SESSIONS = (
    "CREATE TABLE sessions (hash VARCHAR(64) NOT NULL, key_id VARCHAR(16) NOT NULL, expires_at FLOAT NOT NULL, "
    "PRIMARY KEY (hash))",
)
