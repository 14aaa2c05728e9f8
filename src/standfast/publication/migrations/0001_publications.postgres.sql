-- One row per publication that was decided: the document is fixed before it is sent, so that a retry after
-- a crash sends the same bytes under the same epoch.
CREATE TABLE publication (
  epoch BIGINT PRIMARY KEY,
  round BIGINT NOT NULL UNIQUE,
  state TEXT NOT NULL CHECK (state IN ('prepared', 'published', 'withheld')),
  document TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  term BIGINT NOT NULL,
  prepared_at TEXT NOT NULL,
  settled_at TEXT,
  reason TEXT
);
