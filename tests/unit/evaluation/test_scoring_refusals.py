"""What scoring refuses, and that it names the key (K8, K16)."""

from __future__ import annotations

import copy
import math

import pytest

from standfast.evaluation.model import Scores
from standfast.evaluation.scoring import PolicyName, ScoringPolicy, require_temperature, score, score_document
from standfast.evaluation.scoring.weights import largest_remainder_u16, original_weights, qualified_weights
from standfast.kernel.errors import ConfigError

DOCUMENT = {
    "env_ids": ["a", "b"],
    "uid_order": [0, 1],
    "miner_scores": {"0": {"a": 0.8, "b": 0.8}, "1": {"a": 0.5}},
    "first_blocks": {"0": 1000, "1": 2000},
    "episodes_per_env": 50,
    "temperature": 1.0,
    "subset_weight_scheme": "linear",
    "policy": "standfast",
}
BAD_TEMPERATURES = [0, 0.0, -1, -0.5, math.nan, math.inf, -math.inf, "abc", "1.0", None, True, [], 10**400]


@pytest.mark.parametrize("temperature", BAD_TEMPERATURES, ids=lambda t: repr(t)[:20])
def test_k8_a_temperature_that_is_not_positive_and_finite_is_refused_everywhere(temperature):
    with pytest.raises(ConfigError, match="temperature"):
        require_temperature(temperature)
    with pytest.raises(ConfigError, match="temperature"):
        original_weights({"1": 1.0, "2": 0.0}, temperature)
    with pytest.raises(ConfigError, match="temperature"):
        qualified_weights({"1": 1.0, "2": 0.0}, temperature)
    for policy in PolicyName:
        with pytest.raises(ConfigError, match="temperature"):
            ScoringPolicy(name=policy, temperature=temperature)
        with pytest.raises(ConfigError, match="temperature"):
            score_document({**DOCUMENT, "temperature": temperature, "policy": str(policy)})


def _set(*path_and_value):
    *path, value = path_and_value

    def change(document):
        target = document
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return change


BAD_DOCUMENTS = {
    "unknown key": (_set("temprature", 1.0), "did you mean 'temperature'"),
    "unknown policy": (_set("policy", "standfasst"), "policy is 'standfasst'.*did you mean 'standfast'"),
    "policy of a wrong type": (_set("policy", ["original"]), "policy is"),
    "unknown scheme": (_set("subset_weight_scheme", "liner"), "did you mean 'linear'"),
    "unknown environment": (_set("miner_scores", "1", "bb", 0.1), "miner_scores.1.bb is not in env_ids"),
    "rate above 1": (_set("miner_scores", "1", "a", 1.01), "miner_scores.1.a is 1.01"),
    "rate below 0": (_set("miner_scores", "1", "a", -0.01), "miner_scores.1.a"),
    "rate NaN": (_set("miner_scores", "1", "a", math.nan), "miner_scores.1.a is nan"),
    "rate infinite": (_set("miner_scores", "1", "a", math.inf), "miner_scores.1.a is inf"),
    "rate text": (_set("miner_scores", "1", "a", "0.5"), "miner_scores.1.a"),
    "rate bool": (_set("miner_scores", "1", "a", True), "miner_scores.1.a"),
    "rate null": (_set("miner_scores", "1", "a", None), "miner_scores.1.a"),
    "rates not an object": (_set("miner_scores", "1", [0.5]), "miner_scores.1 is not an object"),
    "scores not an object": (_set("miner_scores", []), "miner_scores is not an object"),
    "scores empty": (_set("miner_scores", {}), "miner_scores is empty"),
    "uid not a number": (_set("miner_scores", "alice", {}), "uid 'alice'"),
    "uid with a zero in front": (_set("miner_scores", "01", {}), "uid '01'"),
    "uid negative": (_set("miner_scores", -1, {}), "uid -1"),
    "uid twice": (_set("miner_scores", 1, {}), "uid 1 twice"),
    "uid too long": (_set("miner_scores", "9" * 5000, {}), "miner_scores has the uid"),
    "environments empty": (_set("env_ids", []), "env_ids is empty"),
    "environments text": (_set("env_ids", "ab"), "env_ids is not a list"),
    "environment twice": (_set("env_ids", ["a", "b", "a"]), "env_ids has 'a' more than once"),
    "environment not text": (_set("env_ids", ["a", "b", 3]), "env_ids has 3"),
    "environment with a bar": (_set("env_ids", ["a", "b", "a|b"]), "env_ids has 'a|b'"),
    "environments too many": (_set("env_ids", [f"e{i}" for i in range(21)]), "21 environments"),
    "episodes negative": (_set("episodes_per_env", -1), "episodes_per_env is -1"),
    "episodes zero": (_set("episodes_per_env", 0), "episodes_per_env is 0"),
    "episodes a fraction": (_set("episodes_per_env", 1.5), "episodes_per_env is 1.5"),
    "episodes NaN": (_set("episodes_per_env", math.nan), "episodes_per_env is nan"),
    "episodes enormous": (_set("episodes_per_env", 10**400), "episodes_per_env"),
    "order names a stranger": (_set("uid_order", [0, 1, 7]), "uid_order has 7"),
    "order names one twice": (_set("uid_order", [0, 1, 1]), "uid_order has 1 more than once"),
    "order forgets one": (_set("uid_order", [0]), "uid_order lacks 1"),
    "order not a list": (_set("uid_order", "01"), "uid_order is not a list"),
    "block of a stranger": (_set("first_blocks", "7", 5), "first_blocks.7"),
    "block negative": (_set("first_blocks", "1", -5), "first_blocks.1 is -5"),
    "block a fraction": (_set("first_blocks", "1", 5.5), "first_blocks.1"),
    "blocks not an object": (_set("first_blocks", [1, 2]), "first_blocks is not an object"),
}


@pytest.mark.parametrize("name", BAD_DOCUMENTS)
@pytest.mark.parametrize("policy", list(PolicyName))
def test_k16_a_bad_document_is_refused_by_the_name_of_the_key(name, policy):
    change, message = BAD_DOCUMENTS[name]
    document = {**copy.deepcopy(DOCUMENT), "policy": str(policy)}
    change(document)
    with pytest.raises(ConfigError, match=message.replace("|", "[|]")):
        score_document(document)


@pytest.mark.parametrize("key", ["env_ids", "miner_scores", "first_blocks", "episodes_per_env"])
def test_k16_a_missing_key_is_named(key):
    document = {name: value for name, value in DOCUMENT.items() if name != key}
    with pytest.raises(ConfigError, match=f"{key} is missing"):
        score_document(document)


def test_k16_a_document_that_is_no_object_is_refused():
    with pytest.raises(ConfigError, match="not an object"):
        score_document([])  # type: ignore[arg-type]


def test_k16_the_good_document_beside_the_bad_ones_is_scored():
    assert score_document(copy.deepcopy(DOCUMENT))["outcome"] == "weights"


def test_k16_defaults_are_linear_standfast_and_temperature_1():
    full = score_document(copy.deepcopy(DOCUMENT))
    for key in ("uid_order", "temperature", "subset_weight_scheme", "policy"):
        assert score_document({name: value for name, value in DOCUMENT.items() if name != key}) == full


def test_k16_the_function_refuses_what_the_document_refuses():
    good = Scores(environments=("a",), rates={"0": {"a": 0.5}}, first_blocks={}, episodes_per_env=10)
    assert score(good).outcome.weights == {"0": 1.0}
    for rate in (math.nan, math.inf, -0.1, 1.1):
        with pytest.raises(ConfigError, match=r"miner_scores\.0\.a is"):
            score(Scores(("a",), {"0": {"a": rate}}, {}, 10))


@pytest.mark.parametrize("weights", [{}, {"0": 0.0}, {"0": -1.0, "1": 2.0}])
def test_k8_there_is_nothing_to_divide_without_a_positive_sum(weights):
    with pytest.raises(ValueError, match="positive sum"):
        largest_remainder_u16(weights)
