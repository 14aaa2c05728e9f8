"""The HTTP publisher against addresses that refuse, swallow, stall, drip, redirect, flood or lie (K6)."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from standfast.kernel.clock import SystemClock, SystemEntropy
from standfast.kernel.errors import AuthError, ConfigError, RefusedError, StandfastError
from standfast.publication.adapters.http import HttpLimits, HttpPublisher
from standfast.publication.adapters.keys import SigningKey
from standfast.publication.adapters.signing import RequestSigner
from standfast.publication.document import published_of, render
from standfast.publication.ports import (
    PublicationRefusedError,
    PublisherUnavailableError,
    PublisherUnusableError,
    Sent,
    StaleLeaderError,
)
from standfast.testing.publisher_contract import good_document

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
# Short where the total is what must end the call, long where a busy machine must not end it.
SHORT_S, LONG_S, SLACK_S = 0.4, 15.0, 2.0
CANARY = "canary-token"
DOCUMENT = good_document()


def publisher(port: int, *, total_s: float = LONG_S, reply_bytes: int = 100_000) -> HttpPublisher:
    key = SigningKey(Ed25519PrivateKey.generate(), keyid="leader-1")
    return HttpPublisher(
        f"http://127.0.0.1:{port}/weights?token={CANARY}",
        signer=RequestSigner(key, clock=SystemClock(), entropy=SystemEntropy()),
        limits=HttpLimits(total_s=total_s, reply_bytes=reply_bytes),
    )


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """Serve raw bytes on a free port; connections that still stall at the end are cut."""
    running: set[asyncio.Task[None]] = set()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            running.discard(task)
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def request_of(reader: asyncio.StreamReader) -> bytes:
    """Read one request and return its head."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        ),
        0,
    )
    await reader.readexactly(length)
    return head


def answering(status: str, body: bytes = b"", *extra: str, get: bytes | None = None) -> Handler:
    """Return a handler that answers every request alike, or a GET with 200 and ``get``."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await request_of(reader)
        is_get = get is not None and head.startswith(b"GET")
        code, content = ("200 OK", get or b"") if is_get else (status, body)
        fields = [f"HTTP/1.1 {code}", f"Content-Length: {len(content)}", "Connection: close", *extra]
        writer.write("\r\n".join(fields).encode() + b"\r\n\r\n" + content)
        await writer.drain()

    return handle


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await request_of(reader)
    await asyncio.sleep(60)


async def deaf(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def drip_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    for byte in b"HTTP/1.1 201 Created\r\nX-Slow: " + b"x" * 1000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def drip_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(1000):
        writer.write(b"{")
        await writer.drain()
        await asyncio.sleep(0.05)


async def cut_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
    await writer.drain()


async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await request_of(reader)


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    await writer.drain()


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:  # Ends when the other side hangs up.
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await writer.drain()


SAID = f'{{"reason": "EpochTaken", "detail": "{CANARY}"}}'.encode()
STALE = b'{"reason": "StaleLeader"}'
ENDINGS: list[tuple[str, type[StandfastError], str, Handler]] = [
    ("silent", PublisherUnavailableError, "PublisherTimeout", silent),
    ("deaf", PublisherUnavailableError, "PublisherTimeout", deaf),
    ("drips its head", PublisherUnavailableError, "PublisherTimeout", drip_head),
    ("drips its body", PublisherUnavailableError, "PublisherTimeout", drip_body),
    ("cuts off", PublisherUnavailableError, "PublisherUnreachable", cut_off),
    ("hangs up", PublisherUnavailableError, "PublisherUnreachable", hang_up),
    ("speaks something else", PublisherUnavailableError, "PublisherUnreachable", garbage),
    ("floods", PublisherUnusableError, "PublisherReplyTooLarge", flood),
    ("500", PublisherUnavailableError, "PublisherFailing", answering("500 Oops", SAID)),
    ("503", PublisherUnavailableError, "PublisherFailing", answering("503 Busy", SAID)),
    ("429", PublisherUnavailableError, "PublisherFailing", answering("429 Slow Down", SAID)),
    ("401", AuthError, "PublisherAuth", answering("401 Who", SAID)),
    ("403", AuthError, "PublisherAuth", answering("403 No", SAID)),
    ("422", RefusedError, "PublisherRejected", answering("422 What", SAID)),
    ("404", ConfigError, "PublisherAddressWrong", answering("404 Where", SAID)),
    ("202", ConfigError, "PublisherAddressWrong", answering("202 Later", SAID)),
    ("302", ConfigError, "PublisherAddressWrong", answering("302 There", b"", f"Location: /?{CANARY}")),
    ("307", ConfigError, "PublisherAddressWrong", answering("307 There", b"", f"Location: /?{CANARY}")),
    ("a web page", PublisherUnusableError, "PublisherReplyMalformed", answering("200 OK", b"<html>welcome")),
]
ROWS = [row[1:] for row in ENDINGS]
NAMES = [row[0] for row in ENDINGS]


def ending(
    handler: Handler, call: Callable[[HttpPublisher], Awaitable[object]], *, total_s: float = LONG_S
) -> tuple[StandfastError, float]:
    """Return the error that ``call`` ended with and how long that took."""

    async def run() -> tuple[StandfastError, float]:
        async with serving(handler) as port:
            started = time.monotonic()
            with pytest.raises(StandfastError) as raised:
                await call(publisher(port, total_s=total_s))
            return raised.value, time.monotonic() - started

    return asyncio.run(run())


@pytest.mark.parametrize(
    "call", [lambda p: p.publish(DOCUMENT), lambda p: p.read_back()], ids=["publish", "read_back"]
)
@pytest.mark.parametrize(("kind", "code", "handler"), ROWS, ids=NAMES)
def test_k6_a_bad_address_is_a_typed_error_within_the_total(
    kind: type[StandfastError],
    code: str,
    handler: Handler,
    call: Callable[[HttpPublisher], Awaitable[object]],
) -> None:
    total_s = SHORT_S if code == "PublisherTimeout" else LONG_S
    error, took_s = ending(handler, call, total_s=total_s)
    assert isinstance(error, kind)
    assert error.code == code
    assert took_s < SHORT_S + SLACK_S
    shown = f"{error} {error!r} {error.__cause__!r}"
    assert CANARY not in shown
    assert "127.0.0.1" in shown
    assert error.fix


def test_k6_a_conflict_is_the_refusal_that_the_receiver_named() -> None:
    error, _ = ending(answering("409 Conflict", SAID), lambda p: p.publish(DOCUMENT))
    assert isinstance(error, PublicationRefusedError)
    assert (error.code, error.exit_code) == ("EpochTaken", 5)
    assert CANARY not in str(error)
    stale, _ = ending(answering("409 Conflict", STALE), lambda p: p.publish(DOCUMENT))
    assert isinstance(stale, StaleLeaderError)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"reason": 5}', b'{"reason": ["EpochTaken"]}', b"[" * 4000]
)
def test_k6_a_conflict_in_other_words_is_a_refusal_too(body: bytes) -> None:
    error, _ = ending(answering("409 Conflict", body), lambda p: p.publish(DOCUMENT))
    assert isinstance(error, RefusedError)
    assert error.code == "PublisherConflict"


def test_k6_a_closed_port_is_unreachable_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(PublisherUnavailableError, match="Connection refused") as raised:
        asyncio.run(publisher(port).publish(DOCUMENT))
    assert raised.value.code == "PublisherUnreachable"
    assert time.monotonic() - started < SLACK_S


def test_k6_a_black_hole_ends_at_the_total() -> None:
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        port = hole.getsockname()[1]
        # With its backlog full the kernel drops every further greeting, as a firewall does.
        filling = [socket.socket() for _ in range(4)]
        try:
            for waiting in filling:
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
            started = time.monotonic()
            with pytest.raises(PublisherUnavailableError) as raised:
                asyncio.run(publisher(port, total_s=SHORT_S).publish(DOCUMENT))
            took_s = time.monotonic() - started
        finally:
            for waiting in filling:
                waiting.close()
    assert raised.value.code == "PublisherTimeout"
    assert SHORT_S <= took_s < SHORT_S + SLACK_S


def test_k6_a_name_that_does_not_resolve_is_unreachable() -> None:
    key = SigningKey(Ed25519PrivateKey.generate())
    signer = RequestSigner(key, clock=SystemClock(), entropy=SystemEntropy())
    nowhere = HttpPublisher("http://publisher.invalid/", signer=signer, limits=HttpLimits(total_s=5))
    with pytest.raises(PublisherUnavailableError):
        asyncio.run(nowhere.read_back())


def self_signed(folder: Path) -> ssl.SSLContext:
    """Return a server's side of TLS with a certificate that nobody vouches for."""
    private = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = SystemClock().wall()
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(private, SHA256())
    )
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(pem + certificate.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


def test_i12_a_receiver_that_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1))

    async def run() -> StandfastError:
        server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=self_signed(tmp_path))
        async with server:
            port = server.sockets[0].getsockname()[1]
            key = SigningKey(Ed25519PrivateKey.generate())
            signer = RequestSigner(key, clock=SystemClock(), entropy=SystemEntropy())
            secure = HttpPublisher(f"https://127.0.0.1:{port}/", signer=signer, limits=HttpLimits(total_s=5))
            with pytest.raises(PublisherUnusableError) as raised:
                await secure.publish(DOCUMENT)
            return raised.value

    assert asyncio.run(run()).code == "PublisherUntrusted"
    assert b"".join(heard) == b""


def test_k17_a_publication_is_sent_and_read_back() -> None:
    async def run() -> None:
        async with serving(answering("201 Created", get=render(DOCUMENT))) as port:
            assert await publisher(port).publish(DOCUMENT) == Sent(published_of(DOCUMENT))
            assert await publisher(port).read_back() == published_of(DOCUMENT)

    asyncio.run(run())


def test_i7_a_later_publication_seen_in_reading_back_is_no_failure() -> None:
    async def run() -> None:
        async with serving(answering("201 Created", get=render(good_document(epoch=2)))) as port:
            assert await publisher(port).publish(DOCUMENT) == Sent(published_of(DOCUMENT))

    asyncio.run(run())


@pytest.mark.parametrize("held", [good_document(round_id="another"), good_document(epoch=7)])
def test_r9_an_acknowledgement_that_is_not_borne_out_is_an_error(held: object) -> None:
    sent = good_document(epoch=8) if held == good_document(epoch=7) else DOCUMENT
    get = render(held)  # type: ignore[arg-type]
    error, _ = ending(answering("201 Created", get=get), lambda p: p.publish(sent))
    assert isinstance(error, PublisherUnusableError)
    assert error.code == "ReadBackMismatch"


def test_k6_the_total_covers_sending_and_reading_back_together() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(SHORT_S * 0.7)
        await answering("201 Created", get=render(DOCUMENT))(reader, writer)

    error, took_s = ending(slow, lambda p: p.publish(DOCUMENT), total_s=SHORT_S)
    assert error.code == "PublisherTimeout"
    assert took_s < SHORT_S + SLACK_S


@pytest.mark.parametrize(
    "url",
    [
        "",
        "weights",
        "ftp://host/",
        "file:///etc/passwd",
        "http://",
        f"http://user:{CANARY}@host/",
        f"http://host/#{CANARY}",
        f"http://host:99999/{CANARY}",
    ],
)
def test_i12_an_unusable_address_is_refused_without_showing_it(url: str) -> None:
    key = SigningKey(Ed25519PrivateKey.generate())
    signer = RequestSigner(key, clock=SystemClock(), entropy=SystemEntropy())
    with pytest.raises(ConfigError) as refused:
        HttpPublisher(url, signer=signer)
    assert CANARY not in f"{refused.value} {refused.value.__cause__!r}"


@pytest.mark.parametrize("total_s", [0.0, -1.0, float("nan"), float("inf"), 10_000.0])
def test_k6_a_total_that_never_comes_is_refused(total_s: float) -> None:
    with pytest.raises(ConfigError):
        HttpLimits(total_s=total_s)


def test_i12_a_publisher_shows_neither_key_nor_query() -> None:
    shown = repr(publisher(1))
    assert CANARY not in shown
    assert "leader-1" in shown
    assert "http://127.0.0.1:1/weights" in shown
