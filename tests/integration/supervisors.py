"""The real supervisor of a stack, as a process of its own that can be killed, on declarations in a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from integration.processes import mark_of, wait_until
from standfast.app.stack import RUN_NAME, STACK_NAME
from standfast.kernel.errors import TransientError
from standfast.services.adapters import procfs
from standfast.services.adapters.control import ask
from standfast.services.adapters.lives import LIVES_NAME, Life, read_life
from standfast.services.model import Budgets, Identity, ServiceSpec
from standfast.services.wire import spec_to_dict

START_S = 30.0


class StackProcess:
    """One ``python -m standfast.app.stack``, and after its death the next one of the same instance."""

    def __init__(self, folder: Path, *specs: ServiceSpec, data_dir: Path | None = None) -> None:
        self.folder = folder
        self.data_dir = data_dir or folder / "data"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.mark = mark_of(folder)
        self.popen: subprocess.Popen[bytes] | None = None
        self.before: tuple[str, ...] = ()  # A command that the supervisor is run by.
        self.declare(*specs)

    def declare(self, *specs: ServiceSpec, budgets: Budgets | None = None) -> None:
        """Write down what the next supervisor is to run."""
        known = budgets or Budgets()
        stack = {
            "name": "test", "instance": self.mark.rstrip("/"), "mark": self.mark, "version": "0", "rules": [],
            "config": "", "blueprint": str(self.folder), "started_from": str(self.folder),
            "budgets": {"group": known.group, "host": known.host},
            "services": [spec_to_dict(spec) for spec in specs],
        }  # fmt: skip
        (self.data_dir / STACK_NAME).write_text(json.dumps(stack))

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start a supervisor; do not wait for it."""
        with (self.folder / "supervisor.log").open("ab") as log:
            return subprocess.Popen(
                [*self.before, sys.executable, "-m", "standfast.app.stack", str(self.data_dir)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self) -> StackProcess:
        """Start a supervisor, and return once it answers."""
        self.popen = self.spawn()
        wait_until(self._answers, within_s=START_S, what="the supervisor answers")
        return self

    def _answers(self) -> bool:
        assert self.popen is not None
        assert self.popen.poll() is None, self.log()
        try:
            return bool(ask(self.data_dir, "list", timeout_s=5.0))
        except TransientError:
            return False

    def log(self) -> str:
        """Return what its supervisors have told."""
        return (self.folder / "supervisor.log").read_text("utf-8", "replace")

    def listed(self) -> dict[str, Any]:
        """Return what it answers to ``list``."""
        answer: dict[str, Any] = ask(self.data_dir, "list")
        return answer

    def views(self) -> dict[str, dict[str, Any]]:
        """Return what it shows of each service."""
        return {view["name"]: view for view in self.listed()["services"]}

    def view(self, name: str) -> dict[str, Any]:
        """Return what it shows of one service."""
        return self.views()[name]

    def pids(self) -> dict[str, int]:
        """Return the process of each service that has one."""
        return {name: view["pid"] for name, view in self.views().items() if view["pid"]}

    def until(self, name: str, *states: str, within_s: float = 20.0) -> dict[str, Any]:
        """Return the view of a service once it is in one of ``states``."""
        what = f"{name} is {' or '.join(states)}"
        wait_until(lambda: self.view(name)["state"] in states, within_s=within_s, what=what)
        return self.view(name)

    def until_all(self, state: str, names: Sequence[str] = (), *, within_s: float = 30.0) -> None:
        """Return once all services, or those of ``names``, are in ``state``."""

        def holds() -> bool:
            views = self.views()
            return {views[name]["state"] for name in names or views} == {state}

        wait_until(holds, within_s=within_s, what=f"all are {state}")

    def lives(self, name: str) -> list[dict[str, Any]]:
        """Return what is on record of the lives of a service, the latest first."""
        found: list[dict[str, Any]] = ask(self.data_dir, "lives", service=name)
        return found

    def life(self, name: str) -> Life:
        """Return what the shim of a service has written down."""
        life = read_life(self.data_dir / LIVES_NAME / name)
        assert life is not None, f"{name} has no record"
        return life

    def kill(self) -> None:
        """Kill the supervisor, and nothing else."""
        assert self.popen is not None
        self.popen.kill()
        assert self.popen.wait(10) == -signal.SIGKILL

    def stop(self) -> int:
        """Have the supervisor end the stack in order; return its exit code."""
        assert self.popen is not None
        if self.popen.poll() is None:
            self.popen.terminate()
        code = self.popen.wait(30)
        assert self.members() == []
        assert not (self.data_dir / RUN_NAME).exists()
        return code

    def members(self) -> list[Identity]:
        """Return everything alive that any supervisor of this instance has started."""
        return procfs.marked(self.mark)

    def clean_up(self) -> None:
        """End everything by force, whatever the test has done."""
        if self.popen is not None and self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        for identity in self.members():
            procfs.send(identity, signal.SIGKILL)
        wait_until(lambda: not self.members(), what="nothing is left")


def kill_now(*pids: int) -> None:
    """Kill processes, and return once they are dead."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any((stat := procfs.read_stat(pid)) and stat.is_alive for pid in pids))
