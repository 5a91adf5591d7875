-- What a claim passes over, and what a poll of a large job counts, is found by an index. db/schema.py says what each column means.
-- Defaults are the same for all that are there already, and rewrite nothing.

-- A shard that is put off, or that waits for a worker of its own, stands behind its time in the index of turns; 2: db.lifecycle.MAX_CRASHES.
CREATE INDEX shards_turn ON shards (tenant_id, job_id, (crash_attempts >= 2), coalesce(not_before, '-infinity'), first_idx)
    WHERE state = 'ready';
DROP INDEX shards_ready_of_job;

CREATE INDEX shards_open ON shards (tenant_id, job_id, first_idx) WHERE state <> 'done';
