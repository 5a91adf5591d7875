-- What a job may write and for how long it may run, and why it ended where that was not its state alone. A second run has the budget anew: what the runs
-- before it wrote does not count.
ALTER TABLE jobs
    ADD COLUMN max_output_tokens bigint CHECK (max_output_tokens > 0),
    ADD COLUMN max_seconds integer CHECK (max_seconds > 0),
    ADD COLUMN spent_before bigint NOT NULL DEFAULT 0,
    ADD COLUMN run_ends_at timestamptz,
    ADD COLUMN end_code text;
CREATE INDEX jobs_with_budget ON jobs (tenant_id, job_id)
    WHERE state = 'in_progress' AND (max_output_tokens IS NOT NULL OR run_ends_at IS NOT NULL);
GRANT UPDATE (max_output_tokens, max_seconds, spent_before, run_ends_at, end_code) ON jobs TO textmill_api;
GRANT UPDATE (run_ends_at, end_code) ON jobs TO textmill_dispatcher;
