"""PostgreSQL through psycopg 3, with a few connections and a limit on everything that could wait.

Every call ends: connecting, waiting for a free connection, one statement, a lock, an idle transaction and
any exchange with the server each have a limit, because a store that hangs must become a typed error.
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
from psycopg import errors as pg

from standfast.facts.database import errors
from standfast.facts.database.connections import Connections, NoFreeConnectionError
from standfast.facts.database.ports import Row, Tx
from standfast.kernel.errors import StandfastError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PostgresLimits:
    """How long anything may take, in seconds, and how many connections there are.

    ``answer_s`` is longer than ``statement_s``, so that a server that works gets to say which limit it was.
    """

    connections: int = 8
    connect_s: int = 2
    checkout_s: float = 5.0
    statement_s: float = 15.0
    answer_s: float = 18.0


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
            columns = [array_literal(column) for column in zip(*rows, strict=True)]
            cursor = self._connection.execute(sql.encode(), columns)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise translate(error, self._name) from error

    def array(self, values: Sequence[Any]) -> str:
        """Return the values as an array, for ``= ANY(:x::bigint[])`` and ``unnest(:x::text[])``."""
        return array_literal(values)

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
        limits = limits or PostgresLimits()
        self.name = without_secret(url)
        timeout_ms = int(limits.statement_s * 1000)
        options = (
            f"-c statement_timeout={timeout_ms} -c lock_timeout={timeout_ms}"
            " -c idle_in_transaction_session_timeout=30000 -c synchronous_commit=on"
        )
        self._connections = Connections(
            url, count=limits.connections, checkout_s=limits.checkout_s, limit_s=limits.answer_s,
            connect_timeout=limits.connect_s, options=options, autocommit=True,
        )  # fmt: skip
        self.read_now(lambda tx: tx.rows("SELECT 1"))  # What keeps us out is said now.
        self._is_closed = False
        self._threads = ThreadPoolExecutor(limits.connections, thread_name_prefix="store")

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
            with self._connections.one() as connection, connection.transaction():
                return work(PostgresTx(connection, self.name))
        except NoFreeConnectionError:
            raise errors.exhausted(self.name) from None
        except psycopg.Error as error:
            raise translate(error, self.name) from error

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` on a thread of its own."""
        self._refuse_closed()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.write_now, work)

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` on a thread of its own."""
        self._refuse_closed()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.read_now, work)

    def close(self) -> None:
        """Finish what is running and close every connection."""
        self._threads.shutdown(wait=True)
        self._is_closed = True
        self._connections.close()

    def _refuse_closed(self) -> None:
        if self._is_closed:
            raise errors.closed(self.name)


def array_literal(values: Sequence[str | int | None]) -> str:
    """Return PostgreSQL's text form of an array, to be cast where it is used.

    The driver's own way through its adapters costs 20 times as much, more than the statements it is for.
    """
    return "{" + ",".join([_element(value) for value in values]) + "}"


def _element(value: str | int | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(int(value))
    # Inside the quotes only these two characters have a meaning.
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def without_secret(url: str) -> str:
    """Return ``url`` without user, password and query, for messages (I12)."""
    parts = urlsplit(url)
    host = parts.hostname or "local socket"
    port = f":{parts.port}" if parts.port else ""
    return f"postgresql://{host}{port}{parts.path}"


def translate(error: psycopg.Error, name: str) -> StandfastError:
    """Return the typed error for what PostgreSQL said about the store ``name``.

    The message of a failed connection may repeat the address that was given, so only its class and the
    words that are known here are passed on where no server answered.
    """
    if isinstance(error, pg.InsufficientPrivilege | pg.ReadOnlySqlTransaction):
        return errors.read_only(name, _first_line(error))
    if isinstance(error, pg.DiskFull):
        return errors.full(name, _first_line(error))
    if isinstance(error, pg.DataCorrupted | pg.IndexCorrupted):
        return errors.damaged(name, _first_line(error))
    if isinstance(
        error, pg.QueryCanceled | pg.LockNotAvailable | pg.DeadlockDetected | pg.SerializationFailure
    ):
        return errors.away(name, _first_line(error), "look for long transactions: pg_stat_activity")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return _unreachable(error, name)
    if not isinstance(error, psycopg.DataError | psycopg.IntegrityError | pg.RaiseException):
        raise error  # A statement that cannot run at all is our bug, not the item's.
    return errors.refused(_first_line(error))


_REFUSALS = ("password authentication failed", "no pg_hba.conf entry", "does not exist", "is not permitted")
_FULL_HOUSE = ("too many clients", "connection slots are reserved", "too many connections")
_ABSENCES = (
    "Connection refused",
    "No such file or directory",
    "timeout expired",
    "starting up",
    "shutting down",
    "in recovery mode",
    "terminating connection",
    "closed the connection",
    "the store was closed",
    "could not translate host name",
)


def _unreachable(error: psycopg.Error, name: str) -> StandfastError:
    """Say why there is no connection; a failed attempt to connect has no SQLSTATE, only a text."""
    text = str(error)
    if known := _first_of(_REFUSALS, text):
        return errors.refused_us(name, known)
    if known := _first_of(_FULL_HOUSE, text):
        return errors.away(name, known, "lower [store] connections, or raise the server's max_connections")
    detail = _first_of(_ABSENCES, text) or type(error).__name__
    return errors.away(name, detail, "start the database server, then nothing else is needed")


def _first_of(known: Sequence[str], text: str) -> str:
    return next((words for words in known if words in text), "")


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
