"""Reads what a supervisor put on record, whether or not one runs now; changes nothing.

What cannot be read is said in ``trouble`` and is no error: whoever asks has other things to look at (I1).
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from standfast.facts.database import Tx, load_queries
from standfast.facts.database.sqlite import SqliteDatabase
from standfast.kernel.errors import StandfastError
from standfast.services.history import DATABASE_NAME
from standfast.services.model import ExitStatus
from standfast.services.records import LifeRecord, PersonHold, Records

#: Latest lives that are read of each service.
RECENT = 20
#: A store on a disk that hangs must not make the reader hang.
_LONGEST_S = 3.0


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
