"""Asks the kernel which TCP ports are listened on (sock_diag(7)): only listening sockets are walked.

/proc/net/tcp shows the same and is the fallback; reading it walks every bucket of the table of connections,
which takes ten milliseconds on an ordinary machine, however few there are.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_LISTEN = 10
_HEADER = struct.Struct("=IHHII")
#: inet_diag_req_v2: family, protocol, extensions, padding, states, and an empty socket to match any.
_REQUEST = struct.Struct("=BBBBI48x")
#: inet_diag_msg: family, state, timer, retransmissions, source port; the inode stands at its end.
_PORT_AT, _INODE_AT = 4, 68
_ALIGN = 4
_BUFFER_BYTES = 65_536
_PROC_NET = Path("/proc/net")


def listeners() -> list[tuple[int, str]]:
    """Return (port, inode) of every listening TCP socket of this network namespace."""
    try:
        return [*_dump(socket.AF_INET), *_dump(socket.AF_INET6)]
    except OSError:
        return [*_table("tcp"), *_table("tcp6")]


def _dump(family: int) -> Iterator[tuple[int, str]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as asked:
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 1 << _LISTEN)
        size = _HEADER.size + len(body)
        asked.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0) + body)
        # Ends with the message that says so.
        while True:
            data = asked.recv(_BUFFER_BYTES)
            at = 0
            while at < len(data):
                length, kind, _, _, _ = _HEADER.unpack_from(data, at)
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR or length < _HEADER.size:
                    raise OSError("the kernel refused to list sockets")
                start = at + _HEADER.size
                port = int.from_bytes(data[start + _PORT_AT : start + _PORT_AT + 2], "big")
                yield port, str(struct.unpack_from("=I", data, start + _INODE_AT)[0])
                at += (length + _ALIGN - 1) & ~(_ALIGN - 1)


def _table(name: str) -> Iterator[tuple[int, str]]:
    with contextlib.suppress(OSError):
        for line in (_PROC_NET / name).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                yield int(fields[1].rsplit(":", 1)[1], 16), fields[9]
