-- name: head_for_update
SELECT seq, hash FROM fact_head;
