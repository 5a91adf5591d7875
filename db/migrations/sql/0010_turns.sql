-- A claim reads a tenant's jobs in the order of their turns and only then their shards, so that what waits behind a pause costs it nothing.
-- The default is the same for all that are there already, and rewrites nothing.

ALTER TABLE jobs ADD COLUMN turn_at timestamptz NOT NULL DEFAULT now();
-- The owner sees no row of theirs under forced row-level security.
ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY;
UPDATE jobs SET turn_at = coalesce(in_progress_at, created_at) WHERE state IN ('validating', 'in_progress');
ALTER TABLE jobs FORCE ROW LEVEL SECURITY;
CREATE INDEX jobs_turn ON jobs (tenant_id, priority DESC, turn_at, job_id) WHERE state = 'in_progress' AND paused_at IS NULL;
CREATE INDEX shards_ready_of_job ON shards (tenant_id, job_id, first_idx) WHERE state = 'ready';
DROP INDEX shards_ready;
GRANT UPDATE (turn_at) ON jobs TO textmill_dispatcher;
