-- One complete comparison of all subjects. The plan never changes; the secret is shown when the round is over.
CREATE TABLE round (
  number BIGINT PRIMARY KEY,
  state TEXT NOT NULL CHECK (state IN ('open', 'complete', 'published', 'withheld', 'failed')),
  opened_at TEXT NOT NULL,
  opened_ms BIGINT NOT NULL,
  deadline_ms BIGINT NOT NULL,
  plan TEXT NOT NULL,
  secret TEXT NOT NULL,
  first_token BIGINT NOT NULL,
  ended_at TEXT,
  code TEXT,
  reason TEXT,
  result TEXT,
  evidence_sha256 TEXT,
  is_pruned BIGINT NOT NULL DEFAULT 0
);
-- At most one round is open: two schedulers cannot both open one.
CREATE UNIQUE INDEX round_open ON round (state) WHERE state = 'open';
CREATE TABLE sampling_list (
  environment TEXT PRIMARY KEY,
  items TEXT NOT NULL,
  rotated_in BIGINT NOT NULL
);
