"""What cannot be true of the services of a configuration; pure rules, each with a change that cures it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from standfast.app.config_problem import KeyPath, Problem, clash, repeated
from standfast.app.config_services import LiveSettings, ReadySettings, ServiceSettings
from standfast.app.service_specs import spec_of
from standfast.services.decide.order import problems

if TYPE_CHECKING:
    from standfast.app.config import Config

#: What may stand in braces in a service's command.
PLACEHOLDERS = ("python", "port", "blueprint")


def impossible_services(config: Config) -> Iterator[Problem]:
    """Yield everything that cannot work among the services."""
    yield from repeated(("services",), "name", [s.name for s in config.services])
    found: list[Problem] = []
    for index, service in enumerate(config.services):
        found += _service(index, service)
    yield from found
    yield from _ports(config)
    if not found:
        yield from _dependencies(config)


def _service(index: int, service: ServiceSettings) -> Iterator[Problem]:
    path: KeyPath = ("services", index)
    label = f"service {service.name!r}"
    if not service.command:
        yield Problem("WrongValue", (*path, "command"), f"{label}: command is empty", "name a program")
    used = set(re.findall(r"\{(\w+)\}", " ".join(service.command)))
    for unknown in sorted(used - set(PLACEHOLDERS)):
        near = difflib.get_close_matches(unknown, PLACEHOLDERS, n=1, cutoff=0.0)[0]
        yield Problem(
            "UnknownPlaceholder",
            (*path, "command"),
            f"{label}: {{{unknown}}} stands for nothing in a command",
            f"did you mean {{{near}}}? known: {', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}",
        )
    yield from _one_probe((*path, "ready"), label, service.ready)
    yield from _one_probe((*path, "live"), label, service.live)
    asks_port = service.ready.http.startswith("/") or service.live.http.startswith("/")
    if ("port" in used or asks_port) and not service.port:
        yield clash(
            (*path, "port"),
            f"{label}: port is 0, but command, ready.http or live.http uses the port",
            "set port to the one it listens on",
        )
    if service.restart.cap_s < service.restart.backoff_s:
        yield clash(
            (*path, "restart"),
            f"{label}: restart.cap_s = {service.restart.cap_s:g} is below "
            f"restart.backoff_s = {service.restart.backoff_s:g}",
            "set restart.cap_s to at least restart.backoff_s",
        )


def _one_probe(path: KeyPath, label: str, probe: ReadySettings | LiveSettings) -> Iterator[Problem]:
    kinds = [
        kind for kind in ("http", "tcp", "command", "log", "file", "notify") if getattr(probe, kind, None)
    ]
    if len(kinds) > 1:
        yield clash(path, f"{label}: {path[-1]} names {' and '.join(kinds)}", "keep one of them")
    if "tcp" in kinds and not re.fullmatch(r".*:[0-9]{1,5}", probe.tcp):
        yield Problem("WrongValue", (*path, "tcp"), f"{label}: tcp is no HOST:PORT", "write 127.0.0.1:8080")
    if "http" in kinds and not re.match(r"/|https?://", probe.http):
        yield Problem(
            "WrongValue", (*path, "http"), f"{label}: http is no address", "write /health or http://..."
        )
    for kind in ("log", "body"):
        try:
            re.compile(getattr(probe, kind, ""))
        except re.error as error:
            what = f"{label}: {path[-1]}.{kind} is no regular expression: {error}"
            yield Problem("WrongValue", (*path, kind), what, "correct it; a plain text matches itself")


def _ports(config: Config) -> Iterator[Problem]:
    taken: dict[int, str] = {config.api.port: "api.port"} if config.api.port and not config.is_stack else {}
    for index, service in enumerate(config.services):
        if service.port in taken:
            yield Problem(
                "Duplicate",
                ("services", index, "port"),
                f"service {service.name!r}: port = {service.port} is also that of {taken[service.port]}",
                "give each its own port",
            )
        elif service.port:
            taken[service.port] = f"service {service.name!r}"


def _dependencies(config: Config) -> Iterator[Problem]:
    if config.stack.files:
        return  # What they declare is known only once they were read; it is judged as a whole then.
    names = [service.name for service in config.services]
    for one in problems([spec_of(service, Path()) for service in config.services]):
        if one.code != "NameTwice":
            yield Problem(one.code, ("services", names.index(one.service), "depends_on"), one.what, one.fix)
