"""PostgreSQL through psycopg 3, with a small pool and a limit on everything that could wait.

Every call ends: connecting, waiting for a free connection, one statement, a lock and an idle
transaction each have a timeout, because a store that hangs must become a typed error.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import psycopg
import psycopg_pool
from psycopg import errors as pg

from standfast.facts.database import errors
from standfast.facts.database.ports import Row, Tx
from standfast.kernel.errors import StandfastError, StoreError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PostgresLimits:
    """How long anything may take, in seconds, and how many connections there are."""

    connections: int = 8
    connect_s: int = 2
    checkout_s: float = 5.0
    statement_s: float = 15.0


class PostgresTx:
    """A transaction on one psycopg connection."""

    dialect: Literal["postgres"] = "postgres"

    def __init__(self, connection: psycopg.Connection[Row], name: str) -> None:
        self._connection = connection
        self._name = name

    def rows(self, sql: str, params: Mapping[str, Any] | None = None) -> list[Row]:
        """Run one statement and return all its rows."""
        try:
            cursor = self._connection.execute(sql.encode(), params)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise translate(error, self._name) from error

    def each(self, sql: str, rows: Sequence[Sequence[Any]]) -> list[Row]:
        """Run one statement over the columns of ``rows`` as arrays (``unnest``)."""
        if not rows:
            return []
        try:
            columns = [list(column) for column in zip(*rows, strict=True)]
            cursor = self._connection.execute(sql.encode(), columns)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise translate(error, self._name) from error

    def array(self, values: Sequence[Any]) -> list[Any]:
        """Return the values as a list, for ``= ANY(...)`` and ``unnest``."""
        return list(values)

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        """Open a subtransaction."""
        try:
            with self._connection.transaction():
                yield
        except psycopg.Error as error:
            raise translate(error, self._name) from error


class PostgresDatabase:
    """A PostgreSQL database by its URL."""

    dialect: Literal["postgres"] = "postgres"

    def __init__(self, url: str, limits: PostgresLimits | None = None) -> None:
        self._limits = limits or PostgresLimits()
        self.name = without_secret(url)
        options = (
            f"-c statement_timeout={int(self._limits.statement_s * 1000)}"
            f" -c lock_timeout={int(self._limits.statement_s * 1000)}"
            " -c idle_in_transaction_session_timeout=30000 -c synchronous_commit=on"
        )
        self._pool = psycopg_pool.ConnectionPool(
            url,
            min_size=1,
            max_size=self._limits.connections,
            timeout=self._limits.checkout_s,
            kwargs={"connect_timeout": self._limits.connect_s, "options": options, "autocommit": True},
            check=psycopg_pool.ConnectionPool.check_connection,
            open=False,
            # A server that is away is asked again and again, not given up after minutes.
            reconnect_timeout=5.0,
        )
        try:
            # The pool hides why it cannot connect; one plain connection says it.
            psycopg.connect(url, connect_timeout=self._limits.connect_s).close()
        except psycopg.Error as error:
            raise translate(error, self.name) from error
        self._pool.open()
        self._threads = ThreadPoolExecutor(self._limits.connections, thread_name_prefix="store")

    def write_now(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a READ COMMITTED transaction."""
        return self._transact(work)

    def read_now(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in one read-only snapshot."""

        def snapshot(tx: Tx) -> T:
            tx.rows("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return work(tx)

        return self._transact(snapshot)

    def _transact(self, work: Callable[[Tx], T]) -> T:
        try:
            with self._pool.connection() as connection, connection.transaction():
                return work(PostgresTx(connection, self.name))
        except (psycopg.Error, psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed) as error:
            raise translate(error, self.name) from error

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` on a thread of the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.write_now, work)

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` on a thread of the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.read_now, work)

    def close(self) -> None:
        """Finish what is running and close every connection."""
        self._threads.shutdown(wait=True)
        self._pool.close()


def without_secret(url: str) -> str:
    """Return ``url`` without user, password and query, for messages (I12)."""
    parts = urlsplit(url)
    host = parts.hostname or "local socket"
    port = f":{parts.port}" if parts.port else ""
    return f"postgresql://{host}{port}{parts.path}"


def translate(error: Exception, name: str) -> StandfastError:
    """Return the typed error for what PostgreSQL, or the pool, said about the store ``name``.

    The message of a failed connection may repeat the address that was given, so only its class and
    SQLSTATE are passed on where no server answered.
    """
    if isinstance(error, psycopg_pool.PoolTimeout):
        return errors.away(
            name, "no connection became free in time", "raise store.connections, or look for long queries"
        )
    if isinstance(error, pg.InsufficientPrivilege | pg.ReadOnlySqlTransaction):
        return errors.read_only(name, _first_line(error))
    if isinstance(error, pg.DiskFull):
        return errors.full(name, _first_line(error))
    if isinstance(error, pg.DataCorrupted | pg.IndexCorrupted):
        return errors.damaged(name, _first_line(error))
    if isinstance(error, pg.InvalidPassword | pg.InvalidAuthorizationSpecification | pg.InvalidCatalogName):
        return StoreError(
            f"the store {name} refused us",
            why=_first_line(error),
            fix="correct [store] url",
            code="StoreRefusedUs",
        )
    if isinstance(
        error, pg.QueryCanceled | pg.LockNotAvailable | pg.DeadlockDetected | pg.SerializationFailure
    ):
        return errors.away(name, _first_line(error), "look for long transactions: pg_stat_activity")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | psycopg_pool.PoolClosed):
        return errors.away(
            name, _connection_detail(error), "start the database server, then nothing else is needed"
        )
    if not isinstance(error, psycopg.DataError | psycopg.IntegrityError | pg.RaiseException):
        raise error  # A statement that cannot run at all is our bug, not the item's.
    return errors.StatementError(
        "the store refused a statement", why=_first_line(error), fix="this item cannot be stored"
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


def _connection_detail(error: Exception) -> str:
    text = str(error)
    for known in (
        "Connection refused",
        "No such file or directory",
        "timeout expired",
        "starting up",
        "shutting down",
        "terminating connection",
        "closed the connection",
        "too many clients",
    ):
        if known in text:
            return known
    return type(error).__name__
