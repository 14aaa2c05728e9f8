"""What is left when the supervisor itself dies: nothing, also of what ignores SIGTERM or hides."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from integration.processes import lives, pid_in, program, wait_until
from standfast.services.adapters import procfs

SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from standfast.kernel.clock import SystemClock
from standfast.services.adapters.local import LocalMachine
from standfast.services.driver import Supervisor
from standfast.services.model import ServiceSpec
folder, mark = Path(sys.argv[1]), sys.argv[2]
specs = [
    ServiceSpec("plain", ("sleep", "600")),
    ServiceSpec("stubborn", (sys.executable, str(folder / "stubborn.py")), cwd=folder),
]
supervisor = Supervisor(specs, LocalMachine(mark, folder / "logs", clock=SystemClock()))
asyncio.run(supervisor.run(asyncio.Event()))
"""

STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    open('hidden', 'w').write(str(os.getpid()))
else:
    open('leader', 'w').write(str(os.getpid()))
while True: time.sleep(0.1)
"""


@pytest.fixture
def victim(tmp_path: Path) -> tuple[subprocess.Popen[bytes], str]:
    program(tmp_path, "stubborn.py", STUBBORN)
    mark = f"test-{os.getpid()}-{tmp_path.name}/"
    path = program(tmp_path, "supervisor.py", SUPERVISOR)
    popen = subprocess.Popen([sys.executable, path, str(tmp_path), mark])
    wait_until(lambda: pid_in(tmp_path / "hidden") and pid_in(tmp_path / "leader"))
    wait_until(lambda: len(procfs.marked(mark)) == 4, what="two services, a grandchild and the guardian")
    return popen, mark


def guardian(mark: str) -> int:
    return next(i.pid for i in procfs.marked(mark) if procfs.mark_of(i.pid) == f"{mark}guardian/")


def test_after_a_kill_nine_of_the_supervisor_nothing_is_left(
    tmp_path: Path, victim: tuple[subprocess.Popen[bytes], str]
) -> None:
    popen, mark = victim
    popen.kill()
    assert popen.wait() == -signal.SIGKILL
    wait_until(lambda: not procfs.marked(mark), within_s=8.0)
    assert not lives(pid_in(tmp_path / "hidden"))
    assert not lives(pid_in(tmp_path / "leader"))


def test_a_guardian_that_is_killed_is_replaced_and_knows_its_duty(
    tmp_path: Path, victim: tuple[subprocess.Popen[bytes], str]
) -> None:
    popen, mark = victim
    first = guardian(mark)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not lives(first))
    wait_until(lambda: len(procfs.marked(mark)) == 4 and guardian(mark) != first)
    popen.kill()
    popen.wait()
    wait_until(lambda: not procfs.marked(mark), within_s=8.0)


def test_supervisor_and_guardian_killed_at_once_leave_what_the_mark_finds(
    tmp_path: Path, victim: tuple[subprocess.Popen[bytes], str]
) -> None:
    popen, mark = victim
    os.kill(guardian(mark), signal.SIGKILL)
    popen.kill()
    popen.wait()
    # The kernel's tie alone ends the plain one; what ignores SIGTERM is for the next start to end.
    wait_until(lambda: len(procfs.marked(mark)) == 2)
    for identity in procfs.marked(mark):
        assert procfs.send(identity, signal.SIGKILL)
    wait_until(lambda: not procfs.marked(mark))
