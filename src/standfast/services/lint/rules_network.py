"""Rules about ports and addresses: who publishes what, and whether somebody listens where another calls."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from standfast.services.lint.model import Hit, Severity, Spot
from standfast.services.lint.network import Call, calls, listening
from standfast.services.lint.tree import DeclaredStack, LintService, Tree
from standfast.services.stacks.model import Port

_EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - a value to recognise, nothing is bound


class _Published(NamedTuple):
    service: LintService
    port: Port
    spot: Spot


def _published(services: tuple[LintService, ...]) -> list[_Published]:
    found: list[_Published] = []
    for service in services:
        file = service.at("ports").file
        found += [_Published(service, p, Spot(file, p.line)) for p in service.declared.ports if p.host]
    return found


def judge_ports(tree: Tree) -> Iterator[Hit]:
    """Judge host ports that two services of a stack want."""
    for stack in tree.stacks:
        published = _published(tree.services_of(stack))
        seen: set[tuple[str, int]] = set()
        for first, second in combinations(published, 2):
            key = (second.service.name, second.port.host)
            if first.service is second.service or key in seen or not _clash(first.port, second.port):
                continue
            if _are_alternatives(first.service, second.service):
                continue
            seen.add(key)
            yield Hit(
                second.spot,
                f"host port {second.port.host} of {second.service.name} is taken by {first.service.name} "
                f"(line {first.spot.line}): whichever starts second fails",
                f"give one of them another host port: {second.port.host + 10_000}:{second.port.container}",
                second.service.name,
                evidence={"port": second.port.host, "with": first.service.name, "line": first.spot.line},
            )  # fmt: skip
        yield from _replicated(published)


def _replicated(published: list[_Published]) -> Iterator[Hit]:
    for service, port, spot in published:
        if service.declared.replicas > 1 and not port.host_last:
            yield Hit(
                spot, f"{service.name} has {service.declared.replicas} replicas, and one host port "
                f"{port.host} for all: the second fails", "publish a range, or put a proxy before them",
                service.name,
                evidence={"port": port.host, "replicas": service.declared.replicas},
            )  # fmt: skip


def _clash(one: Port, other: Port) -> bool:
    # A range from which the engine takes a free port gives way by itself.
    if one.host_last or other.host_last or one.protocol != other.protocol or one.host != other.host:
        return False
    return one.host_ip == other.host_ip or bool({one.host_ip, other.host_ip} & _EVERYWHERE)


def _are_alternatives(one: LintService, other: LintService) -> bool:
    """Return whether profiles keep them apart: both have some, and none in common."""
    ours, theirs = set(one.declared.profiles), set(other.declared.profiles)
    return bool(ours and theirs and not ours & theirs)


def judge_ports_across(tree: Tree) -> Iterator[Hit]:
    """Judge host ports that services of two stacks want."""
    for stack, earlier in _others(tree):
        theirs = [(other, rival) for other in earlier for rival in _published(tree.services_of(other))]
        for one in _published(tree.services_of(stack)):
            rivals = [(other, rival) for other, rival in theirs if _clash(rival.port, one.port)]
            if rivals:
                rival = rivals[0][1]
                yield Hit(
                    one.spot,
                    f"host port {one.port.host} of {one.service.name} is also that of {rival.service.name} "
                    f"in {_places([found.spot for _, found in rivals])}: the stacks cannot run at once",
                    "give one of them another host port", one.service.name,
                    _severity(stack, [other for other, _ in rivals]),
                    {"port": one.port.host, "with": rival.service.name, "file": str(rival.spot.file)},
                )  # fmt: skip


def judge_names_across(tree: Tree) -> Iterator[Hit]:
    """Judge services and containers that two stacks call the same."""
    for stack, earlier in _others(tree):
        for service in tree.services_of(stack):
            rivals = [s for other in earlier for s in tree.services_of(other) if _is_namesake(service, s)]
            if not rivals:
                continue
            container = service.declared.container_name
            is_same = any(container and s.declared.container_name == container for s in rivals)
            both = f", and both are the container {container}" if is_same else ""
            yield Hit(
                service.spot,
                f"{service.name} is declared in {_places([s.spot for s in rivals])} too{both}: which one a "
                "command means depends on where it is run", "keep it in one file, or name them apart",
                service.name, _severity(stack, [s.owner for s in rivals]),
                {
                    "also": str(rivals[0].spot.file), "line": rivals[0].spot.line,
                    "same_container": is_same,
                },
            )  # fmt: skip


def _is_namesake(one: LintService, other: LintService) -> bool:
    container = one.declared.container_name
    return one.name == other.name or bool(container and container == other.declared.container_name)


def _others(tree: Tree) -> Iterator[tuple[DeclaredStack, list[DeclaredStack]]]:
    """Yield each stack with those before it that have no file in common: an overlay is no rival."""
    for number, stack in enumerate(tree.stacks):
        earlier = [o for o in tree.stacks[:number] if not set(o.stack.read) & set(stack.stack.read)]
        if earlier:
            yield stack, earlier


def _severity(stack: DeclaredStack, others: list[DeclaredStack]) -> Severity:
    """Return how much it matters: stacks of which one lies in the other's folder belong together.

    Files side by side are variants of one stack, and folders side by side are stacks of their own.
    """
    own = stack.stack.folder
    is_nested = any(o.stack.folder in own.parents or own in o.stack.folder.parents for o in others)
    return Severity.WARNING if is_nested else Severity.INFO


def _places(spots: list[Spot]) -> str:
    first = f"{spots[0].file.parent.name}/{spots[0].file.name}:{spots[0].line}"
    return first if len(spots) == 1 else f"{first} and {len(spots) - 1} more"


def judge_calls(tree: Tree) -> Iterator[Hit]:
    """Judge addresses of services of the stack on whose port nobody listens."""
    for service in tree.services:
        for call in calls(service):
            peer = tree.reach(call.host, service.owner)
            if peer is None:
                continue
            open_ports = listening(peer, tree)
            if call.port in open_ports.ports:
                continue
            yield Hit(
                call.spot, f"{call.key} calls {_bare(call)}, and on port {call.port} of {peer.name} nobody "
                f"listens: {open_ports.text()}",
                _port_fix(call, sorted(open_ports.ports)), service.name,
                _certainty(is_complete=open_ports.is_complete, is_opaque=open_ports.is_opaque),
                {"host": call.host, "port": call.port, "listens_on": sorted(open_ports.ports)},
            )  # fmt: skip


def _certainty(*, is_complete: bool, is_opaque: bool) -> Severity:
    if is_complete:
        return Severity.ERROR
    return Severity.INFO if is_opaque else Severity.WARNING


def _bare(call: Call) -> str:
    """Return the address without what may be a password."""
    scheme = call.text.split("://", maxsplit=1)[0] + "://" if "://" in call.text else ""
    return f"{scheme}{call.host}:{call.port}"


def _port_fix(call: Call, ports: list[int]) -> str:
    if len(ports) == 1:
        return f"{call.host}:{ports[0]}, or make it listen on {call.port}"
    return f'name a port that {call.host} listens on, or declare it: expose: ["{call.port}"]'


def judge_hosts(tree: Tree) -> Iterator[Hit]:
    """Judge addresses whose host is a plain name that no service of the stack has."""
    for service in tree.services:
        declared = service.declared
        if declared.options.get("extra_hosts") or declared.options.get("network_mode") or _is_shared(service):
            continue
        for call in calls(service):
            if "://" in call.text and "." not in call.host and tree.reach(call.host, service.owner) is None:
                elsewhere = tree.reach(call.host)
                also = f"; {elsewhere.owner.stack.name} has one" if elsewhere is not None else ""
                yield Hit(
                    call.spot, f"{call.key} calls {_bare(call)}, and no service of this stack is called "
                    f"{call.host}{also}", "correct the name, or put both on one external network",
                    service.name, evidence={"host": call.host},
                )  # fmt: skip


def _is_shared(service: LintService) -> bool:
    """Return whether it is on a network that is made elsewhere, where others may answer."""
    networks = service.owner.stack.networks
    used = [use.name for use in service.declared.networks] or ["default"]
    return any(name in networks and networks[name].is_external for name in used)
