"""Environments that misbehave, each in one way; every one notes in a file that its fault has happened.

The notes lie in the folder named by ``BAD_ENVIRONMENTS``, one file per environment id.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from standfast.evaluation.environments import Catalogue, ContinuousActions, EnvironmentSpec
from standfast.evaluation.ports import Action, Step

FOLDER = "BAD_ENVIRONMENTS"
SEEN = [0.25, -0.5]


def note(spec_id: str, text: str) -> None:
    """Say that the fault of ``spec_id`` has happened."""
    with (Path(os.environ[FOLDER]) / spec_id.replace("/", "_")).open("a") as file:
        file.write(text + "\n")


def notes(folder: Path, spec_id: str) -> list[str]:
    """Return what ``spec_id`` has noted."""
    file = folder / spec_id.replace("/", "_")
    return file.read_text().split() if file.exists() else []


class Bad:
    """Behaves until ``step``; then does what its id names. Wins after five steps if nothing happens."""

    def __init__(self, spec: EnvironmentSpec) -> None:
        self._spec = spec
        self._steps = 0
        self._fault: Callable[[Bad], Any] = FAULTS[spec.id]
        if spec.id == "bad/raises-when-made":
            self.note()
            raise RuntimeError("no such scene\nsecond line \x1b[31m")

    def note(self, text: str = "") -> None:
        note(self._spec.id, text or str(os.getpid()))

    def reset(self, **arguments: int) -> Sequence[float]:
        if self._spec.id == "bad/tells-its-arguments":
            self.note(",".join(sorted(arguments)))
        if self._spec.id == "bad/nan-at-reset":
            self.note()
            return [0.0, math.nan]
        return SEEN

    def step(self, action: Action) -> Step:
        self._steps += 1
        bad = self._fault(self)
        if isinstance(bad, Step):
            return bad
        return Step(SEEN, 1.0, self._steps >= 5, True)

    def close(self) -> None:
        if self._spec.id == "bad/hangs-at-close":
            self.note()
            ctypes.PyDLL(None).sleep(1000)
        if self._spec.id == "bad/dies-at-close":
            self.note()
            os.kill(os.getpid(), signal.SIGSEGV)


def _spin(bad: Bad) -> None:
    bad.note()
    while True:
        pass


def _ignore_sigterm(bad: Bad) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    bad.note()
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(1)


def _block_in_c(bad: Bad) -> None:
    bad.note()
    # PyDLL keeps the interpreter's lock: no Python code, no signal handler, runs any more.
    ctypes.PyDLL(None).sleep(1000)


def _spawn_and_hang(bad: Bad) -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(1000)"])
    bad.note(str(os.getpid()))
    bad.note(str(child.pid))
    time.sleep(1000)


def _leave_a_daemon(bad: Bad) -> None:
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", "import time; time.sleep(1000)"], start_new_session=True
    )
    bad.note(str(child.pid))


def _die_by(number: signal.Signals) -> Callable[[Bad], None]:
    def die(bad: Bad) -> None:
        bad.note()
        os.kill(os.getpid(), number)

    return die


def _raise(error: BaseException) -> Callable[[Bad], None]:
    def raise_it(bad: Bad) -> None:
        bad.note()
        raise error

    return raise_it


def _exit(status: int) -> Callable[[Bad], None]:
    def leave(bad: Bad) -> None:
        bad.note()
        os._exit(status)

    return leave


def _return(*, seen: Any = SEEN, reward: Any = 1.0, is_over: Any = False) -> Callable[[Bad], Step]:
    def bad_step(bad: Bad) -> Step:
        bad.note()
        return Step(seen, reward, is_over, False)

    return bad_step


def _scribble(bad: Bad) -> None:
    """Overwrite every shared memory that this process has, then leave."""
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if "memfd:" in str(entry.readlink()):
                os.pwrite(int(entry.name), os.urandom(4096), 0)
                bad.note()
    os._exit(0)


def _slow(bad: Bad) -> None:
    time.sleep(0.1)


def _never_over(bad: Bad) -> Step:
    return Step(SEEN, 0.0, False, True)


def _nothing(bad: Bad) -> None:
    """Behave."""


FAULTS: dict[str, Callable[[Bad], Any]] = {
    "bad/none": _nothing,
    "bad/slow": _slow,
    "bad/never-over": _never_over,
    "bad/spins": _spin,
    "bad/ignores-signals": _ignore_sigterm,
    "bad/blocks-in-c": _block_in_c,
    "bad/spawns-and-hangs": _spawn_and_hang,
    "bad/leaves-a-daemon": _leave_a_daemon,
    "bad/killed": _die_by(signal.SIGKILL),
    "bad/segfault": _die_by(signal.SIGSEGV),
    "bad/aborts": _die_by(signal.SIGABRT),
    "bad/exits": _exit(0),
    "bad/exits-3": _exit(3),
    "bad/raises": _raise(ValueError("the physics exploded\nin two lines")),
    "bad/raises-exit": _raise(SystemExit(0)),
    "bad/raises-interrupt": _raise(KeyboardInterrupt()),
    "bad/raises-when-made": _nothing,
    "bad/nan": _return(seen=[0.0, math.nan]),
    "bad/nan-at-reset": _nothing,
    "bad/infinite": _return(seen=[math.inf, 0.0]),
    "bad/nan-reward": _return(reward=math.nan),
    "bad/overflow": _return(reward=1.7e308),
    "bad/short": _return(seen=[0.0]),
    "bad/text": _return(seen=["a", "b"]),
    "bad/flags": _return(is_over="no"),
    "bad/scribbles": _scribble,
    "bad/hangs-at-close": _nothing,
    "bad/dies-at-close": _nothing,
    "bad/tells-its-arguments": _nothing,
}


def bad_catalogue() -> Catalogue:
    """Return a catalogue of every bad environment, and two whose factory is missing or never returns."""
    entries = [_entry(name, "Bad") for name in FAULTS]
    entries += [_entry("bad/missing", "Absent"), _entry("bad/hangs-when-made", "hang_when_made")]
    return Catalogue(entries)


def hang_when_made(spec: EnvironmentSpec) -> Bad:
    note(spec.id, str(os.getpid()))
    time.sleep(1000)
    raise AssertionError("unreachable")


def _entry(name: str, attribute: str) -> EnvironmentSpec:
    return EnvironmentSpec(
        id=name,
        factory=f"{__name__}:{attribute}",
        actions=ContinuousActions((-1.0,), (1.0,)),
        observation_size=2,
        max_steps=20,
        variants=10_000,
    )
