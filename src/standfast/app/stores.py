"""Picks the database that a configuration names, and makes the folder that a SQLite file needs."""

from __future__ import annotations

from pathlib import Path

from standfast.app.config import Config
from standfast.facts.database import Database
from standfast.facts.database.sqlite import SqliteDatabase
from standfast.kernel.errors import StoreError

MEMORY = "sqlite::memory:"


def sqlite_path(config: Config) -> Path | None:
    """Return the file of a SQLite store, or None where the store is another one, or in memory."""
    url = config.store.url
    if url == "sqlite":
        return config.data_dir / "standfast.db"
    if url.startswith("sqlite:") and url != MEMORY:
        return config.folder / url.removeprefix("sqlite:")
    return None


def open_database(config: Config, *, is_read_only: bool = False) -> Database:
    """Open the store of ``config``; the caller migrates and closes it.

    Raises StoreError where an operator must act and StoreUnavailableError where it does not answer.
    ``is_read_only`` is for looking at a SQLite file whose writer is another process, or nobody.
    """
    if config.store.url == MEMORY:
        return SqliteDatabase(":memory:")
    path = sqlite_path(config)
    if path is None:
        # Half of the time that a command takes to start would go into a driver that it does not use.
        from standfast.facts.database.postgres import PostgresDatabase, PostgresLimits  # noqa: PLC0415

        return PostgresDatabase(config.store.url, PostgresLimits(connections=config.store.connections))
    if is_read_only:
        _need_file(path)
    else:
        make_folder(path.parent)
    return SqliteDatabase(path, read_only=is_read_only)


def make_folder(folder: Path) -> None:
    """Make ``folder`` for this user only, unless it exists; StoreError says why it cannot be made."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the folder {folder} cannot be made",
            why=error.strerror or str(error),
            fix=f"make it writable for this user (ls -ld {folder.parent}), or choose another: --data-dir",
            code="FolderUnusable",
        ) from error


def _need_file(path: Path) -> None:
    if not path.is_file():
        raise StoreError(
            f"there is no store at {path}",
            why="nothing was ever started here, or its data lies elsewhere",
            fix="standfast up, or name the data directory: --data-dir",
            code="StoreMissing",
        )
