"""Drives one service: clear the way, begin a life, watch it, decide after its end; rules: ``decide``."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections import deque
from collections.abc import Mapping

from standfast.kernel.clock import iso
from standfast.kernel.verdict import Verdict
from standfast.services.decide.after import after_exit, held_by_person
from standfast.services.decide.digest import digest_of
from standfast.services.decide.moves import move
from standfast.services.decide.order import unmet
from standfast.services.decide.readiness import grace_of
from standfast.services.endings import Endings, has_changed
from standfast.services.model import (
    Done,
    End,
    Held,
    Identity,
    Judgement,
    Obstacle,
    Outcome,
    Parked,
    Restart,
    ServiceEvent,
    ServiceSpec,
    ServiceState,
)
from standfast.services.needs import first_of, unmet_need
from standfast.services.ports import Journal, ObstructedError, Running
from standfast.services.surroundings import Surroundings
from standfast.services.watch import Watch

#: How often a held service's inputs are looked at.
_INPUTS_S = 2.0
#: Ends that are remembered: the rules look at the trailing ones only, budgets at as many as they allow.
_LEAST_ENDS, _MOST_ENDS = 64, 1_000
_REDECLARED = "a changed declaration"
_S, _E = ServiceState, ServiceEvent


class Wish(enum.Enum):
    """What is wanted of a service."""

    RUN = enum.auto()
    HOLD = enum.auto()
    END = enum.auto()


class Service:
    """One declared service, and what has become of it."""

    def __init__(self, spec: ServiceSpec, journal: Journal, around: Surroundings) -> None:
        self.spec = spec
        self.journal = journal
        self.dropped_bytes = 0
        self._around = around
        self._kick = asyncio.Event()
        self._wish, self._asked_by, self._why_held = Wish.RUN, "", ""
        most = max(_LEAST_ENDS, min(spec.restart.budget + 1, _MOST_ENDS))
        self._history: deque[End] = deque(around.memory.ends(spec.name), maxlen=most)
        self._waits: deque[float] = deque(around.memory.waits(spec.name), maxlen=_LEAST_ENDS)
        held = around.memory.held_by(spec.name)
        if held is not None:
            self._wish, self._asked_by, self._why_held = Wish.HOLD, held[0], held[1]
        self._state = _S.STOPPED
        self._since = iso(around.clock.wall())
        self._starts = self._lives = 0
        self._watch: Watch | None = None
        self._is_adopted = self._is_ready_noted = False
        self._waiting_for: Held | Obstacle | None = None
        self._waiting_until_s: float | None = None
        self._inputs: Mapping[str, str] = {}
        self._not_before_s = 0.0
        self._parked_s: float | None = None
        self._is_done = False
        self._restart_by = ""
        self._is_left = False
        self._endings = Endings(journal, around, self._history)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.spec.name

    @property
    def state(self) -> ServiceState:
        """Where it stands."""
        return self._state

    @property
    def identity(self) -> Identity | None:
        """Which process it is now, or None."""
        return None if self._watch is None else self._watch.running.identity

    @property
    def watch(self) -> Watch | None:
        """What is seen of its present life, or None."""
        return self._watch

    @property
    def history(self) -> tuple[End, ...]:
        """Its latest ends, oldest first."""
        return tuple(self._history)

    @property
    def starts(self) -> int:
        """Lives that were begun, or taken back while they ran, by this supervisor."""
        return self._starts

    @property
    def is_anew(self) -> bool:
        """Whether its latest life follows another one."""
        return self._lives > 1

    @property
    def since(self) -> str:
        """Since when it stands so (ISO 8601)."""
        return self._since

    @property
    def waits(self) -> tuple[float, ...]:
        """How long its latest lives took to become ready, in seconds, oldest first."""
        return tuple(self._waits)

    @property
    def waiting_for(self) -> Held | Obstacle | None:
        """Why it is held, where it is."""
        return self._waiting_for

    @property
    def retry_in_s(self) -> float | None:
        """When a held service is tried again by itself; None = never, or it is not held."""
        if self._waiting_until_s in (None, float("inf")):
            return None
        return max(0.0, self._waiting_until_s - self._now())

    @property
    def held_by(self) -> str:
        """Which person holds it; empty where nobody does."""
        return self._asked_by if self._wish is Wish.HOLD else ""

    @property
    def is_adopted(self) -> bool:
        """Whether its present life was begun by an earlier supervisor."""
        return self._is_adopted

    def nudge(self) -> None:
        """Look again: something that it may wait for has changed."""
        self._kick.set()

    def ask_stop(self) -> None:
        """Ask for its end; ``run`` returns when nothing of it runs any more."""
        self._wish = Wish.END
        self._kick.set()

    def leave(self) -> None:
        """Let ``run`` return at once, and whatever runs go on."""
        self._is_left = True
        self._kick.set()

    def hold(self, who: str, why: str) -> None:
        """Stop it, and start it no more until it is released."""
        self._wish, self._asked_by, self._why_held = Wish.HOLD, who, why
        self._kick.set()

    def release(self) -> None:
        """Take back every hold, a person's and its own; what was learnt from its ends is void."""
        if self._wish is Wish.HOLD:
            self._wish, self._asked_by, self._why_held = Wish.RUN, "", ""
        self._forgive()
        self._kick.set()

    def restart(self, who: str) -> None:
        """End the present life in order and begin another; one that does not run is started.

        A person's hold stays: only who takes it back starts it.
        """
        if self._watch is not None:
            self._restart_by = who
        self._forgive()
        self._kick.set()

    def declare(self, spec: ServiceSpec) -> None:
        """Take over a changed declaration; a life that was started with another one is ended in order."""
        if spec == self.spec:
            return
        is_other = digest_of(spec) != digest_of(self.spec)
        self.spec = spec
        if is_other:
            self.restart(_REDECLARED)
        elif self._watch is not None:
            self._watch.declare(spec)
        self._kick.set()

    def bound_log(self) -> bool:
        """Keep its log within its limit; return whether it grows fast."""
        self.dropped_bytes = self.journal.bound()
        return self.journal.grows_fast

    async def run(self, found: Running | None = None) -> None:
        """Keep the service running until its end is asked for; ``found`` is a life to take back."""
        if found is not None:
            await self._take_back(found)
        else:
            self._recall()
        # Each turn is one life or one wait.
        while self._wish is not Wish.END and not self._is_left:
            self._kick.clear()
            await self._turn()
        if self._is_left:
            return
        self._forgive()
        if self._state is not _S.STOPPED:
            self._become(_E.STOP)

    def _recall(self) -> None:
        """Go on with a hold or a completion of an earlier supervisor, if nothing has changed since."""
        last = self._history[-1] if self._history else None
        if last is not None and last.at_s > float("-inf") and not self._is_changed(last.inputs):
            decision = self._decide()
            if isinstance(decision, Held):
                self._be_held(decision)
            elif isinstance(decision, Done):
                self._is_done = True
                self._become(_E.END_DONE)

    def _decide(self) -> Restart | Held | Parked | Done:
        unit = int.from_bytes(self._around.entropy.token_bytes(4), "big") / 2**32
        spent = self._around.spent(self.spec)
        budgets = self._around.budgets
        return after_exit(self.spec, tuple(self._history), unit=unit, spent=spent, budgets=budgets)

    async def _turn(self) -> None:
        """Do the next thing: wait for what is in the way, or live."""
        if self._is_done:
            await self._pause(None)
        elif self._wish is Wish.HOLD:
            await self._wait_for_person()
        elif isinstance(self._waiting_for, Held):
            await self._wait_out()
        elif self._not_before_s > self._now():
            await self._pause(self._not_before_s - self._now())
        elif waited := unmet(self.spec, self._around.states(), waited_s=self._parked_for_s()):
            await self._park(min(one.patience_s for one in waited))
        else:
            waited_s, self._parked_s = self._parked_for_s(), None
            await self._start(waited_s)

    async def _start(self, waited_s: float) -> None:
        obstacle = await self._need() or self._around.machine.driver(self.spec.driver).obstacle(self.spec)
        if (
            self._wish is not Wish.RUN
            or self._is_left
            or unmet(self.spec, self._around.states(), waited_s=waited_s)
        ):
            return
        if obstacle is not None:
            await self._wait_at(obstacle)
            return
        try:
            driver = self._around.machine.driver(self.spec.driver)
            self._inputs = driver.inputs(self.spec)
            running = await driver.start(self.spec)
        except ObstructedError as error:
            await self._wait_at(error.obstacle)
            return
        except OSError as error:
            why = f"no process could be made: {error}"
            await self._wait_at(Obstacle("StartFailed", why, "free resources", _INPUTS_S))
            return
        self._around.memory.began(self.name, running.life, at=iso(self._around.clock.wall()))
        await self._live(running)

    async def _need(self) -> Obstacle | None:
        """Look at what it needs, unless it is wanted no more."""
        if not self.spec.needs:
            return None
        looking = asyncio.create_task(unmet_need(self.spec, self._around.check))
        try:
            # Each turn hears one wish; ends with the look.
            while not looking.done() and self._wish is Wish.RUN and not self._is_left:
                self._kick.clear()
                await first_of(looking, self._kick.wait())
            return looking.result() if looking.done() else None
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _take_back(self, running: Running) -> None:
        """Go on with a life that an earlier supervisor began, and with its end if it has ended since."""
        self._is_adopted, began_s = True, self._now()
        self._inputs = self._around.machine.driver(self.spec.driver).inputs(self.spec)
        if running.spec != digest_of(self.spec):
            self._restart_by = _REDECLARED
        self._around.memory.note("service.taken_back", self.name, {"life": running.life})
        outcome = await self._live(running)
        if outcome is not None:
            self._is_adopted = False
            # What had ended before was not started here, and what follows it is no restart of ours.
            self._starts -= outcome.ended_s is None or outcome.ended_s < began_s

    async def _live(self, running: Running) -> Outcome | None:
        """Watch one life to its end, and decide what follows; None where it was left running."""
        watch = self._begin(running)
        tasks = [asyncio.create_task(watch.run()), asyncio.create_task(watch.mind())]
        try:
            outcome = await self._until_ended(running, tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if outcome is None:
            return None
        asked_by = (self.held_by or self._restart_by or "standfast") if self._state is _S.STOPPING else ""
        end = await self._endings.record(watch, outcome, asked_by=asked_by)
        await running.gone()
        self._watch = None
        self._around.machine.driver(watch.spec.driver).forget(running)  # The one that began it.
        self._follow(end)
        return outcome

    async def _until_ended(self, running: Running, tasks: list[asyncio.Task[None]]) -> Outcome | None:
        """Return how it ended, or None where it is left running; ends it when that is wanted."""
        ending = asyncio.create_task(running.ended())
        try:
            # Each turn hears one wish; ends with the life.
            while not ending.done():
                if self._is_left:
                    return None
                if self._wish is not Wish.RUN or self._restart_by:
                    await self._stop(running, ending)
                    break
                self._kick.clear()
                await first_of(ending, self._kick.wait(), tasks[0])
                if tasks[0].done():
                    tasks[0].result()
            return await ending
        finally:
            ending.cancel()

    async def _stop(self, running: Running, ending: asyncio.Task[Outcome]) -> None:
        """Ask for an orderly end; at once where somebody is in a hurry."""
        self._become(_E.STOP)
        running.stop()
        await first_of(ending, self._around.hurry.wait())
        if not ending.done():
            running.kill()
            await first_of(ending)
        if self._around.hurry.is_set():
            running.kill()
        elif self._wish is Wish.END:
            hurrying = asyncio.create_task(self._hurry(running))
            await first_of(running.gone(), hurrying)
            hurrying.cancel()

    async def _hurry(self, running: Running) -> None:
        await self._around.hurry.wait()
        running.kill()
        await running.gone()

    def _begin(self, running: Running) -> Watch:
        around = self._around
        self._watch = Watch(
            self.spec,
            running,
            around.machine.prober,
            around.clock,
            grace_s=grace_of(self.spec.ready, tuple(self._waits)),
            judged=self._judged,
        )
        self._watch.inputs = self._inputs
        after_s = around.memory.ready_after(running.life)
        if after_s is not None:
            self._watch.resume(after_s)
        self._starts += 1
        self._lives += 1
        self._waiting_for, self._is_ready_noted = None, False
        self._become(_E.START)
        return self._watch

    def _follow(self, end: End) -> None:
        """Do what the rules say after an end."""
        self._restart_by = ""
        if self._state is _S.STOPPING:
            self._become(_E.GONE)
            # What was asked for is nobody's failure, and no reason to wait.
            self._history.pop()
            return
        decision = self._decide()
        if isinstance(decision, Restart):
            self._not_before_s = self._now() + decision.delay_s
            self._become(_E.END_RETRY)
        elif isinstance(decision, Parked):
            self._parked_s = self._now()
            self._become(_E.END_RETRY)
        elif isinstance(decision, Done):
            self._is_done = True
            self._become(_E.END_DONE)
        else:
            self._be_held(decision)
            body = {"reason": decision.reason, "message": decision.message, "fix": decision.remedy}
            self._around.memory.note("service.held", self.name, body | {"class": end.cls})

    def _judged(self, judgement: Judgement, is_late: bool) -> None:
        """Move as a look at the present life says."""
        if self._state is _S.STOPPING or self._watch is None:
            return
        if judgement.verdict is Verdict.PASS:
            self._note_ready(self._watch)
            if self._state is not _S.READY:
                self._become(_E.ANSWERED)
        elif is_late and self._state is not _S.NOT_READY:
            self._become(_E.LATE)

    def _note_ready(self, watch: Watch) -> None:
        if self._is_ready_noted or watch.ready_at_s is None:
            return
        self._is_ready_noted = True
        # A life that was taken back became ready at a moment that nobody saw.
        if not self._is_adopted:
            took_s = watch.ready_at_s - watch.running.started_s
            self._waits.append(took_s)
            self._around.memory.ready(self.name, watch.running.life, after_s=took_s)

    def _now(self) -> float:
        return self._around.clock.monotonic()

    def _parked_for_s(self) -> float:
        return 0.0 if self._parked_s is None else self._now() - self._parked_s

    async def _park(self, patience_s: float) -> None:
        """Wait until something that it needs has moved; a change of state nudges."""
        if self._parked_s is None:
            self._parked_s = self._now()
        if self._state is not _S.WAITING:
            self._become(_E.PARK)
        left_s = patience_s - self._parked_for_s()
        await self._pause(None if left_s == float("inf") else max(left_s, 0.01))

    async def _wait_for_person(self) -> None:
        held = held_by_person(self.name, self._asked_by, self._why_held)
        if self._state is not _S.HELD or self._waiting_for != held:
            self._waiting_for, self._waiting_until_s = held, None
            self._become(_E.END_HOLD)
        await self._pause(None)
        if self._wish is not Wish.HOLD:
            self._waiting_for = None

    async def _wait_at(self, obstacle: Obstacle) -> None:
        """Be held until the obstacle may be gone; no attempt was spent."""
        if self._state is not _S.HELD or self._waiting_for != obstacle:
            self._waiting_for = obstacle
            self._become(_E.END_HOLD)
        await self._pause(obstacle.recheck_s)

    def _be_held(self, held: Held) -> None:
        self._waiting_for = held
        self._waiting_until_s = self._now() + held.retry_s
        self._become(_E.END_HOLD)

    async def _wait_out(self) -> None:
        """Be held until the slow schedule is up, an input changes, or somebody releases it."""
        inputs = self._history[-1].inputs if self._history else {}
        until_s = self._waiting_until_s or 0.0
        # Each turn looks once at the inputs; bounded by the slow schedule, which no nudge draws out.
        while self._now() < until_s and not self._kick.is_set():
            await self._pause(min(_INPUTS_S, until_s - self._now()))
            if await asyncio.to_thread(self._is_changed, inputs):
                # Another input makes another experiment: what was learnt from the old one is void.
                self._forgive()
                return
        if not self._kick.is_set():
            self._waiting_for = self._waiting_until_s = None

    def _is_changed(self, inputs: Mapping[str, str]) -> bool:
        return has_changed(inputs, self._around.machine.driver(self.spec.driver).inputs(self.spec))

    def _forgive(self) -> None:
        if self._history:
            self._history.clear()
            self._around.memory.pardon(self.name)
        self._waiting_for = self._waiting_until_s = None
        self._not_before_s, self._is_done = 0.0, False

    async def _pause(self, wait_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._kick.wait()

    def _become(self, event: ServiceEvent) -> None:
        following = move(self._state, event)
        if following is not self._state or event in (_E.START, _E.END_HOLD):
            self._state = following
            self._since = iso(self._around.clock.wall())
            self._around.changed(self)
