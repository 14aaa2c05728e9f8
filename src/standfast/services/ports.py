"""What the supervisor needs from outside: processes, probes, and a view of who holds a port."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from standfast.services.model import ExitStatus, Identity, Obstacle, ProbeSample, Readiness, ServiceSpec


class Running(Protocol):
    """One life of a service.

    * ``ended`` returns once the process is dead and buried, to every caller, without polling.
    * ``terminate`` asks the whole process group to end, and continues it where it was stopped; when the
      process itself has ended, it asks whatever is left of this life.
    * ``kill_all`` ends everything that came from this life, in whatever session or group it hides, and
      returns how many processes are left that even that did not end (0, unless one is stuck in the kernel).
    * ``letter`` and ``stopped_below`` never block; empty and 0 where nothing can be seen.
    """

    @property
    def identity(self) -> Identity:
        """Which process it is."""
        ...

    def letter(self) -> str:
        """Return the state letter of the process."""
        ...

    def stopped_below(self) -> int:
        """Return a process that it started, or one of those, that is stopped; 0 where there is none."""
        ...

    async def ended(self) -> ExitStatus:
        """Return how it ended, when it has."""
        ...

    def terminate(self) -> None:
        """Ask it to end."""
        ...

    def members(self) -> Sequence[Identity]:
        """Return every living process that came from this life."""
        ...

    async def kill_all(self) -> int:
        """End every process that came from this life; return how many could not be ended."""
        ...


class Processes(Protocol):
    """Makes processes.

    * ``obstacle`` says why a start cannot succeed, or None; it changes nothing.
    * ``start`` raises OSError where the process could not be made.
    * What was started does not outlive this process: the kernel or the guardian ends it.
    * ``inputs`` changes whenever a file that the service's command names has changed.
    """

    def obstacle(self, spec: ServiceSpec) -> Obstacle | None:
        """Return why ``spec`` cannot be started now."""
        ...

    def start(self, spec: ServiceSpec) -> Running:
        """Start one life of ``spec``."""
        ...

    def inputs(self, spec: ServiceSpec) -> str:
        """Return a digest of what the outcome of a start depends on."""
        ...


class Prober(Protocol):
    """Asks a service whether it is ready.

    * Returns a sample for whatever happens, within ``readiness.timeout_s``; never raises.
    * Is entered before it is asked, and asks nothing after it was left.
    """

    async def __aenter__(self) -> Self:
        """Get ready to ask."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of what was needed for asking."""
        ...

    async def ask(self, readiness: Readiness) -> ProbeSample:
        """Return what one probe saw."""
        ...


class Journal(Protocol):
    """The output of one service.

    * ``bound`` keeps its size within a limit and returns the bytes that were dropped so far.
    * ``tail`` returns the last lines, free of control characters; ``last_line`` only looks at what the
      present life wrote.
    """

    @property
    def path(self) -> str:
        """Where it lies."""
        ...

    def bound(self) -> int:
        """Keep the size within the limit; return how many bytes were dropped so far."""
        ...

    def tail(self) -> tuple[str, ...]:
        """Return the last lines."""
        ...

    def last_line(self) -> str:
        """Return the last line of the present life, or an empty string."""
        ...


class Guardian(Protocol):
    """Sees to it that nothing outlives this process.

    * ``run`` keeps it in place until cancelled, and replaces it when it is killed.
    """

    @property
    def identity(self) -> Identity | None:
        """Which process guards now, or None."""
        ...

    def letter(self) -> str:
        """Return the state letter of that process."""
        ...

    async def run(self) -> None:
        """Keep a guardian in place until cancelled."""
        ...


class Machine(Protocol):
    """Where services run: everything that the supervisor needs, in one hand."""

    @property
    def processes(self) -> Processes:
        """Makes processes."""
        ...

    @property
    def prober(self) -> Prober:
        """Asks services; is entered before it is used."""
        ...

    @property
    def guard(self) -> Guardian:
        """Sees to it that nothing is left behind."""
        ...

    def journal(self, name: str) -> Journal:
        """Return the output of the service ``name``, always the same object."""
        ...
