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


def closed(name: str) -> StoreUnavailableError:
    """Say that we ourselves let the store go."""
    return away(name, "it was closed", "nothing: this process is stopping")


def exhausted(name: str) -> StoreUnavailableError:
    """Every connection is in use, and none came free in time."""
    return StoreUnavailableError(
        f"the store {name} does not answer",
        why="all of our connections are in use, and none came free in time",
        fix="look for long transactions (pg_stat_activity), or raise [store] connections",
        code="StoreBusy",
    )


def refused_us(name: str, detail: str) -> StoreError:
    """Say that the server answers, but not to us."""
    return StoreError(
        f"the store {name} refused us", why=detail, fix="correct [store] url", code="StoreRefusedUs"
    )


def cannot_open(name: str, detail: str) -> StoreError:
    """Say that there is nothing at the path that could be opened or made."""
    return StoreError(
        f"the store {name} cannot be opened",
        why=detail,
        fix="check the path and its permissions",
        code="StoreCannotOpen",
    )


def refused(detail: str) -> StatementError:
    """Say that the database would not have these values."""
    return StatementError("the store refused a statement", why=detail, fix="this item cannot be stored")
