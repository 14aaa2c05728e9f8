-- name: add_task
INSERT INTO task (name, batch, subject, lane, key, spec, created_at)
SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
ON CONFLICT DO NOTHING;

-- name: add_tracking
INSERT INTO tracking (id, subject, state, ord)
SELECT t.id, x.subject, 0, x.ord FROM unnest(%s::bigint[], %s::text[], %s::bigint[]) AS x (name, subject, ord)
JOIN task t ON t.name = x.name ON CONFLICT (id) DO NOTHING;

-- name: lock_claims
SELECT pg_advisory_xact_lock(723002);

-- name: list_tasks
SELECT t.name, t.batch, t.subject, t.lane, t.key, t.spec, t.created_at, g.state, g.token, g.holder, g.attempts
FROM task t JOIN tracking g ON g.id = t.id 
WHERE t.batch = :batch AND (:subject::text = '' OR t.subject = :subject) AND (:state::int < 0 OR g.state = :state)
ORDER BY t.key LIMIT :limit;

-- name: batch_open
SELECT g.id, g.state, g.token FROM task t JOIN tracking g ON g.id = t.id
WHERE t.batch = :batch AND g.state IN (0, 1, 3) ORDER BY g.id FOR UPDATE OF g;

-- name: named
SELECT g.id, g.subject, g.state, g.token, g.holder, g.expires_at, g.attempts
FROM task t JOIN tracking g ON g.id = t.id WHERE t.name = :name FOR UPDATE OF g;

-- name: pick
SELECT q.subject, p.* FROM unnest(%s::text[], %s::int[], %s::bigint[]) AS q (subject, count, now),
LATERAL (SELECT g.id, g.token, g.attempts, t.name, t.batch, t.spec FROM tracking g JOIN task t ON t.id = g.id
  WHERE g.state = 0 AND g.subject = q.subject AND g.not_before <= q.now ORDER BY g.ord LIMIT q.count) AS p;

-- name: grant
UPDATE tracking g SET state = 1, token = x.token, attempts = attempts + 1, holder = x.holder, expires_at = x.expires_at
FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[]) AS x (id, token, holder, expires_at)
WHERE g.id = x.id;

-- name: start_attempt
INSERT INTO attempt (token, task, previous, attempt_id, holder, state, started_at)
SELECT x.token, x.task, x.previous, x.attempt_id, x.holder, 0, x.at
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[])
  AS x (token, task, previous, attempt_id, holder, at);

-- name: tracked
SELECT id, subject, state, token, holder, expires_at, attempts FROM tracking
WHERE id = ANY(:ids) ORDER BY id FOR UPDATE;

-- name: reported
SELECT a.token, t.name, a.state, a.sha256, a.holder, g.id, g.subject, g.state, g.token, g.holder, g.expires_at, g.attempts
FROM attempt a JOIN task t ON t.id = a.task JOIN tracking g ON g.id = a.task
WHERE a.token = ANY(:tokens) ORDER BY g.id FOR UPDATE OF g;

-- name: end_attempt
UPDATE attempt a SET state = x.state, ended_at = x.ended_at, outcome_class = x.outcome_class, outcome = x.outcome,
  sha256 = x.sha256, error_code = x.error_code, error = x.error
FROM unnest(%s::bigint[], %s::smallint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
  AS x (token, state, ended_at, outcome_class, outcome, sha256, error_code, error)
WHERE a.token = x.token;

-- name: finish
UPDATE tracking g SET state = x.state, holder = NULL
FROM unnest(%s::bigint[], %s::bigint[], %s::smallint[]) AS x (id, token, state)
WHERE g.id = x.id AND g.token = x.token AND g.state = 1;

-- name: move
UPDATE tracking g SET state = x.state, ord = x.ord, not_before = x.not_before, expires_at = x.expires_at,
  attempts = x.attempts, holder = NULL
FROM unnest(%s::bigint[], %s::bigint[], %s::smallint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
  AS x (id, token, state, ord, not_before, expires_at, attempts)
WHERE g.id = x.id AND g.token = x.token;

-- name: close_attempt
UPDATE attempt a SET state = x.state, ended_at = x.ended_at, error_code = x.error_code, error = x.error
FROM unnest(%s::bigint[], %s::smallint[], %s::text[], %s::text[], %s::text[])
  AS x (token, state, ended_at, error_code, error)
WHERE a.token = x.token AND a.state = 0;

-- name: kill
UPDATE tracking g SET state = 4 FROM unnest(%s::bigint[]) AS x (id) WHERE g.id = x.id AND g.state = 3;

-- name: extend
UPDATE tracking g SET expires_at = x.expires_at
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[]) AS x (id, token, expires_at)
WHERE g.id = x.id AND g.token = x.token AND g.state = 1;

-- name: sampled
UPDATE subject s SET samples = s.samples + x.samples, clean = s.clean + x.clean
FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS x (name, samples, clean) WHERE s.name = x.name;

-- name: late
INSERT INTO late_report (token, sha256, holder, answer, outcome, at)
SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
ON CONFLICT DO NOTHING;
