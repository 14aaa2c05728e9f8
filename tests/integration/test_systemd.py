"""Services as units of a real systemd: run, ended, taken back; skipped where it is not the first process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from integration.processes import PYTHON, Stand, eventually, program
from standfast.app.drivers import drivers_of
from standfast.app.supervision import Options
from standfast.services.adapters import procfs
from standfast.services.model import Readiness, RestartPolicy, RestartWhen, ServiceSpec

pytestmark = pytest.mark.skipif(
    not Path("/run/systemd/system").is_dir(), reason="systemd does not run this machine (it is not process 1)"
)

ODD = {"PLAIN": "a b", "QUOTES": "\"x\" 'y'", "DOLLARS": "$HOME ${HOME} $$", "BACK": "a\\nb`c`%n"}
SHOW = "import json, os, sys, time; print(json.dumps([sys.argv[1:], dict(os.environ)])); time.sleep(600)"
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
open("pids", "w").write(f"{os.getpid()} {child.pid}")
while True: time.sleep(0.1)
"""


def unit(name: str, *command: str, **more: object) -> ServiceSpec:
    return ServiceSpec(name, command, driver="systemd", **more)  # type: ignore[arg-type]


def stand(folder: Path, *specs: ServiceSpec) -> Stand:
    made = drivers_of({"systemd"}, folder / "data", {"instance": f"test-{os.getpid()}-{folder.name}"})
    return Stand(folder, *specs, options=Options(drivers=made))


def units_left() -> str:
    words = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "standfast-*"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def test_a_unit_gets_its_words_and_variables_as_they_were_declared_and_leaves_nothing(tmp_path: Path) -> None:
    words = ("$HOME", "%n", "a b", 'quote"s', "back\\slash")
    spec = unit("shown", PYTHON, "-c", SHOW, *words, cwd=tmp_path, env=ODD, ready=Readiness(log=r"\["))
    one = stand(tmp_path, spec)
    seen: list[object] = []

    async def body() -> None:
        await eventually(one.is_in("shown", "ready"))
        seen.extend(json.loads((one.data_dir / "logs" / "shown.log").read_text()))

    one.run(body)
    assert seen[0] == list(words)
    environment = seen[1]
    assert isinstance(environment, dict)
    assert {name: environment[name] for name in ODD} == ODD
    assert units_left() == ""
    assert list((one.data_dir / "units").iterdir()) == []


@pytest.mark.parametrize(
    ("code", "said"),
    [("exit 3", "exit code 3"), ("kill -9 $$", "killed by SIGKILL (9)"), ("exit 0", "exit code 0")],
)
def test_how_a_unit_ended_is_told(tmp_path: Path, code: str, said: str) -> None:
    one = stand(
        tmp_path, unit("short", "sh", "-c", f"echo words; {code}", restart=RestartPolicy(RestartWhen.NEVER))
    )

    async def body() -> None:
        await eventually(lambda: one.state("short") in ("held", "completed"))
        if said != "exit code 0":
            assert said in one.view("short")["last_exit"]
        assert "words" in (one.data_dir / "logs" / "short.log").read_text()

    one.run(body)


def test_what_ignores_the_signal_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    path = program(tmp_path, "stubborn.py", STUBBORN)
    one = stand(tmp_path, unit("stubborn", PYTHON, path, cwd=tmp_path, stop_timeout_s=1.0))
    pids: list[int] = []

    async def body() -> None:
        await eventually(
            lambda: (tmp_path / "pids").exists() and len((tmp_path / "pids").read_text().split()) == 2
        )
        pids.extend(int(word) for word in (tmp_path / "pids").read_text().split())

    one.run(body)
    assert [pid for pid in pids if (stat := procfs.read_stat(pid)) is not None and stat.is_alive] == []


def test_a_new_supervisor_takes_back_what_runs_and_learns_how_the_rest_ended(tmp_path: Path) -> None:
    long = unit("long", "sleep", "600")
    short = unit("short", "sh", "-c", "sleep 1; exit 7", restart=RestartPolicy(RestartWhen.NEVER))
    first = stand(tmp_path, long, short)
    pids: list[int] = []

    async def until_both_run() -> None:
        await eventually(lambda: all(view["pid"] for view in first.supervisor.snapshot()))
        pids.append(first.view("long")["pid"])

    first.leave_after(until_both_run)
    second = stand(tmp_path, long, short)

    async def look() -> None:
        await eventually(second.is_in("short", "held"))
        assert "exit code 7" in second.view("short")["last_exit"]
        await eventually(lambda: second.view("long")["pid"])
        assert second.view("long")["pid"] == pids[0]
        assert second.view("long")["starts"] == 1
        os.kill(pids[0], signal.SIGKILL)
        await eventually(lambda: second.view("long")["pid"] not in (None, pids[0]))

    second.run(look)
    assert units_left() == ""


def test_a_program_that_is_not_there_is_held_with_systemds_own_words(tmp_path: Path) -> None:
    one = stand(tmp_path, unit("missing", "/nonexistent/program"))

    async def body() -> None:
        await eventually(one.is_in("missing", "held"))
        assert one.view("missing")["reason"] == "SystemdRefused"

    one.run(body)
    assert units_left() == ""
