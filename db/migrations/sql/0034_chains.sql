-- A job may read what other jobs of its tenant made of the same rows: the steps of a chain each read those before them, and a job may take another's
-- output as its input.
ALTER TABLE jobs ADD COLUMN chain_id uuid, ADD COLUMN step smallint;
ALTER TABLE job_specs ADD COLUMN step_sealed bytea STORAGE EXTERNAL;
CREATE INDEX jobs_of_chain ON jobs (tenant_id, chain_id, step) WHERE chain_id IS NOT NULL;

CREATE TABLE job_sources (
    tenant_id uuid NOT NULL,
    job_id uuid NOT NULL,
    number smallint NOT NULL,
    source_job_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, job_id, number),
    FOREIGN KEY (tenant_id, job_id) REFERENCES jobs (tenant_id, job_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, source_job_id) REFERENCES jobs (tenant_id, job_id) ON DELETE CASCADE
);
CREATE INDEX job_sources_of_source ON job_sources (tenant_id, source_job_id);

ALTER TABLE job_sources ENABLE ROW LEVEL SECURITY;
ALTER TABLE job_sources FORCE ROW LEVEL SECURITY;
REVOKE ALL ON job_sources FROM PUBLIC;
CREATE POLICY api_of_tenant ON job_sources AS RESTRICTIVE TO textmill_api
    USING (tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid);
CREATE POLICY api ON job_sources TO textmill_api USING (true) WITH CHECK (true);
-- Rows are told apart by their place in one file, so another file's results would be those of other rows. No job reads itself.
CREATE POLICY api_of_one_file ON job_sources AS RESTRICTIVE FOR INSERT TO textmill_api WITH CHECK (
    job_id <> source_job_id
    AND (SELECT j.file_id FROM jobs j WHERE j.tenant_id = job_sources.tenant_id AND j.job_id = job_sources.job_id)
        = (SELECT j.file_id FROM jobs j WHERE j.tenant_id = job_sources.tenant_id AND j.job_id = job_sources.source_job_id));
CREATE POLICY dispatcher ON job_sources FOR SELECT TO textmill_dispatcher USING (true);
CREATE POLICY worker_of_tenant ON job_sources AS RESTRICTIVE TO textmill_worker
    USING (tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid);
CREATE POLICY worker ON job_sources FOR SELECT TO textmill_worker USING (
    tenant_id = (SELECT l.tenant_id FROM leased_shard l) AND job_id = (SELECT l.job_id FROM leased_shard l));
GRANT SELECT, INSERT ON job_sources TO textmill_api;
GRANT SELECT ON job_sources TO textmill_dispatcher, textmill_worker;

-- Whose results the holder of the shard reads in this transaction: of the sources of its job those that it has put on record. Uncorrelated where it is
-- used, so that Postgres looks once a statement.
CREATE VIEW recorded_sources WITH (security_invoker = true) AS
    SELECT s.source_job_id AS job_id FROM job_sources s
    WHERE s.tenant_id = (SELECT l.tenant_id FROM leased_shard l) AND s.job_id = (SELECT l.job_id FROM leased_shard l)
      AND s.source_job_id IN (SELECT e.object_id FROM own_events e WHERE e.object_kind = 'job');
GRANT SELECT ON recorded_sources TO textmill_worker;
CREATE POLICY worker_of_sources ON results FOR SELECT TO textmill_worker USING (
    tenant_id = (SELECT l.tenant_id FROM leased_shard l) AND job_id = ANY (ARRAY(SELECT r.job_id FROM recorded_sources r))
    AND idx >= (SELECT l.first_idx FROM leased_shard l) AND idx < (SELECT l.end_idx FROM leased_shard l));
CREATE POLICY worker_of_sources ON data_keys FOR SELECT TO textmill_worker USING (
    tenant_id = (SELECT l.tenant_id FROM leased_shard l) AND owner_kind = 'job' AND owner_id = ANY (ARRAY(SELECT r.job_id FROM recorded_sources r)));
GRANT SELECT (payload_sealed) ON results TO textmill_worker;
