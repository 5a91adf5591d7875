-- Who may touch what. Row-level security guards against our own bugs; the keys guard against whoever gets the database.
--
-- Every table is under row-level security, forced, so that its owner (who only migrates) sees nothing either.
-- Two layers: a RESTRICTIVE policy holds a component to the tenant its transaction named; PERMISSIVE policies let it in at all.

DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version' LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC', name);
    END LOOP;

    -- The API works for one tenant at a time on everything.
    FOREACH name IN ARRAY ARRAY['tenants', 'tenant_keys', 'data_keys', 'files', 'rows', 'jobs', 'job_specs', 'shards', 'results', 'label_sets',
                                'models', 'schedules', 'audit_events', 'audit_digests', 'audit_unsealed', 'audit_leaves'] LOOP
        EXECUTE format('CREATE POLICY api_of_tenant ON %I AS RESTRICTIVE TO textmill_api '
            'USING (tenant_id = nullif(current_setting(''textmill.tenant'', true), '''')::uuid)', name);
        EXECUTE format('CREATE POLICY api ON %I TO textmill_api USING (true) WITH CHECK (true)', name);
    END LOOP;

    -- The auditor reads the record of one tenant and no ciphertext.
    FOREACH name IN ARRAY ARRAY['audit_events', 'audit_digests', 'audit_unsealed', 'audit_leaves'] LOOP
        EXECUTE format('CREATE POLICY auditor_of_tenant ON %I AS RESTRICTIVE TO textmill_auditor '
            'USING (tenant_id = nullif(current_setting(''textmill.tenant'', true), '''')::uuid)', name);
        EXECUTE format('CREATE POLICY auditor ON %I FOR SELECT TO textmill_auditor USING (true)', name);
        EXECUTE format('GRANT SELECT ON %I TO textmill_auditor', name);
    END LOOP;

    -- The worker, too, is held to the tenant it named, wherever there is ciphertext or a record of its reading.
    FOREACH name IN ARRAY ARRAY['tenant_keys', 'data_keys', 'rows', 'job_specs', 'results', 'label_sets', 'models',
                                'audit_events', 'audit_digests', 'audit_unsealed'] LOOP
        EXECUTE format('CREATE POLICY worker_of_tenant ON %I AS RESTRICTIVE TO textmill_worker '
            'USING (tenant_id = nullif(current_setting(''textmill.tenant'', true), '''')::uuid)', name);
    END LOOP;

    -- The dispatcher and the reconciler look across tenants, at coordination only: their column grants leave out every sealed column.
    FOREACH name IN ARRAY ARRAY['files', 'rows', 'jobs', 'shards', 'data_keys', 'audit_events', 'audit_digests', 'audit_unsealed'] LOOP
        EXECUTE format('CREATE POLICY dispatcher ON %I TO textmill_dispatcher USING (true) WITH CHECK (true)', name);
    END LOOP;

    -- The record is append only for every component.
    FOREACH name IN ARRAY ARRAY['audit_events', 'audit_digests', 'audit_unsealed'] LOOP
        EXECUTE format('CREATE POLICY worker ON %I FOR INSERT TO textmill_worker WITH CHECK (true)', name);
        EXECUTE format('GRANT INSERT ON %I TO textmill_api, textmill_worker, textmill_dispatcher', name);
    END LOOP;
END
$$;

-- Nobody writes the record in another component's name, or for another time than now.
CREATE POLICY api_in_its_name ON audit_events AS RESTRICTIVE FOR INSERT TO textmill_api WITH CHECK (component = 'api' AND at = now());
CREATE POLICY worker_in_its_name ON audit_events AS RESTRICTIVE FOR INSERT TO textmill_worker WITH CHECK (component = 'worker' AND at = now());
CREATE POLICY dispatcher_in_its_name ON audit_events AS RESTRICTIVE FOR INSERT TO textmill_dispatcher
    WITH CHECK (component = 'dispatcher' AND at = now());

-- The dispatcher removes uploads that were never finished and files that have expired, and no others.
CREATE POLICY dispatcher_removes ON files AS RESTRICTIVE FOR DELETE TO textmill_dispatcher USING (state <> 'processed' OR expires_at <= now());
CREATE POLICY dispatcher_blanks ON files AS RESTRICTIVE FOR UPDATE TO textmill_dispatcher USING (state <> 'processed' OR expires_at <= now());
CREATE POLICY dispatcher_removes ON rows AS RESTRICTIVE FOR DELETE TO textmill_dispatcher
    USING (file_id IN (SELECT f.file_id FROM files f WHERE f.state <> 'processed' OR f.expires_at <= now()));
CREATE POLICY dispatcher_blanks ON rows AS RESTRICTIVE FOR UPDATE TO textmill_dispatcher
    USING (file_id IN (SELECT f.file_id FROM files f WHERE f.state <> 'processed' OR f.expires_at <= now()));
CREATE POLICY dispatcher_removes ON data_keys AS RESTRICTIVE FOR DELETE TO textmill_dispatcher
    USING (owner_kind = 'file' AND owner_id IN (SELECT f.file_id FROM files f WHERE f.state <> 'processed' OR f.expires_at <= now()));

-- Of results the dispatcher writes failures only: rows that nobody could run.
CREATE POLICY dispatcher_reads ON results FOR SELECT TO textmill_dispatcher USING (true);
CREATE POLICY dispatcher_fails ON results FOR INSERT TO textmill_dispatcher WITH CHECK (outcome = 2);

-- API keys are looked up before the tenant is known: by the hash of what was presented, and by nothing else.
CREATE POLICY api_of_tenant ON api_keys AS RESTRICTIVE TO textmill_api
    USING (tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid
           OR key_hash = decode(nullif(current_setting('textmill.key_hash', true), ''), 'hex'))
    WITH CHECK (tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid);
CREATE POLICY api ON api_keys TO textmill_api USING (true) WITH CHECK (true);

CREATE POLICY auditor ON audit_checkpoints FOR SELECT TO textmill_auditor USING (true);
CREATE POLICY api ON audit_checkpoints FOR SELECT TO textmill_api USING (true);

-- The worker sees jobs and shards of all tenants, for it must find one to claim (there is no ciphertext in them). Everything else it sees only
-- of the shard it holds a live lease on. The sub-selects are uncorrelated, so Postgres runs each once per statement (InitPlan), not per row.
CREATE POLICY worker ON jobs FOR SELECT TO textmill_worker USING (true);
CREATE POLICY worker ON shards TO textmill_worker USING (true) WITH CHECK (true);

-- The shard under a live lease in this transaction, as one view: at most one row. It runs with the caller's rights.
CREATE VIEW leased_shard WITH (security_invoker = true) AS
    SELECT tenant_id, shard_id, job_id, file_id, first_idx, end_idx
    FROM shards
    WHERE shard_id = nullif(current_setting('textmill.shard', true), '')::uuid
      AND epoch = nullif(current_setting('textmill.epoch', true), '')::integer
      AND state = 'leased'
      AND lease_expires_at > now();

CREATE POLICY worker ON rows FOR SELECT TO textmill_worker USING (
    tenant_id = (SELECT l.tenant_id FROM leased_shard l) AND file_id = (SELECT l.file_id FROM leased_shard l)
    AND idx >= (SELECT l.first_idx FROM leased_shard l) AND idx < (SELECT l.end_idx FROM leased_shard l));
CREATE POLICY worker ON results TO textmill_worker USING (
    tenant_id = (SELECT l.tenant_id FROM leased_shard l) AND job_id = (SELECT l.job_id FROM leased_shard l)
    AND idx >= (SELECT l.first_idx FROM leased_shard l) AND idx < (SELECT l.end_idx FROM leased_shard l))
  WITH CHECK (
    tenant_id = (SELECT l.tenant_id FROM leased_shard l) AND job_id = (SELECT l.job_id FROM leased_shard l)
    AND idx >= (SELECT l.first_idx FROM leased_shard l) AND idx < (SELECT l.end_idx FROM leased_shard l));
CREATE POLICY worker ON job_specs FOR SELECT TO textmill_worker USING (
    tenant_id = (SELECT l.tenant_id FROM leased_shard l) AND job_id = (SELECT l.job_id FROM leased_shard l));
CREATE POLICY worker ON tenant_keys FOR SELECT TO textmill_worker USING (tenant_id = (SELECT l.tenant_id FROM leased_shard l));
CREATE POLICY worker ON data_keys FOR SELECT TO textmill_worker USING (
    tenant_id = (SELECT l.tenant_id FROM leased_shard l)
    AND (owner_id = (SELECT l.job_id FROM leased_shard l) OR owner_id = (SELECT l.file_id FROM leased_shard l)
         OR owner_id = (SELECT l.tenant_id FROM leased_shard l)));
CREATE POLICY worker ON label_sets FOR SELECT TO textmill_worker USING (tenant_id = (SELECT l.tenant_id FROM leased_shard l));
CREATE POLICY worker_reads ON models FOR SELECT TO textmill_worker USING (tenant_id = (SELECT l.tenant_id FROM leased_shard l));
CREATE POLICY worker_trains ON models FOR INSERT TO textmill_worker WITH CHECK (
    tenant_id = (SELECT l.tenant_id FROM leased_shard l)
    AND model_id = (SELECT j.head_id FROM jobs j JOIN leased_shard l ON j.tenant_id = l.tenant_id AND j.job_id = l.job_id));

-- Training again under a name that is taken replaces that head, with the one this shard's job makes and no other.
CREATE POLICY worker_retrains ON models FOR UPDATE TO textmill_worker USING (tenant_id = (SELECT l.tenant_id FROM leased_shard l))
  WITH CHECK (
    tenant_id = (SELECT l.tenant_id FROM leased_shard l)
    AND model_id = (SELECT j.head_id FROM jobs j JOIN leased_shard l ON j.tenant_id = l.tenant_id AND j.job_id = l.job_id));

-- Rights on the partitioned parents only, never on a partition.
GRANT SELECT, INSERT ON tenants, api_keys TO textmill_api;
GRANT UPDATE (name_sealed) ON tenants TO textmill_api;
GRANT UPDATE (revoked_at) ON api_keys TO textmill_api;
GRANT SELECT, INSERT ON tenant_keys TO textmill_api;
GRANT UPDATE (state) ON tenant_keys TO textmill_api;
GRANT SELECT, INSERT, DELETE ON data_keys TO textmill_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON files, jobs, label_sets, schedules TO textmill_api;
GRANT SELECT, INSERT, DELETE ON rows TO textmill_api;
GRANT SELECT, INSERT ON job_specs TO textmill_api;
GRANT UPDATE (defect, body_sealed) ON rows TO textmill_api;
GRANT UPDATE (payload_sealed) ON results TO textmill_api;
GRANT SELECT ON shards TO textmill_api;
GRANT SELECT, DELETE ON results, models TO textmill_api;
GRANT SELECT ON audit_events, audit_digests, audit_unsealed, audit_leaves, audit_checkpoints TO textmill_api;
GRANT SELECT ON audit_checkpoints TO textmill_auditor;

GRANT SELECT ON jobs, shards, leased_shard, rows, job_specs, tenant_keys, data_keys, label_sets, models TO textmill_worker;
GRANT UPDATE (state, epoch, not_before, dispatched_at, lease_expires_at, worker, crash_attempts, error_attempts, last_error,
              completed_count, failed_count, input_tokens, output_tokens, metrics) ON shards TO textmill_worker;
GRANT INSERT ON results, models TO textmill_worker;
GRANT UPDATE (model_id, base, version, card_sealed, weights_sealed, created_at) ON models TO textmill_worker;
GRANT SELECT (tenant_id, job_id, idx, outcome, epoch) ON results TO textmill_worker;

GRANT SELECT (tenant_id, file_id, purpose, state, error_code, size_bytes, size_chars, row_count, defect_count, created_at, expires_at) ON files
    TO textmill_dispatcher;
GRANT DELETE ON files, rows, data_keys TO textmill_dispatcher;
GRANT UPDATE (state, name_sealed) ON files TO textmill_dispatcher;
GRANT UPDATE (body_sealed) ON rows TO textmill_dispatcher;
GRANT SELECT (tenant_id, file_id, idx, line, endpoint, defect, size) ON rows TO textmill_dispatcher;
GRANT SELECT ON jobs TO textmill_dispatcher;
GRANT UPDATE (state, completed_count, failed_count, input_tokens, output_tokens, errors, metrics, in_progress_at, finalizing_at, completed_at,
              failed_at, expired_at, cancelled_at) ON jobs TO textmill_dispatcher;
GRANT SELECT, INSERT ON shards TO textmill_dispatcher;
GRANT UPDATE (end_idx, state, epoch, priority, deadline, not_before, dispatched_at, lease_expires_at, worker, crash_attempts, error_attempts,
              last_error, completed_count, failed_count, input_tokens, output_tokens, metrics) ON shards TO textmill_dispatcher;
GRANT SELECT (tenant_id, job_id, idx, outcome, code, epoch) ON results TO textmill_dispatcher;
GRANT INSERT (tenant_id, job_id, idx, outcome, code, epoch) ON results TO textmill_dispatcher;
GRANT SELECT (tenant_id, key_id, owner_kind, owner_id) ON data_keys TO textmill_dispatcher;
