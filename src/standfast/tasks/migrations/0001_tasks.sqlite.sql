-- What is to be done. A row never changes; its name is the stable hash of (batch, key). Rows are added in
-- the order in which they will be claimed, so that a batch of claims touches few pages.
CREATE TABLE task (
  id INTEGER PRIMARY KEY,
  name INTEGER NOT NULL UNIQUE,
  batch TEXT NOT NULL,
  subject TEXT NOT NULL,
  lane TEXT NOT NULL,
  key TEXT NOT NULL,
  spec TEXT NOT NULL,
  created_at TEXT NOT NULL,
  UNIQUE (batch, key)
) STRICT;
-- Where each task stands: narrow, because every claim and every report rewrites a row of it. What waits stands
-- in one line in its order, so that a claim takes neighbours and touches few pages. What the line has to be
-- looked past (its subject is busy, or it failed and waits) is set aside by subject, once, so that the front
-- of the line never clogs.
CREATE TABLE tracking (
  id INTEGER PRIMARY KEY REFERENCES task (id),
  subject TEXT NOT NULL,
  state INTEGER NOT NULL,
  ord INTEGER NOT NULL,
  is_aside INTEGER NOT NULL DEFAULT 0,
  not_before INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  token INTEGER NOT NULL DEFAULT 0,
  holder TEXT,
  expires_at INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX tracking_line ON tracking (ord) WHERE state = 0 AND is_aside = 0;
CREATE INDEX tracking_aside ON tracking (subject, ord) WHERE state = 0 AND is_aside = 1;
CREATE INDEX tracking_leased ON tracking (subject) WHERE state = 1;
CREATE INDEX tracking_paused ON tracking (expires_at) WHERE state = 3;
-- One execution each, appended at the claim. The key is the fencing token: it grows with each grant, and
-- each attempt names the one before it of the same task, so no index has to be kept. The task is not declared
-- a reference: it has just been read under the claim lock, and checking it again locks its row (a seventh of
-- the whole claim on PostgreSQL, measured).
CREATE TABLE attempt (
  token INTEGER PRIMARY KEY,
  task INTEGER NOT NULL,
  previous INTEGER NOT NULL,
  attempt_id TEXT NOT NULL,
  holder TEXT NOT NULL,
  state INTEGER NOT NULL,
  started_at TEXT NOT NULL,
  ended_at TEXT,
  outcome_class TEXT,
  outcome TEXT,
  error_code TEXT,
  error TEXT
) STRICT;
-- Batches that are over: nothing is added to them or runs in them again.
CREATE TABLE closed_batch (
  batch TEXT PRIMARY KEY,
  closed_at TEXT NOT NULL
) STRICT;
-- Reports that came under a lease that was over: kept, never counted.
CREATE TABLE late_report (
  token INTEGER NOT NULL REFERENCES attempt (token),
  sha256 TEXT NOT NULL,
  holder TEXT NOT NULL,
  answer TEXT NOT NULL,
  outcome TEXT NOT NULL,
  at TEXT NOT NULL,
  PRIMARY KEY (token, sha256)
) STRICT, WITHOUT ROWID;
CREATE TABLE subject (
  name TEXT PRIMARY KEY,
  slots INTEGER NOT NULL,
  samples INTEGER NOT NULL DEFAULT 0,
  clean INTEGER NOT NULL DEFAULT 0,
  adjusted_at INTEGER NOT NULL DEFAULT 0,
  is_paused INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
-- What each batch of reports adds to its subjects' samples, as JSON; the leader adds them up. A row per batch
-- instead of an update per subject, because batches that meet would wait for each other's subjects.
CREATE TABLE sample (
  id INTEGER PRIMARY KEY,
  body TEXT NOT NULL
) STRICT;
CREATE TABLE executor (
  name TEXT PRIMARY KEY,
  instance TEXT NOT NULL,
  last_seen_at TEXT NOT NULL,
  seen_ms INTEGER NOT NULL,
  is_cordoned INTEGER NOT NULL DEFAULT 0,
  info TEXT NOT NULL
) STRICT;
-- The lease clock, the drain switch, who leads, and below which no token is granted: attempts that are
-- forgotten must not make tokens start again.
CREATE TABLE control (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  now_ms INTEGER NOT NULL,
  is_draining INTEGER NOT NULL,
  leader TEXT NOT NULL,
  term INTEGER NOT NULL,
  beat INTEGER NOT NULL,
  token_floor INTEGER NOT NULL
) STRICT;
INSERT INTO control VALUES (1, 0, 0, '', 0, 0, 0);
