"""The supervisor: runs the declared services in stages, and ends all of them in the opposite order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from standfast.kernel.clock import Clock, Entropy, SystemClock, SystemEntropy, iso
from standfast.services.life import Service, Surroundings
from standfast.services.model import STOPPED, Identity, ServiceSpec, ServiceState, ServiceView
from standfast.services.ports import Machine

#: How long a stage may take to become ready before the next one starts all the same: one program that
#: never answers must not keep everything else down.
STAGE_WAIT_S = 20.0


class Supervisor:
    """Keeps services running on ``machine``; what it starts does not outlive this process.

    ``on_change`` hears of every change of state.
    """

    def __init__(
        self,
        specs: Iterable[ServiceSpec],
        machine: Machine,
        *,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        on_change: Callable[[ServiceView], None] = lambda _: None,
    ) -> None:
        self._machine = machine
        self._clock = clock or SystemClock()
        self._on_change = on_change
        self._moved = asyncio.Event()
        self._hurry = asyncio.Event()
        around = Surroundings(
            self._clock,
            entropy or SystemEntropy(),
            machine.processes,
            machine.prober,
            self._hurry,
            self._note_change,
        )
        self._services = tuple(Service(spec, machine.journal(spec.name), around) for spec in specs)

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything by stages, keep it running until ``stop`` is set, end it in the opposite order.

        Returns when nothing of it runs any more. An exception is a bug, and everything is ended by force.
        """
        tasks: dict[Service, asyncio.Task[None]] = {}
        async with self._machine.prober, asyncio.TaskGroup() as group:
            guarding = group.create_task(self._machine.guard.run())
            starting = group.create_task(self._start_stages(group, tasks))
            await stop.wait()
            starting.cancel()
            for stage in sorted(self._stages(), reverse=True):
                leaving = {s: task for s, task in tasks.items() if s.spec.stage == stage}
                for service in leaving:
                    service.ask_stop()
                if leaving:
                    await asyncio.wait(leaving.values())
            guarding.cancel()

    def hurry(self) -> None:
        """Cut every wait for a clean end short, now and later."""
        self._hurry.set()

    def snapshot(self) -> list[dict[str, Any]]:
        """Return every service as status shows it; may be called from any thread."""
        views = [service.view().as_dict() for service in self._services]
        guardian = self._stopped_guardian()
        return views if guardian is None else [*views, guardian.as_dict()]

    def children(self) -> list[tuple[str, Identity]]:
        """Return every process that runs now, by the name of its service."""
        named = [(service.spec.name, service.identity) for service in self._services]
        named.append(("guardian", self._machine.guard.identity))
        return [(name, identity) for name, identity in named if identity is not None]

    def _stages(self) -> set[int]:
        return {service.spec.stage for service in self._services}

    async def _start_stages(self, group: asyncio.TaskGroup, tasks: dict[Service, asyncio.Task[None]]) -> None:
        for stage in sorted(self._stages()):
            members = [service for service in self._services if service.spec.stage == stage]
            for service in members:
                tasks[service] = group.create_task(service.run(), name=f"service {service.spec.name}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._settled(members), STAGE_WAIT_S)

    async def _settled(self, members: Sequence[Service]) -> None:
        """Return when each of ``members`` is ready or held; woken by every change of state."""
        while any(s.state not in (ServiceState.READY, ServiceState.HELD) for s in members):
            self._moved.clear()
            await self._moved.wait()

    def _note_change(self, view: ServiceView) -> None:
        self._moved.set()
        self._on_change(view)

    def _stopped_guardian(self) -> ServiceView | None:
        """Return the guardian where it cannot do its duty; in good order it is nobody's business."""
        identity, letter = self._machine.guard.identity, self._machine.guard.letter()
        if identity is None or letter not in STOPPED:
            return None
        return ServiceView(
            name="guardian",
            state=ServiceState.NOT_READY,
            since=iso(self._clock.wall()),
            pid=identity.pid,
            process_state=letter,
            reason="ProcessStopped",
            message="process is stopped (T); were this instance killed now, its services would stay behind",
            remedy=f"kill -CONT {identity.pid}",
            is_required=False,
        )
