-- A prompt is written from a row's columns: the worker that holds the row's shard opens them, and what the file's columns are called. Whether a
-- job reads them stands in the clear, since that is asked before its spec is opened. Programs before this would leave them out.
ALTER TABLE jobs ADD COLUMN reads_columns boolean NOT NULL DEFAULT false;

CREATE POLICY worker_of_tenant ON files AS RESTRICTIVE TO textmill_worker
    USING (tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid);
CREATE POLICY worker_on_record ON files AS RESTRICTIVE FOR SELECT TO textmill_worker
    USING (EXISTS (SELECT FROM own_events e WHERE e.job_id = (SELECT l.job_id FROM leased_shard l)));
CREATE POLICY worker ON files FOR SELECT TO textmill_worker USING (
    tenant_id = (SELECT l.tenant_id FROM leased_shard l) AND file_id = (SELECT l.file_id FROM leased_shard l));
GRANT SELECT (tenant_id, file_id, columns_sealed) ON files TO textmill_worker;
