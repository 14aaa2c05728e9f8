-- What happened. Rows are appended and never changed: the triggers refuse it, the hashes show it.
CREATE TABLE fact (
  seq INTEGER PRIMARY KEY,
  at TEXT NOT NULL,
  kind TEXT NOT NULL,
  subject TEXT NOT NULL,
  body TEXT NOT NULL,
  previous TEXT NOT NULL,
  hash TEXT NOT NULL
) STRICT;
CREATE TABLE fact_head (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  seq INTEGER NOT NULL,
  hash TEXT NOT NULL
) STRICT;
INSERT INTO fact_head VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');
CREATE TRIGGER fact_no_update BEFORE UPDATE ON fact BEGIN
  SELECT RAISE(ABORT, 'facts are append-only');
END;
CREATE TRIGGER fact_no_delete BEFORE DELETE ON fact BEGIN
  SELECT RAISE(ABORT, 'facts are append-only');
END;
-- Who may call the API: only a hash of each token is kept.
CREATE TABLE api_token (
  name TEXT PRIMARY KEY,
  sha256 TEXT NOT NULL UNIQUE,
  scopes TEXT NOT NULL,
  created_at TEXT NOT NULL,
  revoked_at TEXT
) STRICT;
