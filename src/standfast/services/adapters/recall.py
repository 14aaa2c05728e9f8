"""Learns what earlier supervisors left running, also where records are gone: shims tell what they know.

1. A host of an earlier supervisor has no more to do: it leaves by itself, and is ended where it does not.
2. A shim whose life is not on record, or not readable there, is asked (SIGHUP). One that does not answer is
   ended: what it minds could be neither watched nor stopped.
3. Of two lives of one service the later is kept. Whatever belongs to no kept life is ended before anything
   new begins, or it would hold the ports that new lives need.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Sequence

from standfast.services.adapters import procfs
from standfast.services.adapters.lives import Life
from standfast.services.model import Identity

#: What shims are called in ps(1), and the mark of them and their hosts below that of their instance; no
#: service has a name that is empty.
SHIM_NAME, SHIMS = "sf-shim", "/shims/"
_ANSWER_S, _KILL_S, _LOOK_S = 1.0, 5.0, 0.02
Listen = Callable[[float], Iterable[Life]]


def recall(mark: str, recorded: Callable[[], Iterable[Life]], listen: Listen) -> Sequence[Life]:
    """Return the lives under ``mark`` to be taken back, one for each service; end everything else of it.

    ``recorded`` reads what is written down, ``listen`` returns what shims told within so many seconds.
    """
    _end_hosts(mark)
    kept = {life.name: life for life in recorded()}
    for life in sorted(_told(mark, {life.shim for life in kept.values()}, listen), key=_by_start):
        kept[life.name] = life
    _end_strays(mark, frozenset(life.life for life in kept.values()))
    return tuple(kept.values())


def _by_start(life: Life) -> float:
    return life.started_s


def _shims(mark: str) -> tuple[set[Identity], set[Identity]]:
    """Return the shims under ``mark``, and their hosts."""
    found = procfs.marked(f"{mark}{SHIMS}")
    shims = {one for one in found if procfs.name_of(one.pid) == SHIM_NAME}
    return shims, set(found) - shims


def _end_hosts(mark: str) -> None:
    until_s = time.monotonic() + _ANSWER_S
    # Each turn looks anew, because a host becomes a shim; bounded by the time for an answer.
    while hosts := _shims(mark)[1]:
        if time.monotonic() > until_s:
            _kill(lambda: _shims(mark)[1] & hosts)
            return
        for one in hosts:
            procfs.send(one, signal.SIGCONT)
        time.sleep(_LOOK_S)


def _told(mark: str, known: set[Identity], listen: Listen) -> list[Life]:
    asked = _shims(mark)[0] - known
    for one in asked:
        for number in (signal.SIGCONT, signal.SIGHUP):
            procfs.send(one, number)
    until_s, told = time.monotonic() + _ANSWER_S, []
    # Each turn hears what was told; bounded by the time for an answer.
    while asked and time.monotonic() < until_s:
        for life in listen(_LOOK_S):
            if life.shim in asked:
                asked.discard(life.shim)
                told.append(life)
        asked = {one for one in asked if procfs.is_alive(one)}
    _kill(lambda: {one for one in asked if procfs.is_alive(one)})
    return told


def _end_strays(mark: str, kept: frozenset[str]) -> None:
    _kill(lambda: {one for one in procfs.marked(mark) if _is_stray(procfs.mark_of(one.pid), mark, kept)})


def _is_stray(found: str, mark: str, kept: frozenset[str]) -> bool:
    """Whether ``found`` is the mark of a life that is not kept; shims have none."""
    parts = found.removeprefix(mark).split("/")
    return found.startswith(mark) and bool(parts[0]) and not (len(parts) > 1 and parts[1] in kept)


def _kill(left: Callable[[], set[Identity]]) -> None:
    until_s = time.monotonic() + _KILL_S
    # Each turn kills what is there; what is not gone then is stuck in the kernel.
    while (found := left()) and time.monotonic() < until_s:
        for one in found:
            procfs.send(one, signal.SIGKILL)
        time.sleep(_LOOK_S)
