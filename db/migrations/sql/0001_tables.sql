-- Tables of the sealed store. db/schema.py says what each column means.
-- Sealed columns are incompressible: STORAGE EXTERNAL spares Postgres the attempt (and nothing is ever compressed before sealing).

CREATE TABLE tenants (
    tenant_id uuid PRIMARY KEY,
    name_sealed bytea,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_keys (
    tenant_id uuid NOT NULL,
    key_id uuid NOT NULL,
    principal_id uuid NOT NULL,
    name_sealed bytea,
    key_hash bytea NOT NULL UNIQUE,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, key_id)
);

CREATE TABLE tenant_keys (
    tenant_id uuid NOT NULL,
    key_epoch integer NOT NULL,
    kek_id text NOT NULL,
    wrapped bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'retired')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key_epoch)
);

CREATE TABLE data_keys (
    tenant_id uuid NOT NULL,
    key_id uuid NOT NULL,
    owner_kind text NOT NULL CHECK (owner_kind IN ('tenant', 'file', 'job')),
    owner_id uuid NOT NULL,
    key_epoch integer NOT NULL,
    wrapped bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key_id),
    UNIQUE (tenant_id, owner_kind, owner_id)
);

CREATE TABLE files (
    tenant_id uuid NOT NULL,
    file_id uuid NOT NULL,
    purpose text NOT NULL,
    state text NOT NULL CHECK (state IN ('uploading', 'processed', 'error', 'deleted')),
    error_code text,
    name_sealed bytea NOT NULL,
    size_bytes bigint NOT NULL DEFAULT 0,
    size_chars bigint NOT NULL DEFAULT 0,
    row_count integer NOT NULL DEFAULT 0,
    defect_count integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    PRIMARY KEY (tenant_id, file_id)
);
CREATE INDEX files_by_age ON files (tenant_id, created_at, file_id);

CREATE TABLE rows (
    tenant_id uuid NOT NULL,
    file_id uuid NOT NULL,
    idx integer NOT NULL,
    line integer NOT NULL,
    endpoint text,
    defect text,
    size integer NOT NULL,
    custom_id_sealed bytea STORAGE EXTERNAL,
    custom_id_hmac bytea,
    body_sealed bytea STORAGE EXTERNAL,
    PRIMARY KEY (tenant_id, file_id, idx)
) PARTITION BY HASH (file_id);

CREATE TABLE jobs (
    tenant_id uuid NOT NULL,
    job_id uuid NOT NULL,
    file_id uuid NOT NULL,
    principal_id uuid NOT NULL,
    task text NOT NULL CHECK (task IN ('classify', 'generate', 'embed', 'train')),
    endpoint text NOT NULL,
    model text,
    head_id uuid,
    state text NOT NULL CHECK (state IN ('validating', 'in_progress', 'finalizing', 'completed', 'failed', 'cancelling', 'cancelled', 'expired')),
    priority smallint NOT NULL DEFAULT 0,
    completion_window_seconds integer NOT NULL,
    row_count integer NOT NULL DEFAULT 0,
    completed_count integer NOT NULL DEFAULT 0,
    failed_count integer NOT NULL DEFAULT 0,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    errors jsonb,
    request_hmac bytea,
    metrics jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    deadline timestamptz,
    in_progress_at timestamptz,
    finalizing_at timestamptz,
    completed_at timestamptz,
    failed_at timestamptz,
    expired_at timestamptz,
    cancelling_at timestamptz,
    cancelled_at timestamptz,
    output_deleted_at timestamptz,
    errors_deleted_at timestamptz,
    PRIMARY KEY (tenant_id, job_id),
    FOREIGN KEY (tenant_id, file_id) REFERENCES files (tenant_id, file_id)
);
CREATE INDEX jobs_live ON jobs (state) WHERE state IN ('validating', 'in_progress', 'finalizing', 'cancelling');
CREATE INDEX jobs_of_file ON jobs (tenant_id, file_id);
CREATE INDEX jobs_by_age ON jobs (tenant_id, created_at, job_id);
CREATE INDEX jobs_twins ON jobs (tenant_id, request_hmac) WHERE request_hmac IS NOT NULL;

CREATE TABLE job_specs (
    tenant_id uuid NOT NULL,
    job_id uuid NOT NULL,
    spec_sealed bytea STORAGE EXTERNAL NOT NULL,
    metadata_sealed bytea STORAGE EXTERNAL,
    PRIMARY KEY (tenant_id, job_id),
    FOREIGN KEY (tenant_id, job_id) REFERENCES jobs (tenant_id, job_id) ON DELETE CASCADE
);

CREATE TABLE shards (
    tenant_id uuid NOT NULL,
    shard_id uuid NOT NULL UNIQUE,
    job_id uuid NOT NULL,
    file_id uuid NOT NULL,
    first_idx integer NOT NULL,
    end_idx integer NOT NULL CHECK (end_idx > first_idx),
    state text NOT NULL CHECK (state IN ('ready', 'leased', 'done', 'cancelled', 'expired')),
    epoch integer NOT NULL DEFAULT 0,
    priority smallint NOT NULL DEFAULT 0,
    deadline timestamptz,
    not_before timestamptz,
    dispatched_at timestamptz,
    lease_expires_at timestamptz,
    worker text,
    crash_attempts smallint NOT NULL DEFAULT 0,
    error_attempts smallint NOT NULL DEFAULT 0,
    last_error text,
    completed_count integer NOT NULL DEFAULT 0,
    failed_count integer NOT NULL DEFAULT 0,
    input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    metrics jsonb,
    PRIMARY KEY (tenant_id, shard_id),
    FOREIGN KEY (tenant_id, job_id) REFERENCES jobs (tenant_id, job_id) ON DELETE CASCADE
);
CREATE INDEX shards_of_job ON shards (tenant_id, job_id, first_idx);
CREATE INDEX shards_ready ON shards (tenant_id, priority DESC, deadline, job_id, first_idx) WHERE state = 'ready';
CREATE INDEX shards_leased ON shards (lease_expires_at) WHERE state = 'leased';
CREATE INDEX shards_offered ON shards (dispatched_at) WHERE state = 'ready' AND dispatched_at IS NOT NULL;

CREATE TABLE results (
    tenant_id uuid NOT NULL,
    job_id uuid NOT NULL,
    idx integer NOT NULL,
    outcome smallint NOT NULL CHECK (outcome IN (1, 2)),
    code text,
    payload_sealed bytea STORAGE EXTERNAL,
    model_version text,
    input_tokens integer NOT NULL DEFAULT 0,
    output_tokens integer NOT NULL DEFAULT 0,
    epoch integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, job_id, idx)
) PARTITION BY HASH (job_id);

CREATE TABLE label_sets (
    tenant_id uuid NOT NULL,
    label_set_id uuid NOT NULL,
    name_hmac bytea NOT NULL,
    body_sealed bytea STORAGE EXTERNAL NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, label_set_id),
    UNIQUE (tenant_id, name_hmac)
);

CREATE TABLE models (
    tenant_id uuid NOT NULL,
    model_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind = 'head'),
    base text NOT NULL,
    version text NOT NULL,
    name_hmac bytea NOT NULL,
    card_sealed bytea STORAGE EXTERNAL NOT NULL,
    weights_sealed bytea STORAGE EXTERNAL NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, model_id),
    UNIQUE (tenant_id, name_hmac)
);

CREATE TABLE schedules (
    tenant_id uuid NOT NULL,
    schedule_id uuid NOT NULL,
    principal_id uuid NOT NULL,
    cron text NOT NULL,
    timezone text NOT NULL,
    spec_sealed bytea STORAGE EXTERNAL NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'paused')),
    next_run_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, schedule_id)
);

CREATE TABLE audit_events (
    tenant_id uuid NOT NULL,
    event_id uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    component text NOT NULL,
    principal_id uuid,
    key_id uuid,
    action text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('allowed', 'denied')),
    object_kind text,
    object_id uuid,
    first_idx integer,
    end_idx integer,
    job_id uuid,
    request_id text,
    origin inet,
    model_version text,
    PRIMARY KEY (tenant_id, event_id)
);
CREATE INDEX audit_events_by_time ON audit_events (tenant_id, at);

CREATE TABLE audit_digests (
    tenant_id uuid NOT NULL,
    event_id uuid NOT NULL,
    row_count integer NOT NULL,
    digest bytea NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
);

CREATE TABLE audit_unsealed (
    tenant_id uuid NOT NULL,
    event_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, event_id)
);

CREATE TABLE audit_leaves (
    leaf_index bigint PRIMARY KEY,
    tenant_id uuid NOT NULL,
    event_id uuid NOT NULL,
    leaf_hash bytea NOT NULL
);

CREATE TABLE audit_checkpoints (
    tree_size bigint PRIMARY KEY,
    root_hash bytea NOT NULL,
    note text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Eight partitions each: enough that deleting and vacuuming one file's or job's data does not touch the others', few enough to plan cheaply.
-- toast_tuple_target keeps a sealed article of some kilobytes in its row instead of in a side table.
DO $$
DECLARE
    parent text;
    part integer;
BEGIN
    FOREACH parent IN ARRAY ARRAY['rows', 'results'] LOOP
        FOR part IN 0..7 LOOP
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (MODULUS 8, REMAINDER %s) WITH (toast_tuple_target = 8160)',
                parent || '_p' || part, parent, part
            );
        END LOOP;
    END LOOP;
END
$$;
