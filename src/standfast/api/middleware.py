"""What stands before every route: hosts, origins, sizes, slow bodies, bugs, headers and latency.

1. On loopback only the names of loopback are taken as Host. Else a page in a browser could reach this API
   through a name of its own that resolves to 127.0.0.1 (DNS rebinding).
2. A state change that a browser sends from another origin is refused.
3. A body is refused as soon as it is known to be too large: by its announced length before a byte is read,
   else while it arrives. A body that takes too long is refused too.
4. An exception that no route answered becomes a 500 that tells nothing but an id of the log.
"""

from __future__ import annotations

import asyncio
import ipaddress
from time import perf_counter
from urllib.parse import urlsplit

import structlog
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from standfast import __version__
from standfast.api.errors import error_body, reply_to_bug
from standfast.api.metrics import Metrics

log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 8_000_000
BODY_S = 30.0
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = {
    "X-Standfast": __version__,  # By which a client knows that it is us who answer.
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Whether ``host`` names this machine's loopback."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """Return the host in a Host header, without its port; empty where it is not one."""
    if not header.isprintable() or set("@/?#") & set(header):
        return ""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def objection(method: str, headers: Headers, *, only_loopback: bool) -> tuple[int, str, str] | None:
    """Return (status, code, what) for a request that is refused unread, else None."""
    hosts = headers.getlist("host")
    host = host_of(hosts[0]) if len(hosts) == 1 else ""
    if only_loopback and not is_loopback(host):
        return 403, "HostRefused", "this API answers to the names of this machine's loopback only"
    origin = headers.get("origin")
    if origin is not None and method not in _SAFE and host_of(urlsplit(origin).netloc) != host:
        return 403, "OriginRefused", "a state change from another origin is refused"
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length[:20]) > MAX_BODY_BYTES:
        return 413, "RequestTooLarge", f"a request may have at most {MAX_BODY_BYTES} bytes"
    return None


class Guard:
    """The outermost ASGI layer of the API."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, only_loopback: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._only_loopback = only_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand on what is not one."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at = perf_counter()
        answer = _Answer(send)
        refused = objection(scope["method"], Headers(scope=scope), only_loopback=self._only_loopback)
        if refused is not None:
            await answer.refuse(scope, *refused)
        else:
            body = _Body(receive)
            try:
                await self._app(scope, body.receive, answer.send_unless(body))
            except ClientDisconnect:
                log.info("client_went_away", path=scope["path"])  # Nobody is left to be answered.
            except Exception as error:  # noqa: BLE001 - the top of a request: the process must live on.
                if answer.status == 0 and not body.objection:
                    await reply_to_bug(error, scope["path"])(scope, receive, answer.send)
            if body.objection and answer.status == 0:
                await answer.refuse(scope, *body.objection)
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.observe(scope["method"], route, answer.status, perf_counter() - started_at)


class _Body:
    """The arriving body, counted and timed; once over a limit it looks like a caller that left."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size = 0
        self._is_whole = False
        self._until = perf_counter() + BODY_S
        self.objection: tuple[int, str, str] | None = None

    async def receive(self) -> Message:
        """Return the next part of the body, or a disconnect when a limit is passed."""
        if self._is_whole:
            return await self._receive()  # After the body it waits for the caller to leave.
        try:
            async with asyncio.timeout(max(0.0, self._until - perf_counter())):
                message = await self._receive()
        except TimeoutError:
            self.objection = (408, "RequestTooSlow", f"the body did not arrive within {BODY_S:g} s")
            return {"type": "http.disconnect"}
        self._size += len(message.get("body", b""))
        self._is_whole = not message.get("more_body", False)
        if self._size > MAX_BODY_BYTES:
            self.objection = (
                413, "RequestTooLarge", f"a request may have at most {MAX_BODY_BYTES} bytes",
            )  # fmt: skip
            return {"type": "http.disconnect"}
        return message


class _Answer:
    """The reply on its way out: gets the headers that every reply has, and is remembered by status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        """Pass a part of the reply on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    def send_unless(self, body: _Body) -> Send:
        """Return a sender that drops replies to a body that was cut off: they would tell of half of it."""

        async def send(message: Message) -> None:
            if not body.objection:
                await self.send(message)

        return send

    async def refuse(self, scope: Scope, status: int, code: str, what: str) -> None:
        """Answer and close: what may still come of the request is not worth reading."""
        reply = JSONResponse(
            error_body(code, what, "", "see /openapi.json"), status, headers={"Connection": "close"}
        )
        await reply(scope, _nothing, self.send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
