"""Asks the model: whether it is ready, and for results. Every way in which that can end has its name."""

from __future__ import annotations

import asyncio
import errno
import json
from typing import Any, NamedTuple

import aiohttp

from generation_stack.splats.judge import Bounds, Judgement, judge
from generation_stack.worker.rules import Outcome

#: More than the largest result that is allowed is not read.
_MOST_BYTES = 160_000_000
_BY_STATUS = {
    400: Outcome.INVALID_INPUT, 413: Outcome.INVALID_INPUT, 422: Outcome.INVALID_INPUT,
    429: Outcome.BUSY, 503: Outcome.UNREADY,
}  # fmt: skip


class Seen(NamedTuple):
    """What the model said about itself, or why it said nothing; ``state`` is ready, or a word for why not."""

    state: str
    reason: str

    @property
    def is_ready(self) -> bool:
        """Whether a request sent now would be accepted."""
        return self.state == "ready"


class Delivered(NamedTuple):
    """How a request ended; ``data`` and ``judgement`` are there where it is done."""

    outcome: Outcome
    reason: str
    asked_s: float = 0.0
    data: bytes = b""
    judgement: Judgement | None = None


class ModelClient:
    """The model service behind one address."""

    def __init__(self, url: str, *, probe_s: float, timeout_s: float, bounds: Bounds) -> None:
        self._url = url.rstrip("/")
        self._probe_s = probe_s
        self.timeout_s = timeout_s
        self._bounds = bounds
        # Timeouts are ours: those of the library are rounded up to whole seconds beyond five.
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            # A kept connection may be half dead, and would make a refusal look like a lost request.
            connector=aiohttp.TCPConnector(force_close=True, limit=0),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def look(self) -> Seen:
        """Ask /health; never raises."""
        try:
            async with asyncio.timeout(self._probe_s), self._session.get(f"{self._url}/health") as answer:
                body = _object(await answer.content.read(65_536))
        except TimeoutError:
            return Seen(
                "timeout", f"{self._url}/health accepted and did not answer within {self._probe_s:g} s"
            )
        except (aiohttp.ClientError, OSError) as error:
            return Seen("refused" if _is_refusal(error) else "lost", f"{self._url}/health: {_said(error)}")
        if answer.status == 200:
            return Seen("ready", str(body.get("reason", "")))
        state = str(body.get("state", "")) or f"status_{answer.status}"
        return Seen("unready" if state == "ready" else state, str(body.get("reason", "no reason given")))

    async def ask(self, request: dict[str, Any], *, left_s: float) -> Delivered:
        """Ask for one result within the timeout, and within ``left_s``; never raises, but when cancelled."""
        timeout_s = min(self.timeout_s, left_s)
        body = {**request, "deadline_s": round(max(timeout_s, 0.05), 3)}
        try:
            async with asyncio.timeout(timeout_s):
                status, headers, data = await self._post(body)
        except TimeoutError:
            return Delivered(Outcome.TIMEOUT, f"TIMEOUT: no whole answer within {timeout_s:.3g} s")
        except (aiohttp.ClientError, OSError) as error:
            return Delivered(Outcome.REFUSED if _is_refusal(error) else Outcome.LOST, _said(error))
        if status != 200:
            return _declined(status, headers, data)
        # Judging a large file takes a moment; nothing else must wait for it.
        judgement = await asyncio.to_thread(judge, data, self._bounds)
        if not judgement.is_usable:
            return Delivered(Outcome.BAD_OUTPUT, "; ".join(judgement.reasons))
        return Delivered(Outcome.DONE, "", 0.0, data, judgement)

    async def _post(self, body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        async with self._session.post(f"{self._url}/generate", json=body) as answer:
            data = bytearray()
            async for chunk in answer.content.iter_chunked(262_144):
                data += chunk
                if len(data) > _MOST_BYTES:
                    raise aiohttp.ClientPayloadError(f"more than {_MOST_BYTES} bytes were sent")
            return answer.status, dict(answer.headers), bytes(data)


def _declined(status: int, headers: dict[str, str], data: bytes) -> Delivered:
    body = _object(data)
    reason = f"{status} {body.get('error', '')}: {body.get('reason', 'no reason given')}"
    if status == 504:
        return Delivered(Outcome.TIMEOUT, f"TIMEOUT at the model: {reason}")
    asked = headers.get("Retry-After", "")
    # No server may put a task off for ever.
    asked_s = min(float(asked), 60.0) if asked.isdigit() else 0.0
    return Delivered(_BY_STATUS.get(status, Outcome.ERROR), reason[:2_000], asked_s)


def _object(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _is_refusal(error: BaseException) -> bool:
    return isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno in (
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
    )


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]
