"""Hand-written controllers, one per environment: what the good policies of this blueprint know.

Each takes the observation as a list of numbers and returns an action as the protocol wants it: a list of
numbers for a continuous space, an index for a discrete one. None is told the variant, so each works with
gains that carry over the whole range of physics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

State: TypeAlias = Sequence[float]
Action: TypeAlias = "list[float] | int"
Controller: TypeAlias = Callable[[State], Action]


def cartpole(state: State) -> Action:
    """Push towards where the pole falls; a little of the cart's own motion keeps it near the middle."""
    x, x_dot, angle, angle_dot = state
    return 1 if angle + 0.3 * angle_dot + 0.03 * x + 0.06 * x_dot > 0 else 0


def pendulum(state: State) -> Action:
    """Pump energy until it suffices to reach the top, then hold the top by state feedback."""
    cosine, sine, speed = state
    angle = math.atan2(sine, cosine)
    if cosine > 0.85:
        return [_clip(-(12.0 * angle + 3.0 * speed), 2.0)]
    # Energy over inertia, zero at rest on top, for the nominal 3 g / (2 l) = 14.5.
    energy = 0.5 * speed * speed + 14.5 * (cosine - 1.0)
    # At rest at the bottom there is no direction to pump in: take one.
    direction = math.copysign(1.0, speed) if abs(speed) > 0.05 else 1.0
    return [_clip(-energy * direction, 2.0)]


def mountain_car(state: State) -> Action:
    """Push the way the car moves: every push then adds energy."""
    _, velocity = state
    return 2 if velocity >= 0.0 else 0


def acrobot(state: State) -> Action:
    """Torque along the elbow's rotation adds energy; against it while the elbow spins too fast."""
    elbow_speed = state[5]
    return 2 if elbow_speed >= 0.0 else 0


def inverted_pendulum(state: State) -> Action:
    """Hold by state feedback (discrete LQR of the nominal model)."""
    x, angle, x_dot, angle_dot = state
    return [_clip(1.719 * x + 12.145 * angle + 2.015 * x_dot + 1.902 * angle_dot, 3.0)]


def double_pendulum(state: State) -> Action:
    """Hold by state feedback (discrete LQR of the nominal model)."""
    x, sine_1, sine_2, cosine_1, cosine_2, x_dot, speed_1, speed_2, _ = state
    angle_1, angle_2 = math.atan2(sine_1, cosine_1), math.atan2(sine_2, cosine_2)
    push = 0.213 * x + 1.813 * angle_1 + 5.569 * angle_2 + 0.315 * x_dot + 0.902 * speed_1 + 0.848 * speed_2
    return [_clip(-push, 1.0)]


_UPPER_M, _FORE_M = 0.1, 0.11


def reacher(state: State) -> Action:
    """Solve for the joint angles that put the tip on the target, and go there as a damped spring."""
    shoulder = math.atan2(state[2], state[0])
    elbow = math.atan2(state[3], state[1])
    goal_shoulder, goal_elbow = _inverse_kinematics(state[4], state[5], bend=elbow)
    # The engine's motor turns 1 into 200 N m against an inertia of about 1 kg m^2.
    pulls = (
        0.5 * _wrap(goal_shoulder - shoulder) - 0.06 * state[6],
        0.5 * (goal_elbow - elbow) - 0.06 * state[7],
    )
    return [_clip(pull, 1.0) for pull in pulls]


def _inverse_kinematics(x: float, y: float, *, bend: float) -> tuple[float, float]:
    """Return the joint angles for a tip at (x, y), the elbow bent the way it is bent now."""
    reach = math.hypot(x, y)
    cosine = (reach**2 - _UPPER_M**2 - _FORE_M**2) / (2 * _UPPER_M * _FORE_M)
    elbow = math.copysign(math.acos(_clip(cosine, 1.0)), bend)
    offset = math.atan2(_FORE_M * math.sin(elbow), _UPPER_M + _FORE_M * math.cos(elbow))
    return math.atan2(y, x) - offset, elbow


def _wrap(angle: float) -> float:
    return math.remainder(angle, 2 * math.pi)


def _clip(value: float, limit: float) -> float:
    return max(-limit, min(limit, value))


#: The controller of each environment that this blueprint can solve.
CONTROLLERS: dict[str, Controller] = {
    "classic/cartpole": cartpole,
    "classic/pendulum": pendulum,
    "classic/mountain-car": mountain_car,
    "classic/acrobot": acrobot,
    "mujoco/inverted-pendulum": inverted_pendulum,
    "mujoco/double-pendulum": double_pendulum,
    "mujoco/reacher": reacher,
}
