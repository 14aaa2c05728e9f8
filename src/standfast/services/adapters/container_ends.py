"""Turns an engine's word about a container that ended into an outcome; pure, so that each case can be tested.

1. 137 is SIGKILL and nothing more. It was memory only where the engine has flagged it, or told of it.
2. An engine that is started ends what it still finds running, with a code of its own. Such an end is nobody's
   failure, and nobody saw it; so is one that came while the machine itself was restarted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from standfast.services.model import ExitStatus, Outcome

#: What an engine that starts needs at most to end what it finds; it gives each 10 s before it kills.
_RESTORE_S = 60.0
#: What an engine writes where it had to end it, or never learnt how it ended.
_ENGINES_OWN = frozenset({137, 143, 255})
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_NEVER = "0001-"


class Watched(NamedTuple):
    """What is known of an end besides the engine's record; instants are seconds since the epoch.

    ``was_heard`` says that the engine told of it at once. ``ooms`` counts the kills for memory that it told
    of. ``engine_started_at`` is None where that is not known.
    """

    started_at: float
    was_heard: bool
    is_same_boot: bool = True
    asked_by: str = ""
    ooms: int = 0
    engine_started_at: float | None = None


def nanoseconds(stamp: str) -> int:
    """Return an engine's instant in nanoseconds since the epoch; 0 for none, or for what is no instant."""
    found = _STAMP.match(stamp)
    if not found or stamp.startswith(_NEVER):
        return 0
    zone = "+00:00" if found[3] == "Z" else found[3]
    seconds = int(datetime.fromisoformat(found[1] + zone).astimezone(UTC).timestamp())
    return seconds * 1_000_000_000 + int((found[2] or "").ljust(9, "0"))


def seconds(stamp: str) -> float:
    """Return an engine's instant in seconds since the epoch; 0 for none."""
    return nanoseconds(stamp) / 1e9


def life_of(container: str, state: Mapping[str, Any]) -> str:
    """Return what names the present life of a container: the same one may be started many times."""
    return f"{container[:12]}-{nanoseconds(str(state['StartedAt'])):x}"


def outcome_of(state: Mapping[str, Any], watched: Watched) -> Outcome:
    """Return how a container ended, by the ``State`` that the engine shows of it."""
    code, is_flagged = int(state.get("ExitCode") or 0), bool(state.get("OOMKilled")) or watched.ooms > 0
    if not watched.is_same_boot:
        return Outcome(None, lost="the machine was restarted")
    if not watched.was_heard and not is_flagged and _is_engines_doing(state, code, watched):
        return Outcome(None, lost="the container engine was restarted, and nobody saw how it ended")
    return Outcome(
        ExitStatus(code),
        oom_kills=watched.ooms or None,
        asked_by=watched.asked_by,
        is_oom_flagged=is_flagged,
    )


def _is_engines_doing(state: Mapping[str, Any], code: int, watched: Watched) -> bool:
    if watched.engine_started_at is None:
        return code in _ENGINES_OWN
    finished_at = seconds(str(state.get("FinishedAt") or ""))
    since_s = finished_at - watched.engine_started_at
    return watched.started_at < watched.engine_started_at and (0.0 <= since_s < _RESTORE_S or code == 255)
