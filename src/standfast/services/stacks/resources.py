"""How much a compose service may use and how often it runs: limits, devices, replicas, restarts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, TypeVar

from standfast.services.stacks.fields import Fields, mapping_of, number_of, text_of, whole_of
from standfast.services.stacks.model import GpuRequest, RestartRule, UnsupportedKey
from standfast.services.stacks.nodes import Node, Plain, ScalarNode

#: Each is a process or a container of its own: a number above this is a slip of the hand.
MOST_REPLICAS = 1_000

_N = TypeVar("_N", int, float)

_POLICIES = {
    "none": "no", "no": "no", "on-failure": "on-failure", "any": "always", "always": "always",
    "unless-stopped": "unless-stopped",
}  # fmt: skip
_HARMLESS = ("endpoint_mode", "labels", "placement", "rollback_config", "update_config")


class Limits(NamedTuple):
    """What a service may use; None is no limit."""

    memory_bytes: int | None
    cpus: float | None
    gpus: tuple[GpuRequest, ...]
    replicas: int
    restart: RestartRule | None
    options: Mapping[str, Plain]
    unsupported: tuple[UnsupportedKey, ...]


def limits_of(get: Fields) -> Limits:
    """Return the limits from the service's own keys and from ``deploy``; the two must not differ."""
    memory, cpus, scale = (
        get.size("mem_limit") or None,
        get.read("cpus", _share) or None,
        get.count("scale", most=MOST_REPLICAS),
    )
    gpus = get.read("gpus", lambda node: _gpus(get, node)) or ()
    deploy = get.inner("deploy")
    if not deploy:
        return Limits(memory, cpus, gpus, 1 if scale is None else scale, None, {}, ())
    options: dict[str, Plain] = {}
    unsupported: list[UnsupportedKey] = []
    if resources := deploy.inner("resources"):
        if limits := resources.inner("limits"):
            memory = _same(get, "mem_limit", memory, limits.size("memory") or None)
            cpus = _same(get, "cpus", cpus, limits.read("cpus", _share) or None)
            if (pids := limits.whole("pids")) is not None:
                options["pids_limit"] = pids
            unsupported += limits.finish()
        if reserved := resources.inner("reservations"):
            gpus = (*gpus, *reserved.each("devices", partial(_gpu, reserved)))
            if (reservation := reserved.size("memory")) is not None:
                options["mem_reservation"] = reservation
            unsupported += reserved.finish(harmless=("cpus", "generic_resources"))
        unsupported += resources.finish()
    replicas = _same(get, "scale", scale, deploy.count("replicas", most=MOST_REPLICAS))
    restart = _restart(deploy)
    _mode(deploy)
    unsupported += deploy.finish(harmless=_HARMLESS)
    return Limits(
        memory, cpus, gpus, 1 if replicas is None else replicas, restart, options, tuple(unsupported)
    )


def _share(node: Node) -> float:
    value = number_of(node)
    if value < 0:
        raise ValueError(f"{value:g} is less than nothing")
    return value


def _same(get: Fields, key: str, own: _N | None, deployed: _N | None) -> _N | None:
    if own is not None and deployed is not None and own != deployed:
        get.problems.fail(
            get.place(key), "ImpossibleCombination",
            f"{get.where}{key} is {own:g}, and deploy says {deployed:g}",
            subject=get.subject, fix="keep one of the two",
        )  # fmt: skip
    return deployed if own is None else own


def _mode(deploy: Fields) -> None:
    def convert(node: Node) -> str:
        if text_of(node) != "replicated":
            raise ValueError(f"{text_of(node)[:40]!r} needs a swarm; only replicated is supported")
        return "replicated"

    deploy.read("mode", convert)


def _restart(deploy: Fields) -> RestartRule | None:
    inner = deploy.inner("restart_policy")
    if not inner:
        return None

    def convert(node: Node) -> str:
        word = text_of(node)
        if word not in _POLICIES:
            raise ValueError(f"{word[:40]!r} is none of {', '.join(_POLICIES)}")
        return _POLICIES[word]

    policy = inner.read("condition", convert) or "always"
    rule = RestartRule(
        policy, deploy.line("restart_policy"), inner.count("max_attempts"), inner.duration("delay")
    )
    inner.finish(harmless=("window",))
    return rule


def _gpus(get: Fields, node: Node) -> tuple[GpuRequest, ...]:
    if isinstance(node, ScalarNode):
        if text_of(node) != "all":
            raise ValueError(f"{text_of(node)[:40]!r} is neither all nor a list of devices")
        return (GpuRequest(-1, node.line),)
    return tuple(_gpu(get, member) for member in node.nodes)


def _gpu(get: Fields, node: Node) -> GpuRequest:
    inner = get.of(mapping_of(node), f"{get.where}devices.")

    def count(value: Node) -> int:
        return -1 if text_of(value) == "all" else whole_of(value)

    number, ids = inner.read("count", count), inner.texts("device_ids")
    if number is not None and ids:
        raise ValueError("count and device_ids exclude each other")
    # Compose takes all devices where neither a number nor ids are given.
    wanted = number if number is not None else 0 if ids else -1
    driver, capabilities = inner.text("driver"), inner.texts("capabilities")
    if not capabilities and get.where.endswith("reservations."):
        raise ValueError("capabilities are missing, such as [gpu]")
    inner.get("options")
    inner.finish()
    return GpuRequest(wanted, node.line, ids, driver, capabilities or ("gpu",))
