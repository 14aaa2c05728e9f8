-- name: tokens
SELECT name, sha256, scopes, created_at, revoked_at FROM api_token ORDER BY created_at, name LIMIT :limit;

-- name: add_token
INSERT INTO api_token (name, sha256, scopes, created_at) VALUES (:name, :sha256, :scopes, :at)
ON CONFLICT DO NOTHING RETURNING name;

-- name: install_token
INSERT INTO api_token (name, sha256, scopes, created_at) VALUES (:name, :sha256, :scopes, :at)
ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, scopes = excluded.scopes,
  created_at = excluded.created_at, revoked_at = NULL;

-- name: revoke_token
UPDATE api_token SET revoked_at = :at WHERE name = :name AND revoked_at IS NULL RETURNING name;

-- name: attempts_by_subject
WITH RECURSIVE chain AS (
  SELECT t.subject, a.previous, a.state, a.outcome_class, a.error_code, a.started_at, a.ended_at
  FROM task t JOIN tracking g ON g.id = t.id JOIN attempt a ON a.token = g.token WHERE t.batch = :batch
  UNION ALL SELECT c.subject, a.previous, a.state, a.outcome_class, a.error_code, a.started_at, a.ended_at
  FROM attempt a JOIN chain c ON a.token = c.previous
)
SELECT subject, state, coalesce(outcome_class, ''), coalesce(error_code, ''), count(*), max(started_at),
  max(coalesce(ended_at, ''))
FROM chain GROUP BY subject, state, coalesce(outcome_class, ''), coalesce(error_code, '');
