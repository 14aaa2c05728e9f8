"""Publishes to an HTTP address with signed requests, and reads back what is held there.

What the address answers:

1. ``POST`` with the document: 201 it is published, 200 the same content was there already, 409 it must
   not replace what is held (a JSON object whose ``reason`` is an ``ObjectionReason``), 401 or 403 the
   signature is not accepted, 400 or 422 it is not a document.
2. ``GET``: 200 with the last document, 204 where nothing was ever published. Only 204 means nothing: a
   404 is as likely a wrong path, and "I do not know you" must not be taken for "there is none".
3. Everything else is an error here; a redirect too, because the signature names the authority.

A call has one deadline for all it does. After it, whether the document arrived is unknown, and sending
it again is safe: one epoch takes one content. Errors name scheme, host and path, never a query or a
reply's text, so that no secret of either side comes through here.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp
from yarl import URL

from standfast.kernel.errors import AuthError, ConfigError, RefusedError, StandfastError
from standfast.publication.adapters.signing import RequestSigner, SignableRequest
from standfast.publication.document import (
    MAX_DOCUMENT_BYTES,
    Document,
    DocumentError,
    is_repeat,
    parse,
    published_of,
    render,
)
from standfast.publication.model import Objection, ObjectionReason, Published
from standfast.publication.ports import (
    AlreadyThere,
    PublisherUnavailableError,
    PublisherUnusableError,
    Sent,
    refusal,
)

# What a publisher says beside a status is a reason of some words; more is not read.
_REASON_BYTES: Final = 4096
_MOST_TOTAL_S: Final = 600.0
_FENCE_REASONS: Final = frozenset(
    {ObjectionReason.STALE_LEADER, ObjectionReason.EPOCH_ROLLED_BACK, ObjectionReason.EPOCH_TAKEN}
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """``total_s`` bounds one call with everything in it, ``reply_bytes`` the document that is read back."""

    total_s: float = 20.0
    reply_bytes: int = MAX_DOCUMENT_BYTES

    def __post_init__(self) -> None:
        # A deadline of NaN or infinity never comes.
        if not 0 < self.total_s <= _MOST_TOTAL_S or not 0 < self.reply_bytes <= MAX_DOCUMENT_BYTES:
            raise ConfigError(
                "the limits of the HTTP publisher are out of bounds",
                fix=f"total_s up to {_MOST_TOTAL_S:.0f}, reply_bytes to {MAX_DOCUMENT_BYTES}, both above 0",
            )


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes


class HttpPublisher:
    """A ``Publisher`` at ``url``; every request is signed by ``signer``.

    ConfigError if ``url`` is not http or https with a host, or carries a user, a password or a fragment.
    It holds no connection between calls: publications are minutes apart.
    """

    def __init__(self, url: str, *, signer: RequestSigner, limits: HttpLimits | None = None) -> None:
        self._url = _checked(url)
        self._where = str(self._url.with_query(None))
        self._signer = signer
        self._limits = limits or HttpLimits()

    def __repr__(self) -> str:
        return f"HttpPublisher({self._where!r}, {self._signer!r})"

    async def publish(self, document: Document) -> Sent | AlreadyThere:
        """Send ``document`` and read back that it is there; see ``Publisher``.

        PublisherUnavailableError: no answer, a broken one, or 5xx. AuthError: 401, 403. RefusedError: it
        says no. PublisherUnusableError, ConfigError: what answers is not a publisher.
        """
        return await self._within_deadline(self._publish(document))

    async def read_back(self) -> Published | None:
        """Return what the address holds; see ``Publisher``. Raises as ``publish`` does."""
        return await self._within_deadline(self._read_back())

    async def _within_deadline(self, call: Coroutine[Any, Any, _T]) -> _T:
        total_s = self._limits.total_s
        try:
            async with asyncio.timeout(total_s):
                return await call
        except TimeoutError:
            raise PublisherUnavailableError(
                f"{self._where} did not answer within {total_s} s",
                fix="nothing is lost: the same publication is sent again; see whether the address is up",
                code="PublisherTimeout",
            ) from None
        except (aiohttp.ClientSSLError, ssl.SSLError, aiohttp.ServerFingerprintMismatch) as error:
            raise PublisherUnusableError(
                f"{self._where} could not be trusted",
                why=type(error).__name__,
                fix="check its certificate, this machine's clock and its trusted authorities",
                code="PublisherUntrusted",
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            # The library's text may quote the URL with its query; the kind of failure is enough.
            raise PublisherUnavailableError(
                f"{self._where} could not be reached, or broke off",
                why=_kind(error),
                fix="nothing is lost: the same publication is sent again; see whether the address is up",
                code="PublisherUnreachable",
            ) from None

    async def _publish(self, document: Document) -> Sent | AlreadyThere:
        reply = await self._exchange("POST", render(document))
        if reply.status == 409:
            raise self._conflict(reply.body)
        if reply.status not in {200, 201}:
            raise self._unexpected(reply.status)
        held = await self._read_back()
        if held is None or not _holds(document, held):
            raise PublisherUnusableError(
                f"{self._where} acknowledged publication {document.epoch} and holds another",
                fix="see that the address reads from where it writes, then publish again",
                code="ReadBackMismatch",
            )
        shown = held if held.epoch == document.epoch else published_of(document)
        return Sent(shown) if reply.status == 201 else AlreadyThere(shown)

    async def _read_back(self) -> Published | None:
        reply = await self._exchange("GET", b"")
        if reply.status == 204:
            return None
        if reply.status != 200:
            raise self._unexpected(reply.status)
        try:
            return published_of(parse(reply.body))
        except DocumentError as error:
            raise PublisherUnusableError(
                f"what {self._where} holds is not a publication",
                why=error.what,
                fix="see that the address is a publisher's, and what it stores",
                code="PublisherReplyMalformed",
            ) from None

    async def _exchange(self, method: str, body: bytes) -> _Reply:
        """Send one signed request, follow nothing, and return the bounded reply."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "standfast"}
        if body:
            headers["Content-Type"] = "application/json"
        request = SignableRequest(
            method=method,
            authority=self._url.host_port_subcomponent or "",
            path=self._url.raw_path,
            query=self._url.raw_query_string,
            headers=tuple(headers.items()),
            body=body,
        )
        headers |= self._signer.headers_for(request, also=("content-type",) if body else ())
        async with (
            aiohttp.ClientSession(
                # The deadline around the whole call is the one that counts.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            ) as session,
            session.request(
                method,
                self._url,
                data=io.BytesIO(body) if body else None,
                headers=headers,
                allow_redirects=False,
            ) as reply,
        ):
            return _Reply(reply.status, await self._bounded(reply))

    async def _bounded(self, reply: aiohttp.ClientResponse) -> bytes:
        """Read at most the limit; each turn takes at least a byte or ends."""
        limit = self._limits.reply_bytes if reply.status == 200 else _REASON_BYTES
        found = bytearray()
        while len(found) <= limit:
            chunk = await reply.content.read(limit + 1 - len(found))
            if not chunk:
                return bytes(found)
            found += chunk
        if reply.status != 200:
            return b""
        raise PublisherUnusableError(
            f"{self._where} answered more than {limit} bytes",
            fix="see that the address is a publisher's",
            code="PublisherReplyTooLarge",
        )

    def _conflict(self, body: bytes) -> StandfastError:
        reason = _reason(body)
        if reason is None:
            return RefusedError(
                f"{self._where} refused the publication and named no reason known here",
                fix="read what is published there now and judge again",
                code="PublisherConflict",
            )
        return refusal([Objection(reason, f"{self._where} says {reason.value}")])

    def _unexpected(self, status: int) -> StandfastError:
        said = f"{self._where} answered {status}"
        if status in {401, 403}:
            return AuthError(
                said,
                why="it does not accept the signature",
                fix="register the public key there, and compare both clocks",
                code="PublisherAuth",
            )
        if status in {408, 425, 429} or status >= 500:
            return PublisherUnavailableError(
                said, fix="nothing is lost: the same publication is sent again", code="PublisherFailing"
            )
        if status in {400, 413, 422}:
            return RefusedError(
                said,
                why="it does not take the document",
                fix="compare both versions",
                code="PublisherRejected",
            )
        why = "redirects are not followed" if 300 <= status < 400 else "that is not a publisher's answer"
        return ConfigError(
            said, why=why, fix="configure the publisher's own address", code="PublisherAddressWrong"
        )


def _holds(document: Document, held: Published) -> bool:
    """Return whether ``held`` is ``document``, or a later publication that came after it."""
    return held.epoch > document.epoch or is_repeat(document, held)


def _checked(url: str) -> URL:
    try:
        found = URL(url)
        good = found.scheme in {"http", "https"} and found.host and not (found.user or found.password)
    except ValueError:
        good = False
    if not good or found.raw_fragment:
        # Not shown: it may hold a password.
        raise ConfigError(
            "the publisher's URL cannot be used",
            why="it needs http or https and a host, and may have no user, password or fragment",
            fix="authentication is by signature; leave credentials out of the URL",
            code="PublisherAddressInvalid",
        )
    return found


def _reason(body: bytes) -> ObjectionReason | None:
    try:
        raw = json.loads(body)
        reason = ObjectionReason(raw["reason"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return reason if reason in _FENCE_REASONS else None


def _kind(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number is not None and number > 0 else type(error).__name__
