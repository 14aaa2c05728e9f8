"""Keeps, per service, which container is its present life and how far its output was copied; a file each."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from standfast.services.adapters.container_logs import Cursor

_LARGEST_BYTES = 65_536


class Record(NamedTuple):
    """One life; ``life`` is empty while it is being started, ``is_noted`` says that its end is on record.

    ``started_s`` is monotonic, of the boot ``boot``. ``is_proven`` says that its health check has passed,
    ``pid`` and ``start_ticks`` which process it is, where it is one of this machine's.
    """

    name: str
    container: str
    life: str
    spec: str
    boot: str
    started_s: float
    started_at: float
    log_at: int
    cursor: Cursor
    is_noted: bool = False
    is_proven: bool = False
    pid: int = 0
    start_ticks: int = 0


class Records:
    """The records below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, record: Record) -> None:
        """Keep ``record`` instead of the one before; where that cannot be written, the one before stays."""
        path = self._folder / f"{record.name}.json"
        partial = path.with_name(f"{path.name}.new")
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial.write_text(json.dumps(record._asdict() | {"cursor": list(record.cursor)}))
            partial.replace(path)

    def read(self, name: str) -> Record | None:
        """Return the record of a service, or None."""
        path = self._folder / f"{name}.json"
        try:
            with path.open("rb") as file:
                return _record_of(json.loads(file.read(_LARGEST_BYTES)))
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def all(self) -> Iterator[Record]:
        """Yield every record."""
        for path in sorted(self._folder.glob("*.json")):
            record = self.read(path.name.removesuffix(".json"))
            if record is not None:
                yield record


def _record_of(raw: Any) -> Record:
    ns, same, size = raw["cursor"]
    texts = {key: str(raw[key]) for key in ("name", "container", "life", "spec", "boot")}
    return Record(
        **texts,
        started_s=float(raw["started_s"]),
        started_at=float(raw["started_at"]),
        log_at=int(raw["log_at"]),
        cursor=Cursor(int(ns), int(same), int(size)),
        is_noted=bool(raw["is_noted"]),
        is_proven=bool(raw["is_proven"]),
        pid=int(raw["pid"]),
        start_ticks=int(raw["start_ticks"]),
    )
