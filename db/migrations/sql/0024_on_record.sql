-- No event, no data, and it is this server that holds it: what is sealed, and the keys that open it, a transaction sees only once it has put an
-- event of its tenant on record. That our statements come in this order is not enough: whoever logs in with our roles writes other ones.

-- An event counts for the transaction that wrote it and for no other. NULL of those that are there: the column rewrites nothing, and the index by
-- time finds the event, so that there is no other index to fill.
ALTER TABLE audit_events ADD COLUMN xact bigint;
ALTER TABLE audit_events ALTER COLUMN xact SET DEFAULT pg_current_xact_id()::text::bigint;
ALTER POLICY api_in_its_name ON audit_events
    WITH CHECK (component = 'api' AND at = now() AND xact = pg_current_xact_id()::text::bigint);
ALTER POLICY worker_in_its_name ON audit_events
    WITH CHECK (component = 'worker' AND at = now() AND xact = pg_current_xact_id()::text::bigint);
ALTER POLICY dispatcher_in_its_name ON audit_events
    WITH CHECK (component = 'dispatcher' AND at = now() AND xact = pg_current_xact_id()::text::bigint);

-- By its moment, too: numbers begin anew in a database that was restored from a dump. A read without an event is given no number.
CREATE VIEW own_events WITH (security_invoker = true) AS
    SELECT object_kind, object_id, job_id FROM audit_events
    WHERE tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid AND at = now()
      AND xact = pg_current_xact_id_if_assigned()::text::bigint AND outcome = 'allowed';
GRANT SELECT ON own_events TO textmill_api, textmill_worker;

-- Of the record a worker sees what it needs for this, and of no other transaction than its own.
CREATE POLICY worker_of_own ON audit_events FOR SELECT TO textmill_worker
    USING (at = now() AND xact = pg_current_xact_id_if_assigned()::text::bigint);
GRANT SELECT (tenant_id, at, xact, outcome, object_kind, object_id, job_id) ON audit_events TO textmill_worker;

-- The sub-selects are uncorrelated, so Postgres runs each once per statement. A worker's event names the job that it holds a shard of.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tenants', 'tenant_keys', 'data_keys', 'files', 'job_specs', 'label_sets', 'models', 'schedules'] LOOP
        EXECUTE format('CREATE POLICY api_on_record ON %I AS RESTRICTIVE FOR SELECT TO textmill_api USING (EXISTS (SELECT FROM own_events))',
            name);
    END LOOP;
    FOREACH name IN ARRAY ARRAY['tenant_keys', 'data_keys', 'rows', 'job_specs', 'results', 'label_sets', 'models'] LOOP
        EXECUTE format('CREATE POLICY worker_on_record ON %I AS RESTRICTIVE FOR SELECT TO textmill_worker '
            'USING (EXISTS (SELECT FROM own_events e WHERE e.job_id = (SELECT l.job_id FROM leased_shard l)))', name);
    END LOOP;
END
$$;

-- Of the API's event, texts and results ask for more than the tenant: it names the job, or the file. Of a file that was deleted only ids are left,
-- which go with the last job that needs them, when this one is gone already. That a file is deleted the API's role can write, so a text that is
-- there still is not seen for it; nor does that role move a job to another file.
CREATE POLICY api_on_record ON results AS RESTRICTIVE FOR SELECT TO textmill_api
    USING (job_id IN (SELECT e.job_id FROM own_events e WHERE e.job_id IS NOT NULL));
CREATE POLICY api_on_record ON rows AS RESTRICTIVE FOR SELECT TO textmill_api USING (
    file_id IN (SELECT e.object_id FROM own_events e WHERE e.object_kind = 'file'
                UNION ALL
                SELECT j.file_id FROM jobs j WHERE j.tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid
                    AND j.job_id = ANY (ARRAY(SELECT e.job_id FROM own_events e)))
    OR body_sealed IS NULL AND file_id IN (SELECT f.file_id FROM files f WHERE f.state = 'deleted'));
REVOKE UPDATE ON jobs FROM textmill_api;
DO $$
BEGIN
    EXECUTE (SELECT format('GRANT UPDATE (%s) ON jobs TO textmill_api', string_agg(quote_ident(attname), ', '))
             FROM pg_attribute WHERE attrelid = 'jobs'::regclass AND attnum > 0 AND NOT attisdropped
             AND attname NOT IN ('tenant_id', 'job_id', 'file_id'));
END
$$;

-- Where results are, and nothing of what they are: how far a running job has come is asked every second, and is no access. The view reads with its
-- owner's rights, who sees these rows for the API's sake and none for its own.
CREATE VIEW result_places AS SELECT tenant_id, job_id, idx FROM results;
CREATE POLICY owner_for_the_api ON results FOR SELECT TO textmill_owner
    USING (session_user = 'textmill_api' AND tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid);
GRANT SELECT ON result_places TO textmill_api;

-- Whether a file has gone since its name was shown is asked with every look at its jobs. Chunks of its upload and shards of its jobs name it as well.
CREATE INDEX audit_events_gone ON audit_events (tenant_id, object_id)
    WHERE outcome = 'allowed' AND action IN ('file.delete', 'file.expire');
