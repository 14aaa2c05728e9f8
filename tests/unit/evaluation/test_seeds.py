"""Seeds: committed before, recomputable after, paired, and refused where they do not follow (K1 c, d)."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixture_cases import cases
from standfast.evaluation.seeds import (
    SeedClaim,
    SeedsRefuted,
    SeedsVerified,
    commit,
    derive_seed,
    original_seed,
    verify,
)
from standfast.kernel.errors import ConfigError

SECRET = bytes(range(32))
COMMITMENT = commit(SECRET, round_id="7")


def claim(environment="reach", variant=3, episode=0, secret=SECRET):
    seed = derive_seed(secret, environment=environment, variant=variant, episode=episode)
    return SeedClaim(environment, variant, episode, seed)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_k1_a_secret_of_another_length_is_refused(length):
    with pytest.raises(ConfigError, match=f"{length} bytes"):
        commit(bytes(length), round_id="7")
    with pytest.raises(ConfigError, match=f"{length} bytes"):
        derive_seed(bytes(length), environment="a", variant=0, episode=0)
    outcome = verify(bytes(length), commitment=COMMITMENT, round_id="7", claims=[claim()])
    assert outcome == SeedsRefuted((f"the secret has {length} bytes, not 32",))


def test_k1_no_claims_prove_nothing():
    outcome = verify(SECRET, commitment=COMMITMENT, round_id="7", claims=[])
    assert outcome == SeedsRefuted(("no seed was claimed",))


def test_k1_another_secret_another_round_or_another_seed_is_refuted_by_name():
    other = bytes(reversed(SECRET))
    assert isinstance(verify(other, commitment=COMMITMENT, round_id="7", claims=[claim()]), SeedsRefuted)
    moved = verify(SECRET, commitment=COMMITMENT, round_id="8", claims=[claim()])
    assert moved == SeedsRefuted(("the commitment of round 8 is not that of the revealed secret",))
    right = claim()
    wrong = dataclasses.replace(right, seed=right.seed ^ 1)
    refuted = verify(SECRET, commitment=COMMITMENT, round_id="7", claims=[right, wrong])
    assert refuted == SeedsRefuted((f"reach variant 3 episode 0 used seed {wrong.seed}, not {right.seed}",))


def test_k1_the_revealed_secret_verifies_every_seed():
    claims = [claim(environment=e, variant=v, episode=n) for e in "ab" for v in range(3) for n in range(5)]
    assert verify(SECRET, commitment=COMMITMENT, round_id="7", claims=claims) == SeedsVerified(30)


def test_k1_a_literals_the_same_in_every_process_and_release():
    assert COMMITMENT == "eb750fecd5b60cfb9c61d2fab04586db69357c2706657dba48857380228c6c0a"
    assert claim().seed == 1811936629


@given(
    st.tuples(st.text(max_size=5), st.integers(0, 50), st.integers(0, 50)),
    st.tuples(st.text(max_size=5), st.integers(0, 50), st.integers(0, 50)),
)
def test_k1_d_same_episode_same_seed_for_everybody_other_episode_other_seed(one, other):
    first, second = (derive_seed(SECRET, environment=e, variant=v, episode=n) for e, v, n in (one, other))
    assert 0 <= first < 2**31
    # 2 ** -31 is the chance that two different episodes meet.
    assert (first == second) == (one == other)


@pytest.mark.parametrize("case", cases("evaluation/seed.json"))
def test_k1_the_originals_seeds_are_recomputed(case):
    assert original_seed(case["task_uuid"]) == case["seed"]


def test_k1_the_originals_seed_of_nothing_without_a_fixture():
    assert original_seed("") == 1672528962
