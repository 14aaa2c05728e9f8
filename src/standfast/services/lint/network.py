"""Which ports a service listens on, by everything that says so, and which addresses it is told to call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from standfast.services.lint.model import Spot
from standfast.services.lint.tree import LintService, Tree

_PORT_OPTION = re.compile(
    r"(?:--[a-z.-]*port(?:=|\s+)|\s-p\s+|[\s=](?:0\.0\.0\.0|\[::\]|127\.0\.0\.1|\*)?:)(\d{2,5})(?![\d.])"
)
_HEALTH_PORT = re.compile(r"(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\])[:\s](\d{2,5})")
_URL = re.compile(
    r"\b([a-z][a-z0-9+.-]*)://(?:[^\s/@,'\"]*@)?([A-Za-z0-9_.-]+)(?::(\d{1,5}))?(?=[/?#,\s\"']|$)"
)
_HOST_PORT = re.compile(r"(?<![\w./@-])([A-Za-z][A-Za-z0-9_.-]*):(\d{2,5})(?![\w.:-])")
_HOST_KEY = re.compile(r"(.*?)_?(?:HOST|HOSTNAME|SERVER|ADDR|ADDRESS)$")
#: What a client uses where its URL names no port.
_DEFAULT_PORTS = {
    "http": 80, "https": 443, "redis": 6379, "postgres": 5432, "postgresql": 5432, "mysql": 3306,
    "amqp": 5672, "mongodb": 27017, "nats": 4222,
}  # fmt: skip
#: Values that are told to others, not called: kafka's listeners, addresses for a browser.
_NOT_CALLED = re.compile(
    r"ADVERTISED|LISTENER|CORS|ORIGIN|ALLOWED|PUBLIC|EXTERNAL|ROOT_URL|REDIRECT|CALLBACK|ISSUER"
)
_ANYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - a value to recognise, nothing is bound
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"}) | _ANYWHERE


#: Sources in which a number behind "port" or a colon is a port; in other texts it is anything.
_SPEAKING = frozenset({".py", ".js", ".ts", ".mjs", ".cjs", ".go", ".rs", ".java", ".kt", ".rb", ".sh"})


class Call(NamedTuple):
    """An address that a service is told to call, and where it is told."""

    key: str
    host: str
    port: int
    text: str
    spot: Spot


@dataclass(frozen=True, slots=True)
class Listening:
    """The ports of a service with what says so. ``is_complete`` tells whether another port is excluded.

    It is complete for images whose ports are known, and for built ones whose Dockerfile or sources were read.
    ``is_opaque`` says that the image comes from elsewhere and nothing is known of it.
    """

    ports: dict[int, str]
    is_complete: bool
    is_opaque: bool

    def text(self) -> str:
        """Return the ports for a message."""
        listed = ", ".join(f"{port} ({why})" for port, why in sorted(self.ports.items()))
        return f"it listens on {listed}" if listed else "nothing says that it listens at all"


def listening(service: LintService, tree: Tree) -> Listening:
    """Return the ports that ``service`` listens on."""
    sources = frozenset(_source_ports(service, tree))
    ports: dict[int, str] = {}
    for port, why in (*_declared_ports(service), *_image_ports(service)):
        ports.setdefault(port, why)
    for port in sources:
        ports.setdefault(port, "its sources")
    built = service.built
    is_known = service.known is not None and bool(service.known.ports)
    is_complete = is_known or (built is not None and (bool(built.ports) or bool(sources)))
    return Listening(ports, is_complete, service.ref is not None and service.known is None)


def _declared_ports(service: LintService) -> Iterator[tuple[int, str]]:
    """Yield what the stack itself says."""
    declared = service.declared
    yield from ((published.container, f"ports, line {published.line}") for published in declared.ports)
    yield from ((port, "expose") for port in _exposed(declared.options.get("expose")))
    words = (*(declared.command or ()), *(declared.entrypoint or ()))
    yield from ((port, "its command") for port in _ports_in(" ".join(words)))
    yield from ((port, "its environment") for port in _ports_of_environment(service))
    check = declared.healthcheck
    text = " ".join(check.test) if check is not None else ""
    yield from ((int(port), "its health check") for port in _HEALTH_PORT.findall(text))


def _image_ports(service: LintService) -> Iterator[tuple[int, str]]:
    """Yield what its image says; a broker that is told its listeners does not keep the usual ones."""
    is_told = any("LISTENERS" in key for key in service.declared.env)
    if service.known is not None and not is_told:
        yield from ((port, "its image") for port in service.known.ports)
    built = service.built
    if built is not None:
        yield from ((port, f"{built.dockerfile.path.name}:{line}") for port, line in built.ports.items())
        yield from ((port, "its command") for port in _ports_in(" ".join(built.starts)))
        base = built.known_base
        yield from ((port, "its base image") for port in (base.ports if base is not None else ()))


def _exposed(value: object) -> Iterator[int]:
    for entry in value if isinstance(value, list) else ():
        first = re.match(r"(\d+)(?:-(\d+))?", str(entry))
        if first:
            yield from range(int(first[1]), min(int(first[2] or first[1]), int(first[1]) + 1_000) + 1)


def _ports_in(text: str) -> Iterator[int]:
    return (int(match[1]) for match in _PORT_OPTION.finditer(f" {text}"))


def _ports_of_environment(service: LintService) -> Iterator[int]:
    """Yield ports that it is told to listen on: PORT, ZOOKEEPER_CLIENT_PORT, KAFKA_LISTENERS.

    REDIS_PORT beside REDIS_HOST is the port of somebody else.
    """
    env = service.declared.env
    built = service.built
    own = {**{k: s.value for k, s in (built.env.items() if built else ())}, **env}
    for key, value in own.items():
        if key.endswith("PORT") and value.isdigit():
            stem = key.removesuffix("PORT")
            others = (f"{stem}HOST", f"{stem}HOSTNAME", f"{stem}SERVER", f"{stem}ADDR")
            if not any(other in own and own[other] not in _ANYWHERE for other in others):
                yield int(value)
        elif "LISTENERS" in key or key.endswith(
            ("BIND", "LISTEN", "BIND_ADDRESS", "LISTEN_ADDRESS", "_ADDR")
        ):
            yield from (int(port) for port in re.findall(r":(\d{2,5})\b", value))


def _source_ports(service: LintService, tree: Tree) -> frozenset[int]:
    if service.use is None or service.use.stands_in:
        return frozenset()
    found = [s.ports for s in tree.sources_of[service.use.context] if s.path.suffix in _SPEAKING]
    return frozenset().union(*found)


def calls(service: LintService) -> Iterator[Call]:
    """Yield every address that the environment or the command of a service names."""
    declared = service.declared
    for key, value in declared.env.items():
        if not _NOT_CALLED.search(key.upper()):
            yield from _calls(key, value, service.at("environment", key))
    yield from _pairs(service)
    for name in ("command", "entrypoint"):
        words = getattr(declared, name)
        if words:
            text = " ".join(words)
            for call in _calls(name, text, service.at(name)):
                yield call._replace(spot=_line_with(service, name, call.text))
    built = service.built
    for key, setting in built.env.items() if built else ():
        if built is not None and key not in declared.env and not _NOT_CALLED.search(key.upper()):
            yield from _calls(key, setting.value, Spot(built.dockerfile.path, setting.line))


def _calls(key: str, value: str, spot: Spot) -> Iterator[Call]:
    taken: set[tuple[int, int]] = set()
    for match in _URL.finditer(value):
        port = int(match[3]) if match[3] else _DEFAULT_PORTS.get(match[1].split("+", maxsplit=1)[0], 0)
        taken.add(match.span())
        if port and match[2] not in _LOCAL:
            yield Call(key, match[2], port, match[0], spot)
    for match in _HOST_PORT.finditer(value):
        inside = any(start <= match.start() < end for start, end in taken)
        if not inside and match[1] not in _LOCAL and "://" not in value[: match.start()].rpartition(",")[2]:
            yield Call(key, match[1], int(match[2]), match[0], spot)


def _pairs(service: LintService) -> Iterator[Call]:
    """Yield REDIS_HOST with REDIS_PORT."""
    env = service.declared.env
    for key, host in env.items():
        match = _HOST_KEY.fullmatch(key)
        port = env.get(f"{match[1]}_PORT" if match[1] else "PORT", "") if match else ""
        if (
            match
            and match[1]
            and port.isdigit()
            and re.fullmatch(r"[A-Za-z][\w.-]*", host)
            and host not in _LOCAL
        ):
            name = f"{match[1]}_PORT"
            yield Call(name, host, int(port), f"{host}:{port}", service.at("environment", name))


def _line_with(service: LintService, key: str, text: str) -> Spot:
    """Return the line of a command, which may reach over several, that ``text`` stands at."""
    spot = service.at(key)
    lines = service.owner.lines.get(spot.file, ())
    for number in range(spot.line, min(spot.line + 60, len(lines)) + 1):
        if text in lines[number - 1]:
            return Spot(spot.file, number)
    return spot
