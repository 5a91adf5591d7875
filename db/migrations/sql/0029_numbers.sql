-- The number of a version is never given again: what a job's answers call `NAME@2` stays one thing when that is deleted. Of names of which versions
-- were deleted, the highest number; of a name it has the keyed hash alone.

CREATE TABLE deleted_versions (
    tenant_id uuid NOT NULL,
    name_hmac bytea NOT NULL,
    number integer NOT NULL,
    PRIMARY KEY (tenant_id, name_hmac)
);
-- Of those that were deleted before as far as they are still there. The owner sees no rows under forced row-level security.
ALTER TABLE label_sets NO FORCE ROW LEVEL SECURITY;
ALTER TABLE models NO FORCE ROW LEVEL SECURITY;
INSERT INTO deleted_versions (tenant_id, name_hmac, number)
    SELECT tenant_id, name_hmac, max(number)
    FROM (SELECT tenant_id, name_hmac, number, deleted_at FROM label_sets
          UNION ALL SELECT tenant_id, name_hmac, number, deleted_at FROM models) v
    WHERE deleted_at IS NOT NULL GROUP BY tenant_id, name_hmac;
ALTER TABLE label_sets FORCE ROW LEVEL SECURITY;
ALTER TABLE models FORCE ROW LEVEL SECURITY;
ALTER TABLE deleted_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE deleted_versions FORCE ROW LEVEL SECURITY;
REVOKE ALL ON deleted_versions FROM PUBLIC;
CREATE POLICY api_of_tenant ON deleted_versions AS RESTRICTIVE TO textmill_api
    USING (tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid);
CREATE POLICY api ON deleted_versions TO textmill_api USING (true) WITH CHECK (true);
CREATE POLICY worker_of_tenant ON deleted_versions AS RESTRICTIVE TO textmill_worker
    USING (tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid);
CREATE POLICY worker ON deleted_versions FOR SELECT TO textmill_worker USING (tenant_id = (SELECT l.tenant_id FROM leased_shard l));
GRANT SELECT, INSERT, UPDATE (number) ON deleted_versions TO textmill_api;
GRANT SELECT ON deleted_versions TO textmill_worker;
