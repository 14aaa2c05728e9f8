"""What the outcome of a start depends on, each thing with what tells one state of it from another."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

MISSING = "missing"


def of_files(paths: Iterable[Path]) -> dict[str, str]:
    """Return the state of each file; of a folder only that it is there, for its contents always change."""
    return {str(path): _state(path) for path in paths}


def _state(path: Path) -> str:
    try:
        stat = path.stat()
        return "folder" if path.is_dir() else f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"
    except (OSError, ValueError):
        return MISSING
