"""Subjects that misbehave on the wire, each in one way, on real sockets; each counts what reached it."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

GOOD_ACTION = {"action": {"continuous": {"u": [0.5]}, "discrete": {}}}


@dataclass(slots=True)
class Request:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        return dict(json.loads(self.body))


Behaviour = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Subject:
    """A server on loopback: one behaviour for /reset, one for /act, and the requests it has had."""

    on_act: Behaviour
    on_reset: Behaviour
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    url: str = ""

    @property
    def acts(self) -> int:
        return sum(request.target == "/act" for request in self.requests)

    @property
    def resets(self) -> int:
        return sum(request.target == "/reset" for request in self.requests)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                request = await _read(reader)
                self.requests.append(request)
                behave = self.on_reset if request.target == "/reset" else self.on_act
                await behave(request, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)


def http(body: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def says(value: object, *, status: str = "200 OK", headers: str = "") -> Behaviour:
    """Answer with ``value`` as JSON, or with bytes as they are."""

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        writer.write(http(body, status=status, headers=headers))

    return behave


def says_raw(raw: bytes, *, hang_up: bool = False) -> Behaviour:
    """Send ``raw`` as it is."""

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        if hang_up:
            await writer.drain()
            writer.close()

    return behave


async def is_silent(request: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(1000)


def drips(interval_s: float) -> Behaviour:
    """Send a good reply, one byte at a time."""

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        for byte in http(json.dumps(GOOD_ACTION).encode()):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(interval_s)

    return behave


def is_slow(delay_s: float) -> Behaviour:
    """Send a good reply, late."""

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(delay_s)
        await says(GOOD_ACTION)(request, writer)

    return behave


def floods(count: int, *, with_length: bool) -> Behaviour:
    """Send ``count`` bytes; without a length they come in chunks."""

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        if with_length:
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n".encode())
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        part = b"x" * 65_536
        for _ in range(count // len(part)):
            writer.write(part if with_length else b"10000\r\n" + part + b"\r\n")
            await writer.drain()

    return behave


def closes_idle(after_s: float) -> Behaviour:
    """Send a good reply and close the connection when it has been idle for a while, as servers do."""

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        await says(GOOD_ACTION)(request, writer)
        asyncio.get_running_loop().call_later(after_s, writer.close)

    return behave


GOOD_RESET = says({"status": "ok", "episode_id": "mine"})
GOOD = says(GOOD_ACTION)


@contextlib.asynccontextmanager
async def serving(  # type: ignore[no-untyped-def]
    on_act: Behaviour = GOOD, on_reset: Behaviour = GOOD_RESET, *, tls: ssl.SSLContext | None = None
):
    """Serve a subject on a port of its own."""
    subject = Subject(on_act, on_reset)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(subject.converse(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    subject.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield subject
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def self_signed(folder: Path) -> ssl.SSLContext:
    """Return a server's TLS context with a certificate that nobody has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = folder / "subject.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@contextlib.contextmanager
def refusing():  # type: ignore[no-untyped-def]
    """Yield the address of a port at which nobody listens, and which nobody else can take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextlib.contextmanager
def black_hole():  # type: ignore[no-untyped-def]
    """Yield the address of a port that answers no connection attempt: its queue is full."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
