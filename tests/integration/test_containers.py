"""Compose services as containers of a real engine: order, health, ends by evidence, and everybody's death."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from container_engine import IMAGE, ContainerEngine, running_engine
from integration.processes import Stand, eventually, lives
from standfast.app.declared_stacks import declared_in
from standfast.app.drivers import drivers_of, end_driven
from standfast.app.supervision import Options
from standfast.services.adapters import engine as engine_module
from standfast.services.decide.up import Up, judge_up
from standfast.services.model import ServiceSpec

#: Runs until it is asked to end, and then ends at once, as a program with a handler does.
STAYS = "trap 'exit 0' TERM; {} while :; do sleep 0.2; done"
SERVES = "mkdir -p /w; echo hello > /w/index.html; trap 'exit 0' TERM; httpd -f -p {port} -h /w & wait"


@pytest.fixture(scope="module")
def engine() -> Iterator[ContainerEngine]:
    with running_engine() as started:
        yield started


class Lab:
    """One stack of one test: a compose file, its instance, and supervisors of it, one after the other."""

    def __init__(self, engine: ContainerEngine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.instance = f"test-{os.getpid()}-{folder.name}"

    def declare(self, text: str, *profiles: str, name: str = "compose.yaml") -> tuple[ServiceSpec, ...]:
        path = self.folder / name
        path.write_text(f"name: lab\n{text.replace('IMAGE', IMAGE)}")
        return declared_in([path], profiles=profiles, environment={}).specs

    def stand(self, *specs: ServiceSpec) -> Stand:
        made = drivers_of({"container"}, self.folder / "data", {"instance": self.instance})
        return Stand(self.folder, *specs, options=Options(drivers=made))

    def container(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = self.engine.client.inspect_container(f"lab-{service}-1")
        return found

    def pid(self, service: str) -> int:
        return int(self.container(service)["State"]["Pid"])

    def log(self, service: str) -> str:
        return (self.folder / "data" / "logs" / f"{service}.log").read_text()


@pytest.fixture
def lab(engine: ContainerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    yield Lab(engine, tmp_path)
    engine.remove_all()


def service(name: str, shell: str, *lines: str) -> str:
    """Return one service of a compose file that runs ``shell``."""
    escaped = shell.replace("$", "$$").replace('"', '\\"')
    more = "".join(f"    {line}\n" for line in lines)
    return f'  {name}:\n    image: {IMAGE}\n    command: ["sh", "-c", "{escaped}"]\n{more}'


def last_end(stand: Stand, name: str) -> dict[str, Any]:
    """Return the latest end on record."""
    ends = [life for life in stand.supervision.history.lives(name) if life["ended_at"]]
    return ends[0] if ends else {}


def test_a_stack_with_include_profile_health_and_conditions_comes_up_in_order(lab: Lab) -> None:
    (lab.folder / "db.yaml").write_text(
        "services:\n" + service("db", SERVES.format(port=5432), "expose: ['5432']",
        "healthcheck: {test: [CMD, wget, -qO-, 'http://127.0.0.1:5432/'], interval: 30s}")
    )  # fmt: skip
    specs = lab.declare(
        "include: [db.yaml]\nservices:\n"
        + service("migrate", "wget -qO- http://db:5432/ && echo migrated", "depends_on:",
                  "  db: {condition: service_healthy}")
        + service("web", SERVES.format(port=80), "depends_on:",
                  "  migrate: {condition: service_completed_successfully}", "restart: unless-stopped")
        + service("worker", STAYS.format("echo working;"), "depends_on: [web]", "restart: always")
        + service("debug", "sleep 600", "profiles: [debug]")
    )  # fmt: skip
    assert [spec.name for spec in specs] == ["db", "migrate", "web", "worker"]
    stand = lab.stand(*specs)

    async def body() -> None:
        await eventually(lambda: all(stand.state(n) == "ready" for n in ("db", "web", "worker")), within_s=30)
        assert stand.state("migrate") == "completed"
        assert "migrated" in lab.log("migrate")
        # Its health check is run every 30 s by the engine; that is not how long its start takes.
        assert stand.view("db")["ready_after_s"] < 15

    stand.run(body)
    begun = [lab.container(n)["State"]["StartedAt"] for n in ("db", "migrate", "web", "worker")]
    assert begun == sorted(begun)
    labels = lab.container("web")["Config"]["Labels"]
    assert labels["com.docker.compose.project"] == "lab"
    assert labels["com.docker.compose.project.config_files"] == str(lab.folder / "compose.yaml")
    assert not lab.engine.client.containers()
    assert lab.container("worker")["HostConfig"]["RestartPolicy"]["Name"] in ("no", "")


def test_a_new_supervisor_takes_back_what_runs_with_its_output_and_the_ends_it_missed(lab: Lab) -> None:
    counts = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done"
    specs = lab.declare(
        "services:\n" + service("counter", counts, "restart: always", "stop_grace_period: 1s")
        + service("short", "sleep 2; exit 7")
    )  # fmt: skip
    first = lab.stand(*specs)
    before: list[str] = []

    async def until_both_run() -> None:
        await eventually(
            lambda: all(lab_view["pid"] for lab_view in first.supervisor.snapshot()), within_s=20
        )
        await eventually(lambda: "line 5\n" in lab.log("counter"))
        before.append(lab.container("counter")["State"]["StartedAt"])

    first.leave_after(until_both_run)
    deadline = time.monotonic() + 10
    while lab.container("short")["State"]["Running"] and time.monotonic() < deadline:
        time.sleep(0.1)
    second = lab.stand(*specs)

    async def look() -> None:
        await eventually(second.is_in("short", "held"))
        await eventually(lambda: last_end(second, "short"))
        assert last_end(second, "short")["code"] == 7
        await eventually(second.is_in("counter", "ready"))
        assert second.view("counter")["starts"] == 1
        copied = len(lab.log("counter").splitlines())
        await eventually(lambda: len(lab.log("counter").splitlines()) > copied + 5)

    second.run(look)
    assert lab.container("counter")["State"]["StartedAt"] == before[0]
    numbers = [int(line.split()[1]) for line in lab.log("counter").splitlines()]
    assert numbers == list(range(1, len(numbers) + 1)), "each line once, in order"


def test_r4_a_real_oom_kill_is_named_by_the_engines_flag_and_a_stop_timeout_is_not(lab: Lab) -> None:
    eats = "x=a; while :; do x=$x$x; done"
    child = "(x=a; while :; do x=$x$x; done); sleep 0.3; exit 1"
    stubborn = "trap '' TERM; while :; do sleep 0.2; done"
    specs = lab.declare(
        "services:\n" + service("eater", eats, "mem_limit: 24m") + service("parent", child, "mem_limit: 24m")
        + service("stubborn", stubborn, "stop_grace_period: 1s")
    )  # fmt: skip
    stand = lab.stand(*specs)

    async def body() -> None:
        await eventually(stand.is_in("eater", "held"), within_s=20)
        await eventually(stand.is_in("parent", "held"), within_s=20)
        await eventually(lambda: stand.view("stubborn")["pid"])
        for name, code in (("eater", 137), ("parent", 1)):
            await eventually(lambda name=name: last_end(stand, name))
            end = last_end(stand, name)
            assert (end["class"], end["code"]) == ("resource_oom", code), end
            assert end["rule"] in ("runtime.oom", "kernel.oom", "cgroup.oom"), dict(end)
        # Somebody stops it through the engine, and it has to be killed: 137, and nobody's lack of memory.
        await asyncio.to_thread(lab.engine.client.stop, "lab-stubborn-1", timeout=1)
        await eventually(lambda: last_end(stand, "stubborn"))
        end = last_end(stand, "stubborn")
        assert (end["code"], end["class"]) == (137, "requested_stop"), end
        assert "through the engine" in end["asked_by"]

    stand.run(body)


# The SDK leaves a socket to the collector whose engine dies between two of its steps.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_death_of_the_engine_ends_no_container_and_its_return_is_nobodys_failure(lab: Lab) -> None:
    specs = lab.declare(
        "services:\n" + service("kept", STAYS.format(""), "restart: unless-stopped")
        + service("lost", STAYS.format(""), "restart: unless-stopped")
        + service("late", STAYS.format(""), "depends_on: [kept]", "restart: unless-stopped")
    )  # fmt: skip
    stand = lab.stand(*specs)

    async def body() -> None:
        await eventually(lambda: all(v["state"] == "ready" for v in stand.supervisor.snapshot()), within_s=20)
        pids = {name: lab.pid(name) for name in ("kept", "lost", "late")}
        lab.engine.kill()
        os.kill(pids["lost"], signal.SIGKILL)
        await eventually(lambda: stand.state("lost") != "ready", what="its process is gone, engine or not")
        assert lives(pids["kept"])
        assert stand.state("kept") == "ready"
        assert last_end(stand, "kept") == {}
        # Started again, it ends what it finds, as dockerd does without live-restore.
        await asyncio.to_thread(lab.engine.start)
        await eventually(lambda: all(v["state"] == "ready" for v in stand.supervisor.snapshot()), within_s=40)
        for name, pid in pids.items():
            await eventually(lambda name=name: last_end(stand, name))
            end = last_end(stand, name)
            assert end["class"] != "resource_oom", end
            # The engine learns of what ended without it; what it found running, it has ended itself.
            seen = end["code"] == 137 if name == "lost" else "engine was restarted" in end["last_line"]
            assert seen, dict(end)
            assert lab.pid(name) != pid

    stand.run(body)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_without_an_engine_a_new_supervisor_sees_what_runs_and_ends_it_when_asked(lab: Lab) -> None:
    specs = lab.declare("services:\n" + service("one", STAYS.format(""), "restart: always"))
    first = lab.stand(*specs)

    async def until_it_runs() -> None:
        await eventually(first.is_in("one", "ready"), within_s=20)

    first.leave_after(until_it_runs)
    pid = lab.pid("one")
    lab.engine.kill()
    second = lab.stand(*specs)

    async def body() -> None:
        await eventually(second.is_in("one", "ready"))
        assert second.view("one")["pid"] == pid
        assert second.view("one")["starts"] == 1

    try:
        assert second.run(body) < 8, "it ends by its signal, without the engine"
        assert not lives(pid)
    finally:
        lab.engine.start()


def test_an_engine_that_is_not_there_holds_its_services_and_says_how_to_start_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{lab.folder}/no.sock")
    stand = lab.stand(*lab.declare("services:\n" + service("one", STAYS.format(""))))

    async def body() -> None:
        await eventually(stand.is_in("one", "held"))
        view = stand.view("one")
        assert view["reason"] == "HostEngineDown"
        assert "socket is not there" in view["message"]
        assert "systemctl start docker" in view["remedy"]

    assert stand.run(body) < 5


def test_an_engine_that_hangs_is_no_better_and_what_it_runs_is_taken_back_when_it_goes_on(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_QUICK_S", 1.0)
    stand = lab.stand(*lab.declare("services:\n" + service("one", STAYS.format(""), "restart: always")))

    async def body() -> None:
        await eventually(stand.is_in("one", "ready"), within_s=20)
        pid = lab.pid("one")
        lab.engine.freeze()
        try:
            os.kill(pid, signal.SIGKILL)
            await eventually(lambda: stand.state("one") != "ready")
        finally:
            lab.engine.thaw()
        await eventually(lambda: last_end(stand, "one"))
        assert last_end(stand, "one")["code"] == 137
        await eventually(stand.is_in("one", "ready"), within_s=20)

    stand.run(body)


def test_health_is_the_containers_own_and_its_loss_is_seen(lab: Lab) -> None:
    check = "healthcheck: {test: 'test -e /tmp/well', interval: 300ms, retries: 2, timeout: 2s}"
    specs = lab.declare(
        "services:\n" + service("moody", STAYS.format("sleep 1; touch /tmp/well;"), check, "restart: always")
        + service("without", STAYS.format(""))
        + service("waits", STAYS.format(""), "depends_on: {without: {condition: service_healthy}}")
    )  # fmt: skip
    stand = lab.stand(*specs)

    async def body() -> None:
        await eventually(stand.is_in("moody", "ready"), within_s=20)
        assert stand.view("moody")["ready_after_s"] > 0.9
        made = lab.engine.client.exec_create("lab-moody-1", ["rm", "/tmp/well"])["Id"]
        lab.engine.client.exec_start(made)
        await eventually(stand.is_in("moody", "not_ready"), within_s=15)
        assert "health check" in stand.view("moody")["message"]
        assert stand.view("without")["message"] == (
            "it has no health check, neither declared nor in its image"
        )
        assert stand.state("waits") == "waiting"

    stand.run(body)


def test_what_stands_in_the_way_is_named_with_the_command_that_clears_it(lab: Lab) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        specs = lab.declare(
            "services:\n" + service("taken", STAYS.format(""), f"ports: ['127.0.0.1:{port}:80']")
            + "  absent:\n    image: nowhere/absent:3\n    command: [sleep, '60']\n"
            + "    stop_grace_period: 1s\n"
            + "  program:\n    image: IMAGE\n    command: [no-such-program]\n"
            + "  gpu:\n    image: IMAGE\n    command: [sleep, '60']\n    gpus: all\n"
            + "  outside:\n    image: IMAGE\n    networks: [outside]\n"
            + "networks:\n  outside: {external: true}\n"
        )  # fmt: skip
        stand = lab.stand(*specs)

        async def body() -> None:
            names = ("taken", "absent", "program", "gpu", "outside")
            await eventually(lambda: all(stand.state(name) == "held" for name in names), within_s=20)
            views = {name: stand.view(name) for name in names}
            assert {name: view["reason"] for name, view in views.items()} == {
                "taken": "PortInUse", "absent": "ImageMissing", "program": "ProgramMissing",
                "gpu": "HostGpuDriver", "outside": "NetworkMissing",
            }  # fmt: skip
            assert str(os.getpid()) in views["taken"]["message"]
            assert views["absent"]["remedy"] == f"docker -H {lab.engine.host} pull nowhere/absent:3"
            assert "no-such-program" in views["program"]["message"]
            assert views["outside"]["remedy"] == f"docker -H {lab.engine.host} network create outside"
            assert all(view["starts"] == 0 for view in views.values()), "no attempt was spent"
            # Cleared, it starts by itself.
            taken.close()
            lab.engine.client.tag(IMAGE, "nowhere/absent", "3")
            await eventually(lambda: stand.view("taken")["pid"], within_s=15, what=str(stand.view("taken")))
            await eventually(lambda: stand.view("absent")["starts"], within_s=15)

        stand.run(body)
    lab.engine.client.remove_image("nowhere/absent:3", force=True)


def test_a_missing_image_that_is_declared_to_be_built_is_built_with_its_progress_in_the_log(lab: Lab) -> None:
    (lab.folder / "Dockerfile").write_text(f"FROM {IMAGE}\nARG WORD\nCOPY said.txt /\nENV WORD=$WORD\n")
    (lab.folder / "said.txt").write_text("built\n")
    specs = lab.declare(
        "services:\n  built:\n    build: {context: ., args: {WORD: word}}\n"
        '    command: ["sh", "-c", "cat /said.txt; echo $$WORD; sleep 600"]\n    stop_grace_period: 1s\n'
        "  broken:\n    build: {context: ., dockerfile: Absent}\n"
    )
    stand = lab.stand(*specs)

    async def body() -> None:
        await eventually(stand.is_in("built", "ready"), within_s=30)
        log = lab.log("built")
        assert "Step 1/4" in log
        assert log.endswith("built\nword\n")
        await eventually(lambda: stand.view("broken")["reason"] == "BuildFailed", within_s=15)
        assert "Absent" in stand.view("broken")["message"]
        assert stand.view("broken")["remedy"].startswith("docker build -t lab-broken -f ")

    stand.run(body)
    lab.engine.client.remove_image("lab-built", force=True)


def test_a_changed_declaration_makes_another_container_that_keeps_the_data(lab: Lab) -> None:
    text = "services:\n" + service(
        "state", STAYS.format("ls /state /named; touch /state/$WORD /named/$WORD;"),
        "environment: {WORD: first}", "volumes: ['/state', 'named:/named']", "restart: always",
    )  # fmt: skip
    text += "volumes: {named: }\n"
    first = lab.declare(text)
    stand = lab.stand(*first)

    async def body() -> None:
        await eventually(stand.is_in("state", "ready"), within_s=20)
        before = lab.container("state")["Id"]
        os.kill(lab.pid("state"), signal.SIGKILL)
        await eventually(
            lambda: stand.view("state")["starts"] == 2 and stand.state("state") == "ready", within_s=20
        )
        assert lab.container("state")["Id"] == before, "a restart keeps the container and its files"
        stand.supervisor.declare(lab.declare(text.replace("WORD: first", "WORD: second")))
        await eventually(
            lambda: stand.view("state")["starts"] == 3 and stand.state("state") == "ready", within_s=20
        )
        assert lab.container("state")["Id"] != before
        assert lab.log("state").count("first") >= 4, "each volume showed it after each start"

    stand.run(body)


def test_down_after_the_supervisors_death_ends_its_containers_and_none_of_others(lab: Lab) -> None:
    specs = lab.declare("services:\n" + service("ours", STAYS.format("")))
    made = lab.engine.client.create_container_from_config({"Image": IMAGE, "Cmd": ["sleep", "600"]}, "theirs")
    lab.engine.client.start(made["Id"])
    stand = lab.stand(*specs)

    async def body() -> None:
        await eventually(lambda: stand.view("ours")["pid"], within_s=20)

    stand.leave_after(body)
    assert end_driven(lab.folder / "data", lab.instance) == 1
    assert [row["Names"] for row in lab.engine.client.containers()] == [["/theirs"]]
    assert end_driven(lab.folder / "data", lab.instance) == 0


def test_a_crash_looping_container_is_never_called_up_6_of_6(lab: Lab) -> None:
    lives_s = (0, 0.1, 0.3, 0.6, 1.2, 2.2)
    looping = "".join(
        service(f"loop{at}", f"sleep {life_s}; echo no; exit 1", "restart: unless-stopped")
        for at, life_s in enumerate(lives_s)
    )
    stand = lab.stand(*lab.declare(f"services:\n{looping}"))

    async def body() -> None:
        names = [f"loop{at}" for at in range(len(lives_s))]
        deadline = time.monotonic() + 60
        # Each turn asks as `up --wait` does; bounded by the deadline.
        while any(stand.state(name) != "held" for name in names):
            assert time.monotonic() < deadline
            for name in names:
                assert not isinstance(judge_up([stand.view(name)]), Up), name
            await asyncio.sleep(0.05)
        assert {stand.view(name)["starts"] for name in names} == {3}

    stand.run(body)


def test_others_tools_see_the_stack_as_composes_own(lab: Lab) -> None:
    probe = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("compose is absent: install its plugin")
    stand = lab.stand(*lab.declare("services:\n" + service("one", STAYS.format(""))))

    async def body() -> None:
        await eventually(lambda: stand.view("one")["pid"], within_s=20)
        words = ["docker", "compose", "-p", "lab", "ps", "--services"]
        seen = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=True)
        assert seen.stdout.split() == ["one"]

    stand.run(body)
