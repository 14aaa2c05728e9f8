"""What a death touches: that of a supervisor or of its shim host nothing, that of a shim its own life."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.processes import lives, mark_of, pid_in, script, shell, wait_until
from integration.supervisors import StackProcess, kill_now
from standfast.services.adapters import leftovers, procfs
from standfast.services.adapters.lives import LIVES_NAME
from standfast.services.model import Readiness

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

#: Says that it leaves, and how.
POLITE = """
import os, signal, sys, time
def leave(number, *_):
    open('bye', 'w').write(signal.Signals(number).name); sys.exit(0)
signal.signal(signal.SIGINT, leave)
open('polite', 'w').write(str(os.getpid()))
while True: time.sleep(0.05)
"""

Kill = Callable[[StackProcess], list[int]]


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[StackProcess]:
    one = StackProcess(
        tmp_path,
        shell("plain", "exec sleep 600", tmp_path),
        script(tmp_path, STUBBORN, name="stubborn", ready=Readiness(file="hidden"), stop_timeout_s=0.5),
        script(
            tmp_path, POLITE, name="polite", ready=Readiness(file="polite"), stop_signal=int(signal.SIGINT)
        ),
    ).start()
    try:
        one.until_all("ready")
        yield one
    finally:
        one.clean_up()


def processes(one: StackProcess) -> list[int]:
    """Return every process of the services, grandchildren included."""
    return [
        pid_in(one.folder / "hidden"), pid_in(one.folder / "leader"), pid_in(one.folder / "polite"),
        one.life("plain").child.pid,
    ]  # fmt: skip


def kill_supervisor(one: StackProcess) -> list[int]:
    one.kill()
    return []


def kill_supervisor_and_host(one: StackProcess) -> list[int]:
    hosts = [
        i.pid for i in one.members() if procfs.name_of(i.pid) != "sf-shim" and "//" in procfs.mark_of(i.pid)
    ]
    one.kill()
    wait_until(lambda: not any(lives(pid) for pid in hosts), what="a host leaves with its supervisor")
    return hosts


@pytest.mark.parametrize("kill", [kill_supervisor, kill_supervisor_and_host])
def test_a_supervisors_death_touches_nothing(victim: StackProcess, kill: Kill) -> None:
    before = processes(victim)
    kill(victim)
    time.sleep(0.5)
    assert all(lives(pid) for pid in before)
    assert not (victim.folder / "bye").exists()


def test_what_is_left_without_a_supervisor_is_ended_in_order_when_nobody_wants_it(
    victim: StackProcess,
) -> None:
    before = processes(victim)
    victim.kill()
    left = leftovers.end_all(mark_of(victim.folder), victim.data_dir / LIVES_NAME, grace_s=1.0)
    assert left.ended >= 4
    assert left.remaining == 0
    assert not any(lives(pid) for pid in before), "also what ignores SIGTERM and what hides in a session"
    assert (victim.folder / "bye").read_text() == "SIGINT", "asked by its own stop signal"
    assert victim.members() == []


def test_a_shims_death_ends_what_it_minds_with_and_without_a_supervisor(victim: StackProcess) -> None:
    hidden, leader = pid_in(victim.folder / "hidden"), pid_in(victim.folder / "leader")
    (victim.folder / "hidden").unlink()
    kill_now(victim.life("stubborn").shim.pid)
    wait_until(lambda: not lives(hidden) and not lives(leader))
    wait_until(lambda: pid_in(victim.folder / "hidden"), what="it is started again")
    victim.kill()
    plain = victim.life("plain")
    kill_now(plain.shim.pid)
    wait_until(lambda: not lives(plain.child.pid), what="the kernel's tie ends what does not ignore SIGTERM")


def test_a_stopped_shim_ends_its_service_all_the_same(victim: StackProcess) -> None:
    before = processes(victim)
    for name in ("plain", "stubborn", "polite"):
        os.kill(victim.life(name).shim.pid, signal.SIGSTOP)
    assert victim.stop() == 0
    assert not any(lives(pid) for pid in before)
    assert (victim.folder / "bye").read_text() == "SIGINT"


def test_a_signal_to_a_shim_ends_its_service_in_order_and_names_the_sender(victim: StackProcess) -> None:
    first = victim.life("polite")
    os.kill(first.shim.pid, signal.SIGTERM)
    wait_until((victim.folder / "bye").exists)
    wait_until(lambda: victim.view("polite")["starts"] == 2)
    lives_ = [one for one in victim.lives("polite") if one["ended_at"]]
    assert lives_[0]["asked_by"] == f"pid {os.getpid()}"


def test_nobody_elses_terminal_reaches_a_service(victim: StackProcess) -> None:
    """A Ctrl-C goes to the foreground group of a terminal; each service is in a session of its own."""
    assert victim.popen is not None
    sessions = {
        (stat := procfs.read_stat(pid)) and stat.session for pid in (*processes(victim), victim.popen.pid)
    }
    assert None not in sessions
    assert len(sessions) == 5, "each service leads its own; what hides has its own, too"
