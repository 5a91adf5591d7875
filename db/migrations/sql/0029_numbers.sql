-- The number of a version is never given again: what a job's answers call `NAME@2` stays one thing when that is deleted. Of names of which versions
-- were deleted, the highest number; of a name it has the keyed hash alone.

CREATE TABLE deleted_versions (
    tenant_id uuid NOT NULL,
    name_hmac bytea NOT NULL,
    number integer NOT NULL,
    PRIMARY KEY (tenant_id, name_hmac)
);
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
