"""Serves the application on a socket of ours, inside a loop that others share."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import uvicorn
from fastapi import FastAPI

from standfast.api.app import create_app
from standfast.app.listening import address_of, bind
from standfast.app.plane import ControlPlane
from standfast.kernel.errors import UnhealthyError

__all__ = ["address_of", "bind", "serve", "serve_plane"]


#: How long requests that are under way may take once a stop was asked for.
_GRACE_S = 3
_MOST_CONNECTIONS = 512


class _Server(uvicorn.Server):
    """A server that leaves the signals to whoever runs it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing: Ctrl-C ends everything together, in an order that is not ours."""
        yield


async def serve_plane(
    plane: ControlPlane,
    sock: socket.socket,
    stop: asyncio.Event,
    *,
    scheduler_state: Callable[[], Mapping[str, Any]],
    services_state: Callable[[], list[Mapping[str, Any]]],
) -> None:
    """Serve the API of ``plane`` until ``stop`` is set: what the embedded instance is given as its API."""
    app = create_app(plane, scheduler_state=scheduler_state, services_state=services_state)
    await serve(app, sock, stop=stop)


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
    # Accepted sockets inherit it. asyncio sets it only where a socket names its protocol, and with Nagle's
    # algorithm each reply on a kept connection waits 40 ms for the caller's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await app.state.context.book.learn()
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
