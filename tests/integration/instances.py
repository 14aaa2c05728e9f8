"""Real instances for tests: ``standfast up`` as a process of its own, on a configuration in a folder."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blueprint_programs import blueprint_file
from integration.processes import lives, wait_until
from standfast.app.client import ApiClient
from standfast.app.hold import instance_id
from standfast.app.instance import Run, read_run
from standfast.services.adapters import procfs
from standfast.services.model import Identity

#: Starting takes a preflight with simulators; the machine may be busy.
START_S = 40.0

SMALL = """
[instance]
name = "small"
[api]
port = 0
[scheduler]
tick_s = 0.1
takeover_s = 1.0
[tasks]
lease_ttl_s = 6
heartbeat_s = 1
executor_silent_s = 4
retry_base_s = 0.2
retry_cap_s = 1
paused_ttl_s = 3
[executor]
count = {executors}
concurrency = 3
poll_s = 0.1
[evaluation]
interval_s = {interval_s}
deadline_s = 60
[evaluation.limits]
timeout_s = 4
act_s = 1.0
reset_s = 2.0
subject_budget_s = 4.0
[[evaluation.environments]]
id = "classic/cartpole"
episodes = {episodes}
rotate = 1
"""

MINER = """
[[subjects]]
uid = {uid}
hotkey = "{policy}-{uid}"
endpoint = "http://127.0.0.1:{port}"
committed_block = {uid}
[[services]]
name = "miner-{uid}"
command = ["{{python}}", "{miner}", "--policy", "{policy}", "--port", "{{port}}"]
port = {port}
ready = {{ http = "/health" }}
restart = {{ backoff_s = 0.2, cap_s = 1.0 }}
stop_timeout_s = 2
"""


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def small_config(
    folder: Path,
    *,
    policies: Sequence[str] = ("random",),
    executors: int = 1,
    episodes: int = 2,
    interval_s: float = 0.5,
    more: str = "",
) -> Path:
    """Write a configuration whose rounds take about a second; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    miner = blueprint_file("evaluation/miner.py")
    text = SMALL.format(executors=executors, episodes=episodes, interval_s=interval_s)
    for uid, (policy, port) in enumerate(zip(policies, free_ports(len(policies)), strict=True), start=1):
        text += MINER.format(uid=uid, policy=policy, port=port, miner=miner)
    (folder / "standfast.toml").write_text(text + more, encoding="utf-8")
    return folder


class Up:
    """One ``standfast up`` on the configuration in ``folder``, in a session of its own.

    What it tells goes into a file, or to the descriptor ``told``.
    """

    def __init__(self, folder: Path, *arguments: str, told: int = -1) -> None:
        self.folder = folder
        self.data_dir = folder / ".standfast"
        self.told = folder / f"told-{time.monotonic_ns()}.txt"
        with self.told.open("wb") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "standfast.cli", "up", str(folder), *arguments],
                cwd=folder,
                env=environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file if told < 0 else told,
                start_new_session=True,
            )

    def run(self) -> Run | None:
        """Return what it wrote down about itself, where that can be read and is of this process."""
        run = read_run(self.data_dir)
        return run if isinstance(run, Run) and run.process.pid == self.popen.pid else None

    def text(self) -> str:
        """Return what it has told so far."""
        return self.told.read_text("utf-8", "replace")

    def until_told(self, words: str, *, within_s: float = START_S) -> None:
        """Return once ``words`` were told."""
        wait_until(
            lambda: words in self.text() or self.popen.poll() is not None, within_s=within_s, what=words
        )
        assert words in self.text(), f"ended with {self.popen.returncode}: {self.text()}"

    def until_up(self) -> Run:
        """Return the run once its API listens."""
        wait_until(
            lambda: self.popen.poll() is not None or ((run := self.run()) is not None and run.url),
            within_s=START_S,
            what="run.json with an address",
        )
        run = self.run()
        assert run is not None, f"ended with {self.popen.returncode}: {self.text()}"
        return run

    def ask(self, path: str) -> dict[str, Any]:
        """Return what the API answers at ``path`` to the instance's own token."""
        run = self.until_up()
        token = (self.data_dir / "token").read_text().strip()

        async def get() -> dict[str, Any]:
            async with ApiClient(run.url, token) as client:
                return (await client.call("GET", path)).body

        return asyncio.run(get())

    def signal(self, number: int) -> None:
        """Send a signal to the main process."""
        self.popen.send_signal(number)

    def ended(self, *, within_s: float = 30.0) -> int:
        """Return the exit code once it has ended."""
        try:
            return self.popen.wait(within_s)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"still runs after {within_s} s: {self.text()}") from error

    def stop(self) -> int:
        """Ask it to end in order; return the exit code."""
        if self.popen.poll() is None:
            self.signal(signal.SIGTERM)
        return self.ended()

    def members(self) -> list[Identity]:
        """Return everything alive that any run of this instance has started."""
        return procfs.marked(f"{instance_id(self.data_dir)}/")

    def clean_up(self) -> None:
        """End everything of this instance by force, whatever the test has done."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        for identity in self.members():
            procfs.send(identity, signal.SIGKILL)


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a command in a test: its registry of instances is the test's own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("STANDFAST_")}
    return kept | {"XDG_STATE_HOME": str(folder / "state")}


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a ``standfast`` command in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "standfast.cli", *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def json_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the envelope that a command printed."""
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def nothing_lives(up: Up) -> bool:
    """Return whether neither the main process nor anything of it is there any more."""
    return not lives(up.popen.pid) and not up.members()
