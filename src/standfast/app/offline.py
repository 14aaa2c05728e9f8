"""Opens the store of an instance that does not run, to look at it; changes nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from standfast.app.config import DATA_NAME, FILE_NAME, STACK_SUFFIXES, Config, load_config, parse_config
from standfast.app.instance import Address, Found, noted_config
from standfast.app.stack import STACK_NAME
from standfast.app.stores import open_database
from standfast.facts.database import Database, Tx
from standfast.facts.store import FactStore
from standfast.kernel.clock import SystemClock
from standfast.kernel.errors import StoreError, TransientError


@dataclass(frozen=True, slots=True)
class OfflineStore:
    """A store that is open for reading, and its facts."""

    database: Database
    facts: FactStore


@contextlib.contextmanager
def open_offline(found: Address | Found) -> Iterator[OfflineStore]:
    """Open the store of ``found`` for reading; TransientError where it is not on this machine."""
    if isinstance(found, Address):
        raise TransientError(
            f"{found.url} does not answer, and its store is not known here",
            fix="run this where the data directory is, with --data-dir",
            code="NotRunning",
        )
    database = open_database(config_of(found), is_read_only=True)
    try:
        if not database.read_now(_has_facts):
            raise StoreError(
                f"the store {database.name} holds nothing",
                why="no instance ever wrote to it, or its content was lost (a full disk, a bad restore)",
                fix="restore a backup in its place; standfast up begins anew and says so",
                code="StoreEmpty",
            )
        yield OfflineStore(database, FactStore(database.dialect, SystemClock()))
    finally:
        database.close()


def _has_facts(tx: Tx) -> bool:
    catalogue = "sqlite_master WHERE name" if tx.dialect == "sqlite" else "pg_tables WHERE tablename"
    return bool(tx.rows(f"SELECT 1 FROM {catalogue} = 'fact_head'"))  # noqa: S608 - two constants


def config_of(found: Found) -> Config:
    """Return the configuration that belongs to a data directory, or the defaults where none is known."""
    config = noted_config(found.data_dir)
    beside = found.data_dir.parent / FILE_NAME
    if config is None and beside.is_file():
        config = beside
    if config is None:
        return parse_config("", source=beside, data_dir=found.data_dir)
    known = load_config(config, data_dir=found.data_dir)
    profiles = _profiles_of(found.data_dir) if known.stack.files else ()
    return known.changed(profiles=profiles) if profiles else known


def _profiles_of(data_dir: Path) -> tuple[str, ...]:
    """Return the compose profiles that the stack was last started with, which a command line may name."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        stack = json.loads((data_dir / STACK_NAME).read_bytes())
        return tuple(str(name) for name in stack["profiles"])
    return ()


def blueprint_of(found: Found) -> str:
    """Return how a command typed here names what starts the instance of a data directory."""
    config = noted_config(found.data_dir)
    folder = config.parent if config is not None else found.data_dir.parent
    is_bare = config is not None and config.suffix in STACK_SUFFIXES
    meant = config if config is not None and is_bare else folder
    cwd = Path.cwd()
    shown = str(meant.relative_to(cwd)) if meant.is_relative_to(cwd) else str(meant)
    if is_bare:
        shown = " ".join([shown, *(f"--profile '{name}'" for name in _profiles_of(found.data_dir))])
    # Without it the command would begin another, empty store beside the configuration.
    is_elsewhere = found.data_dir.absolute() != (folder / DATA_NAME).absolute()
    return f"{shown} --data-dir {found.data_dir}" if is_elsewhere else shown
