"""Turns a declared container into what an engine's API takes.

Pure functions: nothing here speaks to an engine. A container's declaration stands in ``ServiceSpec.options``:

``image``, ``build``, ``command`` and ``entrypoint`` (None = the image's own), ``ports``, ``mounts``,
``networks``, ``labels``, ``user``, ``working_dir``, ``healthcheck``, ``gpus``, ``stop_signal`` (empty = the
image's own), ``engine`` (keys that only an engine acts on, in the form of ``services.stacks.options``),
``volumes`` (named ones, by key), ``project``, ``service``, ``number``, ``container_name``, ``files`` and
``folder``.

1. The engine's own restart policy is "no". Its restarts know no dependency, no breaker and no budget, and a
   life that it began would be one that nobody saw; not even "on-failure" would bring a container back that
   the restart of the engine has killed. After a reboot the supervisor starts everything, in order.
2. A label has the digest of everything that a container was made of. The same digest is started again, with
   its files; another one is made anew, and takes over the anonymous volumes of the one before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from standfast.kernel.canonical import digest
from standfast.services.decide.digest import digest_of
from standfast.services.model import ServiceSpec

INSTANCE, SERVICE, SPEC, CONFIG = (
    f"standfast.{name}" for name in ("instance", "service", "spec", "config")
)  # fmt: skip
_COMPOSE = "com.docker.compose"
#: The engine's own copy of the output is only the way to ours; without a limit it would fill the disk.
_LOG_SIZE, _LOG_FILES = "10m", "3"
_SERVICE = "service:"
#: The names that engines give to volumes that nobody named.
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")

_OF_HOST = {
    "annotations": "Annotations", "cap_add": "CapAdd", "cap_drop": "CapDrop", "cgroup": "CgroupnsMode",
    "cgroup_parent": "CgroupParent", "cpu_period": "CpuPeriod", "cpu_quota": "CpuQuota",
    "cpu_rt_period": "CpuRealtimePeriod", "cpu_rt_runtime": "CpuRealtimeRuntime",
    "cpu_shares": "CpuShares", "cpuset": "CpusetCpus", "device_cgroup_rules": "DeviceCgroupRules",
    "dns": "Dns", "dns_opt": "DnsOptions", "dns_search": "DnsSearch", "group_add": "GroupAdd",
    "init": "Init", "mem_reservation": "MemoryReservation", "mem_swappiness": "MemorySwappiness",
    "memswap_limit": "MemorySwap", "oom_kill_disable": "OomKillDisable", "oom_score_adj": "OomScoreAdj",
    "pids_limit": "PidsLimit", "privileged": "Privileged", "read_only": "ReadonlyRootfs",
    "runtime": "Runtime", "security_opt": "SecurityOpt", "shm_size": "ShmSize",
    "storage_opt": "StorageOpt", "sysctls": "Sysctls", "userns_mode": "UsernsMode", "uts": "UTSMode",
}  # fmt: skip
_OF_CONTAINER = {
    "domainname": "Domainname", "hostname": "Hostname", "mac_address": "MacAddress",
    "stdin_open": "OpenStdin", "tty": "Tty",
}  # fmt: skip
_APART = (
    "devices", "expose", "external_links", "extra_hosts", "ipc", "links", "logging", "network_mode", "pid",
    "platform", "pull_policy", "tmpfs", "ulimits", "volumes_from",
)  # fmt: skip
SUPPORTED = frozenset({*_OF_HOST, *_OF_CONTAINER, *_APART})
"""The engine's keys that are acted on; any other must be refused where it is declared."""
MOUNTS = frozenset({"bind", "volume", "tmpfs"})
MOUNT_OPTIONS: Mapping[str, frozenset[str]] = {
    "bind": frozenset({"create_host_path", "propagation", "selinux"}),
    "volume": frozenset({"nocopy"}),
    "tmpfs": frozenset({"size", "mode"}),
}
"""The kinds of mounts, and the options of each, that are acted on."""


class Around(NamedTuple):
    """What a request needs besides the declaration.

    ``containers`` has the identity of each of the stack's containers by service, ``kept`` the anonymous
    volumes of the one before by their target.
    """

    instance: str
    image_id: str
    containers: Mapping[str, str] = {}
    kept: Mapping[str, str] = {}


class Request(NamedTuple):
    """What makes a container: its name, the API's body, and networks that it joins besides the first."""

    name: str
    body: dict[str, Any]
    platform: str
    networks: tuple[tuple[str, dict[str, Any]], ...]

    @property
    def config(self) -> str:
        """The digest of everything that it is made of."""
        return str(self.body["Labels"][CONFIG])


def container_name(options: Mapping[str, Any]) -> str:
    """Return what the container is called: as it was declared, or as compose would call it."""
    return options["container_name"] or f"{options['project']}-{options['service']}-{options['number']}"


def namesakes(options: Mapping[str, Any]) -> frozenset[str]:
    """Return the services whose containers must be there before this one can be made."""
    engine = options["engine"]
    shared = [str(engine.get(key, "")) for key in ("network_mode", "ipc", "pid")]
    found = {mode.removeprefix(_SERVICE) for mode in shared if mode.startswith(_SERVICE)}
    found |= {link.partition(":")[0] for link in engine.get("links", ()) if ":" in link}
    sources = (one for one in engine.get("volumes_from", ()) if not one.startswith("container:"))
    return frozenset(found | {one.partition(":")[0] for one in sources})


def create_request(spec: ServiceSpec, around: Around) -> Request:
    """Return what makes the container of ``spec``."""
    options = spec.options
    endpoints = _endpoints(options, around)
    body = _body(spec, around, endpoints)
    # What it takes over from the one before is no difference between the two.
    own = _body(spec, around._replace(kept={}), endpoints)
    body["Labels"][CONFIG] = digest([own, around.image_id, endpoints])[:32]
    return Request(
        container_name(options), body, str(options["engine"].get("platform", "")), tuple(endpoints[1:])
    )


def _body(spec: ServiceSpec, around: Around, endpoints: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    options = spec.options
    engine = options["engine"]
    said = {
        "Cmd": options["command"], "Entrypoint": options["entrypoint"], "User": options["user"] or None,
        "WorkingDir": options["working_dir"] or None, "StopSignal": options["stop_signal"] or None,
        "Healthcheck": _healthcheck(options["healthcheck"]),
    }  # fmt: skip
    return {
        "Image": options["image"],
        "Env": [f"{name}={value}" for name, value in spec.env.items()],
        "Labels": _labels(spec, around),
        "ExposedPorts": {key: {} for key in _exposed(options)},
        "HostConfig": _host(spec, around, endpoints),
        "NetworkingConfig": {"EndpointsConfig": dict(endpoints[:1])},
        "StopTimeout": math.ceil(spec.stop_timeout_s),
        **{_OF_CONTAINER[key]: value for key, value in engine.items() if key in _OF_CONTAINER},
        # An empty list clears what the image says; nothing at all leaves it.
        **{key: value for key, value in said.items() if value is not None},
    }


def _labels(spec: ServiceSpec, around: Around) -> dict[str, str]:
    options = spec.options
    return {
        **options["labels"],
        INSTANCE: around.instance,
        SERVICE: spec.name,
        SPEC: digest_of(spec),
        # What compose itself writes, so that its commands and others' tools find the stack.
        f"{_COMPOSE}.project": options["project"],
        f"{_COMPOSE}.service": options["service"],
        f"{_COMPOSE}.container-number": str(options["number"]),
        f"{_COMPOSE}.oneoff": "False",
        f"{_COMPOSE}.config-hash": digest_of(spec),
        f"{_COMPOSE}.project.config_files": ",".join(options["files"]),
        f"{_COMPOSE}.project.working_dir": options["folder"],
    }


def _exposed(options: Mapping[str, Any]) -> list[str]:
    found = [f"{port['container']}/{port['protocol']}" for port in options["ports"]]
    for text in options["engine"].get("expose", ()):
        numbers, _, protocol = text.partition("/")
        first, _, last = numbers.partition("-")
        found += [f"{port}/{protocol or 'tcp'}" for port in range(int(first), int(last or first) + 1)]
    return list(dict.fromkeys(found))


def _host(spec: ServiceSpec, around: Around, endpoints: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    options, limits = spec.options, spec.limits
    engine = options["engine"]
    said: dict[str, Any] = {
        "Memory": limits.memory_bytes, "NanoCpus": int(limits.cpus * 1e9),
        "PortBindings": _bindings(options["ports"]),
        "Devices": [
            {"PathOnHost": d["source"], "PathInContainer": d["target"], "CgroupPermissions": d["permissions"]}
            for d in engine.get("devices", ())
        ],
        "DeviceRequests": [_gpu(request) for request in options["gpus"]],
        "ExtraHosts": [host.replace("=", ":", 1) for host in engine.get("extra_hosts", ())],
        "Tmpfs": {path: rest for path, _, rest in (one.partition(":") for one in engine.get("tmpfs", ()))},
        "Ulimits": [_ulimit(name, value) for name, value in engine.get("ulimits", {}).items()],
        "VolumesFrom": [_volumes_from(one, around) for one in engine.get("volumes_from", ())],
        "IpcMode": _shared(engine.get("ipc", ""), around), "PidMode": _shared(engine.get("pid", ""), around),
        **_mounts(options, around),
    }  # fmt: skip
    mode = _shared(engine.get("network_mode", ""), around) or (endpoints[0][0] if endpoints else "")
    return {
        "RestartPolicy": {"Name": "no"},
        "NetworkMode": mode,
        "LogConfig": _logging(engine.get("logging")),
        **{key: value for key, value in said.items() if value},
        **{_OF_HOST[key]: value for key, value in engine.items() if key in _OF_HOST},
    }


def _shared(mode: str, around: Around) -> str:
    """Return a mode that names another service as one that names its container."""
    if not mode.startswith(_SERVICE):
        return mode
    return f"container:{around.containers[mode.removeprefix(_SERVICE)]}"


def _volumes_from(source: str, around: Around) -> str:
    if source.startswith("container:"):
        return source.removeprefix("container:")
    name, colon, mode = source.partition(":")
    return f"{around.containers[name]}{colon}{mode}"


def _bindings(ports: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        host = str(port["host"] or "")
        host += f"-{port['host_last']}" if port["host_last"] else ""
        one = {"HostIp": port["host_ip"], "HostPort": host}
        found.setdefault(f"{port['container']}/{port['protocol']}", []).append(one)
    return found


def _ulimit(name: str, value: Any) -> dict[str, Any]:
    soft, hard = (value["soft"], value["hard"]) if isinstance(value, Mapping) else (value, value)
    return {"Name": name, "Soft": soft, "Hard": hard}


def _gpu(request: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"Driver": request["driver"], "Capabilities": [list(request["capabilities"])]}
    if request["device_ids"]:
        return {**found, "DeviceIDs": list(request["device_ids"])}
    return {**found, "Count": request["number"]}


def _logging(declared: Mapping[str, Any] | None) -> dict[str, Any]:
    if declared and declared["driver"]:
        return {"Type": declared["driver"], "Config": dict(declared["options"])}
    return {"Type": "json-file", "Config": {"max-size": _LOG_SIZE, "max-file": _LOG_FILES}}


def _mounts(options: Mapping[str, Any], around: Around) -> dict[str, Any]:
    binds: list[str] = []
    mounts: list[dict[str, Any]] = []
    targets = {mount["target"] for mount in options["mounts"]}
    for mount in options["mounts"]:
        said = mount["options"]
        if mount["kind"] == "bind" and said.get("create_host_path"):
            # The only form in which an engine makes a folder that is not there.
            words = ["ro" if mount["read_only"] else "rw", said.get("selinux"), said.get("propagation")]
            binds.append(f"{mount['source']}:{mount['target']}:{','.join(filter(None, words))}")
        else:
            mounts.append(_mount(mount, options["volumes"], around))
    mounts += [
        {"Type": "volume", "Source": name, "Target": target}
        for target, name in sorted(around.kept.items())
        if target not in targets
    ]
    return {"Binds": binds, "Mounts": mounts}


def _mount(mount: Mapping[str, Any], volumes: Mapping[str, Any], around: Around) -> dict[str, Any]:
    kind, said, target = mount["kind"], mount["options"], mount["target"]
    found: dict[str, Any] = {"Type": kind, "Target": target, "ReadOnly": mount["read_only"]}
    if kind == "volume":
        name = volumes[mount["source"]]["name"] if mount["source"] else around.kept.get(target)
        found |= {"Source": name} if name else {}
        return found | ({"VolumeOptions": {"NoCopy": True}} if said.get("nocopy") else {})
    if kind == "tmpfs":
        sizes = {"SizeBytes": said.get("size"), "Mode": said.get("mode")}
        return found | {"TmpfsOptions": {key: int(value) for key, value in sizes.items() if value}}
    propagation = said.get("propagation")
    found["Source"] = mount["source"]
    return found | ({"BindOptions": {"Propagation": propagation}} if propagation else {})


def _endpoints(options: Mapping[str, Any], around: Around) -> list[tuple[str, dict[str, Any]]]:
    """Return what the API wants of each network, by its name; the first one is the container's own."""
    engine = options["engine"]
    links = [link for link in engine.get("links", ()) if ":" in link]
    named = [f"{around.containers[name]}:{alias}" for name, _, alias in (one.partition(":") for one in links)]
    named += engine.get("external_links", ())
    found = []
    for use in sorted(options["networks"], key=lambda use: -int(use["options"].get("priority") or 0)):
        said = use["options"]
        addresses = {"IPv4Address": said.get("ipv4_address"), "IPv6Address": said.get("ipv6_address"),
                     "LinkLocalIPs": said.get("link_local_ips")}  # fmt: skip
        endpoint = {
            "Aliases": list(dict.fromkeys([container_name(options), options["service"], *use["aliases"]])),
            "IPAMConfig": {key: value for key, value in addresses.items() if value},
            "MacAddress": said.get("mac_address"), "DriverOpts": said.get("driver_opts"), "Links": named,
        }  # fmt: skip
        found.append((use["name"], {key: value for key, value in endpoint.items() if value}))
    return found


def _healthcheck(declared: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if declared is None:
        return None
    if declared["is_disabled"]:
        return {"Test": ["NONE"]}
    times = {"Interval": "interval_s", "Timeout": "timeout_s", "StartPeriod": "start_period_s",
             "StartInterval": "start_interval_s"}  # fmt: skip
    found = {key: int(declared[name] * 1e9) for key, name in times.items() if declared[name] is not None}
    found |= {"Retries": declared["retries"]} if declared["retries"] is not None else {}
    return found | ({"Test": list(declared["test"])} if declared["test"] else {})


def network_body(options: Mapping[str, Any], project: str, key: str) -> dict[str, Any]:
    """Return the arguments that make a network of the stack (docker SDK)."""
    said, ipam = options["definition"], options["definition"].get("ipam") or {}
    pools = [
        {"Subnet": one.get("subnet"), "IPRange": one.get("ip_range"), "Gateway": one.get("gateway"),
         "AuxiliaryAddresses": one.get("aux_addresses")}
        for one in ipam.get("config") or ()
    ]  # fmt: skip
    made = {"Driver": ipam.get("driver") or "default", "Config": pools, "Options": ipam.get("options")}
    return {
        "driver": options["driver"] or None,
        "options": said.get("driver_opts"),
        "ipam": made if ipam else None,
        "internal": bool(said.get("internal")),
        "attachable": bool(said.get("attachable")) or None,
        "enable_ipv6": bool(said.get("enable_ipv6")),
        "labels": {**_table(said.get("labels")), f"{_COMPOSE}.project": project, f"{_COMPOSE}.network": key},
    }


def volume_body(options: Mapping[str, Any], project: str, key: str) -> dict[str, Any]:
    """Return the arguments that make a named volume of the stack (docker SDK)."""
    said = options["options"]
    return {
        "driver": options["driver"] or None,
        "driver_opts": {name: str(value) for name, value in (said.get("driver_opts") or {}).items()},
        "labels": {**_table(said.get("labels")), f"{_COMPOSE}.project": project, f"{_COMPOSE}.volume": key},
    }


def _table(said: Any) -> dict[str, str]:
    if isinstance(said, Mapping):
        return {str(key): str(value or "") for key, value in said.items()}
    return {name: value for name, _, value in (str(one).partition("=") for one in said or ())}


def anonymous_volumes(inspected: Mapping[str, Any]) -> dict[str, str]:
    """Return a container's volumes that nobody named, by their target: what replaces it keeps them."""
    return {
        mount["Destination"]: mount["Name"]
        for mount in inspected.get("Mounts") or ()
        if mount.get("Type") == "volume" and _ANONYMOUS.fullmatch(mount.get("Name") or "")
    }
