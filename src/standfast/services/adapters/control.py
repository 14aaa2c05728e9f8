"""The supervisor's own door: a socket in the data directory, which answers when nothing else does.

A request is one line of JSON, ``{"op": NAME, ...}``; so is the reply, ``{"data": ...}`` or
``{"error": {"code", "what", "fix"}}``. Who may reach the data directory may ask for anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from standfast.kernel.errors import ConflictError, NotFoundError, StandfastError, TransientError

SOCKET_NAME = "services.sock"
_LONGEST_LINE = 64_000_000
Answer = Callable[[str, Mapping[str, Any]], Awaitable[Any]]


class Door:
    """Answers on the socket in ``data_dir``; use it as an asynchronous context manager."""

    def __init__(self, data_dir: Path, answer: Answer) -> None:
        self._data_dir = data_dir
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Door:
        path = self._data_dir / SOCKET_NAME
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with _folder(self._data_dir) as folder:
            listening.bind(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
        path.chmod(0o600)
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=_LONGEST_LINE)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        with contextlib.suppress(OSError):
            (self._data_dir / SOCKET_NAME).unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            # Each turn answers one line; ends when the other side leaves.
            while line := await reader.readline():
                reply = await self._reply(line)
                writer.write(json.dumps(reply, default=str).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(line)
            return {"data": await self._answer(str(asked.pop("op")), asked)}
        except StandfastError as error:
            return {"error": {"code": error.code, "what": error.what, "why": error.why, "fix": error.fix}}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return {
                "error": {"code": "BadRequest", "what": f"this is no request: {error}", "why": "", "fix": ""}
            }


def ask(data_dir: Path, op: str, *, timeout_s: float = 10.0, **asked: Any) -> Any:
    """Return what the supervisor of ``data_dir`` answers.

    Raises TransientError where none listens or answers in time, NotFoundError and ConflictError as it says.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door, _folder(data_dir) as folder:
            door.settimeout(timeout_s)
            door.connect(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
            door.sendall(json.dumps({"op": op, **asked}).encode() + b"\n")
            with door.makefile("rb") as lines:
                line = lines.readline(_LONGEST_LINE)
        reply = json.loads(line)
    except TimeoutError as error:
        raise TransientError(
            f"the supervisor of {data_dir} gave no answer within {timeout_s:g} s",
            fix="see what it does: standfast logs; standfast status",
            code="SupervisorSilent",
        ) from error
    except (OSError, ValueError) as error:
        raise TransientError(
            f"no supervisor answers in {data_dir}",
            why=getattr(error, "strerror", None) or "it closed the connection",
            fix="standfast up",
            code="NotRunning",
        ) from error
    if "error" in reply:
        told = reply["error"]
        kind = NotFoundError if told["code"] == "UnknownService" else ConflictError
        raise kind(told["what"], why=told["why"], fix=told["fix"], code=told["code"])
    return reply["data"]


@contextlib.contextmanager
def _folder(data_dir: Path) -> Any:
    """Yield a descriptor of the folder: its path may be longer than an address has room for."""
    folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)
