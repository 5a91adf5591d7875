-- When a job will be done hangs on what waits before it, of other tenants too, and on how fast all went lately. Both are shown to the API as sums: of
-- another tenant's job neither its id nor its tenant's, only what it asks of the workers.
ALTER TABLE jobs ADD COLUMN worker_seconds real, ADD COLUMN promised_at timestamptz;
GRANT UPDATE (worker_seconds, promised_at) ON jobs TO textmill_api;

CREATE POLICY owner_for_the_api ON jobs FOR SELECT TO textmill_owner USING (session_user = 'textmill_api');
CREATE POLICY owner_for_the_api ON shards FOR SELECT TO textmill_owner USING (session_user = 'textmill_api');
CREATE POLICY owner_for_the_api ON files FOR SELECT TO textmill_owner USING (session_user = 'textmill_api');

-- The views read with their owner's rights. Jobs that are not done, in the order of nothing: `tenant` is a number of this look alone.
CREATE VIEW live_work AS
    SELECT own.mine AS own, dense_rank() OVER (ORDER BY j.tenant_id) AS tenant, CASE WHEN own.mine THEN j.job_id END AS job_id, j.task, j.model, j.priority,
           CASE WHEN own.mine AND j.state = 'in_progress' THEN j.turn_at END AS turn_at, CASE WHEN own.mine THEN j.deadline END AS deadline,
           j.worker_seconds, j.row_count, CASE j.state WHEN 'in_progress' THEN coalesce(open.rows, 0) ELSE j.row_count END AS open_rows, coalesce(f.size_chars, 0) AS size_chars
    FROM jobs j
    CROSS JOIN LATERAL (SELECT coalesce(j.tenant_id = nullif(current_setting('textmill.tenant', true), '')::uuid, false) AS mine) AS own
    LEFT JOIN files f ON f.tenant_id = j.tenant_id AND f.file_id = j.file_id
    LEFT JOIN LATERAL (
        SELECT sum(s.end_idx - s.first_idx - s.completed_count - s.failed_count) AS rows FROM shards s
        WHERE s.tenant_id = j.tenant_id AND s.job_id = j.job_id AND s.state <> 'done') AS open ON j.state = 'in_progress'
    WHERE j.state IN ('validating', 'in_progress') AND j.paused_at IS NULL AND j.deleted_at IS NULL;
GRANT SELECT ON live_work TO textmill_api;

-- What shards came to that ended lately, by task and model: of the newest jobs that are complete, and of those that run. A number that is none counts
-- for nothing.
CREATE VIEW measured_work AS
    SELECT m.task, m.model, sum(n.worker_seconds) AS worker_seconds, sum(n.chars) AS chars, sum(m.rows) AS rows,
           sum(m.input_tokens) AS input_tokens, sum(m.output_tokens) AS output_tokens, coalesce(sum(n.limit_tokens), 0) AS limit_tokens
    FROM (
        (SELECT task, model, metrics, completed_count AS rows, input_tokens, output_tokens FROM jobs
         WHERE state = 'completed' AND completed_at > now() - interval '30 days' ORDER BY completed_at DESC LIMIT 200)
        UNION ALL
        (SELECT j.task, j.model, s.metrics, s.completed_count, s.input_tokens, s.output_tokens
         FROM (SELECT tenant_id, job_id, task, model FROM jobs WHERE state = 'in_progress' ORDER BY created_at DESC LIMIT 50) AS j
         CROSS JOIN LATERAL (
            SELECT metrics, completed_count, input_tokens, output_tokens FROM shards
            WHERE tenant_id = j.tenant_id AND job_id = j.job_id AND completed_count > 0 ORDER BY first_idx LIMIT 50) AS s)
    ) AS m
    CROSS JOIN LATERAL (
        SELECT CASE WHEN jsonb_typeof(m.metrics -> 'worker_seconds') = 'number' THEN (m.metrics ->> 'worker_seconds')::numeric END AS worker_seconds,
               CASE WHEN jsonb_typeof(m.metrics -> 'chars') = 'number' THEN (m.metrics ->> 'chars')::numeric END AS chars,
               CASE WHEN jsonb_typeof(m.metrics -> 'limit_tokens') = 'number' THEN (m.metrics ->> 'limit_tokens')::numeric END AS limit_tokens) AS n
    WHERE n.worker_seconds > 0 AND n.chars > 0
    GROUP BY m.task, m.model;
GRANT SELECT ON measured_work TO textmill_api;
