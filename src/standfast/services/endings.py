"""Turns what was seen of an end into values: what goes on record, and what a class is recognised from."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from standfast.kernel.clock import iso
from standfast.services.decide.after import fingerprint
from standfast.services.decide.order import unmet
from standfast.services.decide.readiness import proven_s
from standfast.services.failures.model import Classified, Evidence
from standfast.services.failures.text import error_line, normalise
from standfast.services.model import UNSEEN, End, Outcome
from standfast.services.ports import Journal, Running
from standfast.services.surroundings import Surroundings
from standfast.services.watch import MEMORY_LIMIT, Watch


class Circumstances(NamedTuple):
    """What is known of an end besides its outcome; seconds are monotonic, ``at`` is for people.

    ``down`` names the services that it needs and that were not ready, ``addresses`` are how its output may
    name what it depends on.
    """

    lines: tuple[str, ...]
    lived_s: float
    ready_s: float
    at: datetime
    at_s: float
    asked_by: str
    down: tuple[str, ...]
    addresses: tuple[str, ...]
    command: tuple[str, ...]
    pid: int = 0


def end_of(outcome: Outcome, known: Circumstances) -> tuple[End, Evidence]:
    """Return the end, and the evidence from which its class may be recognised."""
    status = outcome.status or UNSEEN
    said = error_line(known.lines)
    end = End(
        status,
        lived_s=known.lived_s,
        ready_s=known.ready_s,
        last_line=outcome.lost or said,
        left_behind=outcome.left_behind,
        at=iso(known.at),
        at_s=known.at_s,
        print_=normalise(outcome.lost or said),
        # An end that nobody saw, or after work was done, says nothing about what was missing.
        down=() if outcome.lost else known.down,
        oom_kills=outcome.oom_kills,
        asked_by=known.asked_by,
    )
    evidence = Evidence(
        status=outcome.status,
        lines=known.lines,
        asked_by=known.asked_by,
        ready_s=known.ready_s,
        lived_s=known.lived_s,
        oom_kills=outcome.oom_kills,
        is_cgroup_shared=outcome.is_shared,
        is_oom_flagged=outcome.is_oom_flagged,
        pids=frozenset({known.pid} - {0}),
        dependencies_down=known.down,
        dependency_addresses=known.addresses,
        command=known.command,
    )
    return end, evidence


def inputs_of(
    before: Mapping[str, str], after: Mapping[str, str], previous: Mapping[str, str]
) -> dict[str, str]:
    """Return the inputs that a life was begun with; ``previous`` are those of the life before.

    What changes during a life is written by it: its own log or database among its arguments must not look
    like a new input after each failure. What no life had changed so far was changed by somebody else, and
    stays: then it differs at once from what is there, and another try is worth it.
    """
    found = {}
    for name, state in after.items():
        was = before.get(name, state)
        if was == state or name in previous:
            found[name] = was
    return found


def has_changed(inputs: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether something that the outcome of a start depends on is not as it was."""
    return any(now.get(name) != state for name, state in inputs.items())


class Endings:
    """Records the ends of one service; ``history`` gets each of them."""

    def __init__(self, journal: Journal, around: Surroundings, history: deque[End]) -> None:
        self._journal = journal
        self._around = around
        self._history = history
        self._naming: asyncio.Task[None] | None = None

    async def record(self, watch: Watch, outcome: Outcome, *, asked_by: str) -> End:
        """Gather the evidence of an end and put it on record, before anything follows (I9).

        What never was ready is named first, because the name may decide. What served is started again
        meanwhile: the name is only for people then.
        """
        spec, running, ready_at_s = watch.spec, watch.running, watch.ready_at_s
        now_s = outcome.ended_s or self._around.clock.monotonic()
        was_asked = bool(asked_by)
        states = self._around.states()
        waited = tuple(one.name for one in unmet(spec, states))
        known = Circumstances(
            lines=self._journal.lines(),
            lived_s=max(now_s - running.started_s, 0.0),
            ready_s=0.0 if ready_at_s is None else proven_s(spec, max(now_s - ready_at_s, 1e-3)),
            at=self._around.clock.wall(),
            at_s=self._around.clock.monotonic(),
            asked_by=asked_by or watch.ended_by_us or outcome.asked_by,
            down=waited,
            addresses=self._around.ports_of(spec),
            command=spec.command,
            pid=running.identity.pid if running.identity else 0,
        )
        end, evidence = end_of(outcome, known)
        previous = self._history[-1].inputs if self._history else {}
        after = self._around.machine.driver(spec.driver).inputs(spec)
        end = replace(end, inputs=inputs_of(watch.inputs, after, previous))
        must_name = not was_asked and not outcome.lost
        if was_asked:
            end = replace(end, cls="requested_stop", action="no_restart")
        elif must_name:
            if watch.ended_by_us:
                # It was ended for what it did. How it died is our signal, and says nothing about it.
                is_over = watch.ended_by_us.startswith(MEMORY_LIMIT)
                evidence = replace(evidence, status=None, asked_by="", is_oom_flagged=is_over)
                end = replace(end, evidence=(watch.ended_by_us,))
            evidence = replace(evidence, repeats=self._repeats(end))
            if not end.was_ready:
                end = await asyncio.to_thread(self._name, end, evidence, running.started_s)
        self._history.append(end)
        self._around.memory.ended(spec.name, running.life, end)
        if must_name and end.was_ready:
            self._naming = asyncio.create_task(self._name_later(spec.name, end, evidence, running))
        return end

    def _name(self, end: End, evidence: Evidence, started_s: float) -> End:
        evidence = self._around.machine.witness.at_death(evidence, started_s=started_s)
        return _named(end, self._around.recognise(evidence))

    async def _name_later(self, name: str, end: End, evidence: Evidence, running: Running) -> None:
        named = await asyncio.to_thread(self._name, end, evidence, running.started_s)
        self._around.memory.ended(name, running.life, named)
        for index, one in enumerate(self._history):
            if one is end:
                self._history[index] = named

    def _repeats(self, end: End) -> int:
        count = 1
        for earlier in reversed(self._history):
            if fingerprint(earlier) != fingerprint(end) or earlier.was_ready:
                break
            count += 1
        return 0 if end.was_ready else count


def _named(end: End, known: Classified | None) -> End:
    if known is None:
        return end
    return replace(
        end,
        cls=str(known.cls),
        action=str(known.action) if known.is_sure else "",
        rule=known.rule,
        fix=known.fix,
        evidence=(*end.evidence, *known.evidence),
        is_permanent=known.is_permanent,
    )
