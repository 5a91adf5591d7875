-- API keys are looked up by a keyed hash, and what one allows is under a MAC: whoever may write the table cannot make authority.
-- The key of both is wrapped by the KEK, like those of tenants. The store keeps one.

CREATE TABLE store_keys (
    purpose text PRIMARY KEY CHECK (purpose = 'authority'),
    kek_id text NOT NULL,
    wrapped bytea NOT NULL
);
REVOKE ALL ON store_keys FROM PUBLIC;
ALTER TABLE store_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE store_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY api ON store_keys TO textmill_api USING (true) WITH CHECK (true);
CREATE POLICY worker ON store_keys FOR SELECT TO textmill_worker USING (true);
GRANT SELECT, INSERT ON store_keys TO textmill_api;
GRANT SELECT ON store_keys TO textmill_worker;

ALTER TABLE api_keys ADD COLUMN mac bytea;
GRANT UPDATE (mac) ON api_keys TO textmill_api;
