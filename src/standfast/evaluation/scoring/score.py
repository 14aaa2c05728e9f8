"""From a round's rates to weights, or to a named reason why there are none (acceptance K16, K8).

``original`` reproduces the original's numbers. ``standfast``, the default, promises:

1. Nobody without a point has weight; nobody off the frontier has a point; nobody who never succeeded has
   one.
2. Where nobody has a point the outcome is Hold (or Burned, where the policy names a uid), never a uniform
   split.
3. Copies change nothing. Add any number of subjects with the rates of x, in its block or later. No copy wins
   a set, since it loses to x on each: it cannot exceed a threshold that is not below its own rate, nor
   dominate its equal. No winner loses a set to a copy: if it dominates x, it dominates the copy; if x did not
   exceed its thresholds, neither does the copy; if it exceeded x's and the copy is later, its own are higher
   still. ``circles.py`` says why no copy takes a set without a winner. So all points, and by ``weights.py``
   every digit of every weight and u16, stay as they were. (Who is x among equals of one block is decided
   by the uid; the others cannot tell.)
4. Raising one's own rate never takes a set or a point from oneself: every pair moves one way, towards
   whoever improved, and pairs of others are untouched.
5. Taking a loser away takes no set from a winner: a pair is decided by its two subjects alone.
6. Weights are finite, not negative, sum to 1 within 1e-9; as u16 they sum to exactly 65535.

An earlier perfect subject cannot be exceeded in its environment (``threshold.py``); it is displaced where a
later one is clearly better over all environments together (``frontier.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from standfast.evaluation.model import Scores
from standfast.evaluation.scoring.contest import Contest, decide_sets, hold_contest
from standfast.evaluation.scoring.policy import PolicyName, ScoringPolicy, SubsetScheme
from standfast.evaluation.scoring.table import table_of
from standfast.evaluation.scoring.weights import (
    largest_remainder_u16,
    original_u16,
    original_weights,
    qualified_weights,
)
from standfast.evaluation.scoring.winners import NOBODY, set_sizes

# 1,023 names; beyond that nobody reads them and a document doubles with each environment.
MAX_NAMED_ENVIRONMENTS = 10


@dataclass(frozen=True, slots=True)
class Weighted:
    """Somebody qualified: weights that sum to 1, and the same as whole numbers of 65535."""

    weights: Mapping[str, float]
    u16: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Burned:
    """Nobody qualified and the policy names who receives everything."""

    reason: str
    weights: Mapping[str, float]
    u16: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Hold:
    """Nobody qualified: publish nothing, keep the last good weights."""

    reason: str
    weights: Mapping[str, float] = field(default_factory=dict)
    u16: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScoreSheet:
    """What a round's rates mean under a policy; every mapping is in the order of ``uids``.

    ``dominates`` holds pairs (better, worse); ``thresholds[uid][environment]`` only what was measured;
    ``holders`` the winner of each single environment; ``subset_winners`` every set's, named by its
    environments joined with "|", and empty above MAX_NAMED_ENVIRONMENTS.
    """

    policy: ScoringPolicy
    scores: Scores
    uids: tuple[str, ...]
    epsilons: tuple[float, ...]
    frontier: tuple[str, ...]
    dominates: tuple[tuple[str, str], ...]
    thresholds: Mapping[str, Mapping[str, float]]
    holders: Mapping[str, str | None]
    subset_winners: Mapping[str, str | None]
    sets_won: Mapping[str, int]
    points: Mapping[str, float]
    outcome: Weighted | Burned | Hold


def score(scores: Scores, policy: ScoringPolicy | None = None) -> ScoreSheet:
    """Return the score sheet of ``scores`` under ``policy`` (``standfast``, temperature 1, linear).

    Raises ConfigError that names the key for any value that cannot be scored (``table.table_of``).
    """
    chosen = policy or ScoringPolicy()
    table = table_of(scores)
    contest = hold_contest(table, chosen.name)
    winners = decide_sets(contest, chosen.name)
    sets_won, points = _tally(winners, count=len(table.uids), scheme=chosen.scheme)
    by_uid = dict(zip(table.uids, points.tolist(), strict=True))
    dominating, dominated = np.nonzero(contest.dominates)
    names = table.uids
    return ScoreSheet(
        policy=chosen,
        scores=scores,
        uids=names,
        epsilons=tuple(contest.epsilons.tolist()),
        frontier=tuple(uid for uid, stays in zip(names, contest.on_frontier, strict=True) if stays),
        dominates=tuple((names[a], names[b]) for a, b in zip(dominating, dominated, strict=True)),
        thresholds=_measured_thresholds(contest),
        holders={name: _uid(names, winners[1 << e]) for e, name in enumerate(table.environments)},
        subset_winners=_named_winners(contest, winners),
        sets_won=dict(zip(names, sets_won.tolist(), strict=True)),
        points=by_uid,
        outcome=_outcome(
            by_uid, chosen, order=[names[i] for i in contest.order], has_success=bool(table.rates.any())
        ),
    )


def _tally(
    winners: NDArray[np.int32], *, count: int, scheme: SubsetScheme
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the sets won and the points of each subject; whole numbers, so exact in any order."""
    environments = len(winners).bit_length() - 1
    worth = np.array([0.0] + [scheme.worth(size) for size in range(1, environments + 1)])
    won = winners != NOBODY
    sets_won = np.bincount(winners[won], minlength=count)
    points = np.bincount(winners[won], weights=worth[set_sizes(environments)[won]], minlength=count)
    return sets_won.astype(np.int64), points.astype(np.float64)


def _outcome(
    points: Mapping[str, float], policy: ScoringPolicy, *, order: Sequence[str], has_success: bool
) -> Weighted | Burned | Hold:
    if not points:
        # The original replaced the last good weights by an empty list here, which nobody can have wanted.
        return _nobody("no subject was scored", policy)
    if policy.name is PolicyName.ORIGINAL:
        weights = original_weights(points, policy.temperature)
        return Weighted(weights, original_u16(weights))
    weights = qualified_weights(points, policy.temperature)
    if not weights and not has_success:
        return _nobody("no subject succeeded in any environment", policy)
    if not weights:
        return _nobody("every set of environments is held by a subject off the frontier", policy)
    # Equal remainders go by commitment, so that a uid's place in the list decides nothing.
    u16 = largest_remainder_u16({uid: weights[uid] for uid in order})
    return Weighted(weights, {uid: u16[uid] for uid in weights})


def _nobody(reason: str, policy: ScoringPolicy) -> Burned | Hold:
    text = f"nobody qualified: {reason}"
    if policy.burn_uid is None:
        return Hold(text)
    return Burned(text, weights={policy.burn_uid: 1.0}, u16={policy.burn_uid: 65535})


def _measured_thresholds(contest: Contest) -> dict[str, dict[str, float]]:
    table = contest.table
    rows = zip(table.uids, contest.thresholds.tolist(), table.measured.tolist(), strict=True)
    return {
        uid: {
            name: bar for name, bar, is_known in zip(table.environments, bars, known, strict=True) if is_known
        }
        for uid, bars, known in rows
    }


def _named_winners(contest: Contest, winners: NDArray[np.int32]) -> dict[str, str | None]:
    names = contest.table.environments
    if len(names) > MAX_NAMED_ENVIRONMENTS:
        return {}
    subsets = (s for size in range(1, len(names) + 1) for s in combinations(range(len(names)), size))
    return {
        "|".join(names[e] for e in subset): _uid(contest.table.uids, winners[sum(1 << e for e in subset)])
        for subset in subsets
    }


def _uid(uids: tuple[str, ...], index: np.int32) -> str | None:
    return None if index == NOBODY else uids[index]
