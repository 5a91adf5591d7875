-- The worker processes, for operators: what each says of itself, and what is asked of it. No tenant's data; no work hangs on a row here.
-- db/schema.py says what each column means.

CREATE TABLE workers (
    worker text PRIMARY KEY,
    device text NOT NULL,
    threads smallint NOT NULL,
    version text NOT NULL,
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'draining', 'drained')),
    asked text CHECK (asked = 'drain'),
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    progressed_at timestamptz NOT NULL DEFAULT now(),
    leases integer NOT NULL DEFAULT 0,
    rows_done bigint NOT NULL DEFAULT 0,
    memory_bytes bigint NOT NULL DEFAULT 0
);

ALTER TABLE workers ENABLE ROW LEVEL SECURITY;
ALTER TABLE workers FORCE ROW LEVEL SECURITY;
REVOKE ALL ON workers FROM PUBLIC;
CREATE POLICY worker ON workers TO textmill_worker USING (true) WITH CHECK (true);
CREATE POLICY dispatcher ON workers TO textmill_dispatcher USING (true) WITH CHECK (true);

-- A worker cannot ask another one to drain; operators do, as the dispatcher.
GRANT SELECT, INSERT, DELETE ON workers TO textmill_worker;
GRANT UPDATE (state, seen_at, progressed_at, leases, rows_done, memory_bytes) ON workers TO textmill_worker;
GRANT SELECT, DELETE ON workers TO textmill_dispatcher;
GRANT UPDATE (asked) ON workers TO textmill_dispatcher;

-- What a job's story needs after the lease is over: who held a shard last, and when rows of it were stored last.
ALTER TABLE shards ADD COLUMN last_worker text, ADD COLUMN progressed_at timestamptz;
GRANT UPDATE (last_worker, progressed_at) ON shards TO textmill_worker;
