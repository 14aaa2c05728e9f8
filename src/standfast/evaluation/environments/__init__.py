"""Environments as a catalogue of values, and the gymnasium and MuJoCo tasks behind the port."""

from standfast.evaluation.environments.catalogue import BUILTIN, Catalogue, load_catalogue, make
from standfast.evaluation.environments.specification import (
    ActionSpace,
    ContinuousActions,
    DiscreteActions,
    EnvironmentSpec,
    spec_from_dict,
)

__all__ = [
    "BUILTIN",
    "ActionSpace",
    "Catalogue",
    "ContinuousActions",
    "DiscreteActions",
    "EnvironmentSpec",
    "load_catalogue",
    "make",
    "spec_from_dict",
]
