"""Commands around services, each as the process that a person starts, on good days and on bad ones."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.instances import Up, command, environment, json_of, small_config
from integration.processes import wait_until
from integration.stacks import Stack, small_stack
from standfast.services.adapters import procfs


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield a stack that is well; a test that changes it leaves it well."""
    stack = small_stack(tmp_path_factory.mktemp("well") / "stack")
    try:
        stack.up()
        yield stack
    finally:
        stack.clean_up()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Stack]:
    """Yield a stack of the test's own, which does not run yet."""
    stack = small_stack(tmp_path / "stack")
    try:
        yield stack
    finally:
        stack.clean_up()


def test_a000_1_status_has_every_figure_from_the_supervisor_itself(well: Stack) -> None:
    data = well.data("status")
    assert (data["exit_code"], data["verdict"]) == (0, "PASS")
    assert data["supervisor"] == {
        "pid": well.supervisor().pid, "started_at": data["supervisor"]["started_at"], "is_answering": True,
    }  # fmt: skip
    assert data["matrix"]["percent"] == 100
    rows = {row["name"]: row for row in data["services"]}
    assert set(rows) == {"db", "api", "extra"}
    for row in rows.values():
        assert row["state"] == "ready"
        assert procfs.read_stat(row["pid"]) is not None
        assert row["uptime_s"] > 0
        assert row["memory_bytes"] > 1_000_000
        assert row["ready_after_s"] > 0
    page = well.run("status").stdout
    for heading in ("service", "state", "pid", "up", "restarts", "memory", "ready after", "since", "reason"):
        assert heading in page
    assert "3 of 3 services ready (100 %)" in page


def test_what_is_well_is_explained_with_every_gate(well: Stack) -> None:
    data = well.data("explain", "api")
    assert (data["exit_code"], data["verdict"], data["answer"]) == (0, "PASS", None)
    assert [gate["name"] for gate in data["gates"]][:3] == ["declared", "supervised", "dependencies"]
    assert "standfast.toml:" in data["gates"][0]["observed"]


def test_an_unknown_name_is_answered_with_the_nearest_by_every_command(well: Stack) -> None:
    for words in (
        ("restart", "apj"),
        ("hold", "apj", "--reason", "x"),
        ("release", "apj"),
        ("explain", "apj"),
    ):
        done = well.run(*words)
        assert done.returncode == 1, words
        assert "did you mean api?" in done.stderr
    done = well.run("logs", "apj")
    assert done.returncode == 1
    assert "api" in done.stderr


def test_a_hold_names_who_and_why_everywhere_until_it_is_released(well: Stack) -> None:
    try:
        assert well.data("hold", "api", "--reason", "the disk is replaced")["held"] == ["api"]
        well.until("api", "held")
        data = well.data("status")
        assert data["exit_code"] == 3
        finding = data["findings"][0]
        assert (finding["subject"], finding["reason"]) == ("api", "HeldByPerson")
        assert "the disk is replaced" in finding["message"]
        assert finding["remedy"] == "standfast release api"
        found = well.data("explain", "api")
        assert (found["exit_code"], found["answer"]) == (3, "person's hold")
        refused = well.run("restart", "api")
        assert refused.returncode == 6, "only a person ends a person's hold"
        assert "standfast release api" in refused.stderr
        gate = well.data("gate", "deploy")
        assert (gate["exit_code"], gate["decision"]) == (5, "DO NOT DEPLOY")
        assert gate["next_steps"][0] == "standfast release api"
    finally:
        assert well.data("release", "api")["released"] == ["api"]
    well.until("api", "ready")


def test_l1_each_action_is_on_record_with_the_absolute_file_that_declares_its_service(well: Stack) -> None:
    well.data("hold", "extra", "--reason", "to be recorded")
    well.data("release", "extra")
    well.until("extra", "ready")

    def recorded() -> dict[str, dict[str, object]]:
        store = sqlite3.connect(f"file:{well.data_dir / 'services.db'}?mode=ro", uri=True)
        with contextlib.closing(store):
            rows = store.execute("SELECT kind, body FROM fact WHERE subject = 'extra'").fetchall()
        return {kind: json.loads(body) for kind, body in rows}

    wait_until(lambda: "service.released" in recorded(), what="the writer has written")
    for kind in ("service.held_by_person", "service.released"):
        assert recorded()[kind]["file"] == str(well.folder.resolve() / "standfast.toml"), kind
        assert "@" in str(recorded()[kind]["who"])


def test_l3_a_limit_stands_beside_what_is_used(tmp_path: Path) -> None:
    stack = small_stack(tmp_path / "stack")
    text = (stack.folder / "standfast.toml").read_text()
    more = '[[services]]\nname = "small"\ncommand = ["sleep", "600"]\nlimits = { memory_bytes = 50000000 }\n'
    (stack.folder / "standfast.toml").write_text(f"{text}\n{more}")
    try:
        stack.run("up", "--detach")
        stack.until("small", "ready")
        row = next(row for row in stack.data("status")["services"] if row["name"] == "small")
        assert row["memory_limit_bytes"] == 50_000_000 > row["memory_bytes"] > 0
        assert " / 50 MB" in stack.run("status").stdout
    finally:
        stack.clean_up()


def test_what_only_an_api_knows_is_refused_by_name(well: Stack) -> None:
    done = well.run("round", "ls")
    assert done.returncode == 7
    assert "a stack of services has no API" in done.stderr


def test_a_hold_without_a_reason_is_refused(well: Stack) -> None:
    assert well.run("hold", "api").returncode == 2
    assert well.run("hold", "api", "--reason", "  ").returncode == 2
    assert well.views()["api"]["state"] == "ready"


def test_a_restart_takes_what_depends_on_it_along_unless_told_otherwise(well: Stack) -> None:
    before = well.views()
    assert well.data("restart", "db")["restarted"] == ["api", "db"]
    wait_until(lambda: all(well.views()[n]["pid"] not in (None, before[n]["pid"]) for n in ("db", "api")))
    for name in ("db", "api"):
        well.until(name, "ready")
    assert well.views()["extra"]["pid"] == before["extra"]["pid"]
    middle = well.views()
    assert well.data("restart", "db", "--only")["restarted"] == ["db"]
    wait_until(lambda: well.views()["db"]["pid"] not in (None, middle["db"]["pid"]))
    well.until("db", "ready")
    assert well.views()["api"]["pid"] == middle["api"]["pid"]


def test_logs_of_one_life_are_none_of_the_one_before(well: Stack) -> None:
    log = well.data_dir / "logs" / "extra.log"
    with log.open("a") as file:
        file.write("said by an earlier life\n")
    pid = well.views()["extra"]["pid"]
    assert well.data("restart", "extra")["restarted"] == ["extra"]
    wait_until(lambda: well.views()["extra"]["pid"] not in (None, pid))
    with log.open("a") as file:
        file.write("said by this life\n")
    assert well.data("logs", "extra", "--since-life")["lines"] == ["said by this life"]
    assert "said by an earlier life" in well.data("logs", "extra")["lines"]
    assert well.data("logs", "extra", "--lines", "1")["lines"] == ["said by this life"]


def test_logs_go_on_with_what_is_printed(well: Stack, tmp_path: Path) -> None:
    log, out = well.data_dir / "logs" / "extra.log", tmp_path / "out"
    words = [sys.executable, "-m", "standfast.cli", "logs", "extra", "--lines", "1", "--follow"]
    with out.open("wb") as file, log.open("a") as writer:
        writer.write("before\n")
        writer.flush()
        popen = subprocess.Popen(words, cwd=well.folder, stdout=file, env=environment(well.folder))
        try:
            wait_until(lambda: "before" in out.read_text(), within_s=20.0)
            writer.write("after\n")
            writer.flush()
            wait_until(lambda: "after" in out.read_text())
            popen.send_signal(signal.SIGINT)
            assert popen.wait(20.0) == 130
        finally:
            popen.kill()


def test_a000_4_go_is_said_only_after_a_fresh_look(well: Stack) -> None:
    wait_until(lambda: well.run("gate", "deploy").returncode == 0, within_s=30.0, what="the gate opens")
    data = well.data("gate", "deploy")
    assert (data["decision"], data["is_open"], data["blockers"]) == ("GO", True, [])


def timed(stack: Stack, *words: str) -> tuple[subprocess.CompletedProcess[str], float]:
    started = time.monotonic()
    return stack.run(*words), time.monotonic() - started


def test_i1_a_stopped_supervisor_is_named_within_ten_seconds_and_opens_no_gate(own: Stack) -> None:
    own.up()
    pid = own.supervisor().pid
    os.kill(pid, signal.SIGSTOP)
    try:
        done, took_s = timed(own, "status")
        assert took_s < 10.0
        assert done.returncode == 7
        assert f"the supervisor (process {pid}) is stopped by a signal (T)" in done.stdout
        assert "3 of 3 services go on without it" in done.stdout
        assert f"kill -CONT {pid}" in done.stdout
        gate = own.data("gate", "deploy")
        assert (gate["exit_code"], gate["is_open"]) == (5, False)
        found = own.data("explain", "api")
        assert (found["exit_code"], found["answer"]) == (3, "supervised")
        plan = own.data("recover", "--plan")
        assert "stopped by a signal" in plan["supervisor"]
        assert plan["down"] == [], "what runs is no reason to start anything"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert own.data("status")["verdict"] == "PASS"


def test_a_killed_supervisor_is_told_with_what_goes_on_and_taken_back(own: Stack) -> None:
    own.up()
    pids = {name: view["pid"] for name, view in own.views().items()}
    own.kill_supervisor()
    data = own.data("status")
    assert data["exit_code"] == 7
    finding = data["findings"][0]
    assert finding["reason"] == "SupervisorKilled"
    assert "3 of 3 services go on" in finding["message"]
    assert "takes them back; standfast down ends them" in finding["remedy"]
    assert {row["state"] for row in data["services"]} == {"running"}
    assert data["matrix"]["percent"] == 0, "nobody asks whether they are ready"
    for words in (("hold", "api", "--reason", "x"), ("restart", "api"), ("release",)):
        done = own.run(*words)
        assert done.returncode == 7, words
        assert "standfast status" in done.stderr
    assert own.data("logs", "api")["path"].endswith("api.log")
    os.kill(pids["extra"], signal.SIGKILL)
    wait_until(lambda: own.data("status")["services"][2]["state"] == "stopped")
    done = own.run("recover")
    assert done.returncode == 0, done.stdout + done.stderr
    after = own.views()
    assert (after["db"]["pid"], after["api"]["pid"]) == (pids["db"], pids["api"]), "nothing was started twice"
    assert after["extra"]["pid"] != pids["extra"]


@pytest.mark.parametrize(
    ("spoil", "code"), [("run.json", 3), ("services.sock", 7), ("stack.json", 3), ("services.db", 0)]
)
def test_garbage_in_any_file_is_said_within_ten_seconds(well: Stack, spoil: str, code: int) -> None:
    path, kept = well.data_dir / spoil, well.data_dir / f"{spoil}.kept"
    path.rename(kept)
    try:
        path.write_bytes(b"\x00garbage\xff" * 100)
        done, took_s = timed(well, "status")
        assert took_s < 10.0
        assert done.returncode == code, done.stdout + done.stderr
        assert well.run("explain", "api").returncode in (0, 3)
        assert well.run("recover", "--plan").returncode == 0
    finally:
        kept.replace(path)
    assert well.run("status").returncode == 0


def test_a_stack_is_told_from_an_instance_without_its_declaration(well: Stack) -> None:
    path, kept = well.data_dir / "stack.json", well.data_dir / "stack.json.kept"
    path.rename(kept)
    try:
        data = well.data("status")
        assert data["exit_code"] == 3
        assert [one["reason"] for one in data["findings"] if one["verdict"] != "PASS"] == [
            "DeclarationUnreadable"
        ]
        assert len(data["services"]) == 3
    finally:
        kept.replace(path)


def test_a_stack_that_was_ended_says_so_and_how_to_start_it(own: Stack) -> None:
    own.up()
    assert own.run("down").returncode == 0
    data = own.data("status")
    assert data["exit_code"] == 7
    assert [finding["reason"] for finding in data["findings"]] == ["NotRunning"]
    assert data["findings"][0]["remedy"] == "standfast up . --detach"
    found = own.data("explain", "api")
    assert (found["exit_code"], found["answer"]) == (3, "supervised")
    assert own.run("recover", "--yes").returncode == 0
    assert own.data("status")["verdict"] == "PASS"


def test_recover_replaces_a_supervisor_that_gives_no_answer_and_its_services_do_not_notice(
    well: Stack,
) -> None:
    before, supervisor = well.views(), well.supervisor()
    (well.data_dir / "services.sock").unlink()
    finding = well.data("status")["findings"][0]
    assert finding["reason"] in ("SupervisorSilent", "SupervisorStarting")
    done = well.run("recover", "--timeout", "90")
    assert done.returncode == 0, done.stdout + done.stderr
    assert well.supervisor() != supervisor
    assert {name: view["pid"] for name, view in well.views().items()} == {
        name: view["pid"] for name, view in before.items()
    }


def test_commands_reach_the_services_of_an_instance_whose_api_takes_no_token(tmp_path: Path) -> None:
    up = Up(small_config(tmp_path / "net", executors=0))
    try:
        up.until_up()
        up.until_told("service miner-1 ready")
        (up.data_dir / "token").write_text("this is no token\n")
        assert command(up.folder, "status").returncode in (4, 7), "the API lets nobody in"
        done = command(up.folder, "hold", "miner-1", "--reason", "its policy is replaced")
        assert done.returncode == 0, done.stderr
        up.until_told("service miner-1 held")
        found = json_of(command(up.folder, "explain", "miner-1", "--json"))["data"]
        assert found["answer"] == "person's hold"
        assert command(up.folder, "release", "miner-1").returncode == 0
        assert command(up.folder, "recover", "--yes").returncode == 0
        assert command(up.folder, "explain", "miner-1").returncode == 0
    finally:
        up.clean_up()


def test_a_stack_whose_data_directory_was_removed_is_not_doubled_and_can_be_ended(own: Stack) -> None:
    own.up()
    lost = own.supervisor().pid
    shutil.rmtree(own.data_dir)
    refused = own.run("up", "--detach")
    assert refused.returncode == 6
    assert f"process {lost}" in refused.stderr
    done = own.run("down")
    assert done.returncode == 0
    wait_until(lambda: procfs.read_stat(lost) is None, what="the supervisor has ended")
    own.up()


def test_a_release_touches_only_what_is_held(own: Stack) -> None:
    text = (own.folder / "standfast.toml").read_text()
    once = '[[services]]\nname = "once"\nkind = "task"\ncommand = ["sh", "-c", "echo ran >> ran.txt"]\n'
    (own.folder / "standfast.toml").write_text(f"{text}\n{once}")
    own.up()
    own.until("once", "completed")
    assert own.data("release")["released"] == []
    assert own.data("release", "once")["released"] == []
    assert own.data("gate", "deploy")["decision"] == "GO", "a task that ran once was restarted by nobody"
    assert (own.folder / "ran.txt").read_text() == "ran\n"


def test_a_hold_that_is_not_on_disk_is_not_acknowledged(own: Stack) -> None:
    own.up()
    with contextlib.closing(sqlite3.connect(own.data_dir / "services.db", timeout=5)) as store:
        store.execute("BEGIN IMMEDIATE")
        done = own.run("hold", "extra", "--reason", "the disk does not answer")
        assert done.returncode != 0
        assert "not on record" in done.stderr
        store.execute("ROLLBACK")
    assert own.run("hold", "extra", "--reason", "the disk answers").returncode == 0


def test_a_restart_by_the_liveness_probe_is_named(own: Stack) -> None:
    text = (own.folder / "standfast.toml").read_text()
    live = 'live = { command = ["false"], interval_s = 0.2, failures = 2 }'
    slow = "restart = { backoff_s = 60, cap_s = 60 }"
    sick = f'[[services]]\nname = "sick"\nrequired = false\ncommand = ["sleep", "600"]\n{live}\n{slow}\n'
    (own.folder / "standfast.toml").write_text(f"{text}\n{sick}")
    own.run("up", "--detach")
    wait_until(lambda: "liveness probe" in own.run("status").stdout, within_s=40, what="the probe is named")
