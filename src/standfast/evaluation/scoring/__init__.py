"""Scoring: rates of one round in, weights or a named reason for having none out (acceptance K16, K8)."""

from standfast.evaluation.scoring.document import read_document, report, score_document
from standfast.evaluation.scoring.explain import Explanation, Standing, explain
from standfast.evaluation.scoring.policy import (
    PolicyName,
    ScoringPolicy,
    SubsetScheme,
    require_temperature,
)
from standfast.evaluation.scoring.score import Burned, Hold, ScoreSheet, Weighted, score

__all__ = [
    "Burned",
    "Explanation",
    "Hold",
    "PolicyName",
    "ScoreSheet",
    "ScoringPolicy",
    "Standing",
    "SubsetScheme",
    "Weighted",
    "explain",
    "read_document",
    "report",
    "require_temperature",
    "score",
    "score_document",
]
