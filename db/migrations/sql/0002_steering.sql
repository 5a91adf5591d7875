-- Jobs can be paused, run again where they failed, put forward or back, and deleted while they run; turns go by the cost of shards.

ALTER TABLE jobs
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN retry_count smallint NOT NULL DEFAULT 0;
ALTER TABLE shards ADD COLUMN cost real NOT NULL DEFAULT 1;

-- What the API changes of shards: it orders them, and offers again what has ended. It can give nobody a lease.
GRANT UPDATE (state, epoch, priority, deadline, not_before, dispatched_at, crash_attempts, error_attempts, last_error, failed_count,
              input_tokens, output_tokens) ON shards TO textmill_api;
