"""Speaks to the API over HTTP so that every call ends in time: with a reply, or with a typed error.

1. One limit covers a whole call (name, connect, request, reply), so that a server that drips bytes
   cannot hold a caller longer than one that is silent (K6).
2. A reply is read up to a number of bytes after decompression; more is an error, not memory.
3. No redirect is followed and no proxy taken from the environment: the token goes to the address that
   was configured, or nowhere.
4. No error repeats the token, and none repeats more than a line of what the server said.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from standfast.app.tokens import redact
from standfast.kernel.canonical import canonical_json
from standfast.kernel.errors import (
    AuthError,
    ConfigError,
    ConflictError,
    NotFoundError,
    RefusedError,
    StaleTokenError,
    StandfastError,
    StoreError,
    TransientError,
    UnhealthyError,
)

API_PREFIX = "/api/v1"
_START_FIX = "start it (standfast up), or name the right address (--url)"


class UnreachableError(TransientError):
    """No reply came: refused, unreachable, silent, too slow, cut off."""

    code = "ApiUnreachable"


class ServerFailedError(TransientError):
    """The server, or what stands before it, answered that it cannot serve now (5xx)."""

    code = "ApiFailed"


class UnexpectedReplyError(TransientError):
    """Something answered that does not speak this API: another program, a proxy's page, a redirect."""

    code = "ApiReplyUnexpected"


class TooLargeError(RefusedError):
    """The server does not take a request of this size."""

    code = "RequestTooLarge"


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """How long one call may take, in seconds, and how large its reply may be."""

    total_s: float = 10.0
    connect_s: float = 5.0
    reply_bytes: int = 32_000_000


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered: the status and its JSON, which in this API is always an object.

    ``is_ours`` says whether it named itself as a standfast API.
    """

    status: int
    body: dict[str, Any]
    is_ours: bool = True


class ApiClient:
    """One connection pool to one API; used inside ``async with``.

    * Every call raises a StandfastError or returns; a TransientError may be tried again.
    * ``total_s`` of a call is kept within a tenth of a second, whatever the server does.
    """

    def __init__(self, url: str, token: str = "", limits: ClientLimits | None = None) -> None:
        self.url = checked_url(url)
        self._token = token
        self._limits = limits or ClientLimits()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ApiClient:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=16, enable_cleanup_closed=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            raise_for_status=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(
        self, path: str, query: Mapping[str, str] | None = None, *, total_s: float | None = None
    ) -> dict[str, Any]:
        """Return what is at ``path`` below the API's prefix."""
        return (await self.call("GET", path, query=query, total_s=total_s)).body

    async def post(
        self, path: str, body: Mapping[str, Any], *, total_s: float | None = None
    ) -> dict[str, Any]:
        """Send ``body`` to ``path`` and return the answer."""
        return (await self.call("POST", path, body=body, total_s=total_s)).body

    async def delete(self, path: str) -> dict[str, Any]:
        """Remove what ``path`` names and return the answer."""
        return (await self.call("DELETE", path)).body

    async def submit(self, executor: str, results: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Hand in a batch of results and return one answer per item, in their order."""
        body = {"executor": executor, "results": results}
        reply = await self.call("POST", "/tasks/submit", body=body, accept=frozenset({422}))
        items = reply.body.get("items")
        if reply.status == 422 and items is None:
            raise error_of(reply, self.url)
        return _checked_items(items, len(results), self.url)

    async def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        total_s: float | None = None,
        accept: frozenset[int] = frozenset(),
    ) -> Reply:
        """Make one call; statuses from 400 on raise, unless they are in ``accept``."""
        limit_s = total_s or self._limits.total_s
        try:
            async with asyncio.timeout(limit_s):
                reply = await self._exchange(method, path, query, body)
        except (TimeoutError, aiohttp.ClientError) as error:
            failure = self._no_reply(error, limit_s)
        else:
            if reply.status >= 400 and reply.status not in accept:
                raise error_of(reply, self.url)
            return reply
        # Raised outside the handler: an error of aiohttp holds the request with its headers, and must
        # not hang on to ours as its cause (I12).
        raise failure

    def _no_reply(self, error: Exception, limit_s: float) -> UnreachableError:
        if isinstance(error, aiohttp.ClientConnectorError):
            why = error.os_error.strerror or type(error.os_error).__name__
            return UnreachableError(f"{self.url} cannot be reached", why=why, fix=_START_FIX)
        if isinstance(error, TimeoutError):
            return UnreachableError(
                f"{self.url} gave no complete reply within {limit_s:g} s", fix=_START_FIX, code="ApiTimeout"
            )
        return UnreachableError(
            f"{self.url} broke off before its reply was complete",
            why=type(error).__name__,
            fix="look at the API's log (standfast logs), or name the right address (--url)",
            code="ApiBrokeOff",
        )

    async def _exchange(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None
    ) -> Reply:
        assert self._session is not None, "ApiClient is used inside 'async with'"
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = canonical_json(body).encode("utf-8", "replace")
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_s)
        target = f"{self.url}{path if path.startswith('/health') else API_PREFIX + path}"
        async with self._session.request(
            method, target, params=query, data=data, headers=headers,
            allow_redirects=False, timeout=timeout,
        ) as response:  # fmt: skip
            if 300 <= response.status < 400:
                raise UnexpectedReplyError(
                    f"{self.url} answered with a redirect ({response.status})",
                    why="redirects are not followed: they would carry the token elsewhere",
                    fix="use the address it redirects to as --url",
                )
            text = await self._bounded(response)
        return Reply(
            response.status, _parsed(text, response.status, self.url), "X-Standfast" in response.headers
        )  # fmt: skip

    async def _bounded(self, response: aiohttp.ClientResponse) -> bytes:
        """Read the reply; each turn adds bytes, and more than the limit ends it."""
        parts, size = [], 0
        async for part in response.content.iter_chunked(65_536):
            size += len(part)
            if size > self._limits.reply_bytes:
                raise UnexpectedReplyError(
                    f"{self.url} answered with more than {self._limits.reply_bytes} bytes",
                    fix="ask for less (--limit)",
                )
            parts.append(part)
        return b"".join(parts)


def checked_url(url: str) -> str:
    """Return ``url`` without a trailing slash; ConfigError for anything but http(s) to a host.

    Credentials inside a URL are refused: they would show in every message.
    """
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or parts.query or parts.fragment:
        raise ConfigError("the address of the API is not usable", fix="give it as http://HOST:PORT")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            "the address of the API holds credentials",
            fix="pass the token with --token-file or STANDFAST_TOKEN",
        )
    return url.rstrip("/")


def _parsed(text: bytes, status: int, url: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        return body
    if status >= 500:
        raise ServerFailedError(
            f"{url} answered {status}", why="something before the API failed", fix=_START_FIX
        )
    if status in (401, 403):
        raise AuthError(f"{url} answered {status}", fix="give a valid token (--token-file)")
    raise UnexpectedReplyError(
        f"{url} does not speak this API", why=f"its reply ({status}) is no JSON object", fix=_START_FIX
    )


#: Errors that keep their class on the way; anything else is told by its status.
_BY_CODE: Mapping[str, type[StandfastError]] = {
    kind.code: kind
    for kind in (
        AuthError, ConfigError, ConflictError, NotFoundError, RefusedError, StaleTokenError, StoreError,
        UnhealthyError,
    )
}  # fmt: skip
_BY_STATUS: Mapping[int, type[StandfastError]] = {
    401: AuthError,
    403: AuthError,
    404: NotFoundError,
    409: ConflictError,
    413: TooLargeError,
}


def error_of(reply: Reply, url: str) -> StandfastError:
    """Return the typed error for a reply of 400 or more; exit codes survive the way over HTTP."""
    told = reply.body.get("error")
    if not isinstance(told, dict) or not isinstance(told.get("code"), str):
        other = ServerFailedError if reply.status >= 500 else UnexpectedReplyError
        return other(f"{url} answered {reply.status}", why="it gave no reason that is ours", fix=_START_FIX)
    code = _line(told.get("code"))
    kind = _BY_CODE.get(code) or _BY_STATUS.get(reply.status) or _class_of(reply.status)
    return kind(
        _line(told.get("what")) or f"{url} answered {reply.status}",
        why=_line(told.get("why")),
        fix=_line(told.get("fix")),
        since=_line(told.get("since")),
        code=code,
    )


def _class_of(status: int) -> type[StandfastError]:
    return ServerFailedError if status >= 500 else ConfigError


def _line(value: Any) -> str:
    """Return foreign text as one bounded line without a token."""
    if not isinstance(value, str):
        return ""
    return redact("".join(c if c.isprintable() else " " for c in value[:1_000]))


def _checked_items(items: Any, count: int, url: str) -> list[dict[str, Any]]:
    """Return the answers if there is exactly one per item: a result is only let go on its own answer."""
    is_whole = (
        isinstance(items, list)
        and len(items) == count
        and all(isinstance(item, dict) and item.get("index") == index for index, item in enumerate(items))
    )
    if not is_whole:
        raise UnexpectedReplyError(
            f"{url} answered a batch of {count} results with something else",
            fix="run the same version of standfast on both sides",
        )
    assert isinstance(items, list)
    return items
