-- name: prepare
INSERT INTO publication (epoch, round, state, document, sha256, term, prepared_at)
VALUES (:epoch, :round, 'prepared', :document, :sha256, :term, :at);

-- name: last_epoch
SELECT coalesce(max(epoch), 0) FROM publication;

-- name: of_round
SELECT epoch, round, state, document, sha256, term, prepared_at, settled_at, reason FROM publication WHERE round = :round;

-- name: latest
SELECT epoch, round, state, document, sha256, term, prepared_at, settled_at, reason FROM publication
WHERE state = 'published' ORDER BY epoch DESC LIMIT 1;

-- name: published
SELECT epoch, round, state, document, sha256, term, prepared_at, settled_at, reason FROM publication
WHERE epoch = :epoch AND state = 'published';

-- name: settle
UPDATE publication SET state = :state, settled_at = :at, reason = :reason
WHERE epoch = :epoch AND state = 'prepared' RETURNING epoch;
