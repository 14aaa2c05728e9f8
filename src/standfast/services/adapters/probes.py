"""Asks services whether they are ready, over HTTP or TCP, with hard limits on time and bytes."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

import aiohttp

from standfast.kernel.clock import Clock
from standfast.services.model import ProbeSample, Readiness


class NetworkProber:
    """Probes over the network; use it as an asynchronous context manager."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # A new connection each time: an old one that still works says nothing about the next client.
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, trust_env=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def ask(self, readiness: Readiness) -> ProbeSample:
        """Return what one probe saw; asks nothing where there is nothing to ask."""
        target = readiness.http or readiness.tcp
        try:
            async with asyncio.timeout(readiness.timeout_s):
                reason, detail = await self._ask(readiness)
        except TimeoutError:
            return self._sample("NoAnswer", f"{target} gave no answer within {readiness.timeout_s:g} s")
        except ConnectionRefusedError:
            return self._sample("Refused", f"{target} refused the connection")
        except aiohttp.ClientConnectorError as error:
            return self._sample("Refused", f"{target}: {error.os_error.strerror or error.os_error}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._sample("BadAnswer", f"{target} gave no usable answer: {type(error).__name__}")
        return self._sample(reason, detail)

    async def _ask(self, readiness: Readiness) -> tuple[str, str]:
        if readiness.http:
            return await self._ask_http(readiness.http)
        host, _, port = readiness.tcp.rpartition(":")
        _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return "", ""

    async def _ask_http(self, url: str) -> tuple[str, str]:
        assert self._session is not None, "enter the prober first"
        # The status is all that is asked for: the body is not read, however long it is.
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status == 200:
                return "", ""
            return "WrongStatus", f"{url} answered {response.status}, not 200"

    def _sample(self, reason: str, detail: str) -> ProbeSample:
        return ProbeSample(self._clock.monotonic(), reason, detail)
