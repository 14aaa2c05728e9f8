-- name: began
INSERT INTO life (life, service, began_at, boot) VALUES (:life, :service, :at, :boot)
ON CONFLICT (life) DO NOTHING;

-- name: ready
UPDATE life SET ready_after_s = :after_s WHERE life = :life;

-- name: ended
INSERT INTO life (life, service, began_at, boot, ended_at, ended_s, code, signal, lived_s, ready_s, left_behind,
  oom_kills, last_line, print, down, asked_by, class, action, rule, fix, evidence, is_permanent, inputs)
VALUES (:life, :service, :at, :boot, :at, :at_s, :code, :signal, :lived_s, :ready_s, :left_behind,
  :oom_kills, :last_line, :print, :down, :asked_by, :class, :action, :rule, :fix, :evidence, :is_permanent, :inputs)
ON CONFLICT (life) DO UPDATE SET ended_at = excluded.ended_at, ended_s = excluded.ended_s, boot = excluded.boot,
  code = excluded.code, signal = excluded.signal, lived_s = excluded.lived_s, ready_s = excluded.ready_s,
  left_behind = excluded.left_behind, oom_kills = excluded.oom_kills, last_line = excluded.last_line,
  print = excluded.print, down = excluded.down, asked_by = excluded.asked_by, class = excluded.class,
  action = excluded.action, rule = excluded.rule, fix = excluded.fix, evidence = excluded.evidence,
  is_permanent = excluded.is_permanent, inputs = excluded.inputs;

-- name: prune
DELETE FROM life WHERE service = :service AND life NOT IN
  (SELECT life FROM life WHERE service = :service ORDER BY began_at DESC LIMIT :keep);

-- name: ends
SELECT service, life, ended_at, ended_s, boot, code, signal, lived_s, ready_s, left_behind, oom_kills, last_line,
  print, down, asked_by, class, action, rule, fix, evidence, is_permanent, inputs
FROM (SELECT life.*, row_number() OVER (PARTITION BY life.service ORDER BY began_at DESC) AS back FROM life
  LEFT JOIN pardon ON pardon.service = life.service
  WHERE ended_at IS NOT NULL AND class IS NOT 'requested_stop' AND ended_at > coalesce(pardon.at, ''))
WHERE back <= :most ORDER BY service, began_at;

-- name: pardon
INSERT INTO pardon (service, at) VALUES (:service, :at) ON CONFLICT (service) DO UPDATE SET at = excluded.at;

-- name: waits
SELECT service, ready_after_s FROM (SELECT service, ready_after_s, began_at,
  row_number() OVER (PARTITION BY service ORDER BY began_at DESC) AS back FROM life
  WHERE ready_after_s IS NOT NULL) WHERE back <= :most ORDER BY service, began_at;

-- name: open_lives
SELECT life, ready_after_s FROM life WHERE ended_at IS NULL AND ready_after_s IS NOT NULL;

-- name: lives
SELECT service, life, began_at, ready_after_s, ended_at, code, signal, lived_s, ready_s, last_line, asked_by, class,
  action, rule, fix, evidence FROM life WHERE (:service = '' OR service = :service)
ORDER BY began_at DESC LIMIT :limit;

-- name: holds
SELECT service, who, why, since FROM hold;

-- name: hold
INSERT INTO hold (service, who, why, since) VALUES (:service, :who, :why, :since)
ON CONFLICT (service) DO UPDATE SET who = excluded.who, why = excluded.why, since = excluded.since;

-- name: release
DELETE FROM hold WHERE service = :service;

-- name: recent_lives
SELECT service, life, boot, began_at, ready_after_s, ended_at, code, signal, lived_s, ready_s, last_line, down,
  asked_by, class, action, rule, fix, evidence, is_permanent
FROM (SELECT life.*, row_number() OVER (PARTITION BY service ORDER BY began_at DESC) AS back FROM life)
WHERE back <= :most ORDER BY service, began_at;
