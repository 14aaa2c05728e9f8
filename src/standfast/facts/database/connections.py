"""A few PostgreSQL connections, each call on which ends, and which say at once why there is none.

A connection is made by the thread that needs it, so that a server that is away is a typed error within
the time to connect, on the first call and on every other, and a server that is back is simply used.
"""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Generator, Iterator
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

R = TypeVar("R")
_WAKE_S = 0.1


class BoundedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection on which no exchange with the server lasts longer than ``limit_s``.

    The server's own ``statement_timeout`` does not help against a server that is stopped or unplugged.
    """

    limit_s: float = 30.0

    def wait(self, gen: Any, interval: float = _WAKE_S, timeout: float | None = None) -> Any:
        """Run one exchange; past the limit the connection is closed and OperationalError raised."""
        limit_s = self.limit_s if timeout is None else min(timeout, self.limit_s)
        return super().wait(self._until(gen, monotonic() + limit_s), min(interval, _WAKE_S))

    def _until(self, gen: Generator[Any, Any, R], deadline: float) -> Generator[Any, Any, R]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                # Nothing was ready: one of the waker's turns, which come every _WAKE_S seconds.
                if not ready and monotonic() > deadline:
                    self.pgconn.finish()  # What the server may still answer belongs to nobody.
                    raise psycopg.OperationalError("timeout expired: the server does not answer")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


class NoFreeConnectionError(Exception):
    """All connections are in use, and none came free in time."""


class Connections:
    """At most ``count`` connections to one server.

    * Which one a caller gets is idle and, as far as this machine can know, alive.
    * What a caller leaves in mid-transaction, or broken, is closed and not used again.
    """

    def __init__(self, url: str, *, count: int, checkout_s: float, limit_s: float, **settings: Any) -> None:
        self._url = url
        self._checkout_s = checkout_s
        self._limit_s = limit_s
        self._settings = settings
        self._room = threading.BoundedSemaphore(count)
        self._idle: list[BoundedConnection] = []
        self._is_closed = False

    @contextlib.contextmanager
    def one(self) -> Iterator[BoundedConnection]:
        """Lend a connection; raise psycopg.Error or NoFreeConnectionError when there is none."""
        if not self._room.acquire(timeout=self._checkout_s):
            raise NoFreeConnectionError
        try:
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._room.release()

    def close(self) -> None:
        """Close what is idle now and what is lent when it comes back; lend no more."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> BoundedConnection:
        if self._is_closed:
            raise psycopg.InterfaceError("the store was closed")
        # The last one given back first; each turn takes one out, so this ends.
        while self._idle:
            connection = self._idle.pop()
            if _is_quiet(connection):
                return connection
            connection.close()
        made = BoundedConnection.connect(self._url, **self._settings)
        made.limit_s = self._limit_s
        return made

    def _give_back(self, connection: BoundedConnection) -> None:
        is_usable = connection.pgconn.transaction_status == TransactionStatus.IDLE
        if is_usable and not self._is_closed:
            self._idle.append(connection)
        else:
            connection.close()


def _is_quiet(connection: BoundedConnection) -> bool:
    """Whether the server has said nothing since; what it says unasked is that it goes away."""
    if connection.closed:
        return False
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)
