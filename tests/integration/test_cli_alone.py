"""Commands that need no running instance, each as the process that a person starts."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from fixtures_dir import fixture
from integration.instances import command, environment, free_ports, json_of

SCORES = {
    "env_ids": ["a", "b"], "miner_scores": {"1": {"a": 1.0, "b": 0.8}, "2": {"a": 0.2, "b": 0.1}},
    "first_blocks": {"1": 5, "2": 6}, "episodes_per_env": 20,
}  # fmt: skip


def initialised(folder: Path) -> Path:
    """Write what `init` writes, on ports of our own."""
    assert command(folder, "init", "net").returncode == 0
    path = folder / "net" / "standfast.toml"
    text = path.read_text()
    for old, new in zip(("8321", "18411", "18412"), free_ports(3), strict=True):
        text = text.replace(old, str(new))
    path.write_text(text)
    return folder / "net"


def test_k16_every_case_of_the_original_is_met_by_the_command(tmp_path: Path) -> None:
    """Four of the cases through the real command; all of them run in the unit tests of scoring."""
    cases = json.loads(fixture("evaluation/pipeline.json").read_text())["cases"]
    for case in cases[:: max(1, len(cases) // 4)]:
        document = {key: value for key, value in case.items() if key not in ("id", "expected", "note")}
        (tmp_path / "in.json").write_text(json.dumps({**document, "policy": "original"}))
        done = command(tmp_path, "score", "--input", "in.json", "--json")
        assert done.returncode == 0, done.stderr
        data = json_of(done)["data"]
        for name in ("frontier_uids", "u16", "subset_winners"):
            assert data[name] == case["expected"][name], (case["id"], name)
        assert data["weights"] == pytest.approx(case["expected"]["weights"], abs=1e-9)


def test_score_reads_standard_input(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "standfast.cli", "score", "--input", "-", "--json"],
        input=json.dumps(SCORES), capture_output=True, text=True, check=False, env=environment(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sum(json.loads(done.stdout)["data"]["u16"]["values"]) == 65_535
    assert done.stderr == ""


def test_k8_temperature_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "standfast.toml").write_text("[evaluation]\ntemperature = nan\n")
    done = command(tmp_path, "up", "--json")
    assert done.returncode == 2
    assert "standfast.toml:2: evaluation.temperature" in json_of(done)["error"]["what"]
    assert not (tmp_path / ".standfast").exists(), "nothing was started"


def test_what_init_writes_is_ready_to_start_and_is_never_overwritten(tmp_path: Path) -> None:
    net = initialised(tmp_path)
    done = command(net, "doctor", "--json")
    assert done.returncode == 0, done.stdout
    assert json_of(done)["data"]["verdict"] == "PASS"
    before = (net / "miner.py").read_text()
    again = command(tmp_path, "init", "net")
    assert again.returncode == 6
    assert (net / "miner.py").read_text() == before
    assert not (net / ".standfast").exists(), "doctor changes nothing"


def doctor(folder: Path) -> tuple[int, dict[str, Any]]:
    """Return the exit code of doctor and its findings by check."""
    done = command(folder, "doctor", "--json")
    findings = json_of(done)["data"]["findings"]
    return done.returncode, {f["check"]: f for f in findings if f["verdict"] != "PASS"}


def test_doctor_names_who_has_the_port(tmp_path: Path) -> None:
    net = initialised(tmp_path)
    port = int(
        next(line for line in (net / "standfast.toml").read_text().splitlines() if line.startswith("port"))[
            7:12
        ]
    )
    program = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        assert other.stdout is not None
        try:
            other.stdout.readline()
            code, found = doctor(net)
        finally:
            other.kill()
    assert code == 3
    assert f"pid {other.pid}" in found["ports"]["message"]
    assert str(port) in found["ports"]["message"]


def test_doctor_refuses_a_store_that_is_damaged_and_keeps_it(tmp_path: Path) -> None:
    net = initialised(tmp_path)
    (net / ".standfast").mkdir()
    store = net / ".standfast" / "standfast.db"
    store.write_bytes(b"not a database at all" * 500)
    code, found = doctor(net)
    assert code == 3
    assert found["store"]["reason"] == "StoreDamaged"
    assert store.read_bytes() == b"not a database at all" * 500
    done = command(net, "up")
    assert done.returncode == 5, done.stderr
    assert "StoreDamaged" in done.stderr or "damaged" in done.stderr


def test_a_store_that_is_newer_is_refused_by_doctor_and_up(tmp_path: Path) -> None:
    (tmp_path / "standfast.toml").write_text("[executor]\ncount = 0\n[api]\nport = 0\n")
    write_facts(tmp_path)
    connection = apsw.Connection(str(tmp_path / ".standfast" / "standfast.db"))
    connection.execute("INSERT INTO schema_migration VALUES ('tasks', 99, 'later', 'then')")
    connection.close()
    code, found = doctor(tmp_path)
    assert code == 3
    assert found["store"]["reason"] == "StoreNewer"
    assert "schema 99" in found["store"]["message"]
    done = command(tmp_path, "up")
    assert done.returncode == 5
    assert "newer" in done.stderr


def test_a_store_on_a_full_disk_is_refused_and_says_where_to_make_room(tmp_path: Path) -> None:
    """The disk is full by a limit on file sizes, which needs no privileges."""
    (tmp_path / "standfast.toml").write_text("[executor]\ncount = 0\n[api]\nport = 0\n")
    script = f"ulimit -f 1; exec {sys.executable} -m standfast.cli up"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode in (3, 5, 7), done.stderr
    assert "disk" in done.stderr or "room" in done.stderr
    assert "Traceback" not in done.stderr
    assert command(tmp_path, "doctor").returncode == 0, "with room it starts"


def test_doctor_with_a_refused_configuration_still_judges_the_rest(tmp_path: Path) -> None:
    (tmp_path / "standfast.toml").write_text("[tasks]\nlease_tll_s = 3\n")
    code, found = doctor(tmp_path)
    assert code == 3
    assert found["config"]["verdict"] == "FAIL"
    assert "lease_ttl_s" in found["config"]["remedy"]
    assert found["store"]["verdict"] == "UNKNOWN"
    assert "python" not in found


def test_doctor_sees_that_too_few_files_may_be_open(tmp_path: Path) -> None:
    net = initialised(tmp_path)
    script = f"ulimit -n 128; exec {sys.executable} -m standfast.cli doctor --json"
    done = subprocess.run(
        ["bash", "-c", script], cwd=net, env=environment(net), capture_output=True, text=True, check=False
    )
    reasons = [f["reason"] for f in json.loads(done.stdout)["data"]["findings"] if f["verdict"] == "FAIL"]
    assert reasons == ["TooFew"]


def test_output_that_cannot_be_written_is_not_success(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m standfast.cli version --json > /dev/full"],
        env=environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0


def test_a_reader_that_goes_away_is_no_crash(tmp_path: Path) -> None:
    script = f"set -o pipefail; {sys.executable} -m standfast.cli --help | head -c 1 >/dev/null"
    done = subprocess.run(
        ["bash", "-c", script], env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)


def wait_until_it_reads(pid: int) -> None:
    """Wait until the process reads its standard input: before that, Ctrl-C is Python's own."""
    deadline = time.monotonic() + 30.0
    # The kernel's word for it, on x86 and arm: system call number, then the descriptor.
    while not re.match(r"(0|63) 0x0 ", Path(f"/proc/{pid}/syscall").read_text()):
        assert time.monotonic() < deadline, "it never asked for its input"
        time.sleep(0.05)


def test_ctrl_c_is_130(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "standfast.cli", "score", "--input", "-"],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path),
    ) as process:  # fmt: skip
        wait_until_it_reads(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_facts_verify_without_an_instance_names_the_first_broken_row(tmp_path: Path) -> None:
    (tmp_path / "standfast.toml").write_text("[executor]\ncount = 0\n[api]\nport = 0\n")
    write_facts(tmp_path)
    good = command(tmp_path, "facts", "verify", "--json")
    assert (good.returncode, json_of(good)["data"]["count"]) == (0, 5)
    connection = apsw.Connection(str(tmp_path / ".standfast" / "standfast.db"))
    connection.execute("PRAGMA writable_schema = ON")
    for (name,) in list(connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")):
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("""UPDATE fact SET body = '{"n":99}' WHERE seq = 3""")
    assert connection.changes() == 1, "the fault landed"
    connection.close()
    done = command(tmp_path, "facts", "verify", "--json")
    assert done.returncode == 1
    assert json_of(done)["data"]["seq"] == 3
    code, found = doctor(tmp_path)
    assert code == 3
    assert found["facts"]["reason"] == "ChainBroken"


def write_facts(folder: Path) -> None:
    """Write five facts into the store of ``folder``, as an instance does."""
    script = (
        "from pathlib import Path\n"
        "from standfast.app.config import load_config\n"
        "from standfast.app.plane import ControlPlane\n"
        "plane = ControlPlane.open(load_config(Path('.')))\n"
        "for n in range(5):\n"
        "    plane.database.write_now(lambda tx: plane.facts.append(tx, 'test.made', 'x', {'n': n}))\n"
        "plane.close()\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment(folder), check=True)


def test_i1_an_empty_store_has_no_intact_chain(tmp_path: Path) -> None:
    (tmp_path / "standfast.toml").write_text("[executor]\ncount = 0\n[api]\nport = 0\n")
    data = tmp_path / ".standfast"
    data.mkdir()
    (data / "standfast.db").touch()
    done = command(tmp_path, "facts", "verify", "--json")
    assert (done.returncode, json_of(done)["error"]["code"]) == (3, "StoreEmpty")
