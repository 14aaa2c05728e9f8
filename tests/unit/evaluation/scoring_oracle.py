"""The rules of scoring written down as slowly and plainly as possible, to hold the fast ones against."""

from __future__ import annotations

import math
from itertools import combinations

from hypothesis import strategies as st

from standfast.evaluation.model import Scores
from standfast.evaluation.scoring.threshold import fair_threshold, threshold

ENVIRONMENTS = ("a", "b", "c", "d")


def subsets(names):
    return [s for size in range(1, len(names) + 1) for s in combinations(names, size)]


def block_of(scores, uid):
    return scores.first_blocks.get(uid, math.inf)


def original_winners(scores):
    """Loop as the original does: subset by subset, candidate by candidate, pair by pair."""
    bars = {
        uid: {e: threshold(rate, scores.episodes_per_env) for e, rate in rates.items()}
        for uid, rates in scores.rates.items()
    }
    order = sorted(scores.rates, key=lambda uid: (block_of(scores, uid), int(uid)))

    def takes(later, earlier, subset):
        return all(
            scores.rates[later].get(e, 0.0) > bars[earlier].get(e, scores.rates[earlier].get(e, 0.0) + 0.02)
            for e in subset
        )

    def holds(candidate, other, subset):
        if block_of(scores, candidate) <= block_of(scores, other):
            return not takes(other, candidate, subset)
        return takes(candidate, other, subset)

    return {
        "|".join(subset): next((c for c in order if all(holds(c, o, subset) for o in order if o != c)), None)
        for subset in subsets(scores.environments)
    }


def clearly_dominates(scores, a, b):
    epsilon = max(0.02, 1 / math.sqrt(scores.episodes_per_env))
    ra = [scores.rates[a].get(e, 0.0) for e in scores.environments]
    rb = [scores.rates[b].get(e, 0.0) for e in scores.environments]
    count = len(ra)
    return (
        all(x >= y - epsilon for x, y in zip(ra, rb, strict=True))
        and any(x > y + epsilon for x, y in zip(ra, rb, strict=True))
        and math.fsum(ra) / count > math.fsum(rb) / count + 2 * epsilon / math.sqrt(count)
    )


def standfast_winners(scores):
    rate = {uid: {e: r.get(e, 0.0) for e in scores.environments} for uid, r in scores.rates.items()}
    bar = {
        uid: {e: fair_threshold(r, scores.episodes_per_env) for e, r in row.items()}
        for uid, row in rate.items()
    }

    def key(uid):
        row = rate[uid].values()
        return block_of(scores, uid), -math.fsum(row), [-r for r in row], int(uid)

    order = sorted(rate, key=key)
    dominates = {(a, b) for a in order for b in order if a != b and clearly_dominates(scores, a, b)}

    def exceeds(later, earlier, subset):
        return all(rate[later][e] > bar[earlier][e] for e in subset)

    def beats(a, b, subset):
        if (a, b) in dominates or (b, a) in dominates:
            return (a, b) in dominates
        if order.index(a) < order.index(b):
            return not exceeds(b, a, subset)
        return exceeds(a, b, subset)

    def holder(subset):
        held = None
        for uid in order:
            if all(rate[uid][e] > 0 for e in subset) and (held is None or exceeds(uid, held, subset)):
                held = uid
        return None if any((a, held) in dominates for a in order) else held

    winners = {}
    for subset in subsets(scores.environments):
        found = [
            c
            for c in order
            if all(rate[c][e] > 0 for e in subset) and all(beats(c, o, subset) for o in order if o != c)
        ]
        assert len(found) <= 1
        winners["|".join(subset)] = found[0] if found else holder(subset)
    return winners


@st.composite
def rounds(draw, *, most_subjects=7, most_environments=4):
    """Small rounds with many ties, equal and missing blocks, and environments that were not measured."""
    environments = ENVIRONMENTS[: draw(st.integers(1, most_environments))]
    episodes = draw(st.sampled_from([1, 2, 10, 50, 200, 1000]))
    steps = draw(st.sampled_from([4, 10, 50]))
    rate = st.integers(0, steps).map(lambda k: k / steps)
    uids = draw(st.lists(st.integers(0, 30), unique=True, min_size=1, max_size=most_subjects))
    rates = {
        str(uid): draw(st.dictionaries(st.sampled_from(environments), rate, max_size=len(environments)))
        for uid in uids
    }
    blocks = {uid: draw(st.integers(0, 4)) for uid in rates if draw(st.integers(0, 5)) > 0}
    return Scores(environments=environments, rates=rates, first_blocks=blocks, episodes_per_env=episodes)
