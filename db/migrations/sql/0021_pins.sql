-- A head or a label set is never changed: its name again makes another version, and a job is bound to those it began with.
-- What is there is version 1; the defaults rewrite nothing.

ALTER TABLE files ADD COLUMN stored_names_sealed bytea STORAGE EXTERNAL;
ALTER TABLE label_sets ADD COLUMN number integer NOT NULL DEFAULT 1, ADD COLUMN first_id uuid, ADD COLUMN deleted_at timestamptz;
ALTER TABLE models ADD COLUMN number integer NOT NULL DEFAULT 1, ADD COLUMN first_id uuid, ADD COLUMN deleted_at timestamptz;
ALTER TABLE label_sets DROP CONSTRAINT label_sets_tenant_id_name_hmac_key, ADD UNIQUE (tenant_id, name_hmac, number);
ALTER TABLE models DROP CONSTRAINT models_tenant_id_name_hmac_key, ADD UNIQUE (tenant_id, name_hmac, number);

CREATE TABLE job_pins (
    tenant_id uuid NOT NULL,
    job_id uuid NOT NULL,
    version_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, job_id, version_id),
    FOREIGN KEY (tenant_id, job_id) REFERENCES jobs (tenant_id, job_id) ON DELETE CASCADE
);
CREATE INDEX job_pins_of_version ON job_pins (tenant_id, version_id);

-- Jobs that run already say nowhere which they use: all that their tenants have are theirs. The owner sees no rows under forced row-level
-- security.
ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY;
ALTER TABLE label_sets NO FORCE ROW LEVEL SECURITY;
ALTER TABLE models NO FORCE ROW LEVEL SECURITY;
INSERT INTO job_pins (tenant_id, job_id, version_id)
    SELECT j.tenant_id, j.job_id, v.version_id
    FROM jobs j JOIN (SELECT tenant_id, label_set_id AS version_id FROM label_sets UNION ALL SELECT tenant_id, model_id FROM models) v
        ON v.tenant_id = j.tenant_id
    WHERE j.task = 'classify' AND j.state IN ('validating', 'in_progress', 'finalizing', 'cancelling');
ALTER TABLE jobs FORCE ROW LEVEL SECURITY;
ALTER TABLE label_sets FORCE ROW LEVEL SECURITY;
ALTER TABLE models FORCE ROW LEVEL SECURITY;

ALTER TABLE job_pins ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_pins FORCE ROW LEVEL SECURITY;
REVOKE ALL ON job_pins FROM PUBLIC;
CREATE POLICY api_of_tenant ON job_pins AS RESTRICTIVE TO textmill_api
    USING (tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid);
CREATE POLICY api ON job_pins TO textmill_api USING (true) WITH CHECK (true);
CREATE POLICY dispatcher ON job_pins FOR SELECT TO textmill_dispatcher USING (true);
GRANT SELECT, INSERT ON job_pins TO textmill_api;
GRANT SELECT ON job_pins TO textmill_dispatcher;

-- Nobody changes a version any more. Its owner may take it out of sight; a worker adds what it trained.
REVOKE UPDATE ON label_sets FROM textmill_api;
GRANT UPDATE (deleted_at) ON label_sets, models TO textmill_api;
REVOKE UPDATE (model_id, base, version, card_sealed, weights_sealed, created_at) ON models FROM textmill_worker;
DROP POLICY worker_retrains ON models;

-- The dispatcher removes versions that no job which runs began with, and reads nothing sealed of them.
CREATE POLICY dispatcher ON label_sets FOR SELECT TO textmill_dispatcher USING (true);
CREATE POLICY dispatcher ON models FOR SELECT TO textmill_dispatcher USING (true);
CREATE POLICY dispatcher_removes ON label_sets FOR DELETE TO textmill_dispatcher USING (label_set_id NOT IN (
    SELECT p.version_id FROM job_pins p JOIN jobs j ON j.tenant_id = p.tenant_id AND j.job_id = p.job_id
    WHERE j.state IN ('validating', 'in_progress', 'finalizing', 'cancelling')));
CREATE POLICY dispatcher_removes ON models FOR DELETE TO textmill_dispatcher USING (model_id NOT IN (
    SELECT p.version_id FROM job_pins p JOIN jobs j ON j.tenant_id = p.tenant_id AND j.job_id = p.job_id
    WHERE j.state IN ('validating', 'in_progress', 'finalizing', 'cancelling')));
GRANT SELECT (tenant_id, label_set_id, number, first_id, created_at, deleted_at), DELETE ON label_sets TO textmill_dispatcher;
GRANT SELECT (tenant_id, model_id, number, first_id, created_at, deleted_at), DELETE ON models TO textmill_dispatcher;

GRANT UPDATE (stored_names_sealed) ON files TO textmill_dispatcher;
