"""The scoring document of ``standfast score``: what may stand in it, and what is printed for it.

Names are those of the original's own records, so that its documents can be scored as they are. Nothing is
guessed: an unknown key, an unknown environment or a number out of range is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from standfast.evaluation.model import Scores
from standfast.evaluation.scoring.policy import (
    PolicyName,
    ScoringPolicy,
    SubsetScheme,
    require_temperature,
)
from standfast.evaluation.scoring.score import (
    MAX_NAMED_ENVIRONMENTS,
    Burned,
    Hold,
    ScoreSheet,
    Weighted,
    score,
)
from standfast.evaluation.scoring.table import nearest, require_uid
from standfast.kernel.errors import ConfigError

REQUIRED_KEYS = ("env_ids", "miner_scores", "first_blocks", "episodes_per_env")
OPTIONAL_KEYS = ("uid_order", "temperature", "subset_weight_scheme", "policy")
# 64 subjects make 2,016 pairs; 256 would make 32,640 and bury everything else.
MAX_NAMED_SUBJECTS = 64
_OUTCOMES: Mapping[type, str] = {Weighted: "weights", Burned: "burn", Hold: "hold"}


def score_document(document: Mapping[str, object]) -> dict[str, object]:
    """Score ``document`` and return plain JSON values under the original's names, plus policy and outcome.

    Keys: env_ids, uid_order (optional: the order of miner_scores), miner_scores, first_blocks,
    episodes_per_env, temperature (1.0), subset_weight_scheme (linear), policy (standfast). Uids may be
    numbers or text. Raises ConfigError that names the key for everything that it cannot score.
    """
    scores, policy = read_document(document)
    return report(score(scores, policy))


def read_document(document: Mapping[str, object]) -> tuple[Scores, ScoringPolicy]:
    """Return what ``document`` asks to score, and by which policy; ConfigError names a bad key."""
    _check_keys(document)
    rates = _rates(document["miner_scores"])
    if not rates:
        raise ConfigError("miner_scores is empty", fix="give the rates of at least one subject")
    order = _uid_order(document.get("uid_order"), rates)
    blocks = _mapping(document["first_blocks"], key="first_blocks")
    environments: Any = tuple(_sequence(document["env_ids"], key="env_ids"))
    scores = Scores(
        environments=environments,
        rates={uid: rates[uid] for uid in order},
        first_blocks=_by_uid(blocks, key="first_blocks"),
        # table_of refuses what is not a whole number, by the same name.
        episodes_per_env=document["episodes_per_env"],  # type: ignore[arg-type]
    )
    return scores, _policy(document)


def report(sheet: ScoreSheet) -> dict[str, object]:
    """Return ``sheet`` as plain JSON values under the original's names.

    What is too long to print is left out and named under "omitted".
    """
    u16 = sheet.outcome.u16
    printed: dict[str, object] = {
        "policy": str(sheet.policy.name),
        "outcome": _OUTCOMES[type(sheet.outcome)],
        "epsilons": list(sheet.epsilons),
        "frontier_uids": [int(uid) for uid in sheet.frontier],
        "dominates": [[int(a), int(b)] for a, b in sheet.dominates],
        "thresholds": {uid: dict(bars) for uid, bars in sheet.thresholds.items()},
        "subset_winners": {
            name: None if uid is None else int(uid) for name, uid in sheet.subset_winners.items()
        },
        "subset_scores": dict(sheet.points),
        "weights": dict(sheet.outcome.weights),
        "u16": {"uids": [int(uid) for uid in u16], "values": list(u16.values())},
    }
    if not isinstance(sheet.outcome, Weighted):
        printed["reason"] = sheet.outcome.reason
    omitted = {}
    if len(sheet.holders) > MAX_NAMED_ENVIRONMENTS:
        omitted["subset_winners"] = f"more than {MAX_NAMED_ENVIRONMENTS} environments"
    if len(sheet.uids) > MAX_NAMED_SUBJECTS:
        omitted["dominates"] = f"more than {MAX_NAMED_SUBJECTS} subjects"
    for name in omitted:
        del printed[name]
    return {**printed, "omitted": omitted} if omitted else printed


def _check_keys(document: Mapping[str, object]) -> None:
    if not isinstance(document, Mapping):
        raise ConfigError("the scoring document is not an object", fix="give a JSON object")
    known = (*REQUIRED_KEYS, *OPTIONAL_KEYS)
    for key in document:
        if key not in known:
            raise ConfigError(f"{key!r:.60} is not a key of a scoring document", fix=nearest(str(key), known))
    for key in REQUIRED_KEYS:
        if key not in document:
            raise ConfigError(f"{key} is missing from the scoring document", fix=f"add {key}")


def _policy(document: Mapping[str, object]) -> ScoringPolicy:
    scheme = _word(
        document, "subset_weight_scheme", [str(s) for s in SubsetScheme], default=SubsetScheme.LINEAR
    )
    name = _word(document, "policy", [str(p) for p in PolicyName], default=PolicyName.STANDFAST)
    return ScoringPolicy(
        name=PolicyName(name),
        temperature=require_temperature(document.get("temperature", 1.0)),
        scheme=SubsetScheme(scheme),
    )


def _word(document: Mapping[str, object], key: str, known: Sequence[str], *, default: str) -> str:
    value = document.get(key, default)
    if value not in known:
        raise ConfigError(f"{key} is {value!r:.60}", fix=nearest(str(value), known))
    return str(value)


def _rates(value: object) -> dict[str, Mapping[str, float]]:
    by_uid = _by_uid(_mapping(value, key="miner_scores"), key="miner_scores")
    return {uid: _mapping(rates, key=f"miner_scores.{uid}") for uid, rates in by_uid.items()}


def _by_uid(values: Mapping[Any, Any], *, key: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for raw, value in values.items():
        uid = require_uid(raw, key=key)
        if uid in found:
            raise ConfigError(f"{key} has the uid {uid} twice", fix="give each uid once")
        found[uid] = value
    return found


def _uid_order(value: object, rates: Mapping[str, object]) -> list[str]:
    if value is None:
        return list(rates)
    order = [require_uid(uid, key="uid_order") for uid in _sequence(value, key="uid_order")]
    seen: set[str] = set()
    for uid in order:
        if uid not in rates:
            raise ConfigError(
                f"uid_order has {uid}, which has no entry in miner_scores", fix=nearest(uid, rates)
            )
        if uid in seen:
            raise ConfigError(f"uid_order has {uid} more than once", fix="name each uid once")
        seen.add(uid)
    missing = [uid for uid in rates if uid not in seen]
    if missing:
        raise ConfigError(
            f"uid_order lacks {missing[0]}, which miner_scores has",
            fix="name every uid, or leave uid_order out",
        )
    return order


def _mapping(value: object, *, key: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} is not an object", fix=f"give {key} as an object")
    return value


def _sequence(value: object, *, key: str) -> Sequence[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise ConfigError(f"{key} is not a list", fix=f"give {key} as a list")
    return value
