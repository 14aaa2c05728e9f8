"""Commands that speak to a running instance, and status on its bad days: what, why, what to do, in 10 s."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from integration.instances import Up, environment, json_of, small_config
from integration.instances import command as typed
from integration.processes import wait_until
from standfast.app.instance import Run
from standfast.cli.main import main
from standfast.services.adapters import procfs

LONGEST_S = 10.0


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in this process: the same code and the same API, without starting Python each time."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, environment(folder), clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = main(arguments)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One instance for all tests that only look, or undo what they do."""
    up = Up(small_config(tmp_path_factory.mktemp("running"), policies=("generalist", "random")))
    try:
        up.until_up()
        until_published(up.folder)
        wait_until(lambda: command(up.folder, "status").returncode == 0, within_s=30, what="all is well")
        yield up
        assert up.stop() == 0
    finally:
        up.clean_up()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Up]:
    """Start an instance that the test may break."""
    up = Up(small_config(tmp_path, policies=("generalist",)))
    try:
        up.until_up()
        yield up
    finally:
        for child in up.members():
            procfs.send(child, signal.SIGCONT)
        up.clean_up()


def until_published(folder: Path) -> None:
    wait_until(lambda: command(folder, "round", "verify").returncode == 0, within_s=60, what="a publication")


def status(up: Up, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code of status and its findings that are worse than PASS; it took under 10 s."""
    started = time.monotonic()
    done = command(up.folder, "status", "--json", *arguments)
    assert time.monotonic() - started < LONGEST_S
    findings = json_of(done)["data"]["findings"]
    bad = [f for f in findings if f["verdict"] in ("FAIL", "UNKNOWN")]
    assert all(f["remedy"] and f["message"] for f in bad)
    return done.returncode, bad


def until_status(up: Up, reason: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the finding once status has said ``reason``, which is within 10 s."""
    deadline = time.monotonic() + LONGEST_S
    while True:
        code, bad = status(up)
        found = [f for f in bad if f["reason"] == reason]
        if found:
            return code, found[0]
        assert time.monotonic() < deadline, f"{reason} was not said within {LONGEST_S} s: {bad}"


def until_well(up: Up, *, within_s: float = 40.0) -> None:
    """Return once status has nothing to object to; fail with what it has."""
    deadline = time.monotonic() + within_s
    while (bad := status(up))[0] != 0:
        assert time.monotonic() < deadline, bad
        time.sleep(0.2)


def child(up: Up, name: str) -> int:
    run = up.run()
    assert isinstance(run, Run)
    return next(c.identity.pid for c in run.children if c.name == name)


def test_a_round_is_explained_and_verified(running: Up) -> None:
    shown = command(running.folder, "round", "show", "latest")
    assert shown.returncode == 0
    assert "generalist-1" in shown.stdout
    assert "65535" in shown.stdout or "u16" in shown.stdout
    verified = command(running.folder, "round", "verify", "latest", "--json")
    assert verified.returncode == 0
    findings = json_of(verified)["data"]["findings"]
    # The newest round that is over may not be published yet; then there is no publication to compare.
    assert {f["verdict"] for f in findings} <= {"PASS", "SKIPPED"}
    assert {"rates", "weights"} <= {f["check"] for f in findings}


def test_k17_a_changed_weight_rate_or_digest_is_found(running: Up, tmp_path: Path) -> None:
    saved = tmp_path / "evidence.json"
    assert command(running.folder, "round", "verify", "--save", str(saved)).returncode == 0
    bundle = json.loads(saved.read_text())
    uid = next(iter(bundle["evidence"]["result"]["weights"]))
    for path in (("result", "weights", uid), ("result", "u16", uid)):
        changed = json.loads(saved.read_text())
        place = changed["evidence"]
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = 7
        (tmp_path / "changed.json").write_text(json.dumps(changed))
        done = command(tmp_path, "round", "verify", "--file", str(tmp_path / "changed.json"), "--json")
        assert done.returncode == 1, path
        assert "FAIL" in {f["verdict"] for f in json_of(done)["data"]["findings"]}
    assert command(tmp_path, "round", "verify", "--file", str(saved)).returncode == 0, "without an instance"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["round", "show", "999999"], 1),
        (["round", "verify", "999999"], 1),
        (["round", "show", "next"], 2),
        (["task", "show", "0123456789abcdef"], 1),
        (["task", "requeue", "no-such-task"], 2),
        (["task", "show", "../../tokens"], 1),
        (["executors", "cordon", "nobody"], 1),
        (["task", "pause", "99"], 1),
        (["token", "revoke", "nobody"], 1),
        (["token", "create", "x y", "--scope", "read"], 2),
        (["logs", "nobody"], 1),
    ],
)
def test_what_does_not_exist_is_said(running: Up, arguments: list[str], code: int) -> None:
    done = command(running.folder, *arguments, "--json")
    error = json_of(done)["error"]
    assert (done.returncode, error["exit_code"]) == (code, code)
    assert error["fix"]
    assert "fix" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "status", "round ls", "task ls --state done --limit 2", "executors ls", "facts ls --limit 3",
        "facts verify", "token ls", "logs", "logs executor-1", "doctor",
    ],
)  # fmt: skip
def test_every_look_has_an_envelope_and_a_text(running: Up, line: str) -> None:
    arguments = line.split()
    told = command(running.folder, *arguments, "--json")
    assert told.returncode == 0, told.stderr + told.stdout
    assert told.stderr == ""
    envelope = json_of(told)
    assert set(envelope) == {"schema", "at", "data"}
    assert envelope["schema"].startswith(f"standfast.{arguments[0]}")
    shown = command(running.folder, *arguments)
    assert shown.returncode == 0
    assert "\x1b" not in shown.stdout


def test_an_operator_steers_and_every_step_is_a_fact(running: Up) -> None:
    for arguments in (
        ["task", "drain"], ["task", "drain", "--off"], ["task", "pause", "2"], ["task", "resume", "2"],
        ["executors", "cordon", "executor-1"], ["executors", "uncordon", "executor-1"],
    ):  # fmt: skip
        done = command(running.folder, *arguments)
        assert done.returncode == 0, done.stderr
    facts = json_of(command(running.folder, "facts", "ls", "--limit", "200", "--json"))["data"]["facts"]
    kinds = {fact["kind"] for fact in facts}
    assert {"tasks.drained", "tasks.resumed", "subject.paused", "executor.cordoned"} <= kinds


def test_k5_an_executor_that_is_cordoned_is_said_to_be(running: Up) -> None:
    command(running.folder, "executors", "cordon", "executor-1")
    try:
        told = command(running.folder, "executors", "ls").stdout
        assert "cordoned" in told
    finally:
        command(running.folder, "executors", "uncordon", "executor-1")


def test_a_token_is_made_used_and_revoked(running: Up, tmp_path: Path) -> None:
    path = tmp_path / "reader.token"
    name = f"reader-{time.monotonic_ns()}"
    made = command(running.folder, "token", "create", name, "--scope", "read", "--out", str(path))
    assert made.returncode == 0, made.stderr
    assert path.stat().st_mode & 0o077 == 0
    assert path.read_text().strip() not in made.stdout + made.stderr
    use = ("--token-file", str(path))
    assert command(running.folder, "round", "ls", *use).returncode == 0
    assert command(running.folder, "task", "drain", *use).returncode == 4, "read does not operate"
    assert command(running.folder, "token", "revoke", name).returncode == 0
    assert command(running.folder, "round", "ls", *use).returncode == 4
    assert status(running, *use)[0] == 4


def test_a_second_start_is_refused_and_harms_nothing(running: Up) -> None:
    done = typed(running.folder, "up")
    assert done.returncode == 6
    assert "already runs" in done.stderr
    assert status(running)[0] == 0


def test_status_names_each_process_that_is_stopped_and_recovers(fresh: Up) -> None:
    until_well(fresh)
    fresh.signal(signal.SIGSTOP)
    code, finding = until_status(fresh, "ProcessStopped")
    assert code == 7
    assert finding["remedy"] == f"kill -CONT {fresh.popen.pid}"
    fresh.signal(signal.SIGCONT)
    until_well(fresh)
    for name, reason in (("executor-1", "ExecutorSilent"), ("miner-1", "ProcessStopped")):
        pid = child(fresh, name)
        os.kill(pid, signal.SIGSTOP)
        code, finding = until_status(fresh, reason)
        assert code == 3
        assert name in finding["message"]
        assert str(pid) in finding["remedy"]
        os.kill(pid, signal.SIGCONT)
        until_well(fresh)


def test_status_after_kill_9_names_it_and_up_comes_back(fresh: Up) -> None:
    fresh.popen.kill()
    fresh.popen.wait()
    code, finding = until_status(fresh, "Killed")
    assert code == 7
    assert "standfast up" in finding["remedy"]
    assert str(fresh.popen.pid) in finding["message"]
    down = typed(fresh.folder, "down", "--json")
    assert (down.returncode, json_of(down)["data"]["ended"]) == (0, "was_gone")
    assert until_status(fresh, "NotRunning")[0] == 7
    assert command(fresh.folder, "facts", "verify").returncode == 0, "the store can be looked at"


def test_status_with_a_record_of_garbage_is_unknown_not_healthy(fresh: Up) -> None:
    until_published(fresh.folder)  # Until every child is there, the instance writes its record anew.
    (fresh.data_dir / "run.json").write_text("garbage")
    code, bad = status(fresh)
    assert code in (3, 7)
    assert bad[0]["reason"] == "RecordUnreadable", bad


def test_down_stops_everything_and_twice_is_fine(fresh: Up) -> None:
    done = typed(fresh.folder, "down", "--json")
    assert (done.returncode, json_of(done)["data"]["ended"]) == (0, "stopped")
    assert fresh.ended() == 0
    assert fresh.members() == []
    assert json_of(command(fresh.folder, "down", "--json"))["data"]["ended"] == "nothing_ran"


def test_a_round_that_nobody_works_on_is_pending_and_status_says_why(tmp_path: Path) -> None:
    up = Up(small_config(tmp_path, policies=("generalist",), executors=0))
    try:
        up.until_up()
        wait_until(lambda: json_of(command(tmp_path, "round", "ls", "--json"))["data"]["rounds"], within_s=20)
        shown = command(tmp_path, "round", "show", "latest")
        assert shown.returncode == 8
        assert "still open" in shown.stdout
        assert "secret until the round ends" in shown.stdout
        for ref in ("latest", "1"):
            done = command(tmp_path, "round", "verify", ref, "--json")
            error = json_of(done)["error"]
            assert (done.returncode, error["code"]) == (8, "Pending"), done.stderr
        code, finding = until_status(up, "NoExecutor")
        assert code == 3
        assert "standfast executor" in finding["remedy"]
        assert up.stop() == 0
    finally:
        up.clean_up()


@contextlib.contextmanager
def garbage_server(body: bytes, *, is_silent: bool = False) -> Iterator[str]:
    """Serve ``body`` with 200 at every path, or accept and say nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if is_silent:
                time.sleep(LONGEST_S + 2)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        if not is_silent:
            server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"{}", b"[]", b"null", b"\xff" * 100, b'{"findings": 3}']
)
def test_status_of_another_program_says_that_it_is_one(tmp_path: Path, body: bytes) -> None:
    with garbage_server(body) as url:
        done = command(tmp_path, "status", "--json", "--url", url)
    assert done.returncode == 7
    reason = json_of(done)["data"]["findings"][0]["reason"]
    assert reason in ("ApiReplyUnexpected", "NotStandfast")


def test_status_of_an_api_that_is_silent_comes_within_10_s(tmp_path: Path) -> None:
    started = time.monotonic()
    with garbage_server(b"", is_silent=True) as url:
        done = command(tmp_path, "status", "--json", "--url", url)
    assert time.monotonic() - started < LONGEST_S
    assert done.returncode == 7
    assert json_of(done)["data"]["findings"][0]["reason"] == "ApiTimeout"


def test_status_of_an_api_that_refuses_says_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = command(tmp_path, "status", "--url", url)
    assert done.returncode == 7
    assert "ApiUnreachable" in done.stdout


def test_status_where_nothing_was_ever_started(tmp_path: Path) -> None:
    done = command(tmp_path, "status")
    assert done.returncode == 7
    assert "NoInstance" in done.stdout
    assert "standfast up" in done.stdout


@pytest.fixture
def api_alone(tmp_path: Path) -> Iterator[tuple[Path, str, subprocess.Popen[str]]]:
    """Start an API apart; give its folder, its address and its process."""
    folder = small_config(tmp_path, policies=(), executors=0)
    process = subprocess.Popen(
        [sys.executable, "-m", "standfast.cli", "api", "--config", "."], cwd=folder,
        env=environment(folder), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert "listens at" in line, line
        yield folder, line.split()[4].rstrip(";"), process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_parts_apart_work_together_over_http(api_alone: tuple[Path, str, subprocess.Popen[str]]) -> None:
    folder, url, process = api_alone
    token = ("--token-file", str(folder / ".standfast" / "token"))
    assert command(folder, "round", "ls", "--url", url, *token).returncode == 0
    made = command(
        folder, "token", "create", "rig", "--scope", "execute", "--out", "rig.token", "--url", url, *token
    )
    assert made.returncode == 0, made.stderr
    executor = subprocess.Popen(
        [sys.executable, "-m", "standfast.cli", "executor", "--url", url, "--token-file", "rig.token",
         "--name", "rig", "--json"],
        cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        wait_until(
            lambda: "rig" in command(folder, "executors", "ls", "--url", url, *token).stdout,
            within_s=30, what="the executor to be heard of",
        )  # fmt: skip
        code, bad = findings_at(folder, url, token)
        assert code == 3
        assert "NobodyLeads" in {f["reason"] for f in bad}, "no scheduler was started"
    finally:
        executor.send_signal(signal.SIGTERM)
        out, _ = executor.communicate(timeout=30)
    assert executor.returncode == 0
    assert json.loads(out)["schema"] == "standfast.executor/1"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0


def findings_at(folder: Path, url: str, token: tuple[str, str]) -> tuple[int, list[dict[str, Any]]]:
    done = command(folder, "status", "--json", "--url", url, *token)
    return done.returncode, json_of(done)["data"]["findings"]


def test_a_second_process_on_one_sqlite_store_is_refused(
    api_alone: tuple[Path, str, subprocess.Popen[str]],
) -> None:
    folder, _, process = api_alone
    done = typed(folder, "scheduler", "--config", ".")
    assert done.returncode == 3
    assert "StoreLocked" in done.stderr
    assert str(process.pid) in done.stderr
    assert "PostgreSQL" in done.stderr
