"""``standfast up FILE``: compose and ecosystem files as they are, from the command line to the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from container_engine import IMAGE, ContainerEngine, running_engine
from integration.processes import PYTHON, lives, program, wait_until

STAYS = "trap 'exit 0' TERM; echo hello; while :; do sleep 0.2; done"


@pytest.fixture(scope="module")
def engine() -> Iterator[ContainerEngine]:
    with running_engine() as started:
        yield started


class Shell:
    """A folder to call commands in; whatever is still up at the end is ended."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self._environment = (
            os.environ | {"HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")} | environment
        )

    def call(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "standfast.cli", *words], cwd=self.folder, env=self._environment,
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert code in (None, done.returncode), (words, done.returncode, done.stdout, done.stderr)
        return done

    def services(self) -> dict[str, dict[str, Any]]:
        said = json.loads(self.call("status", "--json", code=None).stdout)
        return {view["name"]: view for view in said["data"]["services"]}


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path)
    yield made
    made.call("down", "--data-dir", str(tmp_path / ".standfast"))


@pytest.fixture
def engine_shell(engine: ContainerEngine, tmp_path: Path) -> Iterator[Shell]:
    made = Shell(tmp_path, DOCKER_HOST=engine.host)
    yield made
    made.call("down", "--data-dir", str(tmp_path / ".standfast"))
    engine.remove_all()


def test_a_compose_file_comes_up_survives_its_supervisor_and_ends(
    engine: ContainerEngine, engine_shell: Shell
) -> None:
    check = 'healthcheck: {test: "test -e /bin/sh"}'
    (engine_shell.folder / "compose.yaml").write_text(f"""
name: files
services:
  db: {{image: '{IMAGE}', command: [sh, -c, "{STAYS}"], restart: always, {check}}}
  web:
    image: {IMAGE}
    command: [sh, -c, "{STAYS}"]
    restart: always
    pull_policy: always
    {check}
    depends_on: {{db: {{condition: service_healthy}}}}
  more: {{image: '{IMAGE}', command: [sleep, "600"], profiles: [more]}}
""")
    up = engine_shell.call("up", "compose.yaml", "--wait", "--json")
    assert json.loads(up.stdout)["data"]["is_up"]
    assert "pull_policy of web has no effect" in up.stderr
    supervisor = json.loads(up.stdout)["data"]["pid"]
    begun = engine.client.inspect_container("files-db-1")["State"]["StartedAt"]
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not lives(supervisor))
    again = engine_shell.call("up", "compose.yaml", "--wait")
    assert "not_ready" not in again.stderr, "what was healthy is known to be"
    assert engine.client.inspect_container("files-db-1")["State"]["StartedAt"] == begun
    services = engine_shell.services()
    assert {name: view["starts"] for name, view in services.items()} == {"db": 1, "web": 1}
    assert services["db"]["declared_in"] == f"{engine_shell.folder / 'compose.yaml'}:4"
    assert engine_shell.call("logs", "db").stdout == "hello\n"
    engine_shell.call("down")
    assert engine.client.containers() == []


def test_up_wait_of_a_container_that_ends_again_and_again_says_so(engine_shell: Shell) -> None:
    (engine_shell.folder / "compose.yaml").write_text(
        f"services:\n  loop: {{image: '{IMAGE}', command: [sh, -c, 'echo no; exit 4'], restart: always}}\n"
    )
    up = engine_shell.call("up", "--wait", code=3)
    assert "loop is held" in up.stdout
    assert "exit code 4" in up.stdout


def test_a_compose_file_that_cannot_be_run_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services:\n  a:\n    image: x\n    cpu_percent: 3\n")
    refused = Shell(tmp_path).call("up", "compose.yaml", "--wait", code=2)
    assert "compose.yaml:4" in refused.stderr
    assert not (tmp_path / ".standfast").exists()


def test_an_ecosystem_file_runs_as_services(shell: Shell) -> None:
    script = program(
        shell.folder, "app.py",
        "import os, sys, time\nprint(sys.argv[1:], os.environ['WORD'], os.environ.get('NODE_APP_INSTANCE'))\n"
        "time.sleep(600)\n",
    )  # fmt: skip
    (shell.folder / "ecosystem.config.js").write_text(f"""
const count = 2;
module.exports = {{
  apps: [
    {{ name: 'worker', script: '{script}', interpreter: '{PYTHON}', cwd: '.', args: "--name 'a b'",
       env: {{ WORD: 'said' }}, instances: count, kill_timeout: 3000, wait_ready: true }},
    {{ name: 'once', script: 'false', cwd: '.', interpreter: 'none', autorestart: false }},
  ],
}};
""")
    up = shell.call("up", "ecosystem.config.js", "--wait", code=3)
    assert "once is held" in up.stdout
    assert "warning: " in up.stderr
    assert "only pm2 reads" in up.stderr
    wait_until(lambda: all(shell.services()[name]["state"] == "ready" for name in ("worker-1", "worker-2")))
    logs = [shell.call("logs", name).stdout for name in ("worker-1", "worker-2")]
    assert logs == ["['--name', 'a b'] said 0\n", "['--name', 'a b'] said 1\n"]
