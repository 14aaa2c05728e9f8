"""Control tasks on the MuJoCo physics engine, with masses, gravity, motors and damping drawn per variant.

Models: gymnasium's MuJoCo environments, version 5. A variant scales the compiled model in place and lets
the engine recompute what it derives from it, so no model file is written. The ranges leave every variant
solvable by one controller that is told nothing of the variant; that is measured by the tests.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from standfast.evaluation.environments.criteria import Hold, Survive
from standfast.evaluation.environments.gymnasium_environment import GymnasiumEnvironment, Recipe
from standfast.evaluation.environments.specification import EnvironmentSpec

_ENGINES = "gymnasium.envs.mujoco"


def inverted_pendulum(spec: EnvironmentSpec) -> GymnasiumEnvironment:
    """Keep a pole upright on a cart that is pushed by a motor.

    Success: the pole stays within 0.2 rad until the step limit.
    Observation: cart position, pole angle, cart velocity, pole angular velocity.
    """
    ranges = {"gravity": (0.8, 1.3), "pole_mass": (0.6, 1.6), "pole_length": (0.7, 1.3), "gear": (0.8, 1.2)}
    engine = f"{_ENGINES}.inverted_pendulum_v5:InvertedPendulumEnv"
    options = {"reset_noise_scale": 0.05}
    return _task(spec, Recipe(engine, options, ranges, _set_inverted_pendulum, Survive))


def _set_inverted_pendulum(engine: Any, physics: Mapping[str, float]) -> None:
    model = engine.model
    pole = model.body("pole").id
    model.opt.gravity[:] *= physics["gravity"]
    model.body_mass[pole] *= physics["pole_mass"]
    # A uniform rod of the same mass: its centre moves with the length, its inertia with the square.
    model.body_ipos[pole] *= physics["pole_length"]
    model.body_inertia[pole] *= physics["pole_mass"] * physics["pole_length"] ** 2
    model.actuator_gear[:, 0] *= physics["gear"]
    _recompute(engine)


def double_pendulum(spec: EnvironmentSpec) -> GymnasiumEnvironment:
    """Keep two linked poles upright on a cart that is pushed by a motor.

    Success: the tip stays above 1 m (of 1.2 m) until the step limit.
    Observation: cart position, sines and cosines of both joint angles, velocities of cart and joints,
    and the force of the cart's end stop.
    """
    ranges = {"gravity": (0.9, 1.1), "poles_mass": (0.85, 1.2), "gear": (0.85, 1.15), "damping": (0.5, 2.0)}
    engine = f"{_ENGINES}.inverted_double_pendulum_v5:InvertedDoublePendulumEnv"
    options = {"reset_noise_scale": 0.05}
    return _task(spec, Recipe(engine, options, ranges, _set_double_pendulum, Survive))


def _set_double_pendulum(engine: Any, physics: Mapping[str, float]) -> None:
    model = engine.model
    poles = [model.body("pole").id, model.body("pole2").id]
    model.opt.gravity[2] *= physics["gravity"]
    model.body_mass[poles] *= physics["poles_mass"]
    model.body_inertia[poles] *= physics["poles_mass"]
    model.actuator_gear[:, 0] *= physics["gear"]
    model.dof_damping[:] *= physics["damping"]
    _recompute(engine)


#: The target is met within this distance (m), for this many steps in a row.
TOUCH_M = 0.02
TOUCH_STEPS = 10


def reacher(spec: EnvironmentSpec) -> GymnasiumEnvironment:
    """Bring the tip of a planar two-joint arm to a target, and keep it there.

    Success: the tip is within 0.02 m of the target for 10 steps in a row. The seed draws the target.
    Observation: cosines of both joint angles, sines of both, target x and y, both joint velocities,
    tip minus target in x and y.
    """
    ranges = {"arm_mass": (0.6, 1.6), "gear": (0.7, 1.3), "damping": (0.7, 1.5)}
    engine = f"{_ENGINES}.reacher_v5:ReacherEnv"
    recipe = Recipe(engine, {}, ranges, _set_reacher, lambda: Hold(_is_touching, steps=TOUCH_STEPS))
    return _task(spec, recipe)


def _is_touching(observation: Sequence[float]) -> bool:
    return math.hypot(observation[8], observation[9]) < TOUCH_M


def _set_reacher(engine: Any, physics: Mapping[str, float]) -> None:
    model = engine.model
    arm = [model.body("body0").id, model.body("body1").id, model.body("fingertip").id]
    model.body_mass[arm] *= physics["arm_mass"]
    model.body_inertia[arm] *= physics["arm_mass"]
    model.actuator_gear[:, 0] *= physics["gear"]
    model.dof_damping[:2] *= physics["damping"]
    _recompute(engine)


def _task(spec: EnvironmentSpec, recipe: Recipe) -> GymnasiumEnvironment:
    # gymnasium hides a missing mujoco behind an error of its own; this one is an ImportError.
    importlib.import_module("mujoco")
    return GymnasiumEnvironment(spec, recipe)


def _recompute(engine: Any) -> None:
    """Let MuJoCo derive again what depends on masses and inertias, and show when it goes wrong.

    By default MuJoCo puts an unstable simulation back to its start and goes on, which would look like an
    ordinary step. Without that, NaN comes out, and an episode with NaN is ours (I6).
    """
    mujoco = importlib.import_module("mujoco")
    engine.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    mujoco.mj_setConst(engine.model, engine.data)
