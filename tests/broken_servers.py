"""Servers that fail in each way that a client must survive; each answers every connection alike."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator

Behaviour = Callable[[socket.socket, threading.Event], None]


def reply(status: str, body: bytes, *headers: str) -> bytes:
    """Return a whole HTTP reply."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def says(raw: bytes) -> Behaviour:
    """Read the request and send ``raw``."""

    def act(connection: socket.socket, stop: threading.Event) -> None:
        read_request(connection)
        connection.sendall(raw)

    return act


def silent(connection: socket.socket, stop: threading.Event) -> None:
    """Take the request and never answer."""
    read_request(connection)
    stop.wait(30)


def drips(raw: bytes) -> Behaviour:
    """Send ``raw`` a byte at a time, so that something always comes and nothing ever ends."""

    def act(connection: socket.socket, stop: threading.Event) -> None:
        read_request(connection)
        for n in range(len(raw)):
            if stop.wait(0.05):
                return
            connection.sendall(raw[n : n + 1])

    return act


def closes(connection: socket.socket, stop: threading.Event) -> None:
    """Take the request and close."""
    read_request(connection)


def cuts(connection: socket.socket, stop: threading.Event) -> None:
    """Announce more than is sent."""
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")


JSON = "Content-Type: application/json"
BEHAVIOURS: dict[str, tuple[Behaviour, str]] = {
    "silent": (silent, "ApiTimeout"),
    "drips headers": (drips(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1000), "ApiTimeout"),
    "drips body": (drips(reply("200 OK", b" " * 10_000, JSON)), "ApiTimeout"),
    "closes": (closes, "ApiBrokeOff"),
    "cuts": (cuts, "ApiBrokeOff"),
    "500": (says(reply("500 Oops", b'{"error": {"code": "Bug", "what": "a fault of ours"}}', JSON)), "Bug"),
    "500 html": (says(reply("500 Oops", b"<html>Traceback</html>")), "ApiFailed"),
    "502 empty": (says(reply("502 Bad Gateway", b"")), "ApiFailed"),
    "503": (says(reply("503 Away", b'{"error": {"code": "StoreAway", "what": "x"}}', JSON)), "StoreAway"),
    "200 html": (says(reply("200 OK", b"<html>login</html>")), "ApiReplyUnexpected"),
    "200 list": (says(reply("200 OK", b"[1, 2]", JSON)), "ApiReplyUnexpected"),
    "200 deep": (says(reply("200 OK", b"[" * 200_000, JSON)), "ApiReplyUnexpected"),
    "200 not utf-8": (says(reply("200 OK", b'{"a": "\xff\xfe"}', JSON)), "ApiReplyUnexpected"),
    "redirect": (says(reply("302 Found", b"", "Location: http://127.0.0.1:1/")), "ApiReplyUnexpected"),
    "401": (
        says(reply("401 No", b'{"error": {"code": "TokenUnknown", "what": "no"}}', JSON)),
        "TokenUnknown",
    ),
    "401 html": (says(reply("401 No", b"<html>")), "NotAuthorized"),
    "403": (
        says(reply("403 No", b'{"error": {"code": "ScopeMissing", "what": "no"}}', JSON)),
        "ScopeMissing",
    ),
    "not http": (says(b"SSH-2.0-OpenSSH_9.6\r\n"), "ApiBrokeOff"),
    "100 MB": (says(reply("200 OK", b" " * 5_000_000, JSON)), "ApiReplyUnexpected"),
    "zip bomb": (
        says(reply("200 OK", gzip.compress(b" " * 200_000_000, 1), JSON, "Content-Encoding: gzip")),
        "ApiReplyUnexpected",
    ),
}


def read_request(connection: socket.socket) -> None:
    """Read until the request's header and body are there; bounded by time."""
    connection.settimeout(2)
    data = b""
    with contextlib.suppress(OSError):
        while b"\r\n\r\n" not in data:
            part = connection.recv(65_536)
            if not part:
                return
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [
            ln.split(b":")[1] for ln in head.split(b"\r\n") if ln.lower().startswith(b"content-length")
        ]
        while lengths and len(body) < int(lengths[0]):
            body += connection.recv(65_536)


@contextlib.contextmanager
def broken(behaviour: Behaviour, *, port: int = 0) -> Iterator[str]:
    """Yield the address of a server that behaves so."""
    listener = socket.create_server(("127.0.0.1", port))
    stop = threading.Event()
    workers: list[threading.Thread] = []

    def serve_one(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            behaviour(connection, stop)

    def accept() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            workers.append(threading.Thread(target=serve_one, args=(connection,), daemon=True))
            workers[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(5)
        for worker in workers:
            worker.join(5)


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """Yield an address that answers no connection: its queue is full, so the kernel drops the packets."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    address = listener.getsockname()
    fillers = []
    try:
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        time.sleep(0.1)
        yield f"http://127.0.0.1:{address[1]}"
    finally:
        for filler in fillers:
            filler.close()
        listener.close()


def unused_port() -> int:
    """Return a port where nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
