"""Turns stacks declared in compose files and pm2 ecosystem files into what a supervisor runs.

1. Compose files of one folder are one stack, the later ones over the earlier ones, as ``docker compose -f``
   has it; those of different folders are stacks of their own, unless they are named together. A folder
   stands for the files that compose would take there.
2. Conditions become what the supervisor knows: service_started -> started, service_healthy -> ready,
   service_completed_successfully -> completed, and what is waited for so is a task.
3. Restart policies: ``no`` -> never, ``on-failure`` -> on-failure, ``always`` and ``unless-stopped`` ->
   always; pm2's ``autorestart: false`` -> never, anything else there -> always. How often and how soon is
   the supervisor's matter, except where a delay is declared.
4. What cannot be acted on is an error with its file and line, or a remark where nothing else runs for it.
"""

from __future__ import annotations

import importlib.util
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from standfast.kernel.errors import ConfigError
from standfast.kernel.verdict import Finding, Verdict
from standfast.services.adapters.container_looks import signal_of
from standfast.services.adapters.container_spec import MOUNT_OPTIONS, SUPPORTED
from standfast.services.model import (
    Condition,
    Dependency,
    Limits,
    Readiness,
    RestartPolicy,
    RestartWhen,
    ServiceSpec,
)
from standfast.services.stacks.compose import default_files, read_compose
from standfast.services.stacks.documents import read_yaml
from standfast.services.stacks.model import (
    Build,
    DeclaredService,
    Healthcheck,
    ProcessRules,
    RestartRule,
    Stack,
)
from standfast.services.stacks.nodes import Place, Plain
from standfast.services.stacks.pm2 import read_pm2
from standfast.services.stacks.problems import Problems

_SCRIPTS = (".js", ".cjs", ".mjs")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
#: What compose and pm2 give a service between the signal and SIGKILL.
_COMPOSE_GRACE_S, _PM2_GRACE_S = 10.0, 1.6
#: The engine's own defaults of a health check.
_CHECK_INTERVAL_S, _CHECK_RETRIES = 30.0, 3
#: How often the engine's word on a container's health is looked at; its events come at once anyway.
_HEALTH_LOOK_S = 10.0
_PM2_BACKOFF_CAP_S, _CAP_S, _LEAST_S = 15.0, 30.0, 0.05
NOTHING_ACTIVE = "NothingActive"
#: Findings about what pm2 itself would do; here the supervisor decides.
_OF_PM2 = frozenset({"BreakerInert", "BreakerNarrow"})
_POLICIES = {
    "no": RestartWhen.NEVER, "on-failure": RestartWhen.ON_FAILURE, "always": RestartWhen.ALWAYS,
    "unless-stopped": RestartWhen.ALWAYS,
}  # fmt: skip
#: What the engine's API builds with; anything else needs its command line.
_BUILDS = frozenset({"labels", "network", "shm_size"})


class Declared(NamedTuple):
    """Services that files declare, and what is to be said about the files: nothing in it is an error."""

    specs: tuple[ServiceSpec, ...] = ()
    remarks: tuple[Finding, ...] = ()


#: One file or folder, or compose files that are one stack wherever they lie.
Named = Path | tuple[Path, ...]


def declared_in(
    named: Sequence[Named], *, profiles: Sequence[str] = (), environment: Mapping[str, str]
) -> Declared:
    """Return what files declare; ConfigError with everything that is wrong.

    ``environment`` is where variables of the files come from, ``profiles`` are compose's.
    """
    specs: list[ServiceSpec] = []
    remarks: list[Finding] = []
    for stack in _stacks(named, profiles, environment):
        made, said = specs_of_stack(stack)
        specs += made
        remarks += [one for one in (*stack.findings, *said) if one.reason not in _OF_PM2]
    if any(spec.driver == "container" for spec in specs) and importlib.util.find_spec("docker") is None:
        raise ConfigError(
            "these files declare containers, and the library that speaks to container engines is missing",
            fix="pip install 'standfast[containers]'",
            code="LibraryMissing",
        )
    return Declared(tuple(specs), tuple(one for one in remarks if one.verdict is not Verdict.PASS))


def specs_of_files(
    paths: Sequence[Path], profiles: Sequence[str], environment: Mapping[str, str]
) -> tuple[ServiceSpec, ...]:
    """Return the services that ``paths`` declare; ConfigError with everything that is wrong."""
    return declared_in(paths, profiles=profiles, environment=environment).specs


def _stacks(
    named: Sequence[Named], profiles: Sequence[str], environment: Mapping[str, str]
) -> Iterator[Stack]:
    composes: dict[Path, list[Path]] = {}
    apps: list[Path] = []
    for together in (one for one in named if isinstance(one, tuple)):
        files = [file for path in together for file in _files(path, environment)]
        yield read_compose(files, environment=environment, profiles=profiles).usable()
    alone = (one for one in named if isinstance(one, Path))
    for path in (file for one in alone for file in _files(one, environment)):
        if _is_pm2(path):
            apps.append(path)
        else:
            composes.setdefault(path.parent, []).append(path)
    for group in composes.values():
        yield read_compose(group, environment=environment, profiles=profiles).usable()
    for path in apps:
        # Whoever names the file wants what it computes, as with pm2 itself.
        yield read_pm2(path, environment=environment, may_run=True).usable()


def _files(path: Path, environment: Mapping[str, str]) -> tuple[Path, ...]:
    if path.is_dir():
        return default_files(path, environment)
    if not path.exists():
        raise ConfigError(f"there is no {path}", fix="correct `stack.files`", code="StackMissing")
    return (path,)


def _is_pm2(path: Path) -> bool:
    if path.suffix in _SCRIPTS:
        return True
    roots = read_yaml(path).roots
    return any(root.get("services") is None and root.get("apps") is not None for root in roots)


def specs_of_stack(stack: Stack) -> tuple[tuple[ServiceSpec, ...], tuple[Finding, ...]]:
    """Return the services of a usable stack, and remarks; ConfigError where one cannot be run."""
    problems = Problems()
    names = {service.name: _instances(service) for service in stack.services}
    waited = {(d.name, str(d.condition)) for s in stack.services for d in s.depends_on}
    made: list[ServiceSpec] = []
    for service in stack.services:
        _judge(service, problems)
        spec = _process(service) if service.driver == "process" else _container(service, stack)
        spec = replace(
            spec,
            name=service.name,
            group=stack.name[:63],
            file=str(service.file),
            line=service.line,
            depends_on=_dependencies(service, names),
            kind="task" if (service.name, Condition.COMPLETED) in waited else "daemon",
            ready=_ready(service, is_waited=(service.name, Condition.READY) in waited),
        )
        made += _numbered(spec, names[service.name])
    if stack.inactive and not stack.services:
        first = stack.inactive[0]
        problems.warn(
            first.place, NOTHING_ACTIVE, "none of its services runs: each has a profile, and none is on",
            fix=f"switch one on: --profile {first.profiles[0]}",
        )  # fmt: skip
    replace(stack, findings=tuple(problems.found)).usable()
    return tuple(made), tuple(problems.found)


def _instances(service: DeclaredService) -> tuple[str, ...]:
    if service.replicas == 1:
        return (service.name,)
    return tuple(f"{service.name}-{number}" for number in range(1, service.replicas + 1))


def _numbered(spec: ServiceSpec, names: Sequence[str]) -> Iterator[ServiceSpec]:
    for number, name in enumerate(names, start=1):
        if spec.driver == "container":
            yield replace(spec, name=name, options={**spec.options, "number": number})
        elif len(names) > 1:
            # As pm2 numbers them.
            yield replace(spec, name=name, env={**spec.env, "NODE_APP_INSTANCE": str(number - 1)})
        else:
            yield spec


def _dependencies(service: DeclaredService, names: Mapping[str, Sequence[str]]) -> tuple[Dependency, ...]:
    return tuple(
        Dependency(name, Condition(str(one.condition)), one.restarts)
        for one in service.depends_on
        for name in names.get(one.name, ())
    )


def _ready(service: DeclaredService, *, is_waited: bool) -> Readiness:
    """Return what shows that it is ready: its health check, its own or the one that its image must have."""
    check = service.healthcheck
    if service.driver == "process" or (check is not None and check.is_disabled):
        return Readiness()
    if check is None:
        return Readiness(health=True, interval_s=_HEALTH_LOOK_S) if is_waited else Readiness()
    retries = _CHECK_RETRIES if check.retries is None else check.retries
    grace_s = 0.0
    if check.start_period_s is not None:
        interval_s = _CHECK_INTERVAL_S if check.interval_s is None else check.interval_s
        grace_s = check.start_period_s + retries * interval_s
    return Readiness(health=True, interval_s=_HEALTH_LOOK_S, start_s=grace_s)


def _process(service: DeclaredService) -> ServiceSpec:
    rules = service.process or ProcessRules()
    port = next((port.host for port in service.ports if port.host), 0)
    return ServiceSpec(
        service.name,
        (*(service.entrypoint or ()), *(service.command or ())),
        cwd=Path(service.working_dir) if service.working_dir else service.file.parent,
        env=dict(service.env),
        port=port,
        restart=_kept(rules),
        limits=Limits(service.mem_limit_bytes or 0, service.cpus or 0.0),
        stop_signal=signal_of(service.stop_signal) if service.stop_signal else int(signal.SIGTERM),
        stop_timeout_s=_PM2_GRACE_S if service.stop_grace_s is None else service.stop_grace_s,
    )


def _kept(rules: ProcessRules) -> RestartPolicy:
    """Return pm2's rules of keeping an app; what it counts as unstable is left to our own breaker."""
    when = RestartWhen.ALWAYS if rules.autorestart is not False else RestartWhen.NEVER
    if when is RestartWhen.ALWAYS and 0 in rules.stop_exit_codes:
        when = RestartWhen.ON_FAILURE
    if rules.backoff_s:
        first_s = max(rules.backoff_s, _LEAST_S)
        return RestartPolicy(when, backoff_s=first_s, cap_s=max(_PM2_BACKOFF_CAP_S, first_s))
    if rules.restart_delay_s:
        first_s = max(rules.restart_delay_s, _LEAST_S)
        return RestartPolicy(when, backoff_s=first_s, cap_s=max(_CAP_S, first_s))
    return RestartPolicy(when)


def _restarted(rule: RestartRule | None) -> RestartPolicy:
    if rule is None:
        return RestartPolicy(RestartWhen.NEVER)
    policy = RestartPolicy(_POLICIES[rule.policy])
    if rule.most:
        policy = replace(policy, budget=rule.most)
    if rule.delay_s:
        policy = replace(policy, backoff_s=max(rule.delay_s, _LEAST_S), cap_s=max(_CAP_S, rule.delay_s))
    return policy


def _container(service: DeclaredService, stack: Stack) -> ServiceSpec:
    port = next((port.host for port in service.ports if port.host and port.protocol == "tcp"), 0)
    return ServiceSpec(
        service.name,
        (*(service.entrypoint or ()), *(service.command or ())),
        env=dict(service.env),
        port=port,
        restart=_restarted(service.restart),
        limits=Limits(service.mem_limit_bytes or 0, service.cpus or 0.0),
        stop_signal=signal_of(service.stop_signal) if service.stop_signal else int(signal.SIGTERM),
        stop_timeout_s=_COMPOSE_GRACE_S if service.stop_grace_s is None else service.stop_grace_s,
        driver="container",
        options=_options(service, stack),
    )


def _options(service: DeclaredService, stack: Stack) -> dict[str, Any]:
    """Return what ``services.adapters.container_spec`` makes a container of, as plain JSON values."""
    volumes = {
        mount.source: stack.volumes[mount.source]
        for mount in service.volumes
        if mount.kind == "volume" and mount.source
    }
    return {
        "project": stack.name,
        "service": service.name,
        "number": 1,
        "container_name": service.container_name,
        "files": [str(path) for path in stack.files],
        "folder": str(stack.folder),
        "image": service.image or f"{stack.name}-{service.name}",
        "build": _build(service.build),
        "command": _words(service.command),
        "entrypoint": _words(service.entrypoint),
        "ports": [_without_line(port) for port in service.ports],
        "mounts": [
            {
                "kind": mount.kind, "source": mount.source, "target": mount.target,
                "read_only": mount.is_read_only, "options": dict(mount.options),
            }
            for mount in service.volumes
        ],
        "volumes": {
            key: {"name": one.name, "is_external": one.is_external, "driver": one.driver,
                  "options": dict(one.options)}
            for key, one in volumes.items()
        },
        "networks": [_network(use.name, use.aliases, use.options, stack) for use in service.networks],
        "labels": dict(service.labels),
        "user": service.user,
        "working_dir": service.working_dir,
        "healthcheck": _healthcheck(service.healthcheck),
        "gpus": [{**_without_line(one), "device_ids": list(one.device_ids),
                  "capabilities": list(one.capabilities)} for one in service.gpus],
        "stop_signal": service.stop_signal,
        "engine": dict(service.options),
    }  # fmt: skip


def _words(words: Sequence[str] | None) -> list[str] | None:
    return None if words is None else list(words)


def _without_line(value: NamedTuple) -> dict[str, Any]:
    return {key: one for key, one in value._asdict().items() if key != "line"}


def _healthcheck(check: Healthcheck | None) -> dict[str, Any] | None:
    return None if check is None else {**_without_line(check), "test": list(check.test)}


def _build(build: Build | None) -> dict[str, Any] | None:
    if build is None:
        return None
    options = {key: value for key, value in build.options.items() if key in _BUILDS}
    unsupported = sorted(build.options.keys() - _BUILDS)
    return {**_without_line(build), "args": dict(build.args), "options": options, "unsupported": unsupported}


def _network(key: str, aliases: Sequence[str], options: Mapping[str, Plain], stack: Stack) -> dict[str, Any]:
    resource = stack.networks.get(key)
    return {
        "key": key,
        "name": resource.name if resource else f"{stack.name}_{key}",
        "is_external": resource.is_external if resource else False,
        "driver": resource.driver if resource else "",
        "definition": dict(resource.options) if resource else {},
        "aliases": list(aliases),
        "options": dict(options),
    }


def _judge(service: DeclaredService, problems: Problems) -> None:
    """Keep what a service declares and nobody here acts on."""
    if not _NAME.fullmatch(service.name):
        problems.fail(
            service.place, "BadName", f"{service.name[:60]!r} cannot be the name of a service here",
            subject=service.name,
            fix="use at most 63 letters, digits, dots, dashes and underscores; begin with a letter or digit",
        )  # fmt: skip
    if service.driver == "process":
        _judge_process(service, problems)
        return
    for key in sorted(service.options.keys() - SUPPORTED):
        _refuse(service, key, f"{key} of {service.name} is not acted on", problems)
    for mount in service.volumes:
        known = MOUNT_OPTIONS.get(mount.kind)
        unknown = sorted(mount.options.keys() - known) if known is not None else [f"type {mount.kind}"]
        for option in unknown:
            what = f"a mount of {service.name} at {mount.target} has {option}, which is not acted on"
            _refuse(service, "volumes", what, problems, line=mount.line)
    fixed = [port.host for port in service.ports if port.host and not port.host_last]
    if service.replicas > 1 and fixed:
        what = f"{service.replicas} replicas of {service.name} cannot all have port {fixed[0]}"
        _refuse(service, "ports", what, problems, fix="give a range of ports, or no port of the host")
    _remark(service, problems)


def _refuse(
    service: DeclaredService,
    key: str,
    what: str,
    problems: Problems,
    *,
    line: int = 0,
    fix: str = "",
) -> None:
    place = service.places.get(key, service.place)
    problems.fail(
        Place(place.file, line) if line else place, "KeyNotSupported", what, subject=service.name,
        fix=fix or f"do without {key}, or run {service.name} with docker compose",
    )  # fmt: skip


def _judge_process(service: DeclaredService, problems: Problems) -> None:
    rules = service.process or ProcessRules()
    place = service.places.get("stop_exit_codes", service.place)
    codes = ", ".join(str(code) for code in rules.stop_exit_codes if code)
    if codes:
        problems.warn(
            place, "KeyNotCarried",
            f"stop_exit_codes {codes} of {service.name}: it is restarted after those too, by the rules",
            subject=service.name, fix="end with 78 (EX_CONFIG) where a restart cannot help",
        )  # fmt: skip
    for key, path in (("out_file", rules.out_file), ("error_file", rules.error_file)):
        if path:
            problems.note(
                service.places.get(key, service.place), "LogElsewhere",
                f"{key} of {service.name} is not written: its output is in the data directory's logs",
                subject=service.name,
            )  # fmt: skip


def _remark(service: DeclaredService, problems: Problems) -> None:
    if "pull_policy" in service.options:
        problems.note(
            service.places.get("pull_policy", service.place), "NothingPulled",
            f"pull_policy of {service.name} has no effect: no image is pulled by itself",
            subject=service.name,
        )  # fmt: skip
    if service.build is not None and (unknown := sorted(service.build.options.keys() - _BUILDS)):
        place = Place(service.places.get("build", service.place).file, service.build.line)
        problems.warn(
            place, "BuildNotSupported",
            f"build of {service.name} has {', '.join(unknown)}, which needs the engine's command line",
            subject=service.name, fix=f"build it first: docker compose build {service.name}",
        )  # fmt: skip
