from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standfast.evaluation.environments import (
    BUILTIN,
    Catalogue,
    ContinuousActions,
    DiscreteActions,
    EnvironmentSpec,
    load_catalogue,
    make,
    spec_from_dict,
)
from standfast.evaluation.environments.criteria import Hold, Reach, Ruling, Survive
from standfast.evaluation.environments.variation import draw
from standfast.evaluation.ports import Action
from standfast.kernel.errors import ConfigError

GOOD = BUILTIN[0]


def rollout(spec: EnvironmentSpec, *, seed: int, variant: int, steps: int = 30) -> list[tuple[float, ...]]:
    action: Action = 0 if isinstance(spec.actions, DiscreteActions) else tuple(spec.actions.high)
    environment = make(spec)
    seen = [tuple(environment.reset(seed=seed, variant=variant))]
    for _ in range(steps):
        step = environment.step(action)
        seen.append((*step.observation, step.reward))
        if step.is_over:
            break
    environment.close()
    return seen


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""}, {"id": "a\nb"}, {"id": "x" * 129}, {"factory": "no_colon"}, {"factory": ":x"},
        {"observation_size": 0}, {"observation_size": 10**6}, {"max_steps": 0}, {"max_steps": 10**6},
        {"variants": 0}, {"actions": DiscreteActions(0)}, {"actions": ContinuousActions((), ())},
        {"actions": ContinuousActions((0.0,), (0.0,))}, {"actions": ContinuousActions((0.0,), (math.inf,))},
        {"actions": ContinuousActions((0.0, 1.0), (2.0,))},
        {"actions": ContinuousActions((math.nan,), (1.0,))},
    ],
)  # fmt: skip
def test_k9_an_entry_with_an_impossible_value_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        replace(GOOD, **change)


def test_an_unknown_environment_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'classic/cartpole'"):
        Catalogue().get("clasic/cartpol")


def test_an_id_that_is_taken_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        Catalogue([*BUILTIN, replace(GOOD, factory="other:make")])


def test_an_entry_survives_the_way_to_the_process_of_its_episode() -> None:
    for entry in BUILTIN:
        assert spec_from_dict(entry.as_dict()) == entry


def offer(monkeypatch: pytest.MonkeyPatch, folder: Path, value: str) -> None:
    """Install a distribution that offers ``value`` as the environment package ``extra``."""
    information = folder / "extra-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[standfast.environments]\nextra = {value}\n")
    monkeypatch.syspath_prepend(folder)


THIRD_PARTY = [replace(GOOD, id="extra/one"), replace(GOOD, id="extra/two")]
NOT_A_SPEC = ["extra/one"]


def test_k19_third_parties_are_used_only_when_they_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer(monkeypatch, tmp_path, f"{__name__}:THIRD_PARTY")
    assert load_catalogue().ids == Catalogue().ids
    assert load_catalogue(["extra"]).ids[-2:] == ("extra/one", "extra/two")
    with pytest.raises(ConfigError, match="did you mean 'extra'"):
        load_catalogue(["extr"])


@pytest.mark.parametrize("value", [f"{__name__}:NOT_A_SPEC", f"{__name__}:absent", "no_such_module:x"])
def test_k19_a_broken_third_party_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str
) -> None:
    offer(monkeypatch, tmp_path, value)
    with pytest.raises(ConfigError, match="'extra' cannot be used"):
        load_catalogue(["extra"])


def test_a_missing_simulator_is_answered_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A None in sys.modules is the import system's own way to say that a module is not there.
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(ConfigError, match=r"pip install .*standfast\[environments\]"):
        make(Catalogue().get("mujoco/reacher"))


def test_a_factory_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="has no absent"):
        make(replace(GOOD, factory="standfast.evaluation.environments.classic:absent"))


@pytest.mark.parametrize("entry", BUILTIN, ids=lambda e: e.id)
def test_k19_an_environment_is_decided_by_seed_and_variant_alone(entry: EnvironmentSpec) -> None:
    pytest.importorskip("mujoco")
    first = rollout(entry, seed=5, variant=7)
    assert first == rollout(entry, seed=5, variant=7)
    assert first != rollout(entry, seed=6, variant=7), "the seed changes nothing"
    assert first != rollout(entry, seed=5, variant=8), "the variant changes nothing"
    assert first[0] == rollout(entry, seed=5, variant=8)[0], "the variant shows before the first action"
    assert len(first[0]) == entry.observation_size


@pytest.mark.parametrize("entry", BUILTIN, ids=lambda e: e.id)
def test_k19_the_declared_space_is_the_engines_own(entry: EnvironmentSpec) -> None:
    pytest.importorskip("mujoco")
    environment = make(entry)
    engine = environment._engine  # type: ignore[attr-defined]
    if isinstance(entry.actions, DiscreteActions):
        assert engine.action_space.n == entry.actions.n
    else:
        assert tuple(engine.action_space.low) == entry.actions.low
        assert tuple(engine.action_space.high) == entry.actions.high
    environment.close()


def test_a_variant_is_the_same_world_in_every_release() -> None:
    # Recorded once: another value here means that every recorded variant has become another world.
    assert draw("classic/cartpole", 7, {"gravity": (8.0, 12.0)}) == {"gravity": 11.049357582777075}


@given(variant=st.integers(0, 2**31), low=st.floats(-10, 10), width=st.floats(0, 10))
def test_a_drawn_quantity_lies_in_its_range_and_depends_on_no_other(
    variant: int, low: float, width: float
) -> None:
    both = draw("x", variant, {"a": (low, low + width), "b": (0.0, 1.0)})
    assert low <= both["a"] <= low + width
    assert draw("x", variant, {"b": (0.0, 1.0)}) == {"b": both["b"]}


def test_criteria_rule_as_they_say() -> None:
    assert Survive().rule([], has_ended=False, is_last=True) == Ruling(is_over=True, is_success=True)
    assert Survive().rule([], has_ended=True, is_last=True) == Ruling(is_over=True, is_success=False)
    assert Survive().rule([], has_ended=False, is_last=False) == Ruling(is_over=False, is_success=False)
    assert Reach().rule([], has_ended=True, is_last=False) == Ruling(is_over=True, is_success=True)
    assert Reach().rule([], has_ended=False, is_last=True) == Ruling(is_over=True, is_success=False)


def test_a_condition_must_hold_without_a_break() -> None:
    hold = Hold(lambda seen: seen[0] > 0, steps=2)
    rulings = [hold.rule([value], has_ended=False, is_last=False).is_success for value in (1, -1, 1, 1)]
    assert rulings == [False, False, False, True]
    assert Hold(lambda _: True, steps=9).rule([0], has_ended=False, is_last=True) == Ruling(True, False)


def test_i6_an_unstable_simulation_shows_and_is_not_put_back_in_silence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("mujoco")
    # MuJoCo writes a log where it stands when a simulation goes wrong.
    monkeypatch.chdir(tmp_path)
    environment = make(Catalogue().get("mujoco/reacher"))
    environment.reset(seed=1, variant=1)
    environment._engine.data.qvel[0] = math.inf  # type: ignore[attr-defined]
    seen = environment.step((0.0, 0.0)).observation
    environment.close()
    assert not all(math.isfinite(number) for number in seen)
