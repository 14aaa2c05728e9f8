"""Whom a line speaks of: the host and port that could not be reached, and whether that is one of ours."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_HOST = r"(?P<host>\[[0-9a-f:.%]{2,50}\]|[A-Za-z0-9_](?:[\w.-]{0,253}[A-Za-z0-9_])?)"
_URL = re.compile(
    r"\b[a-z][a-z0-9+.-]{1,20}://(?:[^\s'/@]{1,200}@)?" + _HOST + r"(?::(?P<port>\d{1,5}))?", re.I
)
_PAIR = re.compile(r"(?<![\w.:/-])" + _HOST + r"(?::|/)(?P<port>\d{2,5})(?![\w.]|:\d)", re.I)
_TUPLE = re.compile(r"'" + _HOST + r"', (?P<port>\d{2,5})\b", re.I)
_LABELLED_HOST = re.compile(
    r"\b(?:host|hostname|address|server|at|on|to|name)(?:'?\s?[:=]\s?'?|\s'?)" + _HOST + r"\b", re.I
)
_LABELLED_PORT = re.compile(r"\bport(?:'?\s?[:=]\s?'?|\s'?)(?P<port>\d{1,5})\b", re.I)
_BARE_PORT = re.compile(r"(?:^|[\s*\](']|::):(?P<port>\d{2,5})(?![\w.]|:\d)")
#: Words that stand where a host may stand, and are none.
_NO_HOSTS = frozenset(
    {
        "the", "a", "an", "server", "host", "database", "remote", "address", "port", "connect",
        "connection", "any", "all", "this", "that", "it", "is", "be", "error", "failed", "failure", "no",
        "not", "peer", "broker", "line", "node",
    }
)  # fmt: skip
_SOURCES = (".py", ".js", ".go", ".rs", ".java", ".cc", ".cpp", ".c", ".rb", ".ts")
_PORT_ENDS = 65_536


class Peer(NamedTuple):
    """The far end that a line names; empty and 0 where it does not."""

    host: str = ""
    port: int = 0

    @property
    def address(self) -> str:
        """Host and port as one word, with what is known of them."""
        return f"{self.host}:{self.port}" if self.host and self.port else self.host or str(self.port or "")

    @property
    def is_near(self) -> bool:
        """Whether it is on this machine or a private network, or has a name without a dot, as services do."""
        name = self.host.strip("[]").partition("%")[0]
        if not name:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return "." not in name or name.endswith((".local", ".internal", ".svc", ".lan", ".localdomain"))
        return address.is_private or address.is_loopback or address.is_link_local


def peer(lines: Sequence[str]) -> Peer:
    """Return the first far end that ``lines`` name; host and port may stand on two of them."""
    labelled = Peer()
    for line in lines:
        for pattern in (_URL, _TUPLE, _PAIR):
            for found in pattern.finditer(line):
                if _is_peer(found):
                    return Peer(found["host"], int(found["port"] or 0))
        host = labelled.host or next(_hosts(line), "")
        labelled = Peer(host, labelled.port or next(_ports(line), 0))
        if labelled.host and labelled.port:
            break
    return labelled


def is_declared(found: Peer, declared: Sequence[str]) -> bool:
    """Whether the far end is one of the ``declared`` dependencies: by address, by name, or by a near port."""
    return any(_is_same(found, *_split(address)) for address in declared)


def _is_same(found: Peer, host: str, port: int) -> bool:
    if found.port and port and found.port != port:
        return False
    if found.host and host and found.host.lower() == host.lower():
        return True
    # "localhost", "127.0.0.1" and "::1" are one far end, and a port on a near one says which it is.
    is_port_equal = bool(port) and found.port == port
    return is_port_equal and (not found.host or (found.is_near and Peer(host).is_near))


def _split(address: str) -> tuple[str, int]:
    text = address.partition("://")[2].partition("/")[0] or address
    host, colon, port = text.rpartition(":")
    return (host, int(port)) if colon and port.isdigit() else (text, 0)


def _is_peer(found: re.Match[str]) -> bool:
    return int(found["port"] or 0) < _PORT_ENDS and _is_host(found["host"])


def _is_host(host: str) -> bool:
    """Whether it may be a host: not a date, a count, or a file with the number of a line (server.py:42)."""
    is_date = host[:4].isdigit() and host[4:5] in "-/"
    is_number = is_date or (host.replace(".", "").isdigit() and host.count(".") != 3)
    return not is_number and not host.endswith(_SOURCES)


def _ports(line: str) -> Iterator[int]:
    for pattern in (_LABELLED_PORT, _BARE_PORT):
        for found in pattern.finditer(line):
            if int(found["port"]) < _PORT_ENDS:
                yield int(found["port"])


def _hosts(line: str) -> Iterator[str]:
    for found in _LABELLED_HOST.finditer(line):
        if found["host"].lower() not in _NO_HOSTS and _is_host(found["host"]):
            yield found["host"]
