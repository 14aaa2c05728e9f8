-- One row per life of a service on this host, from its start to its end.
CREATE TABLE life (
  life TEXT PRIMARY KEY,
  service TEXT NOT NULL,
  began_at TEXT NOT NULL,
  ready_after_s REAL,
  ended_at TEXT,
  ended_s REAL,                 -- monotonic, of boot
  boot TEXT NOT NULL,
  code INTEGER, signal INTEGER, lived_s REAL, ready_s REAL, left_behind INTEGER, oom_kills INTEGER,
  last_line TEXT, print TEXT, down TEXT, asked_by TEXT,
  class TEXT, action TEXT, rule TEXT, fix TEXT, evidence TEXT, is_permanent INTEGER, inputs TEXT
);

CREATE INDEX life_by_service ON life (service, began_at);

-- Ends before this are held against the service no more: it was released, an input changed, or all was stopped.
CREATE TABLE pardon (service TEXT PRIMARY KEY, at TEXT NOT NULL);

-- A person's hold; a machine's own are derived from the ends.
CREATE TABLE hold (service TEXT PRIMARY KEY, who TEXT NOT NULL, why TEXT NOT NULL, since TEXT NOT NULL);
