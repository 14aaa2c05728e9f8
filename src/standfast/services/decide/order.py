"""What a stack's dependencies mean: what is wrong with them, what comes after what, and who is to blame."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from standfast.services.model import Condition, Dependency, ServiceSpec, ServiceState

_S = ServiceState
_STARTED = frozenset({_S.STARTING, _S.READY, _S.NOT_READY, _S.COMPLETED})


class Problem(NamedTuple):
    """Why a stack cannot be run as it was declared."""

    code: str
    service: str
    what: str
    fix: str


def problems(specs: Sequence[ServiceSpec]) -> tuple[Problem, ...]:
    """Return everything that is wrong with the names and the dependencies of ``specs``."""
    found = [*_twice(specs), *_unknown(specs), *_never_completed(specs)]
    cycle = _cycle(specs)
    if cycle:
        what = f"these services wait for each other: {' -> '.join(cycle)}"
        fix = f"remove one `depends_on` among {', '.join(cycle[:-1])}"
        found.append(Problem("DependencyCycle", cycle[0], what, fix))
    return tuple(found)


def _twice(specs: Sequence[ServiceSpec]) -> Iterable[Problem]:
    first: dict[str, ServiceSpec] = {}
    for spec in specs:
        if spec.name in first:
            what = f"the name {spec.name} is declared twice: {_where(first[spec.name])} and {_where(spec)}"
            yield Problem("NameTwice", spec.name, what, "rename one of them, or remove it")
        first.setdefault(spec.name, spec)


def _unknown(specs: Sequence[ServiceSpec]) -> Iterable[Problem]:
    names = {spec.name for spec in specs}
    for spec in specs:
        for dependency in spec.depends_on:
            if dependency.name not in names:
                near = difflib.get_close_matches(dependency.name, names, n=1)
                fix = f"did you mean {near[0]}?" if near else f"the services are: {', '.join(sorted(names))}"
                what = f"{spec.name} ({_where(spec)}) depends on {dependency.name}, which is not declared"
                yield Problem("UnknownDependency", spec.name, what, fix)


def _never_completed(specs: Sequence[ServiceSpec]) -> Iterable[Problem]:
    tasks = {spec.name for spec in specs if spec.is_task}
    names = {spec.name for spec in specs}
    for spec in specs:
        for one in spec.depends_on:
            if one.condition is Condition.COMPLETED and one.name in names - tasks:
                what = f"{spec.name} waits for {one.name} to be completed, which is no task and never ends"
                fix = f'declare {one.name} with kind = "task", or wait for "ready"'
                yield Problem("NeverCompleted", spec.name, what, fix)


def _where(spec: ServiceSpec) -> str:
    return f"{spec.file}:{spec.line}" if spec.line else spec.file or "this configuration"


def _cycle(specs: Sequence[ServiceSpec]) -> tuple[str, ...]:
    """Return one cycle as a path whose ends are the same name, or nothing."""
    below: dict[str, list[str]] = {}
    for spec in specs:
        below.setdefault(spec.name, []).extend(one.name for one in spec.depends_on)
    done: set[str] = set()
    for start in below:
        path: list[str] = []
        trail: list[tuple[str, int]] = [(start, 0)]
        # Depth first without recursion; each name is finished once.
        while trail:
            name, at = trail.pop()
            if at == 0:
                if name in done:
                    continue
                if name in path:
                    return (*path[path.index(name) :], name)
                path.append(name)
            following = below.get(name, [])
            if at < len(following):
                trail += [(name, at + 1), (following[at], 0)]
            else:
                done.add(name)
                path.remove(name)
    return ()


def waves(specs: Sequence[ServiceSpec]) -> tuple[tuple[str, ...], ...]:
    """Return the names in the order of their starts: each wave needs only what earlier ones hold."""
    below = {spec.name: {one.name for one in spec.depends_on} for spec in specs}
    left, placed, result = dict(below), set[str](), []
    # Each turn places one wave at least; without a cycle it ends with nothing left.
    while left:
        wave = tuple(
            name
            for name, needed in left.items()
            if needed & left.keys() <= {name} and not needed - placed - left.keys()
        )
        if not wave:
            wave = tuple(left)
        result.append(wave)
        placed |= set(wave)
        left = {name: needed for name, needed in left.items() if name not in placed}
    return tuple(result)


def dependants(specs: Sequence[ServiceSpec], names: Iterable[str]) -> frozenset[str]:
    """Return every service that needs one of ``names``, directly or through others; without ``names``."""
    wanted = frozenset(names)
    found = set(wanted)
    grew = True
    # Each turn adds one at least.
    while grew:
        more = {s.name for s in specs if s.name not in found and any(d.name in found for d in s.depends_on)}
        found |= more
        grew = bool(more)
    return frozenset(found) - wanted


def unmet(
    spec: ServiceSpec, states: Mapping[str, ServiceState], *, waited_s: float = 0.0
) -> tuple[Dependency, ...]:
    """Return what ``spec`` still waits for after ``waited_s``."""
    return tuple(
        one for one in spec.depends_on if waited_s < one.patience_s and not _is_met(one, states.get(one.name))
    )


def _is_met(dependency: Dependency, state: ServiceState | None) -> bool:
    if dependency.condition is Condition.COMPLETED:
        return state is _S.COMPLETED
    if dependency.condition is Condition.STARTED:
        return state in _STARTED
    # A task that is completed serves whoever waits for it to be ready.
    return state in (_S.READY, _S.COMPLETED)


def roots(
    name: str, specs: Mapping[str, ServiceSpec], states: Mapping[str, ServiceState]
) -> tuple[tuple[str, ...], ...]:
    """Return the chains from ``name`` down to the services that keep it from starting, each root last."""
    chains: list[tuple[str, ...]] = []
    trail: list[tuple[str, ...]] = [(name,)]
    # Each turn follows one edge of a graph without cycles.
    while trail:
        path = trail.pop()
        spec = specs.get(path[-1])
        below = unmet(spec, states) if spec is not None else ()
        below = tuple(one for one in below if one.name not in path)
        if not below:
            chains.append(path)
        trail += [(*path, one.name) for one in below]
    return tuple(sorted(chains))
