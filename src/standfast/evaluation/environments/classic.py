"""The classic control tasks of gymnasium, with their physics drawn per variant.

Equations of motion: gymnasium's classic control (Barto, Sutton & Anderson 1983; Sutton 1996; Moore 1990).
The ranges leave every variant solvable within its step limit by one controller that is told nothing of
the variant; that is measured by the tests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from standfast.evaluation.environments.criteria import Hold, Reach, Survive
from standfast.evaluation.environments.gymnasium_environment import GymnasiumEnvironment, Recipe
from standfast.evaluation.environments.specification import EnvironmentSpec

_ENGINES = "gymnasium.envs.classic_control"


def cartpole(spec: EnvironmentSpec) -> GymnasiumEnvironment:
    """Keep a pole upright on a cart by pushing left (0) or right (1).

    Success: the pole stays within 12 degrees and the cart within 2.4 m until the step limit.
    Observation: cart position, cart velocity, pole angle, pole angular velocity.
    """
    ranges = {
        "gravity": (8.0, 11.5),
        "masspole": (0.05, 0.3),
        "length": (0.35, 0.8),
        "force_mag": (8.0, 12.0),
    }
    return GymnasiumEnvironment(spec, Recipe(f"{_ENGINES}:CartPoleEnv", {}, ranges, _set_cartpole, Survive))


def _set_cartpole(engine: Any, physics: Mapping[str, float]) -> None:
    _set_attributes(engine, physics)
    # The engine caches these two products when it is made.
    engine.total_mass = engine.masspole + engine.masscart
    engine.polemass_length = engine.masspole * engine.length


#: Upright means within this angle (rad) and angular velocity (rad/s), for this many steps in a row.
UPRIGHT_RAD = 0.25
UPRIGHT_RAD_PER_S = 1.0
UPRIGHT_STEPS = 15


def pendulum(spec: EnvironmentSpec) -> GymnasiumEnvironment:
    """Swing a pendulum up with a torque too weak to lift it, and hold it there.

    Success: within 0.25 rad of upright and below 1 rad/s for 15 steps in a row.
    Observation: cosine and sine of the angle from upright, angular velocity.
    """
    ranges = {"g": (8.5, 10.5), "m": (0.85, 1.1), "l": (0.9, 1.1)}
    recipe = Recipe(
        f"{_ENGINES}:PendulumEnv", {}, ranges, _set_attributes, lambda: Hold(_is_upright, steps=UPRIGHT_STEPS)
    )
    return GymnasiumEnvironment(spec, recipe)


def _is_upright(observation: Sequence[float]) -> bool:
    cosine, sine, velocity = observation
    return abs(math.atan2(sine, cosine)) < UPRIGHT_RAD and abs(velocity) < UPRIGHT_RAD_PER_S


def mountain_car(spec: EnvironmentSpec) -> GymnasiumEnvironment:
    """Drive a weak car out of a valley by swinging: left (0), coast (1), right (2).

    Success: the car reaches the flag at 0.5 before the step limit. Observation: position, velocity.
    """
    ranges = {"force": (0.0011, 0.0016), "gravity": (0.0023, 0.0027)}
    return GymnasiumEnvironment(
        spec, Recipe(f"{_ENGINES}:MountainCarEnv", {}, ranges, _set_attributes, Reach)
    )


def acrobot(spec: EnvironmentSpec) -> GymnasiumEnvironment:
    """Swing the tip of a two-link arm above a line by a torque at its elbow: -1 (0), none (1), +1 (2).

    Success: the tip rises one link length above the shoulder before the step limit.
    Observation: cosine and sine of both joint angles, both angular velocities.
    """
    ranges = {"LINK_MASS_1": (0.8, 1.2), "LINK_MASS_2": (0.8, 1.1), "LINK_MOI": (0.8, 1.1)}
    recipe = Recipe(f"{_ENGINES}:AcrobotEnv", {}, ranges, _set_attributes, Reach)
    return GymnasiumEnvironment(spec, recipe)


def _set_attributes(engine: Any, physics: Mapping[str, float]) -> None:
    for name, value in physics.items():
        # A misspelt quantity would otherwise vary nothing, silently.
        assert hasattr(engine, name), f"{type(engine).__name__} has no {name}"
        setattr(engine, name, value)
