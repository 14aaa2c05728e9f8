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
