-- Jobs and results are deleted as large files are: out of sight at once, a page of rows at a time for the database. The reconciler does the
-- latter, and ends by itself what was kept for as long as it should be.

ALTER TABLE jobs
    ADD COLUMN deleted_at timestamptz,
    ADD COLUMN erase_from_idx integer,
    ADD COLUMN results_expire_seconds integer,
    ADD COLUMN results_expire_at timestamptz;
CREATE INDEX jobs_erasing ON jobs (job_id) WHERE erase_from_idx IS NOT NULL;

GRANT DELETE ON shards TO textmill_api;
GRANT DELETE ON jobs, shards, results TO textmill_dispatcher;
GRANT UPDATE (output_deleted_at, errors_deleted_at, deleted_at, erase_from_idx, results_expire_at) ON jobs TO textmill_dispatcher;
GRANT UPDATE (payload_sealed) ON results TO textmill_dispatcher;
GRANT UPDATE (expires_at) ON files TO textmill_dispatcher;

-- The dispatcher erases of jobs that were marked for it, and marks none that has not ended.
CREATE POLICY dispatcher_marks ON jobs AS RESTRICTIVE FOR UPDATE TO textmill_dispatcher
    USING (true)
    WITH CHECK ((deleted_at IS NULL AND output_deleted_at IS NULL AND errors_deleted_at IS NULL AND erase_from_idx IS NULL)
                OR state IN ('completed', 'failed', 'cancelled', 'expired'));
CREATE POLICY dispatcher_removes ON jobs AS RESTRICTIVE FOR DELETE TO textmill_dispatcher
    USING (deleted_at IS NOT NULL AND erase_from_idx IS NOT NULL);
CREATE POLICY dispatcher_removes ON shards AS RESTRICTIVE FOR DELETE TO textmill_dispatcher
    USING (job_id IN (SELECT j.job_id FROM jobs j WHERE j.erase_from_idx IS NOT NULL));
CREATE POLICY dispatcher_removes ON results FOR DELETE TO textmill_dispatcher
    USING (job_id IN (SELECT j.job_id FROM jobs j WHERE j.erase_from_idx IS NOT NULL));
CREATE POLICY dispatcher_blanks ON results FOR UPDATE TO textmill_dispatcher
    USING (job_id IN (SELECT j.job_id FROM jobs j WHERE j.erase_from_idx IS NOT NULL));
ALTER POLICY dispatcher_removes ON data_keys
    USING ((owner_kind = 'file' AND owner_id IN (SELECT f.file_id FROM files f WHERE f.state <> 'processed' OR f.expires_at <= now()))
           OR (owner_kind = 'job'
               AND owner_id IN (SELECT j.job_id FROM jobs j WHERE j.erase_from_idx IS NOT NULL AND j.deleted_at IS NOT NULL)));

-- It ends files, too, that were kept for long enough: never one of less than a day, whatever it is told.
ALTER POLICY dispatcher_blanks ON files
    USING (state <> 'processed' OR expires_at <= now() OR created_at <= now() - interval '1 day')
    WITH CHECK (state <> 'processed' OR expires_at <= now());
