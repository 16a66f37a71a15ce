-- The tables of schema version 2, as the ftq of then made them in SQLite.
CREATE TABLE runs (id VARCHAR(16) NOT NULL, name VARCHAR(120) NOT NULL, model VARCHAR(400) NOT NULL, spec JSON NOT NULL, documents_hash VARCHAR(64) NOT NULL, wanted VARCHAR(8) NOT NULL, kept BOOLEAN NOT NULL, created_at FLOAT NOT NULL, PRIMARY KEY (id), UNIQUE (name));
CREATE INDEX ix_runs_created_at ON runs (created_at);
CREATE TABLE workers (name VARCHAR(200) NOT NULL, host VARCHAR(200) NOT NULL, queues VARCHAR(200) NOT NULL, gpu VARCHAR(200), pid INTEGER NOT NULL, draining BOOLEAN NOT NULL, seen_at FLOAT NOT NULL, facts JSON, PRIMARY KEY (name));
CREATE TABLE ftq_schema (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE stages (run_id VARCHAR(16) NOT NULL, name VARCHAR(16) NOT NULL, position INTEGER NOT NULL, status VARCHAR(12) NOT NULL, attempt INTEGER NOT NULL, tries INTEGER NOT NULL, fresh_from INTEGER NOT NULL, cached BOOLEAN NOT NULL, "key" VARCHAR(64), owner VARCHAR(32), worker VARCHAR(200), lease_until FLOAT, queued_at FLOAT, started_at FLOAT, finished_at FLOAT, progress JSON, "plan" JSON, changes JSON, error JSON, artifacts JSON, PRIMARY KEY (run_id, name), FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE);
CREATE INDEX ix_stages_status ON stages (status);
CREATE INDEX ix_stages_key ON stages ("key");
CREATE TABLE events (id INTEGER NOT NULL, run_id VARCHAR(16) NOT NULL, at FLOAT NOT NULL, stage VARCHAR(16), attempt INTEGER, kind VARCHAR(24) NOT NULL, message TEXT NOT NULL, data JSON, PRIMARY KEY (id), FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE);
CREATE INDEX ix_events_run_id ON events (run_id);
CREATE TABLE questions (id VARCHAR(16) NOT NULL, run_id VARCHAR(16) NOT NULL, prompt TEXT NOT NULL, options JSON NOT NULL, status VARCHAR(12) NOT NULL, answer JSON, error JSON, created_at FLOAT NOT NULL, PRIMARY KEY (id), FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE);
