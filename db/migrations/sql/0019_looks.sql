-- Whether somebody's look at a job is on record in this hour; events of workers name the same jobs, and are many.

CREATE INDEX audit_events_looks ON audit_events (tenant_id, object_id, at) WHERE action = 'job.read';
