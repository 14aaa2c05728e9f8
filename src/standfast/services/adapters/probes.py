"""Asks services whether they are ready: HTTP, TCP, a command, a line, a file, READY=1; hard limits on all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import h11

from standfast.kernel.clock import Clock
from standfast.services.adapters import procfs
from standfast.services.adapters.journal import FileJournal
from standfast.services.model import ProbeSample, Readiness, ServiceSpec
from standfast.services.ports import Running

#: How much of an answer's body is read, and only where a pattern is to be found in it.
_BODY_BYTES = 65_536
_READ_BYTES = 16_384
_TICK_S, _COARSE_S = 0.02, 2.0
#: A pipe holds 65,536 bytes (pipe(7)).
_LAST_READS = 8
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1", "0.0.0.0", ""})  # noqa: S104 - compared, not bound


class _BadAnswerError(Exception):
    """A probe's answer that is not the wanted one: (reason, detail)."""


class LocalProber:
    """Probes from this machine; each probe is a new connection, as the next client's will be."""

    def __init__(self, clock: Clock, journal_of: Callable[[str], FileJournal]) -> None:
        self._clock = clock
        self._journal_of = journal_of

    async def ask(self, readiness: Readiness, spec: ServiceSpec, running: Running) -> ProbeSample:
        """Return what one probe saw."""
        target = readiness.target
        try:
            async with asyncio.timeout(readiness.timeout_s):
                await self._ask(readiness, spec, running)
        except _BadAnswerError as bad:
            return self._sample(*bad.args)
        except TimeoutError:
            return self._sample("NoAnswer", f"{target} gave no answer within {readiness.timeout_s:g} s")
        except ConnectionRefusedError:
            return self._sample("Refused", f"{target} refused the connection")
        except h11.RemoteProtocolError as error:
            return self._sample("BadAnswer", f"{target} gave no usable answer: {error}")
        except re.error as error:
            return self._sample("BadPattern", f"its pattern {error.pattern!r} is none: {error}")
        except (OSError, ValueError, EOFError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            return self._sample("BadAnswer", f"{target} gave no usable answer: {why}")
        return self._sample("", "")

    def listening(self, targets: Sequence[str]) -> Sequence[bool]:
        """Return which ``HOST:PORT`` of this machine are certainly listened on now, by one look."""
        ports = procfs.listening_ports()
        split = [target.rpartition(":") for target in targets]
        return [
            host.strip("[]") in _LOCAL and port.isdigit() and int(port) in ports for host, _, port in split
        ]

    async def _ask(self, readiness: Readiness, spec: ServiceSpec, running: Running) -> None:
        if readiness.http:
            await _ask_http(readiness)
        elif readiness.tcp:
            host, _, port = readiness.tcp.rpartition(":")
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            await _close(writer)
        elif readiness.command:
            await _run(readiness.command, spec)
        elif readiness.log:
            if not self._journal_of(spec.name).saw(readiness.log):
                raise _BadAnswerError("NotYet", f"no line of this life matches {readiness.log!r} yet")
        elif readiness.file:
            _look_at_file((spec.cwd or Path.cwd()) / readiness.file, running.started_at)
        else:
            _look_at_word(readiness, running)

    def _sample(self, reason: str, detail: str) -> ProbeSample:
        return ProbeSample(self._clock.monotonic(), reason, detail)


async def run_command(command: Sequence[str], spec: ServiceSpec) -> tuple[int, str]:
    """Run ``command`` as ``spec`` would run; return its exit code and the last line that it printed.

    Raises OSError where it cannot run. It is ended with whatever it started when this is cancelled.
    """
    heard = _Heard()
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=spec.cwd,
            env=os.environ | dict(spec.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=heard.writing,
            stderr=heard.writing,
            start_new_session=True,
        )
        try:
            await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    finally:
        said = heard.close()
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return process.returncode or 0, lines[-1][:400] if lines else ""


class _Heard:
    """The last of what a command says; its own end is waited for, not that of all who hold its output."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._said = b""
        asyncio.get_running_loop().add_reader(self._reading, self._hear)

    def _hear(self) -> bool:
        part = b""
        with contextlib.suppress(BlockingIOError):
            part = os.read(self._reading, _READ_BYTES)
        self._said = (self._said + part)[-_READ_BYTES:]
        return bool(part)

    def close(self) -> bytes:
        """Return what was said last."""
        asyncio.get_running_loop().remove_reader(self._reading)
        os.close(self.writing)
        # Bounded, because somebody may go on to write.
        for _ in range(_LAST_READS):
            if not self._hear():
                break
        os.close(self._reading)
        return self._said


async def _run(command: Sequence[str], spec: ServiceSpec) -> None:
    code, said = await run_command(command, spec)
    if code:
        raise _BadAnswerError(
            "CommandFailed", f"{command[0]} ended with exit code {code}{f': {said}' if said else ''}"
        )


def _look_at_word(readiness: Readiness, running: Running) -> None:
    """Refuse what has not said yet, or whose own check says, that it is not ready."""
    ailment = running.ailment() if readiness.health else ""
    if ailment:
        raise _BadAnswerError("Unhealthy", ailment)
    if readiness.notify and running.said_ready_s() is None:
        raise _BadAnswerError("NotYet", "it has not said READY=1 yet (sd_notify)")


def _look_at_file(path: Path, started_at: float) -> None:
    try:
        changed_ns = path.stat().st_mtime_ns
    except OSError as error:
        raise _BadAnswerError("NotYet", f"{path} is not there yet") from error
    # The kernel stamps files with the time of its last tick; some file systems keep whole seconds, or two.
    grain_s = _TICK_S if changed_ns % 1_000_000_000 else _COARSE_S
    if changed_ns / 1e9 < started_at - grain_s:
        raise _BadAnswerError("NotYet", f"{path} is older than this life")


async def _ask_http(readiness: Readiness) -> None:
    url = urlsplit(readiness.http)
    is_secure = url.scheme == "https"
    host, port = url.hostname or "127.0.0.1", url.port or (443 if is_secure else 80)
    reader, writer = await asyncio.open_connection(host, port, ssl=is_secure or None)
    try:
        connection = h11.Connection(h11.CLIENT)
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = [("Host", url.netloc), ("Connection", "close"), ("User-Agent", "standfast-probe")]
        for event in (h11.Request(method="GET", target=target, headers=headers), h11.EndOfMessage()):
            writer.write(connection.send(event) or b"")
        await writer.drain()
        status, body = await _read(connection, reader, wants_body=bool(readiness.body))
    finally:
        await _close(writer)
    if status != readiness.status:
        said = " ".join(body.decode("utf-8", "replace").split())[:120]
        raise _BadAnswerError(
            "WrongStatus", f"{readiness.http} answered {status}, not {readiness.status}{said and ': ' + said}"
        )
    if readiness.body and not re.search(readiness.body, body.decode("utf-8", "replace")):
        raise _BadAnswerError(
            "WrongBody", f"{readiness.http} answered without {readiness.body!r} in its body"
        )


async def _read(
    connection: h11.Connection, reader: asyncio.StreamReader, *, wants_body: bool
) -> tuple[int, bytes]:
    """Return the status and as much of the body as is looked at."""
    status, body = 0, b""
    # Ends with the message, with enough of it, or with the probe's time.
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
            # A refusal's first words are worth reading; of a good answer only what was asked for.
            if status == 200 and not wants_body:
                return status, b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
            if len(body) >= (_BODY_BYTES if wants_body else 512):
                return status, body
        elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
            return status, body


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
