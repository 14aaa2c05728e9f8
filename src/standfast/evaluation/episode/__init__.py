"""Episodes: the rules, the process that each one runs in, and the runner that an executor uses."""

from standfast.evaluation.episode.blame import CODES, InvalidReportError, classify
from standfast.evaluation.episode.fork_client import ForkServerLostError
from standfast.evaluation.episode.rules import SubjectNetworks, check_limits
from standfast.evaluation.episode.runner import EpisodeRunner

__all__ = [
    "CODES",
    "EpisodeRunner",
    "ForkServerLostError",
    "InvalidReportError",
    "SubjectNetworks",
    "check_limits",
    "classify",
]
