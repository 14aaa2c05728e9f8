"""One round's rates as a matrix, checked once.

1. Every rate is a finite number in [0, 1]; what was not measured counts as 0.
2. A subject without a block comes after all that have one.
3. A bad value is a ConfigError that names the key of the scoring document it would have in there.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from standfast.evaluation.model import Scores
from standfast.kernel.errors import ConfigError

# 2 ** 20 sets take 30 MB and at worst a second; each environment more doubles both.
MAX_ENVIRONMENTS = 20
# Pairwise tables are quadratic: 4,096 subjects take 350 MB and two seconds.
MAX_SUBJECTS = 4096
MAX_EPISODES = 1_000_000_000
MAX_BLOCK = 2**63 - 1
_UID = re.compile(r"0|[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True, eq=False)
class RateTable:
    """``rates[i, e]`` and ``measured[i, e]`` of subject ``uids[i]`` in ``environments[e]``.

    ``blocks[i]`` is ``math.inf`` where no block is known.
    """

    uids: tuple[str, ...]
    environments: tuple[str, ...]
    rates: NDArray[np.float64]
    measured: NDArray[np.bool_]
    blocks: tuple[float, ...]
    episodes: int


def nearest(name: str, known: Iterable[str]) -> str:
    """Return advice that names the known name nearest to ``name``, or all known names."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(names) or 'none'}"


def require_uid(value: object, *, key: str) -> str:
    """Return a uid as canonical decimal text; ConfigError, naming ``key``, for anything else."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not _UID.fullmatch(text):
        raise ConfigError(f"{key} has the uid {value!r:.60}", fix="write uids as whole numbers from 0 on")
    return text


def require_rate(value: object, *, key: str) -> float:
    """Return ``value`` as a float in [0, 1]; ConfigError, naming ``key``, for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN fails both comparisons, so it needs no case of its own.
    if not is_number or not 0 <= value <= 1:  # type: ignore[operator]
        raise ConfigError(f"{key} is {value!r:.60}", fix="give a success rate between 0 and 1")
    return float(value)  # type: ignore[arg-type]


def require_count(value: object, *, key: str, least: int, most: int) -> int:
    """Return ``value`` as an int within the bounds; ConfigError, naming ``key``, for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{key} is {value!r:.60}", fix=f"give a whole number from {least} to {most}")
    return value


def table_of(scores: Scores) -> RateTable:
    """Return ``scores`` as a checked table, subjects in the order of ``scores.rates``.

    Raises ConfigError that names the key for an empty, duplicate or unknown environment, a rate that is
    not a number in [0, 1], a uid that is not a number, a block without rates, fewer than one episode,
    or a round too large to score.
    """
    environments = _environments(scores.environments)
    uids = tuple(require_uid(uid, key="miner_scores") for uid in scores.rates)
    if len(uids) > MAX_SUBJECTS:
        raise ConfigError(f"miner_scores has {len(uids)} subjects", fix=f"score at most {MAX_SUBJECTS}")
    rates = np.zeros((len(uids), len(environments)))
    measured = np.zeros(rates.shape, dtype=np.bool_)
    column = {name: index for index, name in enumerate(environments)}
    for row, (uid, by_environment) in enumerate(scores.rates.items()):
        for name, rate in by_environment.items():
            key = f"miner_scores.{uid}.{name}"
            if name not in column:
                raise ConfigError(f"{key} is not in env_ids", fix=nearest(name, environments))
            rates[row, column[name]] = require_rate(rate, key=key)
            measured[row, column[name]] = True
    return RateTable(
        uids=uids,
        environments=environments,
        rates=rates,
        measured=measured,
        blocks=_blocks(scores.first_blocks, uids),
        episodes=require_count(scores.episodes_per_env, key="episodes_per_env", least=1, most=MAX_EPISODES),
    )


def _environments(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ConfigError("env_ids is empty", fix="name at least one environment")
    if len(names) > MAX_ENVIRONMENTS:
        raise ConfigError(
            f"env_ids has {len(names)} environments",
            why="every set of them is scored, and one more doubles their number",
            fix=f"score at most {MAX_ENVIRONMENTS}",
        )
    for name in names:
        if not isinstance(name, str) or not name or "|" in name:
            raise ConfigError(f"env_ids has {name!r}", fix="use a non-empty name without '|'")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"env_ids has {twice[0]!r} more than once", fix="name each environment once")
    return names


def _blocks(first_blocks: Mapping[str, int], uids: tuple[str, ...]) -> tuple[float, ...]:
    known = set(uids)
    for uid, block in first_blocks.items():
        if uid not in known:
            raise ConfigError(f"first_blocks.{uid} has no entry in miner_scores", fix=nearest(uid, uids))
        require_count(block, key=f"first_blocks.{uid}", least=0, most=MAX_BLOCK)
    # Not converted to float: two blocks above 2 ** 53 must not become one.
    return tuple(first_blocks.get(uid, math.inf) for uid in uids)
