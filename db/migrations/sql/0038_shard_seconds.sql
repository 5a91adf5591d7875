-- As it was, and how long the shards took: a new job is cut by that.
-- What shards came to that ended lately, by task and model: of the newest jobs that are complete, and of those that run. A number that is none counts
-- for nothing.
CREATE OR REPLACE VIEW measured_work AS
    SELECT m.task, m.model, sum(n.worker_seconds) AS worker_seconds, sum(n.chars) AS chars, sum(m.rows) AS rows,
           sum(m.input_tokens) AS input_tokens, sum(m.output_tokens) AS output_tokens, coalesce(sum(n.limit_tokens), 0) AS limit_tokens,
           coalesce(sum(n.shard_seconds), 0) AS shard_seconds
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
               CASE WHEN jsonb_typeof(m.metrics -> 'limit_tokens') = 'number' THEN (m.metrics ->> 'limit_tokens')::numeric END AS limit_tokens,
               CASE WHEN jsonb_typeof(m.metrics -> 'seconds') = 'number' THEN (m.metrics ->> 'seconds')::numeric END AS shard_seconds) AS n
    WHERE n.worker_seconds > 0 AND n.chars > 0
    GROUP BY m.task, m.model;
