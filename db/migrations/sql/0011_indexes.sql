-- What was found by reading everything is found by an index. Failures are few, so that theirs is small; it is written only where a row fails.

CREATE INDEX results_failed ON results (tenant_id, job_id, idx) WHERE outcome = 2;
CREATE INDEX jobs_completed ON jobs (completed_at) WHERE state = 'completed';
CREATE INDEX audit_events_by_action ON audit_events (tenant_id, action, at);
CREATE INDEX audit_events_by_object ON audit_events (tenant_id, object_id, at) WHERE object_id IS NOT NULL;
CREATE INDEX audit_events_by_job ON audit_events (tenant_id, job_id, at) WHERE job_id IS NOT NULL;
