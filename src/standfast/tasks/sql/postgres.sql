-- name: list_tasks
SELECT t.name, t.batch, t.subject, t.lane, t.key, t.spec, t.created_at, g.state, g.token, g.holder, g.attempts
FROM task t JOIN tracking g ON g.id = t.id 
WHERE t.batch = :batch AND (:subject::text = '' OR t.subject = :subject) AND (:state::int < 0 OR g.state = :state)
ORDER BY t.key LIMIT :limit;

-- name: named
SELECT g.id, g.subject, g.state, g.token, g.holder, g.expires_at, g.attempts
FROM task t JOIN tracking g ON g.id = t.id WHERE t.name = :name FOR UPDATE OF g;

-- name: close_attempt
UPDATE attempt a SET state = x.state, ended_at = x.ended_at, error_code = x.error_code, error = x.error
FROM unnest(%s::bigint[], %s::smallint[], %s::text[], %s::text[], %s::text[])
  AS x (token, state, ended_at, error_code, error)
WHERE a.token = x.token AND a.state = 0;

-- name: late
INSERT INTO late_report (token, sha256, holder, answer, outcome, at)
SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
ON CONFLICT DO NOTHING;

-- name: add_subject
INSERT INTO subject (name, slots) SELECT * FROM unnest(%s::text[], %s::bigint[]) ON CONFLICT (name) DO NOTHING;

-- name: add_task
INSERT INTO task (name, batch, subject, lane, key, spec, created_at)
SELECT x.* FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
  AS x (name, batch, subject, lane, key, spec, created_at)
WHERE NOT EXISTS (SELECT 1 FROM closed_batch c WHERE c.batch = x.batch)
ON CONFLICT DO NOTHING;

-- name: add_tracking
INSERT INTO tracking (id, subject, state, ord)
SELECT t.id, t.subject, 0, x.ord FROM unnest(%s::bigint[], %s::bigint[]) AS x (name, ord)
JOIN task t ON t.name = x.name ON CONFLICT (id) DO NOTHING;

-- name: see_executor
INSERT INTO executor AS e (name, instance, last_seen_at, seen_ms, info)
SELECT :name, :instance, :at, c.now_ms, :info FROM control c
ON CONFLICT (name) DO UPDATE SET last_seen_at = excluded.last_seen_at, seen_ms = excluded.seen_ms,
  info = excluded.info
WHERE e.seen_ms + 1000 <= excluded.seen_ms OR e.info <> excluded.info
  OR substr(e.last_seen_at, 1, 19) <> substr(excluded.last_seen_at, 1, 19);

-- name: lock_claims
SELECT pg_advisory_xact_lock(723002);

-- name: enter
WITH seen AS (
INSERT INTO executor AS e (name, instance, last_seen_at, seen_ms, info)
SELECT :name, :instance, :at, c.now_ms, :info FROM control c
ON CONFLICT (name) DO UPDATE SET last_seen_at = excluded.last_seen_at, seen_ms = excluded.seen_ms,
  info = excluded.info
WHERE e.seen_ms + 1000 <= excluded.seen_ms OR e.info <> excluded.info
  OR substr(e.last_seen_at, 1, 19) <> substr(excluded.last_seen_at, 1, 19))
SELECT pg_advisory_xact_lock(723002);

-- name: attempts_of
SELECT a.token, a.attempt_id, t.name FROM attempt a JOIN task t ON t.id = a.task
WHERE a.token = ANY(:tokens::bigint[]);

-- name: existing
SELECT name FROM task WHERE name = ANY(:names::bigint[]);

-- name: extend
UPDATE tracking g SET expires_at = :expires_at
FROM unnest(:names::bigint[], :tokens::bigint[]) AS x (name, token) JOIN task t ON t.name = x.name
WHERE g.id = t.id AND g.token = x.token AND g.state = 1 AND g.holder = :holder AND g.expires_at > :now_ms
RETURNING x.name, g.token;

-- name: sampled
UPDATE subject s SET samples = s.samples + x.samples, clean = s.clean + x.clean
FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS x (name, samples, clean) WHERE s.name = x.name;

-- name: kill
UPDATE tracking g SET state = 4 FROM unnest(%s::bigint[], %s::bigint[]) AS x (id, expires_at)
WHERE g.id = x.id AND g.state = 3 AND g.expires_at = x.expires_at RETURNING g.id;

-- name: batch_open
SELECT g.id, g.state, g.token, g.attempts FROM task t JOIN tracking g ON g.id = t.id
WHERE t.batch = :batch AND g.state IN (0, 1, 3) ORDER BY g.id FOR UPDATE OF g;

-- name: outcome_means
SELECT t.subject, t.lane, count(*), avg((a.outcome::json ->> :field::text)::double precision)
FROM task t JOIN tracking g ON g.id = t.id JOIN attempt a ON a.token = g.token AND a.state = 1
WHERE t.batch = :batch AND g.state = 2 GROUP BY t.subject, t.lane;

-- name: line_in_lanes
SELECT g.id, g.subject, g.token, g.attempts, g.ord, t.name, t.batch, t.spec FROM tracking g JOIN task t ON t.id = g.id
WHERE g.state = 0 AND g.is_aside = 0 AND (g.ord, g.id) > (:after_order, :after_row)
  AND t.lane = ANY(:lanes::text[]) ORDER BY g.ord, g.id LIMIT :count;

-- name: aside
SELECT p.* FROM unnest(:subjects::text[]) AS q (subject),
LATERAL (SELECT g.id, g.subject, g.token, g.attempts, g.ord, t.name, t.batch, t.spec
  FROM tracking g JOIN task t ON t.id = g.id
  WHERE g.state = 0 AND g.is_aside = 1 AND g.subject = q.subject AND g.not_before <= :now_ms
  ORDER BY g.ord LIMIT :count) AS p;

-- name: aside_in_lanes
SELECT p.* FROM unnest(:subjects::text[]) AS q (subject),
LATERAL (SELECT g.id, g.subject, g.token, g.attempts, g.ord, t.name, t.batch, t.spec
  FROM tracking g JOIN task t ON t.id = g.id
  WHERE g.state = 0 AND g.is_aside = 1 AND g.subject = q.subject AND g.not_before <= :now_ms
    AND t.lane = ANY(:lanes::text[])
  ORDER BY g.ord LIMIT :count) AS p;

-- name: set_aside
UPDATE tracking SET is_aside = 1 WHERE id = ANY(:rows::bigint[]);

-- name: reported
SELECT c.now_ms, x.token, t.name, a.state, a.holder, a.outcome_class, a.outcome, a.error_code, a.error,
  g.id, g.subject, g.state, g.token, g.holder, g.expires_at, g.attempts
FROM control c CROSS JOIN unnest(:tokens::bigint[]) AS x (token)
LEFT JOIN LATERAL (SELECT * FROM attempt WHERE token = x.token OFFSET 0) a ON true
LEFT JOIN LATERAL (SELECT name FROM task WHERE id = a.task OFFSET 0) t ON true
LEFT JOIN LATERAL (SELECT * FROM tracking WHERE id = a.task OFFSET 0) g ON true;

-- name: move
UPDATE tracking g SET state = x.state, ord = x.ord, not_before = x.not_before, expires_at = x.expires_at,
  attempts = x.attempts, holder = NULL, is_aside = 1
FROM unnest(%s::bigint[], %s::bigint[], %s::smallint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])
  AS x (id, token, state, ord, not_before, expires_at, attempts)
WHERE g.id = x.id AND g.token = x.token;

-- name: conclude
WITH ended AS (
  SELECT * FROM unnest(:rows::bigint[], :tokens::bigint[], :states::smallint[], :orders::bigint[],
    :not_before::bigint[], :expires_at::bigint[], :attempts::bigint[], :attempt_states::smallint[],
    :classes::text[], :outcomes::text[], :codes::text[], :errors::text[])
  AS x (id, token, state, ord, not_before, expires_at, attempts, attempt_state, outcome_class, outcome,
    error_code, error)
), moved AS (
  UPDATE tracking g SET state = x.state, ord = x.ord, not_before = x.not_before, expires_at = x.expires_at,
    attempts = x.attempts, holder = NULL, is_aside = 1
  FROM ended x WHERE g.id = x.id AND g.token = x.token AND g.state = 1
    AND g.expires_at > :after_ms AND g.expires_at <= :until_ms
  RETURNING g.token
)
UPDATE attempt a SET state = x.attempt_state, ended_at = :at, outcome_class = x.outcome_class, outcome = x.outcome,
  error_code = x.error_code, error = x.error
FROM ended x JOIN moved m ON m.token = x.token WHERE a.token = x.token RETURNING a.token;

-- name: grant
WITH chosen AS (
  SELECT * FROM unnest(:rows::bigint[], :tokens::bigint[], :previous::bigint[], :attempt_ids::text[])
  AS x (id, token, previous, attempt_id)
), granted AS (
  UPDATE tracking g SET state = 1, token = c.token, attempts = g.attempts + 1, holder = :holder,
    expires_at = :expires_at
  FROM chosen c WHERE g.id = c.id
)
INSERT INTO attempt (token, task, previous, attempt_id, holder, state, started_at)
SELECT token, id, previous, attempt_id, :holder, 0, :at FROM chosen;

-- name: finish
WITH said AS (
  SELECT * FROM unnest(:tokens::bigint[], :names::bigint[], :classes::text[], :outcomes::text[], :codes::text[],
    :errors::text[]) AS x (token, name, outcome_class, outcome, error_code, error)
), moved AS (
  UPDATE tracking g SET state = 2, holder = NULL, expires_at = 0
  FROM said x JOIN task t ON t.name = x.name, control c
  WHERE g.id = t.id AND g.token = x.token AND g.state = 1 AND g.holder = :holder AND g.expires_at > c.now_ms
  RETURNING g.token, g.subject
), ended AS (
  UPDATE attempt a SET state = 1, ended_at = :at, outcome_class = x.outcome_class, outcome = x.outcome,
    error_code = x.error_code, error = x.error
  FROM said x JOIN moved m ON m.token = x.token WHERE a.token = x.token
)
SELECT token, subject FROM moved;

-- name: look
SELECT c.now_ms, c.is_draining, e.is_cordoned, s.name, s.slots - coalesce(r.running, 0), coalesce(r.running, 0),
  EXISTS (SELECT 1 FROM tracking WHERE state = 0 AND is_aside = 1),
  greatest(c.token_floor, (SELECT max(token) FROM attempt))
FROM control c JOIN executor e ON e.name = :name LEFT JOIN subject s ON s.is_paused = 0
LEFT JOIN (SELECT subject, count(*) AS running FROM tracking WHERE state = 1 GROUP BY subject) r
  ON r.subject = s.name;
