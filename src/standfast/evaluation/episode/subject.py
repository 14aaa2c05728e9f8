"""Speaks the miner protocol with one subject during one episode, and never waits longer than it may.

1. Each call has one hard limit over everything: connecting, sending, and the last byte of the reply.
2. All calls together have a budget; time in which this process got no CPU is not counted against it.
3. The host's name is resolved once, checked, and kept, so that it cannot change into an address of ours.
4. No proxy from the environment, no redirect, no cookie, no compression, no reply above its limit.
5. No request carries a seed, a variant, or any id of ours; the session's name is the subject's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from standfast.evaluation.environments import EnvironmentSpec
from standfast.evaluation.episode.blame import (
    CallStage,
    Mishap,
    MishapError,
    blame_connect_error,
    blame_lookup_error,
    blame_overrun,
    blame_stream_error,
    fail,
    mishap,
)
from standfast.evaluation.episode.rules import (
    SubjectNetworks,
    action_of,
    address_objection,
    episode_id_of,
    one_line,
    parse_reply,
)
from standfast.evaluation.ports import Action

#: A witness is a well-known host; it answers a connection within this time or the network is down.
WITNESS_S = 1.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": "standfast",
}


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What bounds the calls to a subject; see ``EpisodeLimits``."""

    reset_s: float
    act_s: float
    subject_budget_s: float
    reply_bytes: int


@dataclass(frozen=True, slots=True)
class SubjectAddress:
    """Where the subject is, where subjects may be, and who can testify that our network works.

    ``witnesses`` are ``host:port``; with none, an unreachable subject is charged with it.
    """

    endpoint: str
    networks: SubjectNetworks = SubjectNetworks.ANY
    witnesses: Sequence[str] = ()


class SubjectClient:
    """One subject during one episode; lives in the episode's own process and ends with it."""

    def __init__(self, address: SubjectAddress, limits: CallLimits, entry: EnvironmentSpec) -> None:
        self._address = address
        self._limits = limits
        self._entry = entry
        self._spent_s = 0.0
        self._episode_id: str | int | None = None
        self._url = _endpoint(address.endpoint)
        self._session: aiohttp.ClientSession | None = None
        self._stage = CallStage.RESOLVING
        self._is_reused = False

    @property
    def spent_s(self) -> float:
        """Seconds that all calls took so far, without those in which we got no CPU."""
        return self._spent_s

    async def reset(self) -> None:
        """Tell the subject what it will act in; MishapError for whatever goes wrong."""
        body = {
            "task_config": {"env_id": self._entry.id},
            "action_space": self._entry.actions.as_dict(),
            "observation_size": self._entry.observation_size,
        }
        self._episode_id = episode_id_of(await self._call("reset", body, self._limits.reset_s))

    async def act(self, observation: Sequence[float]) -> Action:
        """Return the subject's action for ``observation``; MishapError for whatever goes wrong."""
        body: dict[str, Any] = {"obs": {"proprio": {"state": list(observation)}}}
        if self._episode_id is not None:
            body["episode_id"] = self._episode_id
        return action_of(await self._call("act", body, self._limits.act_s), self._entry.actions)

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()

    async def _call(self, path: str, body: dict[str, Any], limit_s: float) -> Any:
        left_s = self._limits.subject_budget_s - self._spent_s
        if left_s <= 0:
            raise fail("SubjectBudgetSpent", self._budget_text())
        self._stage = CallStage.RESOLVING
        stopwatch = Stopwatch()
        try:
            async with asyncio.timeout(min(limit_s, left_s)):
                raw = await self._exchange(path, json.dumps(body).encode())
        except TimeoutError as error:
            failure = self._blame_overrun(limit_s, left_s, stopwatch)
            raise MishapError(await self._heard(failure)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise MishapError(await self._heard(_blame_client_error(error))) from error
        finally:
            self._spent_s += stopwatch.fair_s
        return parse_reply(raw)

    def _blame_overrun(self, limit_s: float, left_s: float, stopwatch: Stopwatch) -> Mishap:
        failure = blame_overrun(
            self._stage,
            limit_s=min(limit_s, left_s),
            elapsed_s=stopwatch.elapsed_s,
            starved_s=stopwatch.starved_s,
        )
        if failure.code == "SubjectTimeout" and left_s < limit_s:
            return mishap("SubjectBudgetSpent", self._budget_text())
        return failure

    def _budget_text(self) -> str:
        return f"all calls together may take {self._limits.subject_budget_s:g} s, and took it"

    async def _heard(self, failure: Mishap) -> Mishap:
        """Hear the witnesses where the failure could be our network's; they speak outside the budget."""
        witnesses = self._address.witnesses
        if failure.code != "SubjectUnreachable" or not witnesses:
            return failure
        answers = await asyncio.gather(*(_answers(witness) for witness in witnesses))
        if any(answers):
            return failure
        return mishap("NetworkFailed", f"{failure.text}, and none of {', '.join(witnesses)} answers either")

    async def _exchange(self, path: str, body: bytes) -> bytes:
        if self._session is None:
            self._session = self._open(await self._resolve())
        self._stage = CallStage.CONNECTING
        # The loop stood still while the environment computed: let it notice connections that the
        # subject has closed meanwhile, rather than blame the subject for closing a call it never saw.
        for _ in range(3):
            await asyncio.sleep(0)
        self._is_reused = False
        try:
            return await self._post(self._session, path, body)
        except (aiohttp.ServerDisconnectedError, ConnectionResetError):
            # An idle connection may close in the very moment of its use. One fresh try, inside the same
            # limit; a subject that really hangs up does it again.
            if not self._is_reused:
                raise
            return await self._post(self._session, path, body)

    async def _post(self, session: aiohttp.ClientSession, path: str, body: bytes) -> bytes:
        async with session.post(self._url / path, data=body, allow_redirects=False) as response:
            if response.status in _REDIRECTS:
                raise fail("SubjectRedirected", f"/{path} answered with a redirect ({response.status})")
            if response.status != 200:
                raise fail("SubjectStatus", f"/{path} answered with status {response.status}")
            return await self._read(path, response)

    async def _read(self, path: str, response: aiohttp.ClientResponse) -> bytes:
        limit = self._limits.reply_bytes
        too_large = fail("SubjectReplyTooLarge", f"the reply to /{path} exceeds {limit} bytes")
        if (response.content_length or 0) > limit:
            raise too_large
        parts = bytearray()
        # Ends with the reply, its limit in bytes, or the limit of the call.
        async for part in response.content.iter_any():
            parts += part
            if len(parts) > limit:
                raise too_large
        return bytes(parts)

    async def _resolve(self) -> list[ResolveResult]:
        host, port = self._url.host or "", self._url.port or 0
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise MishapError(blame_lookup_error(error.errno, f"{host}: {error.strerror}")) from error
        except UnicodeError as error:
            raise fail("SubjectEndpointInvalid", f"{host[:80]!r} is no host name") from error
        addresses = {str(entry[4][0]): entry[0] for entry in found}
        objections = {ip: address_objection(ip, self._address.networks) for ip in addresses}
        allowed = [ip for ip, objection in objections.items() if not objection]
        if not allowed:
            raise fail("SubjectAddressForbidden", next(iter(objections.values()), f"{host} has no address"))
        return [
            ResolveResult(hostname=host, host=ip, port=port, family=addresses[ip], proto=0, flags=0)
            for ip in allowed
        ]

    def _open(self, pinned: list[ResolveResult]) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._on_connected)
        trace.on_connection_reuseconn.append(self._on_reused)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=PinnedResolver(pinned), limit=1, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            # One timer per call is ours; aiohttp rounds its own up to whole seconds.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            trust_env=False,
            trace_configs=[trace],
        )

    async def _on_connected(self, *_: object) -> None:
        self._stage = CallStage.CONNECTED

    async def _on_reused(self, *_: object) -> None:
        self._stage = CallStage.CONNECTED
        self._is_reused = True


class PinnedResolver(AbstractResolver):
    """Answers every name with the addresses that were resolved and checked before."""

    def __init__(self, pinned: list[ResolveResult]) -> None:
        self._pinned = pinned

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the pinned addresses."""
        return self._pinned

    async def close(self) -> None:
        """Nothing is held."""


class Stopwatch:
    """Measures a span, and how much of it this process was ready to run and got no CPU.

    The second number is ``run_delay`` of the scheduler (kernel: Documentation/scheduler/sched-stats.rst);
    0 where the kernel does not keep it.
    """

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._waited_s = _run_delay_s()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._at

    @property
    def starved_s(self) -> float:
        """Seconds of these in which no CPU was to be had."""
        return max(0.0, _run_delay_s() - self._waited_s)

    @property
    def fair_s(self) -> float:
        """Seconds that may be charged to the other side."""
        return max(0.0, self.elapsed_s - self.starved_s)


def _run_delay_s() -> float:
    try:
        fd = os.open("/proc/self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0.0
    try:
        return int(os.read(fd, 100).split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
    finally:
        os.close(fd)


def _endpoint(text: str) -> URL:
    try:
        url = URL(text)
        is_usable = url.scheme in ("http", "https") and bool(url.host) and url.port is not None
    except (ValueError, TypeError) as error:
        raise fail(
            "SubjectEndpointInvalid", f"{one_line(text)!r} is no address: {one_line(str(error))}"
        ) from error
    if not is_usable or url.user or url.password or url.query_string or url.fragment:
        raise fail("SubjectEndpointInvalid", f"{one_line(text)!r} is not http(s)://host[:port][/path]")
    return url


def _blame_client_error(error: aiohttp.ClientError | OSError) -> Mishap:
    text = one_line(str(error)) or type(error).__name__
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return mishap("SubjectTlsFailed", f"the subject's TLS failed ({text})")
    if isinstance(error, aiohttp.ClientConnectorError):
        return blame_connect_error(error.errno, text)
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | OSError):
        return blame_stream_error(getattr(error, "errno", None), text)
    return mishap("SubjectReplyNotHttp", f"the subject's reply is not HTTP ({text})")


async def _answers(witness: str) -> bool:
    host, _, port = witness.rpartition(":")
    try:
        async with asyncio.timeout(WITNESS_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # TimeoutError is one.
        return False
    writer.close()
    return True
