"""Real stacks of services for tests: a configuration in a folder, and commands on it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from integration.instances import command, free_ports
from integration.processes import SERVER, lives, program, wait_until
from standfast.app.hold import instance_id
from standfast.app.instance import Run, read_run
from standfast.services.adapters import procfs
from standfast.services.adapters.control import ask
from standfast.services.adapters.lives import LIVES_NAME, Life, all_lives
from standfast.services.model import Identity

SERVICE = """
[[services]]
name = "{name}"
command = ["{{python}}", "server.py", "{{port}}"]
port = {port}
ready = {{ http = "/" }}
depends_on = [{needs}]
restart = {{ backoff_s = 0.1, cap_s = 0.5 }}
stop_timeout_s = 2
{more}
"""


def service(name: str, *needs: str, port: int, more: str = "") -> str:
    """Return the declaration of a service that answers on ``port``."""
    quoted = ", ".join(f'"{one}"' for one in needs)
    return SERVICE.format(name=name, port=port, needs=quoted, more=more)


class Stack:
    """One stack in ``folder``; what it declares is ``text``."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        self.data_dir = folder / ".standfast"
        folder.mkdir(parents=True, exist_ok=True)
        program(folder, "server.py", SERVER)
        (folder / "standfast.toml").write_text(text)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a ``standfast`` command in its folder."""
        return command(self.folder, *arguments)

    def data(self, *arguments: str) -> dict[str, Any]:
        """Return what a command prints as JSON, whatever its exit code; an error's body where it failed."""
        done = self.run(*arguments, "--json")
        envelope = json.loads(done.stdout.splitlines()[-1])
        assert envelope["schema"].startswith("standfast."), done.stderr
        found: dict[str, Any] = envelope.get("data") or {"error": envelope["error"]}
        return {**found, "exit_code": done.returncode}

    def up(self) -> None:
        """Start it and return once everything required is ready."""
        done = self.run("up", "--wait", "--wait-timeout", "60")
        assert done.returncode == 0, done.stdout + done.stderr

    def views(self) -> dict[str, dict[str, Any]]:
        """Return every service as its supervisor shows it now."""
        return {view["name"]: view for view in ask(self.data_dir, "list")["services"]}

    def until(self, name: str, state: str, *, within_s: float = 20.0) -> None:
        """Return once a service stands in ``state``."""
        wait_until(lambda: self.views()[name]["state"] == state, within_s=within_s, what=f"{name} {state}")

    def supervisor(self) -> Identity:
        """Return which process supervises it, by its own record."""
        run = read_run(self.data_dir)
        assert isinstance(run, Run)
        return run.process

    def lives(self) -> dict[str, Life]:
        """Return what the shims have written down."""
        return {life.name: life for life in all_lives(self.data_dir / LIVES_NAME)}

    def kill_supervisor(self) -> None:
        """End the supervisor as a machine in need of memory would."""
        process = self.supervisor()
        assert procfs.send(process, signal.SIGKILL)
        wait_until(lambda: not lives(process.pid))

    def kill_everything(self) -> None:
        """End the supervisor, all shims and all services at once: nobody is left who could tell of it."""
        self.kill_supervisor()
        targets = [process for life in self.lives().values() for process in (life.shim, life.child)]
        for process in targets:
            procfs.send(process, signal.SIGKILL)
        wait_until(lambda: not any(procfs.is_alive(process) for process in targets))
        for process in self.members():
            procfs.send(process, signal.SIGKILL)
        wait_until(lambda: not self.members())

    def members(self) -> list[Identity]:
        """Return everything alive that it has started."""
        return procfs.marked(f"{instance_id(self.data_dir)}/")

    def clean_up(self) -> None:
        """End everything of it by force, whatever the test has done."""
        run = read_run(self.data_dir)
        if isinstance(run, Run):
            procfs.send(run.process, signal.SIGKILL)
        deadline = time.monotonic() + 10.0
        while (left := self.members()) and time.monotonic() < deadline:
            for process in left:
                procfs.send(process, signal.SIGKILL)
            time.sleep(0.05)


def small_stack(folder: Path, more: str = "") -> Stack:
    """Return a stack of a db, an api that needs it, and one that nothing needs and that is not required."""
    ports = free_ports(3)
    text = '[instance]\nname = "small"\n' + service("db", port=ports[0]) + service("api", "db", port=ports[1])
    extra = service("extra", port=ports[2], more="required = false")
    return Stack(folder, text + extra + more)
