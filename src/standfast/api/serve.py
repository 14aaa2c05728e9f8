"""Serves the application on a socket of ours, inside a loop that others share."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from standfast.kernel.errors import ConfigError, StandfastError, UnhealthyError

#: How long requests that are under way may take once a stop was asked for.
_GRACE_S = 3
_MOST_CONNECTIONS = 512


class _Server(uvicorn.Server):
    """A server that leaves the signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing: Ctrl-C ends everything together, in an order that is not ours."""
        yield


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; ConfigError says who is in the way. Port 0 takes any free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(256)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _unbound(host, port, error) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the URL by which a bound socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is compared, not bound
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


async def serve(app: FastAPI, listener: socket.socket, *, stop: asyncio.Event) -> None:
    """Serve ``app`` until ``stop`` is set, then let requests end; raise UnhealthyError where it ends itself.

    The socket is closed at the end.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        ws="none",
        lifespan="off",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_S,
        limit_concurrency=_MOST_CONNECTIONS,
        h11_max_incomplete_event_size=65_536,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopping.cancel()
        listener.close()
    if not stop.is_set():
        raise UnhealthyError("the API stopped serving by itself", fix="standfast logs", code="ApiStopped")


def _unbound(host: str, port: int, error: OSError) -> StandfastError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"port {port} on {host} is in use", why="another program listens there",
            fix=f"find it (ss -ltnp 'sport = :{port}') or choose another: [api] port, --port",
            code="PortInUse",
        )  # fmt: skip
    if error.errno == errno.EACCES:
        return ConfigError(
            f"port {port} on {host} may not be used by this user",
            fix="choose a port from 1024 on: [api] port", code="PortForbidden",
        )  # fmt: skip
    return ConfigError(
        f"nothing can listen on {host} port {port}", why=error.strerror or str(error),
        fix="correct [api] host and port", code="AddressUnusable",
    )  # fmt: skip
