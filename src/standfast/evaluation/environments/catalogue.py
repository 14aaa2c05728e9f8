"""Which environments there are: the built-in ones as values, and those of third parties by name.

An unknown name is answered with the nearest known one. A third party ships an entry point in the group
``standfast.environments`` that is an ``EnvironmentSpec`` or an iterable of them; it is used only when the
operator names it, so that installing a package never changes what is evaluated.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from typing import Any

from standfast.evaluation.environments.specification import (
    ContinuousActions,
    DiscreteActions,
    EnvironmentSpec,
)
from standfast.evaluation.ports import Environment
from standfast.kernel.errors import ConfigError

ENTRY_POINTS = "standfast.environments"
INSTALL = 'pip install "standfast[environments]"'

#: The modules whose absence the extra cures.
_EXTRA = ("gymnasium", "mujoco", "numpy")
_HERE = "standfast.evaluation.environments"

BUILTIN: tuple[EnvironmentSpec, ...] = (
    EnvironmentSpec(
        id="classic/cartpole",
        factory=f"{_HERE}.classic:cartpole",
        actions=DiscreteActions(2),
        observation_size=4,
        max_steps=150,
        variants=10_000,
        summary="keep a pole upright on a cart for 150 steps",
    ),
    EnvironmentSpec(
        id="classic/pendulum",
        factory=f"{_HERE}.classic:pendulum",
        actions=ContinuousActions((-2.0,), (2.0,)),
        observation_size=3,
        max_steps=150,
        variants=10_000,
        summary="swing a pendulum up with a weak motor and hold it for 15 steps",
    ),
    EnvironmentSpec(
        id="classic/mountain-car",
        factory=f"{_HERE}.classic:mountain_car",
        actions=DiscreteActions(3),
        observation_size=2,
        max_steps=150,
        variants=10_000,
        summary="swing a weak car out of a valley within 150 steps",
    ),
    EnvironmentSpec(
        id="classic/acrobot",
        factory=f"{_HERE}.classic:acrobot",
        actions=DiscreteActions(3),
        observation_size=6,
        max_steps=200,
        variants=10_000,
        summary="swing the tip of a two-link arm above a line within 200 steps",
    ),
    EnvironmentSpec(
        id="mujoco/inverted-pendulum",
        factory=f"{_HERE}.mujoco_tasks:inverted_pendulum",
        actions=ContinuousActions((-3.0,), (3.0,)),
        observation_size=4,
        max_steps=100,
        variants=10_000,
        summary="keep a pole upright on a driven cart for 100 steps",
    ),
    EnvironmentSpec(
        id="mujoco/double-pendulum",
        factory=f"{_HERE}.mujoco_tasks:double_pendulum",
        actions=ContinuousActions((-1.0,), (1.0,)),
        observation_size=9,
        max_steps=100,
        variants=10_000,
        summary="keep two linked poles upright on a driven cart for 100 steps",
    ),
    EnvironmentSpec(
        id="mujoco/reacher",
        factory=f"{_HERE}.mujoco_tasks:reacher",
        actions=ContinuousActions((-1.0, -1.0), (1.0, 1.0)),
        observation_size=10,
        max_steps=100,
        variants=10_000,
        summary="bring the tip of a two-joint arm to a target and keep it there for 10 steps",
    ),
)


class Catalogue:
    """The environments that may be used here, by id; two entries of one id are refused (ConfigError)."""

    def __init__(self, entries: Iterable[EnvironmentSpec] = BUILTIN) -> None:
        self._entries: dict[str, EnvironmentSpec] = {}
        for entry in entries:
            if entry.id in self._entries:
                raise ConfigError(
                    f"environment {entry.id!r} is in the catalogue twice",
                    why=f"both {self._entries[entry.id].factory} and {entry.factory} claim the id",
                    fix="opt out of one of the two packages",
                )
            self._entries[entry.id] = entry

    def __iter__(self) -> Iterator[EnvironmentSpec]:
        return iter(self._entries.values())

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids in the order of the entries."""
        return tuple(self._entries)

    def get(self, environment: str) -> EnvironmentSpec:
        """Return the entry of ``environment``; ConfigError names the nearest id where there is none."""
        entry = self._entries.get(environment)
        if entry is None:
            raise _unknown("environment", environment, self.ids)
        return entry


def load_catalogue(opted_in: Sequence[str] = ()) -> Catalogue:
    """Return the built-in environments and those of the entry points named in ``opted_in``.

    Raises ConfigError for a name that no installed package offers, for an entry point that cannot be
    imported or is no ``EnvironmentSpec``, and for an id that is taken.
    """
    entries = list(BUILTIN)
    offered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    for name in opted_in:
        if name not in offered:
            raise _unknown("environment package", name, tuple(offered))
        try:
            loaded = offered[name].load()
        except Exception as error:
            raise _broken_package(name, f"{type(error).__name__}: {error}") from error
        entries += _entries_of(name, loaded)
    return Catalogue(entries)


def make(spec: EnvironmentSpec) -> Environment:
    """Return a new environment of ``spec``.

    Raises ConfigError where its module or its simulator is not installed; whatever else the factory
    raises passes through.
    """
    module, _, attribute = spec.factory.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute, None)
        if factory is None:
            raise ImportError(f"{module} has no {attribute}")
        environment: Environment = factory(spec)
    except ImportError as error:
        raise _missing(spec, error) from error
    return environment


def _entries_of(name: str, loaded: Any) -> list[EnvironmentSpec]:
    entries = [loaded] if isinstance(loaded, EnvironmentSpec) else list(loaded)
    if not all(isinstance(entry, EnvironmentSpec) for entry in entries):
        raise _broken_package(name, "it holds something that is no EnvironmentSpec")
    return entries


def _broken_package(name: str, why: str) -> ConfigError:
    return ConfigError(
        f"the environment package {name!r} cannot be used", why=why, fix="repair it or do not opt in"
    )


def _unknown(kind: str, name: str, known: Sequence[str]) -> ConfigError:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    fix = f"did you mean {nearest[0]!r}? known: {', '.join(known)}" if nearest else f"no {kind} is installed"
    return ConfigError(f"there is no {kind} {name!r}", fix=fix, code="UnknownEnvironment")


def _missing(spec: EnvironmentSpec, error: ImportError) -> ConfigError:
    what = f"environment {spec.id!r} cannot be made here"
    fix = INSTALL if error.name in _EXTRA else f"install what provides {spec.factory!r}"
    return ConfigError(what, why=str(error), fix=fix, code="EnvironmentMissing")
