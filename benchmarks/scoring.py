"""How long scoring takes, beside the loops it replaces: `python benchmarks/scoring.py`.

The plain loops (subset by subset, candidate by candidate, pair by pair, as the original runs them) are
measured where they end within seconds; for 256 subjects in 16 environments they are measured on sets drawn at
random, and the mean time of a set is multiplied by the number of sets. Where they are measured, they must
name the same winners, or this stops.
"""

from __future__ import annotations

import argparse
import random
import resource
import time

from standfast.evaluation.model import Scores
from standfast.evaluation.scoring import PolicyName, ScoringPolicy, SubsetScheme, score
from standfast.evaluation.scoring.contest import decide_sets, hold_contest
from standfast.evaluation.scoring.table import table_of
from standfast.evaluation.scoring.threshold import threshold

SIZES = ((8, 4), (64, 8), (256, 8), (256, 16))
REPEATS = 5


def make_round(subjects: int, environments: int, seed: int) -> Scores:
    draw = random.Random(seed)
    names = tuple(f"e{index}" for index in range(environments))
    rates = {str(uid): {name: draw.randint(20, 40) / 50 for name in names} for uid in range(subjects)}
    blocks = {uid: draw.randint(1, 2 * subjects) for uid in rates}
    return Scores(names, rates, blocks, episodes_per_env=50)


class PlainLoops:
    """The original's way to a set's winner."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores
        self.bars = {
            uid: {name: threshold(rate, scores.episodes_per_env) for name, rate in row.items()}
            for uid, row in scores.rates.items()
        }
        self.order = sorted(scores.rates, key=lambda uid: (scores.first_blocks[uid], int(uid)))

    def winner(self, names: tuple[str, ...]) -> str | None:
        return next((one for one in self.order if self._holds_all(one, names)), None)

    def _holds_all(self, one: str, names: tuple[str, ...]) -> bool:
        return all(self._holds(one, other, names) for other in self.order if other != one)

    def _holds(self, one: str, other: str, names: tuple[str, ...]) -> bool:
        blocks, rates = self.scores.first_blocks, self.scores.rates
        if blocks[one] <= blocks[other]:
            return sum(rates[other][name] > self.bars[one][name] for name in names) < len(names)
        return sum(rates[one][name] > self.bars[other][name] for name in names) == len(names)


def best_of(scores: Scores, policy: ScoringPolicy) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        score(scores, policy)
        times.append(time.perf_counter() - started)
    return min(times)


def time_plain_loops(scores: Scores, sample: int) -> tuple[float, bool]:
    """Return seconds for all sets, and whether they were measured rather than extrapolated."""
    count = 1 << len(scores.environments)
    sets = list(range(1, count))
    measured = len(sets) <= sample
    chosen = sets if measured else random.Random(1).sample(sets, sample)
    contest = hold_contest(table_of(scores), PolicyName.ORIGINAL)
    fast = decide_sets(contest, PolicyName.ORIGINAL)
    loops = PlainLoops(scores)
    started = time.perf_counter()
    found = [
        loops.winner(tuple(name for e, name in enumerate(scores.environments) if one >> e & 1))
        for one in chosen
    ]
    seconds = time.perf_counter() - started
    expected = [None if fast[one] < 0 else contest.table.uids[fast[one]] for one in chosen]
    assert found == expected, "the fast way and the plain loops disagree"
    return seconds * len(sets) / len(chosen), measured


def main() -> None:
    parser = argparse.ArgumentParser(description="Time scoring beside the loops it replaces.")
    parser.add_argument("--sample", type=int, default=300, help="sets to measure the plain loops on")
    sample = parser.parse_args().sample
    titles = ("subjects", "environments", "policy", "scheme", "seconds", "plain loops, seconds")
    print("{:>8} {:>12} {:>10} {:>12} {:>9} {:>26}".format(*titles))
    for subjects, environments in SIZES:
        scores = make_round(subjects, environments, seed=subjects)
        plain, measured = time_plain_loops(scores, sample)
        note = f"{plain:.2f} {'measured' if measured else 'extrapolated'}"
        for name in PolicyName:
            for scheme in SubsetScheme:
                seconds = best_of(scores, ScoringPolicy(name=name, scheme=scheme))
                shown = note if name is PolicyName.ORIGINAL else "the original's rule only"
                print(f"{subjects:>8} {environments:>12} {name:>10} {scheme:>12} {seconds:>9.4f} {shown:>26}")
    print(
        f"largest memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )


if __name__ == "__main__":
    main()
