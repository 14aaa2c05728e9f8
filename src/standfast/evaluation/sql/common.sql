-- name: open_round
INSERT INTO round (number, state, opened_at, opened_ms, deadline_ms, plan, secret, first_token)
VALUES (:number, 'open', :opened_at, :opened_ms, :deadline_ms, :plan, :secret, :first_token);

-- name: last_round
SELECT number, opened_ms FROM round ORDER BY number DESC LIMIT 1;

-- name: open_rounds
SELECT number, state, opened_at, opened_ms, deadline_ms, plan, secret, first_token, ended_at, code, reason, result,
  evidence_sha256, is_pruned FROM round WHERE state = 'open';

-- name: round
SELECT number, state, opened_at, opened_ms, deadline_ms, plan, secret, first_token, ended_at, code, reason, result,
  evidence_sha256, is_pruned FROM round WHERE number = :number;

-- name: rounds
SELECT number, state, opened_at, opened_ms, deadline_ms, plan, secret, first_token, ended_at, code, reason, result,
  evidence_sha256, is_pruned FROM round ORDER BY number DESC LIMIT :limit;

-- name: last_scored
SELECT number, state, opened_at, opened_ms, deadline_ms, plan, secret, first_token, ended_at, code, reason, result,
  evidence_sha256, is_pruned FROM round WHERE result IS NOT NULL ORDER BY number DESC LIMIT 1;

-- name: results_before
SELECT number, result FROM round
WHERE number < :number AND result IS NOT NULL ORDER BY number DESC LIMIT :limit;

-- name: complete
SELECT number FROM round WHERE state = 'complete' ORDER BY number;

-- name: end_round
UPDATE round SET state = :state, ended_at = :ended_at, code = :code, reason = :reason, result = :result,
  evidence_sha256 = :evidence_sha256
WHERE number = :number AND state = 'open' RETURNING number;

-- name: settle_round
UPDATE round SET state = :state, code = :code, reason = :reason
WHERE number = :number AND state = 'complete' RETURNING number;

-- name: sampling_lists
SELECT environment, items FROM sampling_list;

-- name: set_sampling_list
INSERT INTO sampling_list (environment, items, rotated_in) VALUES (:environment, :items, :rotated_in)
ON CONFLICT (environment) DO UPDATE SET items = excluded.items, rotated_in = excluded.rotated_in;

-- name: prunable
SELECT number FROM round WHERE number <= :up_to AND is_pruned = 0 AND state <> 'open' AND state <> 'complete'
ORDER BY number LIMIT 5;

-- name: mark_pruned
UPDATE round SET is_pruned = 1 WHERE number = :number;
