"""What a compose service says about others: what it waits for, and which networks they share."""

from __future__ import annotations

from collections.abc import Mapping

from standfast.services.stacks.fields import Fields, mapping_of, text_of
from standfast.services.stacks.merging import as_mapping
from standfast.services.stacks.model import Condition, Dependency, NetworkUse
from standfast.services.stacks.nodes import MappingNode, Node, Plain, ScalarNode, SequenceNode

_CONDITIONS = {
    "service_started": Condition.STARTED,
    "service_healthy": Condition.READY,
    "service_completed_successfully": Condition.COMPLETED,
}
_SHARED = ("network_mode", "ipc", "pid", "uts", "cgroup")
_SERVICE = "service:"


def dependencies_of(get: Fields, options: Mapping[str, Plain]) -> tuple[Dependency, ...]:
    """Return what is declared in ``depends_on``, and what other keys make of it without saying so."""
    found: dict[str, Dependency] = {}

    def convert(node: Node) -> None:
        if isinstance(node, SequenceNode):
            for member in node.nodes:
                name = text_of(member)
                found[name] = Dependency(name, Condition.STARTED, member.line)
        for key, inner in mapping_of(node).items() if isinstance(node, MappingNode) else ():
            found[key.text] = _dependency(get, key, inner)
        if isinstance(node, ScalarNode):
            mapping_of(node)

    get.read("depends_on", convert)
    for key, name in _implied(options):
        if name not in found:
            found[name] = Dependency(name, Condition.STARTED, get.line(key), restarts=key != "volumes_from")
    return tuple(found.values())


def _dependency(get: Fields, key: ScalarNode, node: Node) -> Dependency:
    inner = get.of(mapping_of(node), f"{get.where}depends_on.{key.text}.")

    def convert(value: Node) -> Condition:
        word = text_of(value)
        if word not in _CONDITIONS:
            raise ValueError(f"{word[:40]!r} is none of {', '.join(_CONDITIONS)}")
        return _CONDITIONS[word]

    condition = inner.read("condition", convert) or Condition.STARTED
    required, restarts = inner.flag("required"), inner.flag("restart")
    inner.finish()
    return Dependency(key.text, condition, key.line, required is not False, bool(restarts))


def _implied(options: Mapping[str, Plain]) -> list[tuple[str, str]]:
    """Return the keys that need another service to run first, each with its name."""
    found: list[tuple[str, str]] = []
    for link in _texts(options.get("links")):
        found.append(("links", link.partition(":")[0]))
    for key in _SHARED:
        mode = options.get(key)
        if isinstance(mode, str) and mode.startswith(_SERVICE):
            found.append((key, mode.removeprefix(_SERVICE)))
    for source in _texts(options.get("volumes_from")):
        if not source.startswith("container:"):
            found.append(("volumes_from", source.partition(":")[0]))
    return found


def _texts(value: Plain) -> list[str]:
    return [member for member in value if isinstance(member, str)] if isinstance(value, list) else []


def networks_of(get: Fields) -> tuple[NetworkUse, ...]:
    """Return the networks of a service: the default one where none is named and none is shared."""
    found: list[NetworkUse] = []

    def convert(node: Node) -> None:
        nothing = ScalarNode(node.place, None, "")
        for key, inner in as_mapping(node, leaf=nothing).items():
            found.append(_network(get, key, inner))

    get.read("networks", convert)
    if not found and get.get("network_mode") is None:
        return (NetworkUse("default", get.node.line),)
    return tuple(found)


def _network(get: Fields, key: ScalarNode, node: Node) -> NetworkUse:
    if isinstance(node, ScalarNode) and node.value is None:
        return NetworkUse(key.text, key.line)
    inner = get.of(mapping_of(node), f"{get.where}networks.{key.text}.")
    aliases = inner.texts("aliases")
    options = {
        name: value.plain()
        for name in ("ipv4_address", "ipv6_address", "link_local_ips", "mac_address", "driver_opts",
                     "priority", "gw_priority", "interface_name")
        if (value := inner.get(name)) is not None
    }  # fmt: skip
    inner.finish()
    return NetworkUse(key.text, key.line, aliases, options)
