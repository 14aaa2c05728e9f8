-- name: add_task
INSERT INTO task (name, batch, subject, lane, key, spec, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT DO NOTHING;

-- name: add_tracking
INSERT INTO tracking (id, subject, state, ord) SELECT id, ?2, 0, ?3 FROM task WHERE name = ?1
ON CONFLICT (id) DO NOTHING;

-- name: pick
SELECT g.subject, g.id, g.token, g.attempts, t.name, t.batch, t.spec FROM tracking g JOIN task t ON t.id = g.id
WHERE g.state = 0 AND g.subject = ?1 AND g.not_before <= ?3 ORDER BY g.ord LIMIT ?2;

-- name: grant
UPDATE tracking SET state = 1, token = ?2, attempts = attempts + 1, holder = ?3, expires_at = ?4
WHERE id = ?1;

-- name: start_attempt
INSERT INTO attempt (token, task, previous, attempt_id, holder, state, started_at)
VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6);

-- name: tracked
SELECT id, subject, state, token, holder, expires_at, attempts FROM tracking
WHERE id IN (SELECT value FROM json_each(:ids));

-- name: reported
SELECT a.token, t.name, a.state, a.sha256, a.holder, g.id, g.subject, g.state, g.token, g.holder, g.expires_at, g.attempts
FROM attempt a JOIN task t ON t.id = a.task JOIN tracking g ON g.id = a.task
WHERE a.token IN (SELECT value FROM json_each(:tokens));

-- name: end_attempt
UPDATE attempt SET state = ?2, ended_at = ?3, outcome_class = ?4, outcome = ?5, sha256 = ?6, error_code = ?7, error = ?8
WHERE token = ?1;

-- name: finish
UPDATE tracking SET state = ?3, holder = NULL WHERE id = ?1 AND token = ?2 AND state = 1;

-- name: move
UPDATE tracking SET state = ?3, ord = ?4, not_before = ?5, expires_at = ?6, attempts = ?7, holder = NULL
WHERE id = ?1 AND token = ?2;

-- name: close_attempt
UPDATE attempt SET state = ?2, ended_at = ?3, error_code = ?4, error = ?5 WHERE token = ?1 AND state = 0;

-- name: kill
UPDATE tracking SET state = 4 WHERE id = ?1 AND state = 3;

-- name: extend
UPDATE tracking SET expires_at = ?3 WHERE id = ?1 AND token = ?2 AND state = 1;

-- name: sampled
UPDATE subject SET samples = samples + ?2, clean = clean + ?3 WHERE name = ?1;

-- name: late
INSERT INTO late_report (token, sha256, holder, answer, outcome, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT DO NOTHING;
