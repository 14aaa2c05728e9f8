"""Turns one service of a merged compose model into values; what it cannot carry, it says by name and line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from standfast.kernel.errors import ConfigError
from standfast.services.stacks import forms
from standfast.services.stacks.dotenv import read_env
from standfast.services.stacks.fields import Fields, flag_of, mapping_of, text_of, texts_of
from standfast.services.stacks.links import dependencies_of, networks_of
from standfast.services.stacks.model import (
    Build,
    DeclaredService,
    EnvFile,
    Healthcheck,
    Port,
    RestartRule,
    UnsupportedKey,
)
from standfast.services.stacks.mounts import mounts_of
from standfast.services.stacks.nodes import MappingNode, Node, Place, Plain, ScalarNode, SequenceNode
from standfast.services.stacks.options import options_of
from standfast.services.stacks.problems import Problems
from standfast.services.stacks.resources import Limits, limits_of

#: Of what is left, these change nothing about what runs.
HARMLESS = ("attach", "develop", "pull_refresh_after")
#: And these do.
IMPOSSIBLE = (
    "credential_spec", "isolation", "models", "post_start", "pre_start", "pre_stop", "provider",
    "use_api_socket",
)  # fmt: skip

_POLICIES = ("no", "always", "on-failure", "unless-stopped")
#: An engine starts a proxy for each.
_MOST_PORTS = 20_000
_CHECKS = ("CMD", "CMD-SHELL", "NONE")
_BUILD_OPTIONS = (
    "additional_contexts", "dockerfile_inline", "entitlements", "extra_hosts", "isolation", "labels",
    "network", "platforms", "privileged", "provenance", "sbom", "secrets", "shm_size", "ssh", "tags",
    "ulimits",
)  # fmt: skip
_BUILD_HARMLESS = ("cache_from", "cache_to", "no_cache", "no_cache_filter", "pull")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a service is read in: the stack's folder, variables, and its top-level secrets and configs."""

    problems: Problems
    folder: Path
    variables: Mapping[str, str]
    secrets: Mapping[str, Node] = field(default_factory=dict)
    configs: Mapping[str, Node] = field(default_factory=dict)


def read_service(key: ScalarNode, node: Node, around: Surroundings) -> DeclaredService:
    """Return the service at ``key``; everything that is wrong with it goes into the problems."""
    name = key.text
    found = MappingNode(node.place, {}, {})
    with around.problems.gathered(node.place, subject=name):
        found = mapping_of(node)
    get = Fields(found, around.problems, subject=name, where=f"services.{name}.")
    limits = limits_of(get)
    env_files = _env_files(get, "env_file")
    mounts = mounts_of(get, around.secrets, around.configs)
    options = options_of(get)
    service = DeclaredService(
        name, key.file, key.line,
        image=get.text("image"), build=_build(get, around),
        command=_words(get, "command"), entrypoint=_words(get, "entrypoint"),
        env=_environment(get, env_files, around), env_files=env_files, ports=_ports(get),
        depends_on=dependencies_of(get, options), healthcheck=_healthcheck(get),
        restart=_restart(get, limits),
        mem_limit_bytes=limits.memory_bytes, cpus=limits.cpus, gpus=limits.gpus, replicas=limits.replicas,
        volumes=mounts, networks=networks_of(get), profiles=tuple(dict.fromkeys(get.texts("profiles"))),
        container_name=get.text("container_name"), labels=_labels(get, around), user=get.text("user"),
        working_dir=get.text("working_dir"), stop_signal=get.text("stop_signal"),
        stop_grace_s=get.duration("stop_grace_period"), options={**options, **limits.options},
        unsupported=(*limits.unsupported, *_rest(get)),
        places={text: written.place for text, written in found.keys.items()},
    )  # fmt: skip
    _judge(service, around.problems)
    return service


def _rest(get: Fields) -> tuple[UnsupportedKey, ...]:
    return get.finish(harmless=HARMLESS, refused_keys=IMPOSSIBLE)


def _judge(service: DeclaredService, problems: Problems) -> None:
    """Say what two keys of a service make impossible together."""
    if service.replicas > 1 and service.container_name:
        problems.fail(
            service.places.get("container_name", service.place), "ImpossibleCombination",
            f"{service.name} has {service.replicas} replicas, and one container_name for all",
            subject=service.name, fix="remove container_name, or run one replica",
        )  # fmt: skip
    if "network_mode" in service.options and "networks" in service.places:
        problems.fail(
            service.places["network_mode"], "ImpossibleCombination",
            f"{service.name} has network_mode and networks", subject=service.name, fix="keep one of the two",
        )  # fmt: skip


def _words(get: Fields, key: str) -> tuple[str, ...] | None:
    def convert(node: Node) -> tuple[str, ...]:
        if isinstance(node, SequenceNode):
            return texts_of(node)
        line = forms.command_words(text_of(node))
        if line.lost:
            get.problems.warn(
                node.place, "CommandCut",
                f"{get.where}{key} ends before {line.lost[:40]!r}: no shell reads it, compose drops it",
                subject=get.subject, fix=f'write {key}: ["sh", "-c", "..."]',
            )  # fmt: skip
        return line.words

    return get.read(key, convert)


def _build(get: Fields, around: Surroundings) -> Build | None:
    node = get.get("build")
    if isinstance(node, ScalarNode):
        return Build(get.text("build"), "Dockerfile", node.line)
    inner = get.inner("build")
    if not node or not inner:
        return None
    outside = around.variables
    args = {
        name: outside.get(name) if value is None else value for name, value in inner.table("args").items()
    }
    options: dict[str, Plain] = {
        key: value.plain() for key in _BUILD_OPTIONS if (value := inner.get(key)) is not None
    }
    dockerfile = inner.text("dockerfile") or ("" if "dockerfile_inline" in options else "Dockerfile")
    build = Build(
        inner.text("context") or str(around.folder), dockerfile, node.line, inner.text("target"),
        {name: value for name, value in args.items() if value is not None}, options,
    )  # fmt: skip
    inner.finish(harmless=_BUILD_HARMLESS)
    return build


def _env_files(get: Fields, key: str) -> tuple[EnvFile, ...]:
    def one(node: Node) -> EnvFile:
        if not isinstance(node, MappingNode):
            return EnvFile(text_of(node), node.line)
        inner = get.of(node, f"{get.where}{key}.")
        required, form = inner.flag("required"), inner.text("format")
        path = inner.text("path")
        inner.finish()
        return EnvFile(path, node.line, required is not False, form == "raw")

    def convert(node: Node) -> tuple[EnvFile, ...]:
        return tuple(one(inner) for inner in (node.nodes if isinstance(node, SequenceNode) else (node,)))

    files = {file.path: file for file in get.read(key, convert) or ()}
    return tuple(files.values())


def _environment(get: Fields, files: tuple[EnvFile, ...], around: Surroundings) -> dict[str, str]:
    """Return the variables that a service gets: those of its files, then its own over them."""
    found = _from_files(get, "env_file", files, around)
    for name, value in get.table("environment").items():
        taken = around.variables.get(name) if value is None else value
        if taken is not None:
            found[name] = taken
        elif name in found:
            del found[name]
    return found


def _from_files(get: Fields, key: str, files: tuple[EnvFile, ...], around: Surroundings) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files:
        try:
            found.update(read_env(Path(file.path), {**found, **around.variables}, is_raw=file.is_raw))
        except ConfigError as error:
            if error.code == "StackMissing" and not file.required:
                continue
            get.problems.fail(
                Place(get.place(key).file, file.line), error.code, f"{get.where}{key}: {error.what}",
                subject=get.subject, fix=error.fix,
            )  # fmt: skip
    return found


def _labels(get: Fields, around: Surroundings) -> dict[str, str]:
    found = _from_files(get, "label_file", _env_files(get, "label_file"), around)
    return found | {name: value or "" for name, value in get.table("labels").items()}


def _ports(get: Fields) -> tuple[Port, ...]:
    found: dict[tuple[object, ...], Port] = {}

    def keep(node: Node) -> None:
        if len(found) > _MOST_PORTS:
            return
        for port in _port(get, node):
            found[port.host_ip, port.host, port.container, port.protocol] = port
        if len(found) > _MOST_PORTS:
            raise ValueError(f"more than {_MOST_PORTS} ports are published")

    get.each("ports", keep)
    return tuple(found.values())


def _port(get: Fields, node: Node) -> tuple[Port, ...]:
    line = node.line
    if not isinstance(node, MappingNode):
        return tuple(
            Port(p.container, p.host, p.protocol, line, p.host_ip, p.host_last)
            for p in forms.ports(text_of(node))
        )
    inner = get.of(node, f"{get.where}ports.")
    target, published = inner.text("target"), inner.text("published")
    written = f"{published}:{target}" if published else target
    ip, protocol = inner.text("host_ip"), inner.text("protocol") or "tcp"
    inner.get("name")
    inner.finish(harmless=("app_protocol", "mode"))
    return tuple(
        Port(p.container, p.host, p.protocol, line, ip, p.host_last)
        for p in forms.ports(f"{written}/{protocol}")
    )


def _healthcheck(get: Fields) -> Healthcheck | None:
    inner = get.inner("healthcheck")
    if not inner or not inner.node.value:
        return None

    def test(node: Node) -> tuple[str, ...]:
        if not isinstance(node, SequenceNode):
            return ("CMD-SHELL", text_of(node))
        words = texts_of(node)
        if words and words[0] not in _CHECKS:
            raise ValueError(f"it must start with {', '.join(_CHECKS)}, not {words[0][:40]!r}")
        return words

    words = inner.read("test", test) or ()
    is_disabled = inner.read("disable", flag_of) or words[:1] == ("NONE",)
    check = Healthcheck(
        words, get.line("healthcheck"), inner.duration("interval"), inner.duration("timeout"),
        inner.count("retries"), inner.duration("start_period"), inner.duration("start_interval"), is_disabled,
    )  # fmt: skip
    inner.finish()
    return check


def _restart(get: Fields, limits: Limits) -> RestartRule | None:
    def convert(node: Node) -> RestartRule:
        policy, _, most = text_of(node).partition(":")
        if policy not in _POLICIES or (most and not (policy == "on-failure" and most.isdecimal())):
            raise ValueError(f"{text_of(node)[:40]!r} is none of {', '.join(_POLICIES)}")
        return RestartRule(policy, get.line("restart"), int(most[:9]) if most else None)

    return get.read("restart", convert) or limits.restart
