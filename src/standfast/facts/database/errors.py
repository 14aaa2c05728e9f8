"""What a database can answer besides a result, in words an operator can act on."""

from __future__ import annotations

from standfast.kernel.errors import StandfastError, StoreError, StoreUnavailableError

FULL_FIX = "free some space on that file system; nothing was acknowledged that is not stored"


class StatementError(StandfastError):
    """The database refused this statement's values (a constraint, a trigger, a type); others are fine."""

    code = "StatementRefused"


def locked(name: str, holder: str) -> StoreError:
    """Another process is the one writer of this store."""
    return StoreError(
        f"the store {name} is in use by {holder}",
        why="a SQLite store has exactly one writing process",
        fix="stop the other one (standfast down), or use PostgreSQL to run several processes",
        code="StoreLocked",
    )


def damaged(name: str, detail: str) -> StoreError:
    """Say that the file is not a sound database."""
    return StoreError(
        f"the store {name} is damaged",
        why=detail,
        fix=f"keep the file, restore a backup in its place, or move it aside (mv {name} {name}.damaged) to "
        "start empty; what was published stays in the publications folder",
        code="StoreDamaged",
    )


def read_only(name: str, detail: str) -> StoreError:
    """Say that the store cannot be written."""
    return StoreError(
        f"the store {name} is read-only",
        why=detail,
        fix=f"make the file and its folder writable for this user (ls -ld {name})",
        code="StoreReadOnly",
    )


def full(name: str, detail: str) -> StoreUnavailableError:
    """There is no room for what should have been written."""
    return StoreUnavailableError(f"the store {name} has no room", why=detail, fix=FULL_FIX, code="StoreFull")


def away(name: str, detail: str, fix: str) -> StoreUnavailableError:
    """Say that the store does not answer now."""
    return StoreUnavailableError(f"the store {name} does not answer", why=detail, fix=fix, code="StoreAway")
