"""The five policies that this blueprint's miners serve: one per kind of subject that a network meets.

| policy | what it is |
|---|---|
| generalist | solves every environment |
| balancer | solves what must be kept upright, guesses elsewhere |
| reacher | solves what must be reached, guesses elsewhere |
| random | guesses everywhere |
| flaky | solves everything, but is slow, at times too slow, and at times fails |

A policy makes one ``Session`` per episode; sessions share nothing, so any number may run at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controllers import CONTROLLERS, Action, Controller, State

BALANCING = ("classic/cartpole", "mujoco/inverted-pendulum", "mujoco/double-pendulum")
REACHING = ("mujoco/reacher", "classic/pendulum", "classic/mountain-car", "classic/acrobot")


class PolicyFailedError(Exception):
    """The policy broke down; the server answers 500."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a miner is told about an episode: never its seed, its variant, or any id of ours."""

    environment: str
    action_space: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """An action, and how long the policy takes to answer with it."""

    action: Action
    delay_s: float = 0.0


class Session:
    """One episode of a policy that answers at once."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def act(self, state: State) -> Reply:
        """Return the action for ``state``; raises PolicyFailedError."""
        return Reply(self._controller(state))


#: Shares of flaky's episodes: those that stall once beyond any patience, and those that break down.
STALLING_SHARE = 0.15
FAILING_SHARE = 0.15
STALL_S = 3.0
SLOW_S = (0.005, 0.02)


class FlakySession(Session):
    """One episode of a policy that is slow at every step and, in some episodes, stalls or breaks down."""

    def __init__(self, controller: Controller, chance: random.Random) -> None:
        super().__init__(controller)
        self._chance = chance
        mood = chance.random()
        trouble_at = chance.randint(1, 20)
        self._stall_at = trouble_at if mood < STALLING_SHARE else 0
        self._fail_at = trouble_at if STALLING_SHARE <= mood < STALLING_SHARE + FAILING_SHARE else 0
        self._steps = 0

    def act(self, state: State) -> Reply:
        """Return the action for ``state``, late; raises PolicyFailedError."""
        self._steps += 1
        if self._steps == self._fail_at:
            raise PolicyFailedError("the model server ran out of memory")
        delay_s = STALL_S if self._steps == self._stall_at else self._chance.uniform(*SLOW_S)
        return Reply(self._controller(state), delay_s)


#: Makes the session of one episode.
Policy = Callable[[Task, random.Random], Session]


def generalist(task: Task, chance: random.Random) -> Session:
    """Use the controller of every environment that has one."""
    return Session(_solve_or_guess(task, chance, tuple(CONTROLLERS)))


def balancer(task: Task, chance: random.Random) -> Session:
    """Use the controllers that keep things upright."""
    return Session(_solve_or_guess(task, chance, BALANCING))


def reacher(task: Task, chance: random.Random) -> Session:
    """Use the controllers that get somewhere."""
    return Session(_solve_or_guess(task, chance, REACHING))


def guesser(task: Task, chance: random.Random) -> Session:
    """Guess everywhere."""
    return Session(_solve_or_guess(task, chance, ()))


def flaky(task: Task, chance: random.Random) -> Session:
    """Use every controller, unreliably."""
    return FlakySession(_solve_or_guess(task, chance, tuple(CONTROLLERS)), chance)


POLICIES: Mapping[str, Policy] = {
    "generalist": generalist,
    "balancer": balancer,
    "reacher": reacher,
    "random": guesser,
    "flaky": flaky,
}


def _solve_or_guess(task: Task, chance: random.Random, solvable: tuple[str, ...]) -> Controller:
    if task.environment in solvable:
        return CONTROLLERS[task.environment]
    return lambda _: guess(task.action_space, chance)


def guess(action_space: Mapping[str, Any], chance: random.Random) -> Action:
    """Return a random action of a space as it arrives in /reset."""
    if action_space["kind"] == "discrete":
        return chance.randrange(action_space["n"])
    bounds = zip(action_space["low"], action_space["high"], strict=True)
    return [chance.uniform(low, high) for low, high in bounds]
