"""Runs services as transient units of systemd, where that is the machine's first process.

1. A unit is made by ``systemd-run --collect``: control group, limits and the end of all that it started are
   systemd's. ``Restart=no``: whether and when it is started again is decided here.
2. How it ended is written into a file by the unit's ``ExecStopPost``, which systemd runs whoever supervises
   it then: the next one reads it, and takes back what still runs by the unit's name and the file beside it.
3. The end of its first process is seen through a pidfd, and the file follows within moments.
4. Its output is appended to our log by systemd itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from standfast.services.adapters import procfs
from standfast.services.adapters.inputs import of_files
from standfast.services.adapters.journal import FileJournal
from standfast.services.decide.digest import digest_of
from standfast.services.model import ExitStatus, Identity, Obstacle, Outcome, ServiceSpec
from standfast.services.ports import ObstructedError

_COMMAND_S = 15.0
_RECHECK_S, _REFUSED_S = 2.0, 15.0
#: From the end of the first process to the unit's own: what it left behind is ended, the file is written.
_STARTED_S, _STOPPED_S, _LOOK_S = 5.0, 90.0, 0.02
_SYSTEM = Path("/run/systemd/system")
#: What systemd.exec(5) passes to ``ExecStopPost``, without a character that a unit file would change.
_STOP_POST = '/bin/sh -c \'echo "$SERVICE_RESULT $EXIT_CODE $EXIT_STATUS" > "{0}.new" && mv "{0}.new" "{0}"\''
#: Exit codes of systemd's own steps before the program (systemd.exec(5), "Process Exit Codes").
_BEFORE_THE_PROGRAM = range(200, 250)
_SIGNALS = {"killed", "dumped"}


class Unit(NamedTuple):
    """One life as it was written down at its start; ``started_s`` is monotonic, of the boot ``boot``."""

    name: str
    unit: str
    life: str
    spec: str
    boot: str
    pid: int
    start_ticks: int
    started_s: float
    started_at: float
    log_at: int
    stop_timeout_s: float


class UnitRunning:
    """One life of a unit."""

    def __init__(self, folder: Path, unit: Unit) -> None:
        loop = asyncio.get_running_loop()
        self.unit = unit
        self._folder = folder
        self._ended: asyncio.Future[Outcome] = loop.create_future()
        self._news: Callable[[], None] = lambda: None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._handle = procfs.open_handle(self.identity) if unit.pid else None
        if self._handle is None:
            self._begin(self._settle())
        else:
            loop.add_reader(self._handle, self._note_process_gone)

    @property
    def name(self) -> str:
        """Which service it is a life of."""
        return self.unit.name

    @property
    def life(self) -> str:
        """What names this life and no other."""
        return self.unit.life

    @property
    def spec(self) -> str:
        """The digest of the declaration that it was started with."""
        return self.unit.spec

    @property
    def identity(self) -> Identity:
        """Which process it is."""
        return Identity(self.unit.boot, self.unit.pid, self.unit.start_ticks)

    @property
    def started_s(self) -> float:
        """When it began, monotonic."""
        return self.unit.started_s

    @property
    def started_at(self) -> float:
        """When it began, in seconds since the epoch."""
        return self.unit.started_at

    @property
    def is_limited(self) -> bool:
        """Whether the kernel keeps the limits: systemd was told them."""
        return True

    def letter(self) -> str:
        """Return the state letter of its process, empty where it is gone."""
        stat = procfs.read_stat(self.unit.pid)
        return stat.letter if stat is not None and stat.start_ticks == self.unit.start_ticks else ""

    def stopped_below(self) -> int:
        """Return a descendant that is stopped, or 0."""
        return procfs.stopped_below(self.unit.pid)

    def memory_bytes(self) -> int:
        """Return the resident memory of its process and everything below."""
        return procfs.memory_below(self.unit.pid)

    def said_ready_s(self) -> float | None:
        """Return None: the unit is of a type that tells systemd nothing."""
        return None

    def ailment(self) -> str:
        """Return that nothing is known: a unit has no health check of its own."""
        return "it has no health check of its own"

    async def ended(self) -> Outcome:
        """Return how it ended, when it has."""
        return await asyncio.shield(self._ended)

    async def gone(self) -> None:
        """Return when nothing of it is left: systemd ends all of a unit before it writes down its end."""
        await asyncio.shield(self._ended)

    def on_news(self, hear: Callable[[], None]) -> None:
        """Have ``hear`` called when something was heard of it."""
        self._news = hear

    def stop(self) -> None:
        """Have systemd stop it, which kills it when its time is over."""
        self._begin(_call("systemctl", "stop", "--no-block", self.unit.unit))

    def kill(self) -> None:
        """Have systemd kill all of it."""
        self._begin(_call("systemctl", "kill", "--signal=SIGKILL", self.unit.unit))

    def close(self) -> None:
        """Stop watching it; it goes on."""
        self._let_go()
        for task in self._tasks:
            task.cancel()

    def _note_process_gone(self) -> None:
        self._let_go()
        self._begin(self._settle())

    async def _settle(self) -> None:
        """Wait for what systemd has written down of its end, within its time."""
        ended_s = time.monotonic()
        path = self._folder / f"{self.unit.life}.end"
        limit_s = self.unit.stop_timeout_s + _STOPPED_S
        # Each turn looks once; bounded by the time that a unit may take to end.
        while not path.exists() and time.monotonic() - ended_s < limit_s:
            if self.unit.boot != procfs.boot_id():
                break
            await asyncio.sleep(_LOOK_S)
        if not self._ended.done():
            self._ended.set_result(_outcome(path, self.unit, ended_s))
        self._news()

    def _let_go(self) -> None:
        if self._handle is not None:
            asyncio.get_running_loop().remove_reader(self._handle)
            os.close(self._handle)
            self._handle = None

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class SystemdUnits:
    """Makes transient units; ``instance`` is part of their names, records lie below ``folder``."""

    def __init__(self, folder: Path, instance: str, journal_of: Callable[[str], FileJournal]) -> None:
        self._folder = folder
        self._prefix = f"standfast-{re.sub(r'[^A-Za-z0-9]', '', instance)[:12]}"
        self._journal_of = journal_of
        self._running: dict[str, UnitRunning] = {}

    def open(self) -> None:
        """Get ready."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def close(self) -> None:
        """Stop watching; what runs goes on."""
        for running in self._running.values():
            running.close()

    def obstacle(self, spec: ServiceSpec) -> Obstacle | None:
        """Return why ``spec`` cannot be started now: no systemd, no folder, or its port is taken."""
        if not _SYSTEM.is_dir() or not shutil.which("systemd-run"):
            what = "systemd does not run this machine, and it is declared to run as a unit"
            return Obstacle("NoSystemd", what, 'declare driver = "process"', _REFUSED_S)
        if spec.cwd is not None and not spec.cwd.is_dir():
            what = f"its folder {spec.cwd} does not exist"
            return Obstacle("FolderMissing", what, f"create {spec.cwd}, or correct `cwd`", _RECHECK_S)
        holder = procfs.listener(spec.port) if spec.port else None
        if holder is not None:
            fix = f"kill {holder.pid}, or choose another port" if holder.pid else "choose another port"
            return Obstacle("PortInUse", f"its port {spec.port} is in use by {holder.text}", fix, _RECHECK_S)
        return None

    async def start(self, spec: ServiceSpec) -> UnitRunning:
        """Begin one life of ``spec``; ObstructedError with systemd's own words where it will not."""
        life = os.urandom(8).hex()
        unit = f"{self._prefix}-{spec.name}-{life}.service"
        journal = self._journal_of(spec.name)
        log_at = journal.begin()
        paths = Paths(journal.path, str(self._folder / f"{life}.end"), str(self._folder / f"{life}.env"))
        await asyncio.to_thread(_write_environment, Path(paths.environment), spec)
        code, said = await _call(*run_words(spec, unit, paths))
        identity = await self._first_process(unit, Path(paths.end)) if code == 0 else None
        if code and not _has_run(Path(paths.end)):
            await asyncio.to_thread(_remove, paths.end, paths.environment)
            what = f"systemd refuses it: {said or 'it gives no reason'}"
            raise ObstructedError(
                Obstacle("SystemdRefused", what[:400], f"systemctl status {unit}", _REFUSED_S)
            )
        record = Unit(
            spec.name, unit, life, digest_of(spec), procfs.boot_id(),
            identity.pid if identity is not None else 0,
            identity.start_ticks if identity is not None else 0, time.monotonic(), time.time(), log_at,
            spec.stop_timeout_s,
        )  # fmt: skip
        _write(self._folder / f"{spec.name}.json", record)
        return self._watch(record)

    def found(self) -> Sequence[UnitRunning]:
        """Return the lives that are written down."""
        for path in sorted(self._folder.glob("*.json")):
            unit = _read(path)
            if unit is not None and unit.name not in self._running:
                self._journal_of(unit.name).resume(unit.log_at)
                self._watch(unit)
        return list(self._running.values())

    def forget(self, running: object) -> None:
        """Let the record of a life go whose end was taken note of."""
        assert isinstance(running, UnitRunning)
        running.close()
        current = _read(self._folder / f"{running.name}.json")
        if current is not None and current.life == running.life:
            (self._folder / f"{running.name}.json").unlink(missing_ok=True)
        for ending in ("end", "env"):
            (self._folder / f"{running.life}.{ending}").unlink(missing_ok=True)
        if self._running.get(running.name) is running:
            del self._running[running.name]

    def inputs(self, spec: ServiceSpec) -> dict[str, str]:
        """Return the state of the declaration and of the files that the command names or that are watched."""
        folder = spec.cwd or Path.cwd()
        named = [folder / part for part in spec.command if not part.startswith("-")]
        return {"": digest_of(spec)} | of_files([*named, *(folder / one for one in spec.watch)])

    async def _first_process(self, unit: str, end: Path) -> Identity | None:
        """Return the process that systemd has started; None where it has ended already."""
        until_s = time.monotonic() + _STARTED_S
        # Each turn looks once; bounded by the time in which systemd tells one of the two.
        while not await asyncio.to_thread(end.exists) and time.monotonic() < until_s:
            pid = int((await _show(unit)).get("MainPID") or 0)
            identity = procfs.identify(pid) if pid else None
            if identity is not None:
                return identity
            await asyncio.sleep(_LOOK_S)
        return None

    def _watch(self, unit: Unit) -> UnitRunning:
        self._running[unit.name] = UnitRunning(self._folder, unit)
        return self._running[unit.name]


def stop_all(folder: Path) -> int:
    """Stop every unit on record in ``folder``, for when nobody is to take it back; return how many."""
    records = [(path, unit) for path in sorted(folder.glob("*.json")) if (unit := _read(path)) is not None]
    units = [unit.unit for _, unit in records]
    if units:
        subprocess.run(["systemctl", "stop", *units], capture_output=True, check=False)
    for path, unit in records:
        _remove(str(path), *(str(folder / f"{unit.life}.{ending}") for ending in ("end", "env")))
    return len(units)


class Paths(NamedTuple):
    """Where the output of a unit goes, where its end is written down, where its environment stands."""

    log: str
    end: str
    environment: str


def run_words(spec: ServiceSpec, unit: str, paths: Paths) -> tuple[str, ...]:
    """Return the command that makes the unit of ``spec``."""
    limits = spec.limits
    properties = {
        "Restart": "no", "Type": "exec", "KillMode": "mixed",
        "KillSignal": signal.Signals(spec.stop_signal).name, "SendSIGKILL": "yes",
        "TimeoutStopSec": f"{spec.stop_timeout_s:g}s",
        "StandardOutput": f"append:{paths.log}", "StandardError": f"append:{paths.log}",
        "ExecStopPost": _STOP_POST.format(paths.end),
        # Not as settings of the unit: those anybody on the machine can read (I12).
        "EnvironmentFile": paths.environment,
        "MemoryMax": str(limits.memory_bytes) if limits.memory_bytes else "",
        "CPUQuota": f"{limits.cpus * 100:g}%" if limits.cpus else "",
        "WorkingDirectory": str(spec.cwd or Path.cwd()),
    }  # fmt: skip
    return (
        "systemd-run", "--collect", "--quiet", f"--unit={unit}", f"--description=standfast: {spec.name}",
        *(f"--property={key}={value}" for key, value in properties.items() if value),
        # systemd would replace $NAME in a word.
        "--", *(word.replace("$", "$$") for word in spec.command),
    )  # fmt: skip


def environment_text(environment: Mapping[str, str]) -> str:
    """Return variables as a file of systemd (EnvironmentFile, systemd.exec(5)) with exactly these values."""
    escaped = ((key, re.sub(r'(["\\`$])', r"\\\1", value)) for key, value in environment.items())
    return "".join(f'{key}="{value}"\n' for key, value in escaped)


def _write_environment(path: Path, spec: ServiceSpec) -> None:
    inherited = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "USER") if key in os.environ}
    text = environment_text({"PYTHONUNBUFFERED": "1", **inherited, **spec.env})
    with os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(text)


def _outcome(path: Path, unit: Unit, ended_s: float) -> Outcome:
    """Return how it ended, from what ``ExecStopPost`` wrote: RESULT CODE STATUS (systemd.exec(5))."""
    try:
        result, code, status = path.read_text("utf-8").split()
    except (OSError, ValueError):
        is_old = unit.boot != procfs.boot_id()
        return Outcome(
            None, lost="the machine was restarted" if is_old else "systemd wrote down no end of it"
        )
    exit_status = ExitStatus(int(status)) if status.isdecimal() else ExitStatus(255)
    if code in _SIGNALS:
        number = int(getattr(signal, f"SIG{status.removeprefix('SIG')}", 0))
        exit_status = ExitStatus(0, number) if number else ExitStatus(255)
    return Outcome(exit_status, ended_s=ended_s, is_oom_flagged=result == "oom-kill")


def _remove(*paths: str) -> None:
    for path in paths:
        Path(path).unlink(missing_ok=True)


def _has_run(path: Path) -> bool:
    """Whether the program itself ran and ended, so soon that systemd calls the start a failure."""
    with contextlib.suppress(OSError, ValueError):
        status = path.read_text("utf-8").split()[2]
        return not (status.isdecimal() and int(status) in _BEFORE_THE_PROGRAM)
    return False


async def _call(*words: str) -> tuple[int, str]:
    """Run a command of systemd; return its exit code and what it said."""

    def run() -> tuple[int, str]:
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return 255, str(error)
        return done.returncode, " ".join((done.stderr + done.stdout).decode("utf-8", "replace").split())

    return await asyncio.to_thread(run)


async def _show(unit: str) -> Mapping[str, str]:
    _, said = await _call("systemctl", "show", "--property=MainPID", unit)
    return dict(word.split("=", 1) for word in said.split() if "=" in word)


def _write(path: Path, unit: Unit) -> None:
    partial = path.with_name(f"{path.name}.new")
    partial.write_text(json.dumps(unit._asdict()))
    partial.replace(path)


def _read(path: Path) -> Unit | None:
    try:
        raw = json.loads(path.read_bytes())
        return Unit(**{field: kind(raw[field]) for field, kind in _KINDS.items()})
    except (OSError, ValueError, TypeError, KeyError):
        return None


_KINDS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("name", "unit", "life", "spec", "boot"), str),
    **dict.fromkeys(("pid", "start_ticks", "log_at"), int),
    **dict.fromkeys(("started_s", "started_at", "stop_timeout_s"), float),
}
