"""Keys of a compose service that only a container engine acts on: checked, and carried in one form each.

Lists are lists, tables are mappings of text, sizes are bytes, hosts are ``NAME=ADDRESS``, devices are
mappings with source, target and permissions. Whoever runs the service must apply each, or refuse it.
"""

from __future__ import annotations

from collections.abc import Callable

from standfast.services.stacks.fields import (
    Fields,
    flag_of,
    go_text,
    mapping_of,
    size_of,
    table_of,
    text_of,
    texts_of,
    whole_of,
)
from standfast.services.stacks.nodes import MappingNode, Node, Plain, ScalarNode

_Form = Callable[[Node], Plain]
_DEVICE_PERMISSIONS = "rwm"


def options_of(get: Fields) -> dict[str, Plain]:
    """Return the engine's options of a service by key, without those that are absent or wrong."""
    read = ((key, get.read(key, form)) for key, form in FORMS.items())
    return {key: value for key, value in read if value is not None}


def _hosts(node: Node) -> Plain:
    """Return ``extra_hosts``, a mapping or a list with ``=`` or ``:``, as ``NAME=ADDRESS`` each."""
    if isinstance(node, MappingNode):
        pairs = [(key.text, address) for key, inner in node.items() for address in texts_of(inner)]
    else:
        pairs = [_host(text) for text in texts_of(node)]
    return [f"{name}={one.strip('[]')}" for name, address in pairs for one in address.split(",")]


def _host(text: str) -> tuple[str, str]:
    name, sign, address = text.partition("=")
    if not sign:
        name, sign, address = text.partition(":")
    if not (name and address):
        raise ValueError(f"{text[:60]!r} is no NAME=ADDRESS")
    return name, address


def _list(node: Node) -> Plain:
    return list(dict.fromkeys(text for text in texts_of(node) if text))


def _table(node: Node) -> Plain:
    return {name: value or "" for name, value in table_of(node).items()}


def _devices(node: Node) -> Plain:
    found = {device["target"]: device for device in map(_device, node.nodes or (node,))}
    return [dict(device) for device in found.values()]


def _device(node: Node) -> dict[str, str]:
    if isinstance(node, MappingNode):
        source, target, permissions = (_optional(node, key) for key in ("source", "target", "permissions"))
    else:
        source, target, permissions = (*text_of(node).split(":"), "", "")[:3]
    if not source:
        raise ValueError("a device has no source")
    return {
        "source": source,
        "target": target or source,
        "permissions": permissions or _DEVICE_PERMISSIONS,
    }


def _optional(node: MappingNode, key: str) -> str:
    inner = node.get(key)
    return "" if inner is None else text_of(inner)


def _ulimits(node: Node) -> Plain:
    found: dict[str, Plain] = {}
    for key, inner in mapping_of(node).items():
        if isinstance(inner, MappingNode):
            found[key.text] = {name.text: whole_of(value) for name, value in inner.items()}
        else:
            found[key.text] = whole_of(inner)
    return found


def _logging(node: Node) -> Plain:
    inner = mapping_of(node)
    options = inner.get("options")
    return {"driver": _optional(inner, "driver"), "options": _table(options) if options else {}}


def _block_io(node: Node) -> Plain:
    return mapping_of(node).plain()


def _amount(node: Node) -> Plain:
    """Return a size, or the -1 that means no limit."""
    if isinstance(node, ScalarNode) and str(go_text(node.value)) == "-1":
        return -1
    return size_of(node)


def _forms(form: _Form, *keys: str) -> dict[str, _Form]:
    return dict.fromkeys(keys, form)


FORMS: dict[str, _Form] = {
    **_forms(
        text_of, "cgroup", "cgroup_parent", "cpuset", "domainname", "hostname", "ipc", "mac_address",
        "network_mode", "pid", "platform", "pull_policy", "runtime", "userns_mode", "uts",
    ),
    **_forms(
        _list, "cap_add", "cap_drop", "device_cgroup_rules", "dns", "dns_opt", "dns_search", "expose",
        "external_links", "group_add", "links", "security_opt", "tmpfs", "volumes_from",
    ),
    **_forms(_table, "annotations", "storage_opt", "sysctls"),
    **_forms(flag_of, "init", "oom_kill_disable", "privileged", "read_only", "stdin_open", "tty"),
    **_forms(
        whole_of, "cpu_count", "cpu_percent", "cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime",
        "cpu_shares", "mem_swappiness", "oom_score_adj", "pids_limit",
    ),
    **_forms(_amount, "mem_reservation", "memswap_limit", "shm_size"),
    "blkio_config": _block_io,
    "devices": _devices,
    "extra_hosts": _hosts,
    "logging": _logging,
    "ulimits": _ulimits,
}  # fmt: skip
