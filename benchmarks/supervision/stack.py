"""The toy stacks, what their services wrote down, and the shape of a supervisor that runs them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from benchmarks.supervision import measure

TOY = Path(__file__).resolve().parent / "toy.py"
#: The interpreter itself, not an environment's link to it: containers get the folder that it lies in.
PYTHON = str(Path(sys.executable).resolve())
LOOK_S = 0.01
START_S = 0.3


@dataclass(frozen=True)
class Service:
    """One toy; ``life_s`` is set for one that can never work."""

    name: str
    port: int
    level: int = 0
    needs: tuple[str, ...] = ()
    start_s: float = START_S
    life_s: float | None = None


@dataclass(frozen=True)
class Stack:
    """Services, and the file they write to."""

    services: tuple[Service, ...]
    journal: Path

    def argv(self, service: Service) -> list[str]:
        """Return the command of ``service``."""
        ports = {other.name: str(other.port) for other in self.services}
        needs = ",".join(ports[name] for name in service.needs) or "-"
        life = "-" if service.life_s is None else str(service.life_s)
        tail = [service.name, str(service.port), str(service.start_s), str(self.journal), needs, life]
        return [PYTHON, "-I", "-S", str(TOY), *tail]

    @property
    def leaves(self) -> list[Service]:
        """Those that nobody needs."""
        needed = {name for service in self.services for name in service.needs}
        return [service for service in self.services if service.name not in needed]


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody holds, below those that the kernel gives to clients."""
    found: list[int] = []
    candidates = random.sample(range(12_000, 32_000), 12_000)
    with contextlib.ExitStack() as held:
        for port in candidates:
            with contextlib.suppress(OSError):
                one = held.enter_context(socket.socket())
                one.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                return found
    raise RuntimeError(f"fewer than {count} free ports")


def layered(journal: Path, slow_s: float = START_S) -> Stack:
    """Ten services, three deep: 3 <- 4 <- 3, each needing all below it; the first takes ``slow_s``."""
    ports = iter(free_ports(10))
    rows: list[list[Service]] = []
    for level, width in enumerate((3, 4, 3)):
        needs = tuple(service.name for service in rows[-1]) if rows else ()
        rows.append([Service(f"toy-{level}{n}", next(ports), level, needs) for n in range(width)])
    first = rows[0][0]
    rows[0][0] = Service(first.name, first.port, start_s=slow_s)
    return _write(journal, [service for row in rows for service in row])


def flat(journal: Path, count: int) -> Stack:
    """``count`` services that need nothing."""
    return _write(journal, [Service(f"toy-{n:03}", port) for n, port in enumerate(free_ports(count))])


def hopeless(journal: Path, lives: Sequence[float]) -> Stack:
    """One service for each life, which ends the same way each time and is never ready."""
    pairs = zip(lives, free_ports(len(lives)), strict=True)
    return _write(
        journal, [Service(f"life-{life:g}".replace(".", "-"), port, life_s=life) for life, port in pairs]
    )


def _write(journal: Path, services: list[Service]) -> Stack:
    journal.write_bytes(b"")
    return Stack(tuple(services), journal)


class Event(NamedTuple):
    """A line of the journal."""

    at: float
    name: str
    what: str


FAILURES = ("refused", "taken", "failed")


def events(stack: Stack) -> list[Event]:
    """Return all that the services have written, in the order of its time."""
    lines = stack.journal.read_text().split("\n")[:-1]
    return sorted(Event(float(at), name, what) for at, name, what in map(str.split, lines))


def wait_for(condition: Callable[[], bool], limit_s: float, every_s: float = LOOK_S) -> bool:
    """Wait until ``condition`` holds, or ``limit_s`` at most; return whether it does."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every_s)
    return True


class EndedError(Exception):
    """Something was to be started of what has been ended."""


class Instance:
    """A supervisor with one stack, in a folder of its own; every process of it carries the mark."""

    name: ClassVar[str]
    #: How it was told to run them, in words.
    about: ClassVar[str]
    #: Whether it differs from another only in how it comes up.
    is_variant: ClassVar[bool] = False
    #: Why it is not measured with hundreds of services, or ''.
    too_many: ClassVar[str] = ""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.mark = uuid.uuid4().hex
        self._children: list[subprocess.Popen[bytes]] = []
        self._lock, self._has_ended = threading.Lock(), False
        folder.mkdir(parents=True)

    def prepare(self) -> None:
        """Do what is not timed: write the configuration."""

    def up(self) -> None:
        """Start the supervisor and the stack, as its user does."""
        raise NotImplementedError

    def again(self) -> None:
        """Start the supervisor again after it was killed."""
        self.up()

    def main_pids(self) -> set[int]:
        """Return the processes that are the supervisor itself, without those it has per service."""
        return {pid for pid in self.own_pids() if not self.is_shim(measure.command(pid))}

    def is_shim(self, argv: list[str]) -> bool:
        """Return whether a process is one of those that stand beside each service."""
        return False

    def given_up(self) -> set[str]:
        """Return the services that it will not try again by itself."""
        return set()

    def crash(self) -> None:
        """Kill the supervisor itself, at once."""
        for pid in self.main_pids():
            kill(pid)

    def end(self) -> None:
        """End every process of it; from then on none is started."""
        with self._lock:
            self._has_ended = True
        sweep(self.mark)
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(5)

    def environment(self) -> dict[str, str]:
        """Return what its processes are started with."""
        return {**os.environ, measure.MARK: self.mark}

    def spawn(self, argv: Sequence[str]) -> None:
        """Start a process that stays."""
        with (self.folder / "tool.log").open("ab") as log:
            self.start(argv, stdout=log, stderr=log)

    def call(self, argv: Sequence[str], limit_s: float = 60) -> str:
        """Run a command to its end and return what it printed; one that takes too long is ended."""
        child = self.start(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            raw = child.communicate(timeout=limit_s)[0]
        except subprocess.TimeoutExpired:
            child.kill()
            raw = child.communicate()[0] + f"\nno end after {limit_s:g} s".encode()
        text = raw.decode(errors="replace")
        with (self.folder / "calls.log").open("a") as log:
            log.write(f"$ {' '.join(argv)}\n{text}")
        return text

    def start(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, out of reach of Ctrl-C; never after the end."""
        environment = {**self.environment(), **options.pop("env", {})}
        with self._lock:
            if self._has_ended:
                raise EndedError
            child = subprocess.Popen(
                argv,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **options,
            )
            self._children.append(child)
        return child

    def last_words(self) -> str:
        """Return the last line that it printed."""
        for path in (self.folder / "tool.log", self.folder / "calls.log"):
            lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
            if lines:
                return lines[-1]
        return "it said nothing"

    def services(self) -> dict[str, set[int]]:
        """Return the living processes of each service."""
        found: dict[str, set[int]] = {service.name: set() for service in self.stack.services}
        for pid in measure.marked(self.mark):
            name = service_of(measure.command(pid))
            if name in found:
                found[name].add(pid)
        return found

    def own_pids(self) -> set[int]:
        """Return the processes that are not services."""
        return {pid for pid in measure.marked(self.mark) if not service_of(measure.command(pid))}


def service_of(argv: Sequence[str]) -> str:
    """Return the toy that this is the command of, or ''; a shim that names such a command is none."""
    return argv[4] if len(argv) > 4 and argv[3] == str(TOY) else ""


def kill(pid: int) -> None:
    """Kill one process, which may be gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def sweep(mark: str) -> None:
    """Kill what carries ``mark`` until nothing does, supervisors first: they would start services again."""

    def gone() -> bool:
        pids = measure.marked(mark)
        for pid in sorted(pids, key=lambda one: bool(service_of(measure.command(one)))):
            kill(pid)
        return not pids

    if not wait_for(gone, 20, 0.05):
        raise RuntimeError(f"still there after 20 s: {sorted(measure.marked(mark))}")
