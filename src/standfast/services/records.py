"""Reads what a supervisor put on record, whether or not one runs now; changes nothing.

What cannot be read is said in ``trouble`` and is no error: whoever asks has other things to look at (I1).
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from standfast.facts.database import Tx, load_queries
from standfast.facts.database.sqlite import SqliteDatabase
from standfast.kernel.errors import StandfastError
from standfast.services.history import DATABASE_NAME
from standfast.services.model import ExitStatus

#: What stands in place of a last line where nobody saw the end (``adapters.process``).
UNSEEN = frozenset({"the machine was restarted", "its shim was killed, and nobody saw its end"})
#: Latest lives that are read of each service.
RECENT = 20
#: A store on a disk that hangs must not make the reader hang.
_LONGEST_S = 3.0


class LifeRecord(NamedTuple):
    """One life as it is on record; ``ended_at`` is empty where no end was taken note of.

    Of an end that nobody saw it is when it was found out, and ``status`` is no program's own.
    """

    service: str
    life: str
    boot_id: str
    began_at: str
    ready_after_s: float | None
    ended_at: str
    status: ExitStatus | None
    lived_s: float
    was_ready: bool
    last_line: str
    down: tuple[str, ...]
    asked_by: str
    cls: str
    action: str
    rule: str
    fix: str
    evidence: tuple[str, ...]
    is_permanent: bool

    @property
    def is_unseen(self) -> bool:
        """Whether nobody saw how it ended."""
        return self.last_line in UNSEEN

    @property
    def text(self) -> str:
        """How it ended, in one line; empty where it did not."""
        if not self.ended_at or self.status is None:
            return ""
        if self.is_unseen:
            return f"{self.last_line}; found out at {self.ended_at}"
        said = f": {self.last_line}" if self.last_line else ""
        return f"{self.status.text} after {self.lived_s:.1f} s at {self.ended_at}{said}"


class PersonHold(NamedTuple):
    """Who holds a service, why, and since when (ISO 8601)."""

    who: str
    why: str
    since: str


@dataclass(frozen=True, slots=True)
class Records:
    """Everything on record: the latest lives of each service, oldest first, and the holds of persons."""

    lives: Mapping[str, Sequence[LifeRecord]] = field(default_factory=dict)
    holds: Mapping[str, PersonHold] = field(default_factory=dict)
    trouble: str = ""

    def last_end(self, service: str) -> LifeRecord | None:
        """Return the latest life that ended, or None."""
        return next((one for one in reversed(self.lives.get(service, ())) if one.ended_at), None)

    def last_wait_s(self, service: str) -> float | None:
        """Return how long the latest life that became ready took to do so, or None."""
        waits = [one.ready_after_s for one in self.lives.get(service, ()) if one.ready_after_s is not None]
        return waits[-1] if waits else None


def read_records(data_dir: Path) -> Records:
    """Return what is on record in ``data_dir``; ``trouble`` says why there is nothing."""
    path = data_dir / DATABASE_NAME
    if not path.exists():
        return Records(trouble=f"there is no {DATABASE_NAME}: nothing was ever supervised here")
    found: list[Records] = []
    reading = threading.Thread(target=lambda: found.append(_read(path)), daemon=True)
    reading.start()
    reading.join(_LONGEST_S)
    return found[0] if found else Records(trouble=f"{path} could not be read within {_LONGEST_S:g} s")


def _read(path: Path) -> Records:
    try:
        database = SqliteDatabase(path, read_only=True)
        try:
            return database.read_now(_load)
        finally:
            database.close()
    except StandfastError as error:
        return Records(trouble=str(error))


def _load(tx: Tx) -> Records:
    sql = load_queries("standfast.services", "sqlite")
    lives: dict[str, list[LifeRecord]] = defaultdict(list)
    for row in tx.rows(sql["recent_lives"], {"most": RECENT}):
        lives[row[0]].append(_record(row))
    holds = {row[0]: PersonHold(row[1], row[2], row[3]) for row in tx.rows(sql["holds"])}
    return Records(dict(lives), holds)


def _record(row: Sequence[Any]) -> LifeRecord:
    (service, life, boot, began, ready_after_s, ended, code, by, lived_s, ready_s, line, down, *rest) = row
    asked, cls, action, rule, fix, evidence, is_permanent = rest
    return LifeRecord(
        service, life, boot, began,
        None if ready_after_s is None else float(ready_after_s),
        ended or "",
        None if code is None else ExitStatus(int(code), int(by or 0)),
        float(lived_s or 0.0),
        bool(ready_s) or ready_after_s is not None,
        line or "", tuple(json.loads(down or "[]")), asked or "", cls or "", action or "", rule or "",
        fix or "",
        tuple(json.loads(evidence or "[]")), bool(is_permanent),
    )  # fmt: skip
