-- What a worker could run, and what it is busy with before it can: told to operators, and to whoever waits for a job.
-- db/schema.py says what each column means. Model names are those of the registry and of operators' folders, never a tenant's.

ALTER TABLE workers ADD COLUMN models text[], ADD COLUMN loading text, ADD COLUMN loading_since timestamptz, ADD COLUMN calibrating text;
GRANT UPDATE (models, loading, loading_since, calibrating) ON workers TO textmill_worker;

-- The API sees no name of a machine or a process.
CREATE POLICY api ON workers FOR SELECT TO textmill_api USING (true);
GRANT SELECT (state, seen_at, models, loading, loading_since, calibrating) ON workers TO textmill_api;
