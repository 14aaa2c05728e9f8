from __future__ import annotations

import random
from typing import Any

import pytest

from blueprint_programs import blueprint_module
from standfast.evaluation.environments import BUILTIN, EnvironmentSpec, make
from standfast.evaluation.environments.specification import DiscreteActions
from standfast.evaluation.episode.rules import action_of

policies = blueprint_module("evaluation/policies.py")
EPISODES = 10


def success_rate(entry: EnvironmentSpec, policy: str, *, episodes: int = EPISODES) -> float:
    wins = sum(play(entry, policy, seed=100 + k, variant=977 * k) for k in range(episodes))
    return wins / episodes


def play(entry: EnvironmentSpec, policy: str, *, seed: int, variant: int) -> bool:
    task = policies.Task(entry.id, entry.actions.as_dict())
    session = policies.POLICIES[policy](task, random.Random(seed))
    environment = make(entry)
    observation = environment.reset(seed=seed, variant=variant)
    for _ in range(entry.max_steps):
        action = session.act(list(observation)).action
        step = environment.step(action_of(reply(entry, action), entry.actions))
        observation = step.observation
        if step.is_over:
            environment.close()
            return step.is_success
    raise AssertionError(f"{entry.id} did not end within its step limit")


def reply(entry: EnvironmentSpec, action: Any) -> dict[str, Any]:
    kind = "discrete" if isinstance(entry.actions, DiscreteActions) else "continuous"
    return {"action": {kind: {"u": action}}}


@pytest.mark.parametrize("entry", BUILTIN, ids=lambda e: e.id)
def test_k19_the_generalist_solves_every_environment_across_its_variants(entry: EnvironmentSpec) -> None:
    pytest.importorskip("mujoco")
    assert success_rate(entry, "generalist") >= 0.8


@pytest.mark.parametrize("entry", BUILTIN, ids=lambda e: e.id)
def test_k19_guessing_solves_no_environment(entry: EnvironmentSpec) -> None:
    pytest.importorskip("mujoco")
    assert success_rate(entry, "random") <= 0.3


@pytest.mark.parametrize("policy", ["balancer", "reacher"])
def test_k19_a_specialist_is_good_at_some_and_poor_at_others(policy: str) -> None:
    pytest.importorskip("mujoco")
    rates = [success_rate(entry, policy, episodes=5) for entry in BUILTIN]
    assert sum(rate >= 0.8 for rate in rates) >= 3
    assert sum(rate <= 0.2 for rate in rates) >= 3


def test_flaky_stalls_in_some_episodes_and_breaks_down_in_others() -> None:
    task = policies.Task("classic/cartpole", {"kind": "discrete", "n": 2})
    chance = random.Random(1)
    moods = [mood(policies.POLICIES["flaky"](task, chance)) for _ in range(200)]
    assert moods.count("stalls") / 200 == pytest.approx(policies.STALLING_SHARE, abs=0.07)
    assert moods.count("fails") / 200 == pytest.approx(policies.FAILING_SHARE, abs=0.07)


def mood(session: Any) -> str:
    try:
        delays = [session.act([0.0, 0.0, 0.0, 0.0]).delay_s for _ in range(30)]
    except policies.PolicyFailedError:
        return "fails"
    return "stalls" if max(delays) > 1 else "slow"
