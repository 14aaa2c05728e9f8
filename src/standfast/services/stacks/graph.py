"""What the names of a stack make of each other: cycles, names that nobody declares, names used twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from standfast.services.stacks.model import DeclaredService, Dependency, Resource, Stack
from standfast.services.stacks.nodes import Place
from standfast.services.stacks.problems import Problems, meant


def check(
    active: Sequence[DeclaredService],
    inactive: Sequence[DeclaredService],
    *,
    volumes: Mapping[str, Resource],
    networks: Mapping[str, Resource],
    problems: Problems,
) -> None:
    """Keep what is wrong between the services that run; those that do not are not judged."""
    names = {service.name: service for service in active}
    off = {service.name: service for service in inactive}
    for service in active:
        if not service.image and service.build is None and service.driver == "container":
            problems.fail(
                service.place, "NothingToRun", f"{service.name} has neither image nor build",
                subject=service.name, fix=f"add image: or build: at {service.place}",
            )  # fmt: skip
        for dependency in service.depends_on:
            _known(service, dependency, names, off, problems)
        _resources(service, volumes, networks, problems)
    _containers(active, problems)
    for circle in cycles({s.name: [d.name for d in s.depends_on if d.name in names] for s in active}):
        first = names[circle[0]]
        problems.fail(
            _line_of(first, circle[1 % len(circle)]), "DependencyLoop",
            f"the dependencies go in a circle: {' -> '.join((*circle, circle[0]))}",
            subject=first.name, fix="remove one of these dependencies",
        )  # fmt: skip


def cycles(edges: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return one path for each circle that a walk from every name meets; a name is walked once."""
    done: set[str] = set()
    found: list[list[str]] = []
    for start in edges:
        path: list[str] = []
        waiting: list[tuple[str, bool]] = [(start, False)]
        while waiting:
            name, is_left = waiting.pop()
            if is_left:
                done.add(path.pop())
            elif name in path:
                found.append(path[path.index(name) :])
            elif name not in done:
                path.append(name)
                waiting.append((name, True))
                waiting.extend((after, False) for after in reversed(list(edges.get(name, ()))))
    return found


def order(stack: Stack) -> list[list[str]]:
    """Return the names of the services in the order they start, those of one step together.

    A stack with a circle ends where the circle begins.
    """
    names = {service.name for service in stack.services}
    waiting = {s.name: {d.name for d in s.depends_on} & names for s in stack.services}
    steps: list[list[str]] = []
    while step := sorted(name for name, needs in waiting.items() if not needs):
        steps.append(step)
        waiting = {name: needs - set(step) for name, needs in waiting.items() if name not in step}
    return steps


def _known(
    service: DeclaredService,
    dependency: Dependency,
    names: Mapping[str, DeclaredService],
    off: Mapping[str, DeclaredService],
    problems: Problems,
) -> None:
    if dependency.name in names or not dependency.required:
        return
    place = _line_of(service, dependency.name)
    if dependency.name in off:
        profiles = off[dependency.name].profiles
        problems.fail(
            place, "DependencyInactive",
            f"{service.name} depends on {dependency.name}, which is off: none of its profiles is active "
            f"({', '.join(profiles)})",
            subject=service.name, fix=f"add a profile: --profile {profiles[0]}",
        )  # fmt: skip
        return
    problems.fail(
        place, "DependencyUnknown", f"{service.name} depends on {dependency.name}, which nothing declares",
        subject=service.name, fix=meant(dependency.name, (names.keys() | off.keys()) - {service.name}),
    )  # fmt: skip


def _line_of(service: DeclaredService, dependency: str) -> Place:
    line = next((d.line for d in service.depends_on if d.name == dependency), service.line)
    return Place(service.places.get("depends_on", service.place).file, line)


def _resources(
    service: DeclaredService,
    volumes: Mapping[str, Resource],
    networks: Mapping[str, Resource],
    problems: Problems,
) -> None:
    for mount in service.volumes:
        if mount.kind == "volume" and mount.source and mount.source not in volumes:
            problems.fail(
                Place(service.places.get("volumes", service.place).file, mount.line), "VolumeUnknown",
                f"{service.name} uses the volume {mount.source}, which is not in volumes",
                subject=service.name,
                fix=f"add {mount.source}: below volumes:, or write ./{mount.source} for a folder; "
                f"{meant(mount.source, volumes)}",
            )  # fmt: skip
    for use in service.networks:
        if use.name not in networks and use.name != "default":
            problems.fail(
                Place(service.places.get("networks", service.place).file, use.line), "NetworkUnknown",
                f"{service.name} is on the network {use.name}, which is not in networks",
                subject=service.name, fix=meant(use.name, networks),
            )  # fmt: skip


def _containers(active: Sequence[DeclaredService], problems: Problems) -> None:
    owners: dict[str, DeclaredService] = {}
    for service in active:
        name = service.container_name
        if name and name in owners:
            other = owners[name]
            problems.fail(
                service.places.get("container_name", service.place), "NameTwice",
                f"{service.name} and {other.name} ({other.place}) have the container name {name}",
                subject=service.name, fix="give each its own, or none",
            )  # fmt: skip
        owners.setdefault(name, service)
