-- Who leads among the dispatchers: a lease with a term, by this server's clock. db/queue/leader.py says how it is taken and kept.
-- A row, and no advisory lock: that is kept by a process that was stopped for as long as its connection lives, and any role may take one.

CREATE TABLE leads (
    role text PRIMARY KEY CHECK (role = 'dispatcher'),
    term bigint NOT NULL DEFAULT 0,
    holder text,
    sessions text,
    taken_at timestamptz,
    beat_at timestamptz
);
INSERT INTO leads (role) VALUES ('dispatcher');

REVOKE ALL ON leads FROM PUBLIC;
ALTER TABLE leads ENABLE ROW LEVEL SECURITY;
ALTER TABLE leads FORCE ROW LEVEL SECURITY;
CREATE POLICY dispatcher ON leads TO textmill_dispatcher USING (true) WITH CHECK (true);
-- Of the whole table, not of columns: LOCK TABLE asks for that.
GRANT SELECT, UPDATE ON leads TO textmill_dispatcher;
