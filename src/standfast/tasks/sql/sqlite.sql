-- name: grant
UPDATE tracking SET state = 1, token = ?2, attempts = attempts + 1, holder = ?3, expires_at = ?4
WHERE id = ?1;

-- name: start_attempt
INSERT INTO attempt (token, task, previous, attempt_id, holder, state, started_at)
VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6);

-- name: close_attempt
UPDATE attempt SET state = ?2, ended_at = ?3, error_code = ?4, error = ?5 WHERE token = ?1 AND state = 0;

-- name: sampled
UPDATE subject SET samples = samples + ?2, clean = clean + ?3 WHERE name = ?1;

-- name: late
INSERT INTO late_report (token, sha256, holder, answer, outcome, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT DO NOTHING;

-- name: add_subject
INSERT INTO subject (name, slots) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING;

-- name: add_task
INSERT INTO task (name, batch, subject, lane, key, spec, created_at) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
WHERE NOT EXISTS (SELECT 1 FROM closed_batch WHERE batch = ?2)
ON CONFLICT DO NOTHING;

-- name: add_tracking
INSERT INTO tracking (id, subject, state, ord) SELECT id, subject, 0, ?2 FROM task WHERE name = ?1
ON CONFLICT (id) DO NOTHING;

-- name: attempts_of
SELECT a.token, a.attempt_id, t.name FROM json_each(:tokens) x CROSS JOIN attempt a ON a.token = x.value
CROSS JOIN task t ON t.id = a.task;

-- name: existing
SELECT name FROM task WHERE name IN (SELECT value FROM json_each(:names));

-- name: extend
UPDATE tracking SET expires_at = ?3
WHERE id = (SELECT id FROM task WHERE name = ?1) AND token = ?2 AND state = 1 AND holder = ?4 AND expires_at > ?5
RETURNING ?1, token;

-- name: kill
UPDATE tracking SET state = 4 WHERE id = ?1 AND state = 3 AND expires_at = ?2 RETURNING id;

-- name: outcome_means
SELECT t.subject, t.lane, count(*), avg(json_extract(a.outcome, '$.' || :field))
FROM task t JOIN tracking g ON g.id = t.id JOIN attempt a ON a.token = g.token AND a.state = 1
WHERE t.batch = :batch AND g.state = 2 GROUP BY t.subject, t.lane;

-- name: line_in_lanes
SELECT g.id, g.subject, g.token, g.attempts, g.ord, t.name, t.batch, t.spec FROM tracking g CROSS JOIN task t ON t.id = g.id
WHERE g.state = 0 AND g.is_aside = 0 AND (g.ord, g.id) > (:after_order, :after_row)
  AND t.lane IN (SELECT value FROM json_each(:lanes)) ORDER BY g.ord, g.id LIMIT :count;

-- name: aside
SELECT g.id, g.subject, g.token, g.attempts, g.ord, n.name, n.batch, n.spec
FROM json_each(:subjects) q CROSS JOIN tracking g ON g.id IN (
  SELECT id FROM tracking WHERE state = 0 AND is_aside = 1 AND subject = q.value AND not_before <= :now_ms
  ORDER BY ord LIMIT :count)
CROSS JOIN task n ON n.id = g.id;

-- name: aside_in_lanes
SELECT g.id, g.subject, g.token, g.attempts, g.ord, n.name, n.batch, n.spec
FROM json_each(:subjects) q CROSS JOIN tracking g ON g.id IN (
  SELECT w.id FROM tracking w CROSS JOIN task t ON t.id = w.id
  WHERE w.state = 0 AND w.is_aside = 1 AND w.subject = q.value AND w.not_before <= :now_ms
    AND t.lane IN (SELECT value FROM json_each(:lanes)) ORDER BY w.ord LIMIT :count)
CROSS JOIN task n ON n.id = g.id;

-- name: set_aside
UPDATE tracking SET is_aside = 1 WHERE id IN (SELECT value FROM json_each(:rows));

-- name: reported
SELECT c.now_ms, x.value, t.name, a.state, a.holder, a.outcome_class, a.outcome, a.error_code, a.error,
  g.id, g.subject, g.state, g.token, g.holder, g.expires_at, g.attempts
FROM control c CROSS JOIN json_each(:tokens) x LEFT JOIN attempt a ON a.token = x.value
LEFT JOIN task t ON t.id = a.task LEFT JOIN tracking g ON g.id = a.task;

-- name: holding
SELECT g.id, g.token FROM json_each(:rows) x CROSS JOIN tracking g ON g.id = x.value
WHERE g.state = 1 AND g.expires_at > :after_ms AND g.expires_at <= :until_ms;

-- name: move
UPDATE tracking SET state = ?3, ord = ?4, not_before = ?5, expires_at = ?6, attempts = ?7, holder = NULL, is_aside = 1
WHERE id = ?1 AND token = ?2;

-- name: end_attempt
UPDATE attempt SET state = ?2, ended_at = ?3, outcome_class = ?4, outcome = ?5, error_code = ?6, error = ?7
WHERE token = ?1;

-- name: see_executor
INSERT INTO executor (name, instance, last_seen_at, seen_ms, info)
SELECT :name, :instance, :at, c.now_ms, :info FROM control c WHERE true
ON CONFLICT (name) DO UPDATE SET last_seen_at = excluded.last_seen_at, seen_ms = excluded.seen_ms,
  info = excluded.info;

-- name: held
SELECT a.token, t.name, g.id, g.subject
FROM control c CROSS JOIN json_each(:tokens) x CROSS JOIN attempt a ON a.token = x.value
CROSS JOIN tracking g ON g.id = a.task CROSS JOIN task t ON t.id = a.task
WHERE g.token = x.value AND g.state = 1 AND g.holder = :holder AND g.expires_at > c.now_ms;

-- name: finish
UPDATE tracking SET state = 2, holder = NULL, expires_at = 0 WHERE id = ?1;

-- name: accept
UPDATE attempt SET state = 1, ended_at = ?2, outcome_class = ?3, outcome = ?4, error_code = ?5, error = ?6
WHERE token = ?1;

-- name: running
SELECT subject, count(*) FROM tracking WHERE state = 1 GROUP BY subject;

-- name: slots
SELECT name, slots FROM subject WHERE is_paused = 0;

-- name: glance
SELECT c.now_ms, c.is_draining, e.is_cordoned, EXISTS (SELECT 1 FROM tracking WHERE state = 0 AND is_aside = 1),
  max(c.token_floor, coalesce((SELECT max(token) FROM attempt), 0))
FROM control c, executor e WHERE e.name = :name AND e.info = :info AND e.seen_ms + 1000 > c.now_ms
  AND substr(e.last_seen_at, 1, 19) = substr(:at, 1, 19);
