-- A shard of a task that needs all its rows at once is never halved, and a job of such is run again as a whole.
-- The default rewrites nothing; trainings have one shard each.

ALTER TABLE shards ADD COLUMN whole boolean NOT NULL DEFAULT false;
-- The owner sees no row of theirs under forced row-level security.
ALTER TABLE shards NO FORCE ROW LEVEL SECURITY;
ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY;
UPDATE shards s SET whole = true FROM jobs j WHERE j.task = 'train' AND s.tenant_id = j.tenant_id AND s.job_id = j.job_id;
ALTER TABLE shards FORCE ROW LEVEL SECURITY;
ALTER TABLE jobs FORCE ROW LEVEL SECURITY;
GRANT UPDATE (completed_count) ON shards TO textmill_api;
