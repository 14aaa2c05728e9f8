"""The supervisor: brings services up in the order of their needs, and ends them in the opposite one.

It makes no process of its own and holds nothing that would be lost with it: killed, its services go on, and
the next one takes them back with what has happened to them since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from standfast.kernel.clock import Clock, Entropy, SystemClock, SystemEntropy
from standfast.services.decide.after import USUAL_BUDGETS, counts_as_restart
from standfast.services.decide.order import dependants
from standfast.services.failures.model import Classified, Evidence
from standfast.services.life import Service
from standfast.services.look import view_of
from standfast.services.model import (
    Budgets,
    Condition,
    Identity,
    ServiceSpec,
    ServiceState,
    ServiceView,
    Spent,
)
from standfast.services.ports import Check, Machine, Memory, Running
from standfast.services.surroundings import Surroundings

_S = ServiceState
#: Between two looks at the kernel's table of sockets, made for all services at once.
_SWEEP_S = 4.0
#: Between two looks at the sizes of all logs; while one of them grows fast, and otherwise.
_BOUND_FAST_S, _BOUND_S = 0.5, 5.0


@dataclass(frozen=True, slots=True)
class Means:
    """What a supervisor works with: ``recognise`` names failures, ``check`` runs the commands of needs."""

    machine: Machine
    memory: Memory
    check: Check
    clock: Clock = field(default_factory=SystemClock)
    entropy: Entropy = field(default_factory=SystemEntropy)
    budgets: Budgets = USUAL_BUDGETS
    recognise: Callable[[Evidence], Classified | None] = lambda _: None


class Supervisor:
    """Keeps services running; ``on_change`` hears of every change of state.

    ``specs`` must be free of the problems that ``decide.order.problems`` finds.
    """

    def __init__(
        self,
        specs: Iterable[ServiceSpec],
        means: Means,
        *,
        on_change: Callable[[ServiceView], None] = lambda _: None,
    ) -> None:
        self._machine = means.machine
        self._memory = means.memory
        self._on_change = on_change
        self._hurry = asyncio.Event()
        self._left = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._is_ending = False
        self._around = Surroundings(
            clock=means.clock,
            entropy=means.entropy,
            machine=means.machine,
            memory=means.memory,
            hurry=self._hurry,
            budgets=means.budgets,
            states=self.states,
            spent=self._spent,
            ports_of=self._addresses_of,
            recognise=means.recognise,
            check=means.check,
            changed=self._note_change,
        )
        self._services = {spec.name: self._make(spec) for spec in specs}

    async def run(self, stop: asyncio.Event) -> None:
        """Take back what runs, start everything else, keep it so until ``stop`` is set; then end all of it.

        Returns when nothing of it runs any more, or at once after ``leave``. An exception is a bug; what runs
        goes on then, too.
        """
        async with self._machine, asyncio.TaskGroup() as group:
            self._group = group
            found = await self._take_stock(group)
            for service in self._services.values():
                self._tasks[service.name] = group.create_task(
                    service.run(found.get(service.name)), name=f"service {service.name}"
                )
            sweeps = [group.create_task(self._sweep()), group.create_task(self._bound_logs())]
            leaving = asyncio.create_task(self._left.wait())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait((leaving, stopping), return_when=asyncio.FIRST_COMPLETED)
            self._is_ending = True
            if not self._left.is_set():
                await self._end({name: (one, self._tasks[name]) for name, one in self._services.items()})
            for task in (*sweeps, leaving, stopping):
                task.cancel()

    def leave(self) -> None:
        """Let ``run`` return, and everything go on without a supervisor until the next one comes."""
        for service in self._services.values():
            service.leave()
        self._left.set()

    def hurry(self) -> None:
        """Cut every wait for a clean end short, now and later."""
        self._hurry.set()

    def states(self) -> Mapping[str, ServiceState]:
        """Return where each service stands."""
        return {name: service.state for name, service in self._services.items()}

    def specs(self) -> Mapping[str, ServiceSpec]:
        """Return each declaration."""
        return {name: service.spec for name, service in self._services.items()}

    def snapshot(self) -> list[dict[str, Any]]:
        """Return every service as status shows it; may be called from any thread."""
        return [view_of(service, self._around).as_dict() for service in list(self._services.values())]

    def children(self) -> list[tuple[str, Identity]]:
        """Return every process that runs now, by the name of its service."""
        named = [(service.name, service.identity) for service in self._services.values()]
        return [(name, identity) for name, identity in named if identity is not None]

    def hold(self, names: Iterable[str], who: str, why: str) -> None:
        """Stop services, and start them no more until they are released."""
        for name in names:
            self._memory.hold(name, who, why)
            self._note("service.held_by_person", name, {"who": who, "why": why})
            self._services[name].hold(who, why)

    def release(self, names: Iterable[str], who: str) -> tuple[str, ...]:
        """Take back every hold of services, which are tried again at once; return those that were held.

        One that waits after a failure is tried at once, too. What runs, or is completed, stays as it is.
        """
        waiting = (_S.HELD, _S.BACKOFF)
        held = tuple(n for n in names if self._services[n].held_by or self._services[n].state in waiting)
        for name in held:
            self._memory.release(name)
            self._note("service.released", name, {"who": who})
            self._services[name].release()
        return held

    def restart(self, names: Iterable[str], who: str, *, only: bool = False) -> tuple[str, ...]:
        """Restart services and, unless ``only``, what depends on them; return all that are concerned."""
        wanted = set(names)
        if not only:
            running = {name for name, service in self._services.items() if service.watch is not None}
            wanted |= dependants(list(self.specs().values()), wanted) & running
        for name in sorted(wanted):
            self._note("service.restart_asked", name, {"who": who})
            self._services[name].restart(who)
        return tuple(sorted(wanted))

    def _note(self, kind: str, name: str, body: Mapping[str, object]) -> None:
        """Put an action on record with the file that declares what it is about (L1)."""
        spec = self._services[name].spec
        self._memory.note(kind, name, {**body, "file": spec.file, "line": spec.line})

    def declare(self, specs: Sequence[ServiceSpec]) -> None:
        """Take over another declaration of the whole stack: begin what is new, end what is gone.

        Raises KeyError, before anything is changed, for a driver that this supervisor was not started with.
        """
        for spec in specs:
            self._machine.driver(spec.driver)
        assert self._group is not None, "the supervisor runs"
        wanted = {spec.name: spec for spec in specs}
        gone = {name: self._services.pop(name) for name in list(self._services) if name not in wanted}
        if gone:
            self._group.create_task(self._end({name: (one, self._tasks[name]) for name, one in gone.items()}))
        for name, spec in wanted.items():
            if name in self._services:
                self._services[name].declare(spec)
                continue
            self._services[name] = service = self._make(spec)
            running = self._run_after(self._tasks.get(name), service)
            self._tasks[name] = self._group.create_task(running, name=f"service {name}")

    async def _run_after(self, earlier: asyncio.Task[None] | None, service: Service) -> None:
        """Run a service once an earlier one of its name, that was declared no more, is gone."""
        if earlier is not None:
            await asyncio.wait((earlier,))
        await service.run()

    def _make(self, spec: ServiceSpec) -> Service:
        return Service(spec, self._machine.journal(spec.name), self._around)

    async def _take_stock(self, group: asyncio.TaskGroup) -> dict[str, Running]:
        """Return the lives that are there by name; end those of services that are declared no more."""
        found: dict[str, Running] = {}
        for driver in self._machine.drivers():
            for running in driver.found():
                declared = self._services.get(running.name)
                if declared is not None and self._machine.driver(declared.spec.driver) is driver:
                    found[running.name] = running
                else:
                    group.create_task(self._end_stray(running, driver.forget))
        return found

    async def _end_stray(self, running: Running, forget: Callable[[Running], None]) -> None:
        self._memory.note("service.undeclared", running.name, {"life": running.life})
        running.stop()
        await running.gone()
        forget(running)

    async def _end(self, left: Mapping[str, tuple[Service, asyncio.Task[None]]]) -> None:
        """End services, each after those of them that depend on it."""
        # Each turn waits for one end at least; each service is asked once what needs it is gone.
        while left := {name: (one, task) for name, (one, task) in left.items() if not task.done()}:
            needed = {needs.name for one, _ in left.values() for needs in one.spec.depends_on}
            free = [pair for name, pair in left.items() if name not in needed] or list(left.values())
            for service, _ in free:
                service.ask_stop()
            await asyncio.wait([task for _, task in free], return_when=asyncio.FIRST_COMPLETED)

    async def _sweep(self) -> None:
        """See by one look which services still listen: a connection each would cost far more."""
        # Ends by cancellation.
        while True:
            await asyncio.sleep(_SWEEP_S)
            watches = [
                s.watch for s in self._services.values() if s.watch is not None and s.watch.swept_target
            ]
            if watches:
                listened = self._machine.prober.listening([watch.swept_target for watch in watches])
                for watch, is_listening in zip(watches, listened, strict=True):
                    watch.found_listening(is_listening)

    async def _bound_logs(self) -> None:
        # Ends by cancellation.
        while True:
            grow_fast = [service.bound_log() for service in self._services.values()]
            await asyncio.sleep(_BOUND_FAST_S if any(grow_fast) else _BOUND_S)

    def _spent(self, spec: ServiceSpec) -> Spent:
        """Return the restarts within the budget's window, by the ends that nobody asked for."""
        since_s = self._around.clock.monotonic() - spec.restart.budget_window_s
        counts = {"service": 0, "group": 0, "host": 0}
        for service in self._services.values():
            count = sum(
                1 for end in service.history if end.at_s > since_s and counts_as_restart(service.spec, end)
            )
            counts["host"] += count
            counts["group"] += count if spec.group and service.spec.group == spec.group else 0
            counts["service"] += count if service.name == spec.name else 0
        return Spent(**counts)

    def _addresses_of(self, spec: ServiceSpec) -> tuple[str, ...]:
        """Return how a message may name what ``spec`` depends on: names, and addresses with their ports."""
        found: list[str] = []
        for one in spec.depends_on:
            found.append(one.name)
            other = self._services.get(one.name)
            if other is not None and other.spec.port:
                found += [f"127.0.0.1:{other.spec.port}", f"localhost:{other.spec.port}"]
        return tuple(found)

    def _note_change(self, service: Service) -> None:
        for other in self._services.values():
            for one in other.spec.depends_on:
                if one.name == service.name:
                    other.nudge()
                    self._pass_on(
                        service, other, restarts=one.restart and one.condition is not Condition.COMPLETED
                    )
        self._on_change(view_of(service, self._around))

    def _pass_on(self, service: Service, other: Service, *, restarts: bool) -> None:
        """Restart what asked to be restarted with ``service``, once a new life of that one begins."""
        is_new = service.state is _S.STARTING and service.is_anew
        if restarts and is_new and other.watch is not None and not self._is_ending:
            other.restart(f"restart of {service.name}")
