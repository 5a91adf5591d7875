-- Prompts, rules and templates: texts that a tenant named, in versions, as label sets are. Programs before this erase none of them.

CREATE TABLE definitions (
    tenant_id uuid NOT NULL,
    definition_id uuid NOT NULL,
    kind text NOT NULL,
    name_hmac bytea NOT NULL,
    body_sealed bytea STORAGE EXTERNAL NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    number integer NOT NULL,
    first_id uuid,
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, definition_id),
    UNIQUE (tenant_id, name_hmac, number)
);
ALTER TABLE definitions ENABLE ROW LEVEL SECURITY;
ALTER TABLE definitions FORCE ROW LEVEL SECURITY;
REVOKE ALL ON definitions FROM PUBLIC;

CREATE POLICY api_of_tenant ON definitions AS RESTRICTIVE TO textmill_api
    USING (tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid);
CREATE POLICY api_on_record ON definitions AS RESTRICTIVE FOR SELECT TO textmill_api USING (EXISTS (SELECT FROM own_events));
CREATE POLICY api ON definitions TO textmill_api USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE (deleted_at), DELETE ON definitions TO textmill_api;

CREATE POLICY worker_of_tenant ON definitions AS RESTRICTIVE TO textmill_worker
    USING (tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid);
CREATE POLICY worker_on_record ON definitions AS RESTRICTIVE FOR SELECT TO textmill_worker
    USING (EXISTS (SELECT FROM own_events e WHERE e.job_id = (SELECT l.job_id FROM leased_shard l)));
CREATE POLICY worker ON definitions FOR SELECT TO textmill_worker USING (tenant_id = (SELECT l.tenant_id FROM leased_shard l));
GRANT SELECT ON definitions TO textmill_worker;

-- The dispatcher removes versions that no job which runs began with, and reads nothing sealed of them.
CREATE POLICY dispatcher ON definitions FOR SELECT TO textmill_dispatcher USING (true);
CREATE POLICY dispatcher_removes ON definitions FOR DELETE TO textmill_dispatcher USING (definition_id NOT IN (
    SELECT p.version_id FROM job_pins p JOIN jobs j ON j.tenant_id = p.tenant_id AND j.job_id = p.job_id
    WHERE j.state IN ('validating', 'in_progress', 'finalizing', 'cancelling')));
GRANT SELECT (tenant_id, definition_id, kind, number, first_id, created_at, deleted_at), DELETE ON definitions TO textmill_dispatcher;
