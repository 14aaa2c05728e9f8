"""What the supervisor needs from outside: who runs lives, probes, output, and a memory of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from standfast.services.failures.model import Evidence
from standfast.services.model import (
    End,
    Identity,
    Obstacle,
    Outcome,
    ProbeSample,
    Readiness,
    ServiceSpec,
)


class ObstructedError(OSError):
    """No life could be begun because of an obstacle that only the attempt has shown."""

    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(obstacle.message)
        self.obstacle = obstacle


class Running(Protocol):
    """One life of a service, which goes on whatever becomes of this process.

    * ``ended`` returns once the service's own process has ended, to every caller, without polling; ``gone``
      once nothing that came from this life is left.
    * ``stop`` asks for an orderly end, which the one who runs it enforces when its time is over; ``kill``
      ends everything of it at once. Both return before that is done.
    * ``letter``, ``stopped_below``, ``memory_bytes``, ``said_ready_s`` and ``ailment`` never block; they say
      nothing ("", 0, None) where nothing can be seen.
    """

    @property
    def name(self) -> str:
        """Which service it is a life of."""
        ...

    @property
    def life(self) -> str:
        """What names this life and no other."""
        ...

    @property
    def spec(self) -> str:
        """The digest of the declaration that it was started with."""
        ...

    @property
    def identity(self) -> Identity | None:
        """Which process it is; None where it is none of this machine's."""
        ...

    @property
    def started_s(self) -> float:
        """When it began, monotonic."""
        ...

    @property
    def started_at(self) -> float:
        """When it began, in seconds since the epoch."""
        ...

    @property
    def is_limited(self) -> bool:
        """Whether the kernel keeps the limits that were declared."""
        ...

    def letter(self) -> str:
        """Return the state letter of its process (proc(5)); "R" for what has none and runs."""
        ...

    def stopped_below(self) -> int:
        """Return a process that it started, or one of those, that is stopped; 0 where there is none."""
        ...

    def memory_bytes(self) -> int:
        """Return how much memory all of it uses now."""
        ...

    def said_ready_s(self) -> float | None:
        """Return when it said READY=1, monotonic, or None."""
        ...

    def ailment(self) -> str:
        """Return what is wrong with it by its own health check; empty where that says that it is well."""
        ...

    async def ended(self) -> Outcome:
        """Return how it ended, when it has."""
        ...

    async def gone(self) -> None:
        """Return when nothing of it is left."""
        ...

    def on_news(self, hear: Callable[[], None]) -> None:
        """Have ``hear`` called whenever something was heard of this life, such as that it is stopped."""
        ...

    def stop(self) -> None:
        """Ask for its end."""
        ...

    def kill(self) -> None:
        """End all of it at once."""
        ...


class Driver(Protocol):
    """Runs lives of one kind: processes of this machine, containers of an engine, units of systemd.

    * ``obstacle`` says why a start cannot succeed, or None; it changes nothing.
    * It is opened before use and closed after it, in the event loop; closed, it leaves alone what runs.
    * ``start`` raises OSError where no life could be begun, ObstructedError where it knows what would help.
    * ``found`` returns the lives that earlier supervisors began and whose end nobody took note of; some may
      have ended since. ``forget`` is called when an end was taken note of.
    * ``inputs`` names what the outcome of a start depends on; a text of it changes when that changes.
    """

    def open(self) -> None:
        """Begin to hear of what runs."""
        ...

    def close(self) -> None:
        """Stop hearing of it; what runs goes on."""
        ...

    def obstacle(self, spec: ServiceSpec) -> Obstacle | None:
        """Return why ``spec`` cannot be started now."""
        ...

    async def start(self, spec: ServiceSpec) -> Running:
        """Begin one life of ``spec``."""
        ...

    def found(self) -> Sequence[Running]:
        """Return the lives that are there already."""
        ...

    def forget(self, running: Running) -> None:
        """Let the record of a life go whose end was taken note of."""
        ...

    def inputs(self, spec: ServiceSpec) -> Mapping[str, str]:
        """Return what the outcome of a start depends on, each thing with a text that changes when it does."""
        ...


class Prober(Protocol):
    """Asks a service whether it is ready.

    * Returns a sample for whatever happens, within ``readiness.timeout_s``; never raises.
    """

    async def ask(self, readiness: Readiness, spec: ServiceSpec, running: Running) -> ProbeSample:
        """Return what one probe saw."""
        ...

    def listening(self, targets: Sequence[str]) -> Sequence[bool]:
        """Return, at one look, which ``HOST:PORT`` of this machine are certainly listened on now."""
        ...


class Journal(Protocol):
    """The output of one service.

    * ``bound`` keeps its size within a limit and returns the bytes that were dropped so far.
    * ``tail`` returns the last lines, free of control characters; ``lines`` only looks at what the present
      life wrote.
    """

    @property
    def path(self) -> str:
        """Where it lies."""
        ...

    @property
    def grows_fast(self) -> bool:
        """Whether so much was written between the last two looks that the next one should come soon."""
        ...

    def bound(self) -> int:
        """Keep the size within the limit; return how many bytes were dropped so far."""
        ...

    def tail(self) -> tuple[str, ...]:
        """Return the last lines."""
        ...

    def lines(self) -> tuple[str, ...]:
        """Return the last lines of the present life."""
        ...


class Witness(Protocol):
    """Looks at the machine at the moment of a death."""

    def at_death(self, evidence: Evidence, *, started_s: float) -> Evidence:
        """Return ``evidence`` with what the kernel said since ``started_s``; never raises."""
        ...


class Check(Protocol):
    """Runs the command of a need."""

    async def __call__(self, command: Sequence[str], spec: ServiceSpec) -> tuple[int, str]:
        """Return its exit code and the last line that it printed; raises OSError where it cannot run."""
        ...


class Memory(Protocol):
    """What survives the supervisor: lives, holds, and what was done.

    * Writing never blocks and never raises. What could not be written is kept and tried again, and
      ``trouble`` says so.
    """

    @property
    def trouble(self) -> str:
        """Why nothing can be written at present, or an empty string."""
        ...

    def ends(self, service: str) -> Sequence[End]:
        """Return the latest ends of ``service``, oldest first."""
        ...

    def waits(self, service: str) -> Sequence[float]:
        """Return how long the latest lives took to become ready, in seconds, oldest first."""
        ...

    def ready_after(self, life: str) -> float | None:
        """Return after how many seconds a life that has not ended became ready, or None."""
        ...

    def held_by(self, service: str) -> tuple[str, str, str] | None:
        """Return (who, why, since) where a person holds ``service``."""
        ...

    def began(self, service: str, life: str, *, at: str) -> None:
        """Note that a life began."""
        ...

    def ready(self, service: str, life: str, *, after_s: float) -> None:
        """Note that it became ready."""
        ...

    def ended(self, service: str, life: str, end: End) -> None:
        """Note how it ended."""
        ...

    def pardon(self, service: str) -> None:
        """Hold the ends so far against the service no more."""
        ...

    def hold(self, service: str, who: str, why: str) -> None:
        """Keep a person's hold until it is released."""
        ...

    def release(self, service: str) -> None:
        """Take back a person's hold."""
        ...

    def note(self, kind: str, service: str, body: Mapping[str, object]) -> None:
        """Put on record what was decided or done."""
        ...


class Machine(Protocol):
    """Where services run: everything that the supervisor needs, in one hand. It is entered before use."""

    @property
    def prober(self) -> Prober:
        """Asks services."""
        ...

    @property
    def witness(self) -> Witness:
        """Looks at the machine."""
        ...

    def driver(self, kind: str) -> Driver:
        """Return what runs services of that kind; KeyError where there is none."""
        ...

    def drivers(self) -> Sequence[Driver]:
        """Return every driver there is."""
        ...

    def journal(self, name: str) -> Journal:
        """Return the output of the service ``name``, always the same object."""
        ...

    async def __aenter__(self) -> Self:
        """Get ready."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of what was needed; what runs goes on."""
        ...
