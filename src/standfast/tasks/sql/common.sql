-- name: control
SELECT now_ms, is_draining, leader, term, beat FROM control;

-- name: set_now
UPDATE control SET now_ms = :now_ms WHERE now_ms < :now_ms;

-- name: set_draining
UPDATE control SET is_draining = :is_draining;

-- name: lead
UPDATE control SET leader = :leader, beat = beat + 1,
  term = CASE WHEN term > :floor THEN term ELSE :floor END + 1
WHERE term = :term AND beat = :beat RETURNING term;

-- name: beat
UPDATE control SET beat = beat + 1 WHERE leader = :leader AND term = :term RETURNING beat;

-- name: resign
UPDATE control SET leader = '' WHERE leader = :leader AND term = :term;

-- name: subjects
SELECT name, slots, samples, clean, adjusted_at, is_paused FROM subject ORDER BY name;

-- name: set_slots
UPDATE subject SET slots = :slots, samples = 0, clean = 0, adjusted_at = :now_ms WHERE name = :name;

-- name: pause_subject
UPDATE subject SET is_paused = :is_paused WHERE name = :name RETURNING name;

-- name: leased
SELECT id, subject, state, token, holder, expires_at, attempts FROM tracking WHERE state = 1;

-- name: paused_over
SELECT id, expires_at FROM tracking WHERE state = 3 AND expires_at <= :now_ms;

-- name: batch_counts
SELECT g.state, count(*) FROM task t JOIN tracking g ON g.id = t.id WHERE t.batch = :batch GROUP BY g.state;

-- name: batch_counts_by_subject
SELECT t.subject, g.state, count(*) FROM task t JOIN tracking g ON g.id = t.id
WHERE t.batch = :batch GROUP BY t.subject, g.state;

-- name: batch_results
SELECT t.name, t.subject, t.lane, t.key, t.spec, g.state, g.attempts, a.attempt_id, a.outcome_class, a.outcome,
  a.holder, a.started_at, a.ended_at
FROM task t JOIN tracking g ON g.id = t.id LEFT JOIN attempt a ON a.token = g.token AND a.state = 1
WHERE t.batch = :batch ORDER BY t.key;

-- name: outcome_counts
SELECT t.subject, t.lane, a.outcome_class, count(*)
FROM task t JOIN tracking g ON g.id = t.id JOIN attempt a ON a.token = g.token AND a.state = 1
WHERE t.batch = :batch AND g.state = 2 GROUP BY t.subject, t.lane, a.outcome_class;

-- name: attempt_counts
WITH RECURSIVE chain AS (
  SELECT a.token, a.previous, a.state, a.error_code FROM task t JOIN tracking g ON g.id = t.id
  JOIN attempt a ON a.token = g.token WHERE t.batch = :batch
  UNION ALL SELECT a.token, a.previous, a.state, a.error_code FROM attempt a JOIN chain c ON a.token = c.previous
)
SELECT state, coalesce(error_code, ''), count(*) FROM chain GROUP BY state, coalesce(error_code, '') ORDER BY 1, 2;

-- name: task
SELECT t.name, t.batch, t.subject, t.lane, t.key, t.spec, t.created_at, g.state, g.token, g.holder, g.attempts
FROM task t JOIN tracking g ON g.id = t.id WHERE t.name = :name;

-- name: list_tasks
SELECT t.name, t.batch, t.subject, t.lane, t.key, t.spec, t.created_at, g.state, g.token, g.holder, g.attempts
FROM task t JOIN tracking g ON g.id = t.id 
WHERE t.batch = :batch AND (:subject = '' OR t.subject = :subject) AND (:state < 0 OR g.state = :state)
ORDER BY t.key LIMIT :limit;

-- name: attempts
WITH RECURSIVE chain AS (
  SELECT * FROM attempt WHERE token = :token
  UNION ALL SELECT a.* FROM attempt a JOIN chain c ON a.token = c.previous
)
SELECT token, attempt_id, holder, state, started_at, ended_at, outcome_class, outcome, error_code, error
FROM chain ORDER BY token;

-- name: late_reports
SELECT l.token, l.holder, l.answer, l.outcome, l.at FROM late_report l JOIN attempt a ON a.token = l.token
JOIN task t ON t.id = a.task WHERE t.name = :name ORDER BY l.at;

-- name: executor
SELECT instance, is_cordoned FROM executor WHERE name = :name;

-- name: executors
SELECT e.name, e.instance, e.last_seen_at, e.seen_ms, e.is_cordoned, e.info,
  (SELECT count(*) FROM tracking g WHERE g.state = 1 AND g.holder = e.name)
FROM executor e ORDER BY e.name;

-- name: cordon_executor
UPDATE executor SET is_cordoned = :is_cordoned WHERE name = :name RETURNING name;

-- name: held_by
SELECT id, subject, state, token, holder, expires_at, attempts FROM tracking
WHERE state = 1 AND holder = :holder;

-- name: named
SELECT g.id, g.subject, g.state, g.token, g.holder, g.expires_at, g.attempts
FROM task t JOIN tracking g ON g.id = t.id WHERE t.name = :name;

-- name: close_batch
INSERT INTO closed_batch (batch, closed_at) VALUES (:batch, :at) ON CONFLICT (batch) DO NOTHING;

-- name: is_closed
SELECT 1 FROM closed_batch c JOIN task t ON t.batch = c.batch WHERE t.name = :name;

-- name: forget_late
DELETE FROM late_report WHERE token IN (
  SELECT a.token FROM attempt a JOIN task t ON t.id = a.task WHERE t.batch = :batch);

-- name: forget_attempts
DELETE FROM attempt WHERE task IN (SELECT id FROM task WHERE batch = :batch);

-- name: forget_tracking
DELETE FROM tracking WHERE id IN (SELECT id FROM task WHERE batch = :batch);

-- name: forget_tasks
DELETE FROM task WHERE batch = :batch;

-- name: last_token
SELECT CASE WHEN a.token > c.token_floor THEN a.token ELSE c.token_floor END
FROM control c, (SELECT coalesce(max(token), 0) AS token FROM attempt) a;

-- name: raise_floor
UPDATE control SET token_floor = (SELECT max(token) FROM attempt)
WHERE token_floor < (SELECT max(token) FROM attempt);

-- name: register_executor
UPDATE executor SET instance = :instance WHERE name = :name;

-- name: add_sample
INSERT INTO sample (body) VALUES (:body);

-- name: take_samples
DELETE FROM sample RETURNING body;

-- name: batch_open
SELECT g.id, g.state, g.token, g.attempts FROM task t JOIN tracking g ON g.id = t.id
WHERE t.batch = :batch AND g.state IN (0, 1, 3);

-- name: pending_count
SELECT (SELECT count(*) FROM tracking WHERE state = 0 AND is_aside = 0)
  + (SELECT count(*) FROM tracking WHERE state = 0 AND is_aside = 1);

-- name: line
SELECT g.id, g.subject, g.token, g.attempts, g.ord, t.name, t.batch, t.spec FROM tracking g JOIN task t ON t.id = g.id
WHERE g.state = 0 AND g.is_aside = 0 AND (g.ord, g.id) > (:after_order, :after_row)
ORDER BY g.ord, g.id LIMIT :count;
