-- name: append
INSERT INTO fact (seq, at, kind, subject, body, previous, hash)
VALUES (:seq, :at, :kind, :subject, :body, :previous, :hash);

-- name: set_head
UPDATE fact_head SET seq = :seq, hash = :hash;

-- name: head
SELECT seq, hash FROM fact_head;

-- name: page
SELECT seq, at, kind, subject, body, previous, hash FROM fact
WHERE seq > :after AND (:kind = '' OR kind = :kind) ORDER BY seq LIMIT :limit;

-- name: newest
SELECT seq, at, kind, subject, body, previous, hash FROM fact
WHERE seq > :after AND (:kind = '' OR kind = :kind) ORDER BY seq DESC LIMIT :limit;
