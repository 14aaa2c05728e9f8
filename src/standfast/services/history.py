"""What survives the supervisor: every life, every hold, and what was done about them, on this host.

It is a store of its own, in the data directory and not where the tasks are: a supervisor must be able to
bring up the very database that everything else is kept in.

1. Writing is a queue that a thread of its own empties, everything that waits in one transaction: two hundred
   services that start at once must not wait for two hundred times the disk.
2. What cannot be written (a full disk, a store that cannot even be opened) stays in the queue and is tried
   again; ``trouble`` says so meanwhile. Supervising needs no store.
3. A store that is damaged is moved aside and begun anew, one that somebody removes is made again. A record
   that the store refuses is dropped alone.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from standfast.facts.database import Migrations, Tx, load_queries, migrate
from standfast.facts.database.sqlite import SqliteDatabase
from standfast.facts.store import FactStore
from standfast.kernel.clock import Clock, iso
from standfast.kernel.errors import StandfastError, StoreError, StoreUnavailableError
from standfast.services.model import End, ExitStatus

DATABASE_NAME = "services.db"
#: Lives that are kept of each service, and how many of them the rules look at.
KEPT, LOOKED_AT = 1_000, 64
_AGAIN_S = 1.0
#: What waits to be written at most; beyond it the oldest is dropped, and ``trouble`` counts it.
_MOST_WAITING = 100_000
_Write = Callable[[Tx], None]
log = logging.getLogger(__name__)


class History:
    """The store of one host's services; open one per data directory."""

    def __init__(self, path: Path, clock: Clock, *, boot_id: str) -> None:
        """Open the store at ``path``; StoreError only where another process has it."""
        self._path = path
        self._clock = clock
        self._boot_id = boot_id
        self._sql = load_queries("standfast.services", "sqlite")
        self._facts = FactStore("sqlite", clock)
        self._ends: dict[str, list[End]] = defaultdict(list)
        self._waits: dict[str, list[float]] = defaultdict(list)
        self._open: dict[str, float] = {}
        self._holds: dict[str, tuple[str, str, str]] = {}
        self._queue: deque[_Write] = deque()
        self._dropped = 0
        self._trouble = self._accident = ""
        self._database: SqliteDatabase | None = None
        try:
            self._database = self._opened()
            self._database.read_now(self._load)
        except StandfastError as error:
            if error.code == "StoreLocked":
                raise
            self._trouble = str(error)
        self._woken = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._write, name="services history", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why nothing can be written at present, or what was lost; empty where all is well."""
        lost = f"{self._dropped} records were dropped" if self._dropped else ""
        return "; ".join(part for part in (self._trouble, self._accident, lost) if part)

    def close(self) -> None:
        """Write what waits and let the store go; what cannot be written then is lost."""
        with self._woken:
            self._is_closing = True
            self._woken.notify_all()
        self._thread.join(10.0)
        if self._database is not None:
            self._database.close()

    def flush(self, limit_s: float) -> bool:
        """Return whether all that waited is written within ``limit_s``; blocks."""
        with self._woken:
            return self._woken.wait_for(lambda: not self._queue, limit_s)

    def ends(self, service: str) -> Sequence[End]:
        """Return the latest ends that nobody asked for, oldest first."""
        return tuple(self._ends.get(service, ()))

    def waits(self, service: str) -> Sequence[float]:
        """Return how long the latest lives took to become ready, in seconds, oldest first."""
        return tuple(self._waits.get(service, ()))

    def ready_after(self, life: str) -> float | None:
        """Return after how many seconds a life that has not ended became ready, or None."""
        return self._open.get(life)

    def held_by(self, service: str) -> tuple[str, str, str] | None:
        """Return (who, why, since) where a person holds ``service``."""
        return self._holds.get(service)

    def began(self, service: str, life: str, *, at: str) -> None:
        """Note that a life began."""
        self._put("began", {"life": life, "service": service, "at": at, "boot": self._boot_id})

    def ready(self, service: str, life: str, *, after_s: float) -> None:
        """Note that it became ready."""
        self._put("ready", {"life": life, "after_s": after_s})

    def ended(self, service: str, life: str, end: End) -> None:
        """Note how it ended."""
        row = {
            "life": life, "service": service, "boot": self._boot_id, "at": end.at, "at_s": end.at_s,
            "code": end.status.code, "signal": end.status.signal_number, "lived_s": end.lived_s,
            "ready_s": end.ready_s, "left_behind": end.left_behind, "oom_kills": end.oom_kills,
            "last_line": end.last_line, "print": end.print_, "down": json.dumps(end.down),
            "asked_by": end.asked_by, "class": end.cls, "action": end.action, "rule": end.rule,
            "fix": end.fix,
            "evidence": json.dumps(end.evidence), "is_permanent": end.is_permanent,
            "inputs": json.dumps(dict(end.inputs)),
        }  # fmt: skip
        self._put("ended", row)
        self._put("prune", {"service": service, "keep": KEPT})

    def pardon(self, service: str) -> None:
        """Hold the ends so far against the service no more."""
        self._put("pardon", {"service": service, "at": iso(self._clock.wall())})

    def hold(self, service: str, who: str, why: str) -> None:
        """Keep a person's hold until it is released."""
        since = iso(self._clock.wall())
        self._holds[service] = (who, why, since)
        self._put("hold", {"service": service, "who": who, "why": why, "since": since})

    def release(self, service: str) -> None:
        """Take back a person's hold."""
        self._holds.pop(service, None)
        self._put("release", {"service": service})

    def note(self, kind: str, service: str, body: Mapping[str, object]) -> None:
        """Put on record what was decided or done."""
        self._enqueue(lambda tx: void(self._facts.append(tx, kind, service, body)))

    def lives(self, service: str = "", *, limit: int = 50) -> list[dict[str, Any]]:
        """Return the latest lives of one service or of all; StandfastError without a store."""
        if self._database is None:
            raise StoreUnavailableError(
                self._trouble or "the store is just being opened",
                fix=f"look at it: ls -l {self._path}; df -h {self._path}",
            )
        return lives_of(self._database, service, limit=limit)

    def _opened(self) -> SqliteDatabase:
        """Return the store, begun anew where what lies there is none."""
        try:
            return self._migrated()
        except StandfastError as error:
            if error.code != "StoreDamaged":
                raise
            aside = self._path.with_name(f"{self._path.name}.damaged-{int(self._clock.wall().timestamp())}")
            for ending in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    Path(f"{self._path}{ending}").replace(f"{aside}{ending}")
            self._accident = f"the store {self._path} was damaged, is kept as {aside.name} and was begun anew"
            return self._migrated()

    def _migrated(self) -> SqliteDatabase:
        database = SqliteDatabase(self._path)
        try:
            migrations = [Migrations.of(name, "sqlite") for name in ("standfast.facts", "standfast.services")]
            migrate(database, migrations, self._clock)
        except BaseException:
            database.close()
            raise
        return database

    def _load(self, tx: Tx) -> None:
        for row in tx.rows(self._sql["ends"], {"most": LOOKED_AT}):
            self._ends[row[0]].append(_end_of(row, self._boot_id))
        for service, wait_s in tx.rows(self._sql["waits"], {"most": LOOKED_AT}):
            self._waits[service].append(float(wait_s))
        self._open = {life: float(after_s) for life, after_s in tx.rows(self._sql["open_lives"])}
        self._holds = {row[0]: (row[1], row[2], row[3]) for row in tx.rows(self._sql["holds"])}

    def _put(self, query: str, row: Mapping[str, Any]) -> None:
        self._enqueue(lambda tx: void(tx.rows(self._sql[query], row)))

    def _enqueue(self, write: _Write) -> None:
        with self._woken:
            if len(self._queue) >= _MOST_WAITING:
                self._queue.popleft()
                self._dropped += 1
            self._queue.append(write)
            self._woken.notify_all()

    def _write(self) -> None:
        """Empty the queue until closing; runs in the thread."""
        # Each turn is one transaction with everything that waits.
        while True:
            with self._woken:
                self._woken.wait_for(lambda: self._queue or self._is_closing)
                waiting = list(self._queue)
            if not waiting:
                return
            try:
                self._write_down(waiting)
            except StandfastError as error:
                self._trouble = str(error)
                with self._woken:
                    if self._is_closing:
                        return
                    self._woken.wait_for(lambda: self._is_closing, _AGAIN_S)
                continue
            self._trouble = ""
            with self._woken:
                # New ones came to the right while these were written; dropped ones left from the left.
                for _ in range(min(len(waiting), len(self._queue))):
                    self._queue.popleft()
                self._woken.notify_all()

    def _write_down(self, waiting: Sequence[_Write]) -> None:
        """Write all of it; where one record cannot be written at all, that one is left out."""
        if self._database is not None and not self._path.exists():
            self._accident = f"the store {self._path} was removed while it was in use and begun anew"
            self._database.close()
            self._database = None
        if self._database is None:
            self._database = self._opened()
        try:
            self._database.write_now(functools.partial(_write_all, waiting))
        except (StoreUnavailableError, StoreError):
            raise
        except Exception:
            if len(waiting) == 1:
                self._dropped += 1
                log.exception("record_dropped")
                return
            for write in waiting:
                self._write_down([write])


def _write_all(writes: Sequence[_Write], tx: Tx) -> None:
    for write in writes:
        write(tx)


def void(_: object) -> None:
    """Drop a value, so that what returned it may stand where nothing is expected."""


def lives_of(database: SqliteDatabase, service: str, *, limit: int) -> list[dict[str, Any]]:
    """Return the latest lives in ``database``, the latest first."""
    sql = load_queries("standfast.services", "sqlite")["lives"]
    names = (
        "service", "life", "began_at", "ready_after_s", "ended_at", "code", "signal", "lived_s", "ready_s",
        "last_line", "asked_by", "class", "action", "rule", "fix", "evidence",
    )  # fmt: skip
    rows = database.read_now(lambda tx: tx.rows(sql, {"service": service, "limit": limit}))
    found = [dict(zip(names, row, strict=True)) for row in rows]
    for one in found:
        one["evidence"] = json.loads(one["evidence"] or "[]")
    return found


def _end_of(row: Sequence[Any], boot_id: str) -> End:
    (_, _, at, at_s, boot, code, by, lived_s, ready_s, left, kills, line, print_, down, asked, *named) = row
    cls, action, rule, fix, evidence, is_permanent, inputs = named
    return End(
        ExitStatus(int(code), int(by)),
        lived_s=float(lived_s),
        ready_s=float(ready_s),
        last_line=line,
        left_behind=int(left),
        at=at,
        at_s=float(at_s) if boot == boot_id else float("-inf"),
        print_=print_,
        down=tuple(json.loads(down)),
        oom_kills=kills,
        asked_by=asked,
        cls=cls,
        action=action,
        rule=rule,
        fix=fix,
        evidence=tuple(json.loads(evidence)),
        is_permanent=bool(is_permanent),
        inputs=json.loads(inputs or "{}"),
    )
