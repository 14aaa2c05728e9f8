"""The short forms that compose and pm2 have for ports, mounts, commands, sizes and times.

Each function takes text and raises ValueError, saying what is wrong, where the tool itself would refuse it.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from dataclasses import dataclass, field
from typing import NamedTuple

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"(\d*\.?\d+|\d+\.)(ns|us|µs|μs|ms|s|m|h|d|w)", re.ASCII)
_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3,
    "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0,
}  # fmt: skip
_PORT = re.compile(
    r"(?:(?:(?P<ip>\[?[0-9a-fA-F:.%]*:[0-9a-fA-F:.%]*\]?|\d+\.\d+\.\d+\.\d+):)?(?P<host>\d*(?:-\d+)?):)?"
    r"(?P<container>\d+(?:-\d+)?)(?:/(?P<protocol>[A-Za-z]+))?",
    re.ASCII,
)
_PROTOCOLS = ("tcp", "udp", "sctp")
_LARGEST_PORT = 65_535
#: More ports in one range than any service publishes; an engine would start a proxy for each.
_WIDEST = 10_000
_SHELL_ONLY = frozenset(";&|<>")


class PortRange(NamedTuple):
    """One published port; ``host_last`` is the end of a range of which one is taken, or 0."""

    container: int
    host: int
    protocol: str
    host_ip: str
    host_last: int


class ShortMount(NamedTuple):
    """A mount as ``SOURCE:TARGET:OPTIONS`` says it; an anonymous one has no source."""

    source: str
    target: str
    is_read_only: bool
    options: tuple[str, ...]


class Words(NamedTuple):
    """A command line as its words, and what came after the first character that compose stops at."""

    words: tuple[str, ...]
    lost: str


def size_bytes(text: str) -> int:
    """Return ``512m``, ``1.5g`` or ``10G`` as bytes; units are powers of 1024, as for docker and pm2."""
    match = _SIZE.fullmatch(text.strip())
    if not match or len(text) > 40:
        raise ValueError(f"{text[:40]!r} is no size, such as 512m or 2g")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))


def duration_s(text: str) -> float:
    """Return ``1m30s`` or ``500ms`` as seconds."""
    text = text.strip()
    if text == "0":
        return 0.0
    position, total = 0, 0.0
    while match := _DURATION.match(text, position):
        total += float(match[1]) * _SECONDS[match[2]]
        position = match.end()
    if not text or position != len(text) or len(text) > 60:
        raise ValueError(f"{text[:40]!r} is no time with a unit, such as 30s or 1m30s")
    return round(total, 9)


def truth(text: str) -> bool:
    """Return what compose takes as true or false."""
    word = text.lower()
    if word in ("true", "y", "yes", "on"):
        return True
    if word in ("false", "n", "no", "off"):
        return False
    raise ValueError(f"{text[:40]!r} is neither true nor false")


def ports(text: str) -> tuple[PortRange, ...]:
    """Return what ``[[IP:]HOST:]CONTAINER[/PROTOCOL]`` publishes; each part may be a range."""
    match = _PORT.fullmatch(text)
    if not match or len(text) > 100:
        raise ValueError(f"{text[:60]!r} is no port, such as 80, 8080:80 or 127.0.0.1:8080:80/udp")
    protocol = (match["protocol"] or "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise ValueError(f"{protocol!r} is no protocol: {', '.join(_PROTOCOLS)}")
    ip = (match["ip"] or "").strip("[]")
    if ip:
        ipaddress.ip_address(ip)
    inside, outside = _range(match["container"]), _range(match["host"] or "")
    if not outside:
        return tuple(PortRange(port, 0, protocol, ip, 0) for port in inside)
    if len(inside) == 1 and len(outside) > 1:
        return (PortRange(inside[0], outside[0], protocol, ip, outside[-1]),)
    if len(inside) != len(outside):
        raise ValueError(f"{text[:60]!r} has ranges of different length")
    return tuple(PortRange(port, host, protocol, ip, 0) for port, host in zip(inside, outside, strict=True))


def _range(text: str) -> range:
    if not text:
        return range(0)
    first, _, last = text.partition("-")
    low, high = (int(part) if len(part) <= 5 else _LARGEST_PORT + 1 for part in (first, last or first))
    if not 0 <= low <= high <= _LARGEST_PORT:
        raise ValueError(
            f"{text[:40]!r} is no port from 0 to {_LARGEST_PORT}, or its end is before its start"
        )
    if high - low > _WIDEST:
        raise ValueError(f"{text!r} is a range of more than {_WIDEST} ports")
    return range(low, high + 1)


def mount(text: str) -> ShortMount:
    """Return what ``[SOURCE:]TARGET[:OPTIONS]`` mounts."""
    parts = text.split(":")
    if not text or "" in parts:
        raise ValueError(f"{text[:60]!r} has an empty part")
    if len(parts) > 3:
        raise ValueError(f"{text[:60]!r} has too many colons")
    options = tuple(parts[2].split(",")) if len(parts) == 3 else ()
    source, target = ("", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
    read_only = [option for option in options if option in ("ro", "rw")][-1:] == ["ro"]
    return ShortMount(source, target, read_only, tuple(o for o in options if o not in ("ro", "rw")))


def command_words(text: str) -> Words:
    """Return the words of a command line as compose splits it: no shell reads it.

    Compose stops, and says nothing, at the first ``;``, ``&``, ``|``, ``<`` or ``>`` outside quotes; what is
    lost by that is returned beside the words.
    """
    splitter = _Splitter()
    for position, character in enumerate(text):
        if not splitter.take(character):
            return Words(tuple(splitter.finished()), text[position:])
    return Words(tuple(splitter.finished()), "")


@dataclass(slots=True)
class _Splitter:
    """Splits as the library that compose uses does (mattn/go-shellwords, without variables or backticks)."""

    words: list[str] = field(default_factory=list)
    word: str | None = None
    quote: str = ""
    is_escaped: bool = False

    def take(self, character: str) -> bool:
        """Take one more character; False where compose would stop reading."""
        if self.is_escaped:
            self._add(character)
            self.is_escaped = False
        elif character == "\\" and self.quote != "'":
            self.is_escaped = True
        elif self.quote:
            self._quoted(character)
        elif character in " \t\r\n":
            self._end()
        else:
            return self._bare(character)
        return True

    def _quoted(self, character: str) -> None:
        if (self.quote == "`" and character in "'\"") or (self.quote == ")" and character == "("):
            raise ValueError("quotes and brackets cannot be nested in a command")
        if character != self.quote:
            self._add(character)
            return
        self._add(character if character in "`)" else "")
        self.quote = ""

    def _bare(self, character: str) -> bool:
        if character in "'\"":
            self.quote = character
        elif character == "`":
            self._add("`")
            self.quote = "`"
        elif character in "()":
            if character == ")" or not (self.word or "").endswith("$"):
                raise ValueError("a bracket outside quotes is no command")
            self._add("(")
            self.quote = ")"
        elif character in _SHELL_ONLY:
            if character == ">" and (self.word or "")[:1].isdigit():
                self.word = None
            return False
        else:
            self._add(character)
        return True

    def _add(self, text: str) -> None:
        self.word = (self.word or "") + text

    def _end(self) -> None:
        if self.word is not None:
            self.words.append(self.word)
            self.word = None

    def finished(self) -> list[str]:
        """Return the words; ValueError where a quote is open."""
        if self.is_escaped or self.quote:
            raise ValueError("a quote or a backslash has no end")
        self._end()
        return self.words


def quoted(words: tuple[str, ...]) -> str:
    """Return words as one line that a shell would read as the same words."""
    return shlex.join(words)
