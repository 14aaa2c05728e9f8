"""Writes what others declared as a ``standfast.toml``: pm2's apps as services, compose files as a stack.

1. A compose file stays what it is: the result names it, it does not translate containers into processes.
2. What an app says and a service cannot is said: as a comment beside it, and in ``Converted.lost``.
3. An app that would not run as it did is written as a comment, with the reason, and never quietly changed.
4. A value that came from the environment and looks like a secret is not written into a file.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from standfast.kernel.verdict import Finding
from standfast.services.stacks import toml_text
from standfast.services.stacks.graph import order
from standfast.services.stacks.model import DeclaredService, ProcessRules, Stack
from standfast.services.stacks.nodes import Place
from standfast.services.stacks.problems import Problems

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_PLACEHOLDER = re.compile(r"\{\w+\}")
_SECRET = re.compile(r"TOKEN|SECRET|PASS|KEY|CREDENTIAL|AUTH|DSN|COOKIE|PRIVATE", re.IGNORECASE)
#: Leaves room for a number behind the name.
_STEM = 50
_LEAST_S = 0.05
_MOST_S = 86_400.0
_CAP_S = 30.0
_PM2_CAP_S = 15.0
_LONGEST = 4_096
#: More than any machine has: that is no limit.
_MOST_MEMORY = 2**50


class Converted(NamedTuple):
    """The text of a file, what is not in it, and which services are in it only as a comment."""

    text: str
    lost: tuple[Finding, ...]
    refused: tuple[str, ...]


def processes_toml(stack: Stack, *, folder: Path, made_by: str) -> Converted:
    """Return the apps of an ecosystem file as services of a ``standfast.toml`` in ``folder``."""
    problems = Problems(list(stack.findings))
    lines = [toml_text.comment(f"Made by: {made_by}"), ""]
    refused: list[str] = []
    names: set[str] = set()
    taken: dict[int, str] = {}
    for service in stack.services:
        plain = _one_port(_renamed(service, names, problems), taken, problems)
        reasons = [*_objections(service, stack), *_impossible(plain, problems)]
        for block in _instances(plain):
            text = _block(block, folder)
            if reasons:
                text = [*(toml_text.comment(f"not carried over: {why}") for why in reasons),
                        *(toml_text.comment(line) for line in text)]  # fmt: skip
            lines += [*text, ""]
        if reasons:
            refused.append(service.name)
    lost = tuple(finding for finding in problems.found if finding.reason not in _ABOUT_PM2)
    return Converted("\n".join(lines), lost, tuple(dict.fromkeys(refused)))


def stack_toml(stack: Stack, *, folder: Path, made_by: str) -> Converted:
    """Return a ``standfast.toml`` in ``folder`` that has the stack's files read as they are."""
    files = [_relative(path, folder) for path in stack.files]
    if len({path.parent for path in stack.files}) > 1:
        files = [":".join(files)]  # Files of several folders are several stacks unless they are joined.
    lines = [
        toml_text.comment(f"Made by: {made_by}"),
        "# The files are read as they are; what they start, in order:",
        *(toml_text.comment(line) for line in overview(stack, folder)),
        "",
        "[stack]",
        f"files = {toml_text.value(files)}",
    ]
    profiles = _profiles(stack)
    if profiles:
        lines.append(f"profiles = {toml_text.value(profiles)}")
    return Converted("\n".join([*lines, ""]), (*stack.findings, *_nothing_runs(stack)), ())


def _nothing_runs(stack: Stack) -> list[Finding]:
    problems = Problems()
    if stack.inactive and not stack.services:
        first = stack.inactive[0]
        problems.warn(
            Place(first.file, first.line), "NothingActive", "none runs: each has a profile, and none is on",
            fix=f"switch one on: --profile {first.profiles[0]}",
        )  # fmt: skip
    return problems.found


def overview(stack: Stack, folder: Path) -> Iterator[str]:
    """Yield a line for each service: the step it starts in, its name, what it runs, where it is declared."""
    services = {service.name: service for service in stack.services}
    for number, step in enumerate(order(stack), start=1):
        for name in step:
            service = services[name]
            place = f"{_relative(service.file, folder)}:{service.line}"
            yield f"{number}  {name}  {service.image or _built(service, folder)}  {place}"
    if stack.inactive:
        yield f"off (profiles): {', '.join(service.name for service in stack.inactive)}"


def _built(service: DeclaredService, folder: Path) -> str:
    context = service.build.context if service.build else ""
    return f"built from {_relative(Path(context), folder) if context.startswith('/') else context}"


#: Judgements about pm2 itself: true of the old file, and of no weight for the new one.
_ABOUT_PM2 = frozenset({"BreakerInert", "BreakerNarrow"})


def _objections(service: DeclaredService, stack: Stack) -> list[str]:
    return [finding.message for finding in stack.errors if finding.subject == service.name]


def _renamed(service: DeclaredService, names: set[str], problems: Problems) -> DeclaredService:
    """Return the service under a name that a standfast.toml takes, and that no other one has."""
    name = service.name
    if not _NAME.fullmatch(name) or (service.replicas > 1 and len(name) > _STEM):
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-._")[:_STEM] or "app"
        problems.warn(service.place, "Renamed", f"{service.name!r} is called {name} here",
                      subject=service.name)  # fmt: skip
    stem, number = name, 1
    while names.intersection(_names(name, service.replicas)):
        number += 1
        name = f"{stem}-{number}"
    names.update(_names(name, service.replicas))
    return replace(service, name=name)


def _one_port(service: DeclaredService, taken: dict[int, str], problems: Problems) -> DeclaredService:
    """Return the service without a port that another one has: it keeps PORT, and fails as it did."""
    for port in service.ports:
        owner = taken.setdefault(port.host, service.name)
        if owner != service.name:
            problems.warn(
                service.place, "PortTwice", f"{service.name} has port {port.host}, which {owner} has too",
                subject=service.name, fix="give each its own port",
            )  # fmt: skip
            return replace(service, ports=())
    return service


def _names(name: str, replicas: int) -> list[str]:
    return [name] if replicas == 1 else [f"{name}-{number}" for number in range(replicas)]


def _impossible(service: DeclaredService, problems: Problems) -> list[str]:
    """Return why a service cannot be written as it is; each is kept as a problem too."""
    words = service.command or ()
    found = []
    if any(not word or len(word) > _LONGEST for word in words):
        found.append("an argument is empty, or longer than 4096 characters")
    if any(_PLACEHOLDER.search(word) for word in words):
        found.append("an argument has a word in braces, which would be replaced")
    if not words:
        found.append("there is nothing to run")
    for why in found:
        problems.fail(service.place, "NotCarried", f"{service.name}: {why}", subject=service.name)
    return found


def _instances(service: DeclaredService) -> Iterator[DeclaredService]:
    """Yield a service for each instance that pm2 runs, numbered as it does."""
    if service.replicas == 1:
        yield service
        return
    for number, name in enumerate(_names(service.name, service.replicas)):
        env = {**service.env, "NODE_APP_INSTANCE": str(number)}
        yield replace(service, name=name, env=env, ports=())


def _block(service: DeclaredService, folder: Path) -> list[str]:
    rules = service.process or ProcessRules()
    memory = rules.max_memory_bytes or 0
    settings: dict[str, object] = {
        "name": service.name, "command": list(service.command or ()), "cwd": _cwd(service, folder),
        "port": service.ports[0].container if service.ports else 0, "restart": _restart(rules),
        "limits": {"memory_bytes": memory} if 0 < memory <= _MOST_MEMORY else {},
        "stop_signal": service.stop_signal, "stop_timeout_s": _stop(rules),
        "group": service.name.rpartition("-")[0] if service.replicas > 1 else "",
    }  # fmt: skip
    lines = [toml_text.comment(str(service.place)), *map(toml_text.comment, _remarks(rules)), "[[services]]"]
    lines += [
        f"{name} = {toml_text.value(value)}" for name, value in settings.items() if value not in ("", 0, {})
    ]
    env = list(_variables(service))
    return [*lines, "[services.env]", *env] if env else lines


def _cwd(service: DeclaredService, folder: Path) -> str:
    path = _relative(Path(service.working_dir), folder) if service.working_dir else ""
    return "" if path == "." else service.working_dir if path.startswith("..") else path


def _restart(rules: ProcessRules) -> dict[str, object]:
    found: dict[str, object] = {}
    if rules.autorestart is False:
        return {"policy": "never"}
    if 0 in rules.stop_exit_codes:
        found["policy"] = "on-failure"
    wait = rules.backoff_s or rules.restart_delay_s
    if wait:
        found["backoff_s"] = min(_MOST_S, max(_LEAST_S, wait))
        found["cap_s"] = min(_MOST_S, max(_PM2_CAP_S if rules.backoff_s else _CAP_S, wait))
    return found


def _stop(rules: ProcessRules) -> float:
    return min(_MOST_S, max(_LEAST_S, rules.kill_timeout_s)) if rules.kill_timeout_s else 0


def _remarks(rules: ProcessRules) -> Iterator[str]:
    """Yield what pm2 was told and a service has no setting for, as it stands in the file."""
    if rules.max_restarts is not None or rules.min_uptime_s is not None:
        said = f"max_restarts {_said(rules.max_restarts)}, min_uptime {_said(rules.min_uptime_s)} s"
        yield f"{said}: not needed, the third equal failure before it is ready holds it"
    others = [code for code in rules.stop_exit_codes if code]
    if others:
        yield f"stop_exit_codes {others}: such an end is followed by a restart here"
    if rules.cron_restart:
        yield f"cron_restart {rules.cron_restart}: not carried over"
    if rules.max_memory_bytes:
        yield "max_memory_restart: pm2 looked at it now and then; here it is a limit"
    if rules.out_file or rules.error_file:
        yield "out_file, error_file: its output is kept with the instance: standfast logs"


def _said(number: float | None) -> str:
    return "unset" if number is None else f"{number:g}"


def _variables(service: DeclaredService) -> Iterator[str]:
    for name, value in service.env.items():
        source = service.env_taken.get(name)
        if source and (_SECRET.search(name) or _SECRET.search(source)):
            yield toml_text.comment(f"{name}: not written, it came from {source} of the environment")
            continue
        if source:
            yield toml_text.comment(f"with {source} of the environment, as it was:")
        yield f"{toml_text.key(name)} = {toml_text.string(value)}"


def _profiles(stack: Stack) -> Sequence[str]:
    """Return the active profiles by name: ``*`` stands for all that there are."""
    if "*" not in stack.profiles:
        return stack.profiles
    everywhere = (profile for service in stack.services for profile in service.profiles)
    return sorted(set(everywhere))


def _relative(path: Path, folder: Path) -> str:
    return posixpath.normpath(os.path.relpath(path, folder))
