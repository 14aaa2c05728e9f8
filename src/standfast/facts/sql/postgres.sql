-- name: head_for_update
SELECT seq, hash FROM fact_head FOR UPDATE;

-- name: page
SELECT seq, at, kind, subject, body, previous, hash FROM fact
WHERE seq > :after AND (:kind::text = '' OR kind = :kind) ORDER BY seq LIMIT :limit;

-- name: newest
SELECT seq, at, kind, subject, body, previous, hash FROM fact
WHERE seq > :after AND (:kind::text = '' OR kind = :kind) ORDER BY seq DESC LIMIT :limit;
