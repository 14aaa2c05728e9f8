"""What a database promises to the stores that stand on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeVar

T = TypeVar("T")
Row = tuple[Any, ...]
Dialect = Literal["sqlite", "postgres"]


class Tx(Protocol):
    """One open transaction.

    * All or nothing: an exception that leaves the function undoes everything it wrote.
    * A statement that fails inside ``savepoint`` is undone to its start, and the rest stands.
    * A value the database refuses raises ``StatementError``; a database that is away or full raises
      ``StoreUnavailableError``; one that an operator must see to raises ``StoreError``.
    """

    @property
    def dialect(self) -> Dialect:
        """Which of the two dialects the statements must be written in."""
        ...

    def rows(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement and return all its rows."""
        ...

    def each(self, sql: str, rows: Sequence[Sequence[Any]]) -> list[Row]:
        """Run one statement for all ``rows``: once per row on SQLite, once over arrays on PostgreSQL.

        What the statement returns comes back in one list, in no promised order.
        """
        ...

    def array(self, values: Sequence[Any]) -> Any:
        """Return ``values`` as the parameter that the dialect takes for a list."""
        ...

    def savepoint(self) -> AbstractContextManager[None]:
        """Undo what was written inside when an exception leaves the block."""
        ...


class Database(Protocol):
    """Where transactions come from.

    * What ``write`` returned is durable: it has been fsynced before the call returns (I2).
    * Writers are serialised on SQLite; on PostgreSQL they meet in row locks.
    * ``read`` sees one consistent snapshot and never waits for a writer on SQLite.
    * Every call ends: with a result, or with a typed error within the configured timeouts.
    """

    @property
    def dialect(self) -> Dialect:
        """Which dialect the transactions speak."""
        ...

    @property
    def name(self) -> str:
        """What to call this database in a message: its path or its address without secrets."""
        ...

    def write_now(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a writing transaction on this thread."""
        ...

    def read_now(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a reading transaction on this thread."""
        ...

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a writing transaction without blocking the loop."""
        ...

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a reading transaction without blocking the loop."""
        ...

    def close(self) -> None:
        """Finish what is running and let the files or connections go."""
        ...
