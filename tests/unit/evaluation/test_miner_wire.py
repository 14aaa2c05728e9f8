"""What kinitro's miners say and are told has the recorded shape here too (K18)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fixtures_dir import fixture
from standfast.evaluation.environments import ContinuousActions, DiscreteActions
from standfast.evaluation.episode.rules import action_of, episode_id_of


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return dict(json.loads(fixture("evaluation/wire/kinitro_miner_protocol.json").read_text()))


def test_k18_the_recorded_reset_is_understood(recorded: dict[str, Any]) -> None:
    assert episode_id_of(recorded["reset"]["response"]) == "mock-episode"


def test_k18_an_action_is_read_from_where_the_recorded_one_has_it(recorded: dict[str, Any]) -> None:
    action = recorded["act"]["response"]["action"]
    assert set(action) == {"continuous", "discrete"}
    moved = {"action": {**action, "continuous": {**action["continuous"], "u": [0.5]}}}
    assert action_of(moved, ContinuousActions((-1.0,), (1.0,))) == (0.5,)
    chosen = {"action": {**action, "discrete": {"u": 2}}}
    assert action_of(chosen, DiscreteActions(3)) == 2
