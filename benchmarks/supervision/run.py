"""Supervisors beside each other: ``python -m benchmarks.supervision --only ours,pm2 --quick``.

1. Each is measured with the same toys, the same journal and the same readers of /proc, in one run; a ratio is
   to the ideal schedule of this run, or to what ours used.
2. What is mostly waiting (a slow dependency, services that can never work) runs beside each other; what is
   timed in milliseconds or counted in CPU time runs alone.
3. All that is started carries a mark and is ended by it, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.supervision import install, phases, report, stack
from benchmarks.supervision.ideal import Ideal
from benchmarks.supervision.ours import Ours, OursTcp
from benchmarks.supervision.peers.circus import Circus
from benchmarks.supervision.peers.compose import Compose
from benchmarks.supervision.peers.pm2 import Pm2
from benchmarks.supervision.peers.supervisor import Supervisor
from benchmarks.supervision.phases import Figures
from benchmarks.supervision.stack import Instance, Stack

TOOLS: dict[str, type[Instance]] = {
    tool.name: tool for tool in (Ours, OursTcp, Pm2, Supervisor, Circus, Compose)
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PARTS = ("up", "slow", "idle", "many", "hopeless", "crash")


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    turns: int
    respawn_turns: int
    kills: int
    slow_s: float
    settle_s: float
    window_s: float
    many: int
    lives_s: dict[float, float]
    crash_s: float
    has_variants: bool = True


FULL = Extent(3, 2, 3, 12.0, 5.0, 20.0, 200, {0.2: 30, 1.2: 30, 2.2: 30, 11: 60}, 12.0)
QUICK = Extent(1, 1, 1, 4.0, 1.0, 4.0, 0, {0.2: 8, 1.2: 8, 2.2: 8}, 3.0, has_variants=False)


class Bench:
    """One run."""

    def __init__(self, folder: Path, extent: Extent) -> None:
        self._folder, self._extent, self._number = folder, extent, 0
        self.figures = {Ideal.name: Figures(Ideal.about)}
        self._tools: list[type[Instance]] = []
        self._live: list[Instance] = []

    def take(self, tool: type[Instance]) -> None:
        """Measure ``tool``, unless it cannot run here."""
        self.figures[tool.name] = Figures(tool.about)
        if tool.is_variant and not self._extent.has_variants:
            self.figures[tool.name].skipped = "a quick run has no variants"
            return
        try:
            with self._running(tool, stack.flat, 1) as instance:
                if not phases.bring_up(instance, 20).is_up:
                    self.figures[tool.name].skipped = f"one toy does not come up: {instance.last_words()}"
                    return
        except install.MissingError as missing:
            self.figures[tool.name].skipped = str(missing)
            return
        self._tools.append(tool)

    def _with_ideal(self) -> list[type[Instance]]:
        return [Ideal, *self._tools]

    @contextlib.contextmanager
    def _running(self, tool: type[Instance], make: Callable[..., Stack], *how: Any) -> Iterator[Instance]:
        self._number += 1
        home = self._folder / str(self._number)
        home.mkdir()
        instance = tool(make(home / "journal", *how), home / "run")
        self._live.append(instance)
        try:
            instance.prepare()
            yield instance
        finally:
            instance.end()
            self._live.remove(instance)

    def end(self) -> None:
        """End what still runs."""
        for instance in list(self._live):
            instance.end()

    def up(self, parts: Sequence[str]) -> None:
        """Time from nothing to all ready, and from kill -9 to the next; at the last turn, what stands."""
        for turn in range(self._extent.turns):
            for tool in self._with_ideal():
                say(f"all ready: {tool.name}, turn {turn + 1}")
                with self._running(tool, stack.layered) as instance:
                    figures = self.figures[tool.name]
                    figures.up.append(phases.bring_up(instance, 60))
                    if tool is Ideal or not figures.up[-1].is_up:
                        continue
                    if turn < self._extent.respawn_turns and not tool.is_variant:
                        figures.respawns += phases.respawn(instance, self._extent.kills)
                    if turn == self._extent.turns - 1 and not tool.is_variant:
                        self._stand(instance, figures, parts)

    def _stand(self, instance: Instance, figures: Figures, parts: Sequence[str]) -> None:
        if "idle" in parts:
            say(f"idle: {instance.name}")
            time.sleep(self._extent.settle_s)
            figures.idle.append(phases.idle(instance, self._extent.window_s))
        if "crash" in parts:
            say(f"kill -9 of the supervisor: {instance.name}")
            figures.crash = phases.crash(instance, self._extent.crash_s)

    def slow(self) -> None:
        """One dependency takes long; all supervisors beside each other."""
        slow_s = self._extent.slow_s
        say(f"a dependency that takes {slow_s:g} s: all")

        def one(tool: type[Instance]) -> None:
            with self._running(tool, stack.layered, slow_s) as instance:
                self.figures[tool.name].slow = phases.bring_up(instance, slow_s + 40)

        self._beside(self._with_ideal(), one)

    def many(self) -> None:
        """Idle with many services."""
        for tool in self._tools:
            figures = self.figures[tool.name]
            if not self._extent.many:
                continue
            if tool.is_variant:
                continue
            if tool.too_many:
                figures.notes.append(f"not with {self._extent.many} services: {tool.too_many}")
                continue
            say(f"idle with {self._extent.many}: {tool.name}")
            with self._running(tool, stack.flat, self._extent.many) as instance:
                came = phases.bring_up(instance, 90)
                if not came.is_up:
                    figures.notes.append(f"only {came.ready} of {self._extent.many} came up in 90 s")
                    continue
                time.sleep(self._extent.settle_s)
                figures.idle.append(phases.idle(instance, self._extent.window_s))

    def hopeless(self) -> None:
        """Services that fail alike for ever; all supervisors beside each other."""
        lives = self._extent.lives_s
        say(f"starts of what can never work, {max(lives.values()):g} s: all")

        def one(tool: type[Instance]) -> None:
            with self._running(tool, stack.hopeless, tuple(lives)) as instance:
                names = [service.name for service in instance.stack.services]
                windows = dict(zip(names, lives.values(), strict=True))
                counts, given_up = phases.hopeless_starts(instance, windows)
                figures = self.figures[tool.name]
                figures.hopeless = dict(zip(map(str, lives), counts.values(), strict=True))
                figures.hopeless_given_up = given_up

        self._beside([tool for tool in self._tools if not tool.is_variant], one)

    def _beside(self, tools: Sequence[type[Instance]], one: Callable[[type[Instance]], None]) -> None:
        """Run ``one`` for each tool at once; what fails is said once all have ended."""
        failed: list[BaseException] = []

        def work(tool: type[Instance]) -> None:
            try:
                one(tool)
            except BaseException as error:  # noqa: BLE001 - carried to the caller
                failed.append(error)

        threads = [threading.Thread(target=work, args=(tool,), daemon=True) for tool in tools]
        for thread in threads:
            thread.start()
        # Ctrl-C must reach this thread: a join without a limit would hold it back.
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.1)
        for error in failed:
            raise error


def say(text: str) -> None:
    sys.stderr.write(f"{text} ...\n")


def measure_all(bench: Bench, names: Sequence[str], parts: Sequence[str]) -> None:
    """Measure all that was asked for."""
    for name in names:
        bench.take(TOOLS[name])
    if "up" in parts:
        bench.up(parts)
    for part in ("slow", "many", "hopeless"):
        if part in parts:
            getattr(bench, part)()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default=",".join(TOOLS), help=f"some of: {','.join(TOOLS)}")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of: {','.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="one turn, shorter windows, ten services only")
    parser.add_argument("--slow-s", type=float, help="how long the slow dependency takes")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    options.only, options.parts = options.only.split(","), options.parts.split(",")
    for name, known in ((options.only, TOOLS), (options.parts, PARTS)):
        if unknown := set(name) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return options


def main() -> int:
    """Measure, print, and leave nothing behind."""
    options = arguments()
    extent = QUICK if options.quick else FULL
    if options.slow_s:
        extent = Extent(**{**asdict(extent), "slow_s": options.slow_s})
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="sfb-"))
    bench, began = Bench(folder, extent), time.monotonic()
    load = os.getloadavg()[0]
    try:
        measure_all(bench, options.only, options.parts)
    except KeyboardInterrupt:
        print("broken off", file=sys.stderr)
        return 130
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # A second Ctrl-C must not leave half of it behind.
        bench.end()
        shutil.rmtree(folder, ignore_errors=True)
    machine = {"cores": os.cpu_count(), "load_before": load, "took_s": time.monotonic() - began}
    print(report.text(bench.figures, asdict(extent), machine))
    if options.json:
        result = {"machine": machine, "extent": asdict(extent), "figures": report.data(bench.figures)}
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0
