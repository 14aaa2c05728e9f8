"""Ready is what was seen, alive is another question, and what a service needs is looked at first."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from integration.instances import free_ports
from integration.processes import Stand, eventually, lives, pid_in, script, server, shell
from standfast.kernel.clock import SystemClock
from standfast.services.adapters import procfs
from standfast.services.history import DATABASE_NAME, History
from standfast.services.model import Liveness, Need, Readiness, ServiceSpec

#: Listens on argv[1] while the file ``open`` exists, and writes its own number down.
GATE = """
import os, socket, sys, time
open('pid', 'w').write(str(os.getpid()))
held = None
while True:
    if os.path.exists('open') and held is None:
        held = socket.create_server(('127.0.0.1', int(sys.argv[1])))
    if not os.path.exists('open') and held is not None:
        held.close()
        held = None
    time.sleep(0.02)
"""


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


def gate(folder: Path, port: int, **ready: Any) -> ServiceSpec:
    return server(folder, port, text=GATE, ready=Readiness(tcp=f"127.0.0.1:{port}", **ready))


def test_a000_7_a_refused_port_while_loading_is_starting_then_not_ready_then_ready(
    tmp_path: Path, port: int
) -> None:
    stand = Stand(tmp_path, gate(tmp_path, port, start_s=1.0))

    async def body() -> None:
        # A view is judged anew when somebody looks, and may be ahead of what is told.
        await eventually(lambda: "not_ready" in stand.states_of("web"))
        view = stand.view("web")
        assert (view["reason"], view["restarts"]) == ("Refused", 0)
        assert view["uptime_s"] >= 1.0
        (tmp_path / "open").touch()
        await eventually(stand.is_in("web", "ready"))

    stand.run(body)
    assert stand.states_of("web")[:3] == ["starting", "not_ready", "ready"]


def test_a000_7_the_grace_is_learnt_from_earlier_lives_and_survives_the_supervisor(
    tmp_path: Path, port: int
) -> None:
    (tmp_path / "open").touch()
    (tmp_path / "data").mkdir()
    earlier = History(tmp_path / "data" / DATABASE_NAME, SystemClock(), boot_id=procfs.boot_id())
    for life, wait_s in (("a", 24.0), ("b", 40.0)):
        earlier.began("web", life, at="2026-01-01T00:00:00.000Z")
        earlier.ready("web", life, after_s=wait_s)
    earlier.close()
    stand = Stand(tmp_path, gate(tmp_path, port))

    async def ready() -> None:
        await eventually(stand.is_in("web", "ready"))

    stand.run(ready)
    waits = stand.supervision.history.waits("web")
    assert waits == (24.0, 40.0), "what this supervisor was told at its start"
    again = Stand(tmp_path, gate(tmp_path, port))
    measured = again.supervision.history.waits("web")
    assert measured[:2] == (24.0, 40.0)
    assert len(measured) == 3
    assert 0.0 < measured[2] < 10.0, "measured, not a constant"
    assert again.view("web")["grace_s"] == pytest.approx(60.0)
    assert again.view("web")["usual_ready_s"] == 24.0
    again.supervision.close()


def test_a_port_that_closes_while_the_process_lives_is_not_ready_within_ten_seconds(
    tmp_path: Path, port: int
) -> None:
    (tmp_path / "open").touch()
    stand = Stand(tmp_path, gate(tmp_path, port))

    async def body() -> None:
        await eventually(stand.is_in("web", "ready"))
        (tmp_path / "open").unlink()
        await eventually(stand.is_in("web", "not_ready"), within_s=10.0)
        assert stand.view("web")["reason"] == "Refused"
        assert lives(pid_in(tmp_path / "pid"))
        (tmp_path / "open").touch()
        await eventually(stand.is_in("web", "ready"))
        assert stand.view("web")["restarts"] == 0

    stand.run(body)


BODY = """
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(299)
        self.end_headers()
        self.wfile.write(open('state').read().encode())
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()
"""


def test_http_readiness_wants_its_status_and_its_body(tmp_path: Path, port: int) -> None:
    (tmp_path / "state").write_text('{"state": "starting"}')
    url = f"http://127.0.0.1:{port}/health"
    wanted = Readiness(http=url, status=299, body=r'"state":\s*"ready"', interval_s=0.2)
    other = Readiness(http=url)
    stand = Stand(
        tmp_path,
        server(tmp_path, port, text=BODY, ready=wanted),
        shell("other", "sleep 600", tmp_path, ready=other),
    )

    async def body() -> None:
        await eventually(lambda: stand.view("web")["reason"] == "WrongBody")
        await eventually(lambda: stand.view("other")["reason"] == "WrongStatus")
        assert "answered 299, not 200" in stand.view("other")["message"]
        assert stand.state("web") == "starting"
        (tmp_path / "state").write_text('{"state": "ready"}')
        await eventually(stand.is_in("web", "ready"))
        (tmp_path / "state").write_text('{"state": "failed"}')
        await eventually(stand.is_in("web", "not_ready"))

    stand.run(body)


def test_a_command_says_when_it_is_ready_and_when_no_more(tmp_path: Path) -> None:
    ask = Readiness(command=("/bin/sh", "-c", "echo looked; test -e flag"), interval_s=0.3)
    stand = Stand(tmp_path, shell("svc", "sleep 600", tmp_path, ready=ask))

    async def body() -> None:
        await eventually(lambda: stand.view("svc")["reason"] == "CommandFailed")
        assert "looked" in stand.view("svc")["message"]
        (tmp_path / "flag").touch()
        await eventually(stand.is_in("svc", "ready"))
        (tmp_path / "flag").unlink()
        await eventually(stand.is_in("svc", "not_ready"))

    stand.run(body)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("/no/such/probe",), "BadAnswer"),
        (("/bin/sh", "-c", "sleep 600"), "NoAnswer"),
        (("/bin/sh", "-c", "kill -9 $$"), "CommandFailed"),
        (("/bin/sh", "-c", "yes; true"), "NoAnswer"),
    ],
    ids=["missing", "hangs", "crashes", "floods"],
)
def test_a_command_that_cannot_answer_is_no_yes(
    tmp_path: Path, command: tuple[str, ...], reason: str
) -> None:
    ask = Readiness(command=command, timeout_s=0.3, start_s=0.5)
    stand = Stand(tmp_path, shell("svc", "sleep 600", tmp_path, ready=ask))

    async def body() -> None:
        await eventually(stand.is_in("svc", "not_ready"))
        await eventually(lambda: stand.view("svc")["reason"] == reason)

    stand.run(body)


def test_a_line_of_this_life_makes_it_ready_and_one_of_an_earlier_life_does_not(tmp_path: Path) -> None:
    text = """
test -e again || { touch again; echo serving; exit 3; }
while ! test -e flag; do sleep 0.02; done
echo serving
exec sleep 600
"""
    stand = Stand(tmp_path, shell("svc", text, tmp_path, ready=Readiness(log="^serving$")))

    async def body() -> None:
        await eventually(lambda: stand.view("svc")["starts"] == 2)
        await eventually(lambda: stand.view("svc")["reason"] == "NotYet")
        assert stand.state("svc") == "starting"
        (tmp_path / "flag").touch()
        await eventually(stand.is_in("svc", "ready"))
        assert stand.view("svc")["reason"] == "SaidReady"

    stand.run(body)


def test_a_wrong_pattern_is_said_and_ends_nobody(tmp_path: Path, port: int) -> None:
    wrong = Readiness(log="(never closed", start_s=0.3)
    body_of = Readiness(http=f"http://127.0.0.1:{port}/", body="[", start_s=0.3)
    stand = Stand(
        tmp_path,
        shell("log", "echo up; sleep 600", tmp_path, ready=wrong),
        server(tmp_path, port, ready=body_of),
    )

    async def body() -> None:
        for name in ("log", "web"):
            await eventually(stand.is_in(name, "not_ready"))
            await eventually(lambda name=name: stand.view(name)["reason"] == "BadPattern")

    stand.run(body)


def test_a_file_of_this_life_makes_it_ready_and_an_old_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "up").touch()
    os.utime(tmp_path / "up", (time.time() - 60, time.time() - 60))
    text = "while ! test -e flag; do sleep 0.02; done; touch up; sleep 600"
    stand = Stand(tmp_path, shell("svc", text, tmp_path, ready=Readiness(file="up")))

    async def body() -> None:
        await eventually(lambda: stand.view("svc")["reason"] == "NotYet")
        assert "older than this life" in stand.view("svc")["message"]
        assert stand.state("svc") == "starting"
        (tmp_path / "flag").touch()
        await eventually(stand.is_in("svc", "ready"))

    stand.run(body)


def test_a_file_of_the_life_before_does_not_count_however_fresh_it_is(tmp_path: Path) -> None:
    text = "test -e again || { touch again up; sleep 0.1; exit 3; }; exec sleep 600"
    stand = Stand(tmp_path, shell("svc", text, tmp_path, ready=Readiness(file="up")))

    async def body() -> None:
        await eventually(lambda: stand.view("svc")["starts"] == 2)
        await eventually(lambda: stand.view("svc")["reason"] == "NotYet")
        assert "older than this life" in stand.view("svc")["message"]
        assert stand.state("svc") == "starting"

    stand.run(body)


#: Says READY=1 when the file ``flag`` is there, and before that something else.
NOTIFIER = """
import os, socket, time
address = os.environ['NOTIFY_SOCKET']
assert address[0] == '@'
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect('\\0' + address[1:])
notify.send(b'STATUS=loading the model')
open('socket', 'w').write(address[1:])
while not os.path.exists('flag'): time.sleep(0.02)
notify.send(b'READY=1\\nSTATUS=serving')
time.sleep(600)
"""

FOREIGN = """
import os, socket, sys
os.setuid(65534)
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b'READY=1', '\\0' + sys.argv[1])
"""


def test_sd_notify_makes_it_ready_and_another_users_word_does_not(tmp_path: Path) -> None:
    stand = Stand(tmp_path, script(tmp_path, NOTIFIER, ready=Readiness(notify=True)))

    async def body() -> None:
        await eventually(lambda: (tmp_path / "socket").exists() and (tmp_path / "socket").read_text())
        if os.getuid() == 0:
            address = (tmp_path / "socket").read_text()
            subprocess.run([sys.executable, "-S", "-c", FOREIGN, address], check=True)
        await eventually(lambda: stand.view("svc")["reason"] == "NotYet")
        assert stand.state("svc") == "starting"
        (tmp_path / "flag").touch()
        await eventually(stand.is_in("svc", "ready"))
        assert stand.view("svc")["ready_after_s"] > 0

    stand.run(body)


def test_without_a_probe_it_is_ready_after_it_has_settled(tmp_path: Path) -> None:
    stand = Stand(tmp_path, shell("svc", "sleep 600", tmp_path))

    async def body() -> None:
        await eventually(lambda: stand.view("svc")["reason"] == "Settling")
        assert stand.state("svc") == "starting"
        await eventually(stand.is_in("svc", "ready"))
        assert stand.view("svc")["uptime_s"] >= 2.0

    stand.run(body)


def test_a_liveness_probe_restarts_what_served_and_serves_no_more_and_says_why(
    tmp_path: Path, port: int
) -> None:
    alive = Liveness(Readiness(http=f"http://127.0.0.1:{port}/", timeout_s=0.3), interval_s=0.1, failures=2)
    (tmp_path / "status").write_text("503")
    stand = Stand(tmp_path, server(tmp_path, port, live=alive))

    async def body() -> None:
        # What was never ready is loading, however bad its answers are.
        await eventually(lambda: stand.view("web")["reason"] == "WrongStatus")
        await eventually(lambda: stand.view("web")["uptime_s"] > 1.0)
        assert stand.view("web")["starts"] == 1
        (tmp_path / "status").write_text("200")
        await eventually(stand.is_in("web", "ready"))
        (tmp_path / "status").write_text("500")
        await eventually(lambda: stand.view("web")["starts"] == 2)
        (tmp_path / "status").write_text("200")
        await eventually(stand.is_in("web", "ready"))

    stand.run(body)
    again = Stand(tmp_path, server(tmp_path, port, live=alive))
    served = [
        life for life in again.supervision.history.lives("web") if "liveness" in (life["asked_by"] or "")
    ]
    again.supervision.close()
    assert len(served) == 1
    assert "2 bad answers in a row" in served[0]["asked_by"]
    assert "500" in served[0]["asked_by"]
    assert served[0]["class"] != "requested_stop", "nobody wanted it stopped"


UNREGISTERED = """
import sys
print('connecting to the chain')
raise RuntimeError('Wallet 5F3sa2TJAWMqDhXG6jhV4N8ko9SxwGy8TpaNS1repo5EYjQX not registered on netuid 17')
"""


def test_a000_3_not_registered_is_held_after_one_start_with_its_fix(tmp_path: Path) -> None:
    stand = Stand(tmp_path, script(tmp_path, UNREGISTERED, name="miner"))

    async def body() -> None:
        await eventually(stand.is_in("miner", "held"))
        view = stand.view("miner")
        assert (view["starts"], view["cls"]) == (1, "permanent_registration")
        assert view["reason"] == "PermanentRegistration"
        assert "not registered on netuid 17" in view["message"]
        assert view["remedy"]
        assert view["evidence"]
        assert view["retry_in_s"] is None

    stand.run(body)


def needing(folder: Path, command: str, **more: Any) -> ServiceSpec:
    known: dict[str, Any] = {"fix": "btcli subnet register --netuid 17", "interval_s": 0.2, "timeout_s": 0.5}
    need = Need("registered on netuid 17", ("/bin/sh", "-c", command), **(known | more))
    return shell("miner", "echo run >> runs; sleep 600", folder, needs=(need,))


def test_a000_3_a_need_that_is_not_so_spends_no_attempt_and_starts_by_itself_when_it_is(
    tmp_path: Path,
) -> None:
    stand = Stand(tmp_path, needing(tmp_path, "echo balance is 0; test -e registered"))

    async def body() -> None:
        await eventually(stand.is_in("miner", "held"))
        view = stand.view("miner")
        assert (view["reason"], view["starts"]) == ("NeedUnmet", 0)
        assert "registered on netuid 17, which is not so: balance is 0" in view["message"]
        assert view["remedy"] == "btcli subnet register --netuid 17"
        assert not (tmp_path / "runs").exists()
        (tmp_path / "registered").touch()
        await eventually(stand.is_in("miner", "ready"))
        assert (tmp_path / "runs").read_text() == "run\n"

    stand.run(body)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("/bin/sh", "-c", "sleep 600"), "gave no answer within"),
        (("/bin/sh", "-c", "kill -11 $$"), "which is not so"),
        (("/no/such/check",), "cannot run"),
        (("/etc/passwd",), "cannot run"),
    ],
    ids=["hangs", "crashes", "missing", "no program"],
)
def test_a000_3_a_check_that_cannot_tell_is_not_true(
    tmp_path: Path, command: tuple[str, ...], said: str
) -> None:
    need = Need("registered", command, fix="register", interval_s=0.2, timeout_s=0.3)
    stand = Stand(tmp_path, shell("miner", "echo run >> runs; sleep 600", tmp_path, needs=(need,)))

    async def body() -> None:
        await eventually(stand.is_in("miner", "held"))
        assert stand.view("miner")["reason"] == "NeedUnmet"
        assert said in stand.view("miner")["message"]

    stand.run(body)
    assert not (tmp_path / "runs").exists()


def test_a_check_that_hangs_does_not_keep_the_stack_from_ending(tmp_path: Path) -> None:
    stand = Stand(tmp_path, needing(tmp_path, "touch asked; sleep 600", timeout_s=60.0))

    async def body() -> None:
        await eventually((tmp_path / "asked").exists)

    assert stand.run(body) < 5.0


def test_an_end_after_a_need_was_lost_is_held_by_the_need_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / "registered").touch()
    stand = Stand(tmp_path, needing(tmp_path, "test -e registered"))

    async def body() -> None:
        await eventually(stand.is_in("miner", "ready"))
        (tmp_path / "registered").unlink()
        os.kill(stand.view("miner")["pid"], 9)
        await eventually(lambda: stand.view("miner")["reason"] == "NeedUnmet")
        assert stand.view("miner")["starts"] == 1

    stand.run(body)


def test_how_it_is_watched_may_change_under_a_life_that_goes_on(tmp_path: Path) -> None:
    def declared(ready: Readiness, live: Liveness | None = None) -> ServiceSpec:
        return shell("svc", "sleep 600", tmp_path, ready=ready, live=live)

    stand = Stand(tmp_path, declared(Readiness(file="never")))

    async def body() -> None:
        await eventually(lambda: stand.view("svc")["reason"] == "NotYet")
        pid = stand.view("svc")["pid"]
        (tmp_path / "other").touch()
        stand.supervisor.declare([declared(Readiness(file="other"))])
        await eventually(stand.is_in("svc", "ready"))
        assert (stand.view("svc")["pid"], stand.view("svc")["starts"]) == (pid, 1)
        dead = Liveness(Readiness(command=("/bin/false",)), interval_s=0.1, failures=1)
        stand.supervisor.declare([declared(Readiness(file="other"), dead)])
        await eventually(lambda: stand.view("svc")["starts"] == 2)

    stand.run(body)
