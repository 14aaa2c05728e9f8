"""``standfast lint`` as the process that a person starts: what it prints, and what it exits with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fixtures_dir import fixture
from integration.instances import command, json_of
from standfast.app.instance import Wanted
from standfast.cli.commands.lint import lint
from standfast.cli.session import Session
from standfast.kernel.errors import ConfigError

CLEAN = "services:\n  a: {image: 'x:1', restart: always, mem_limit: 1g}\n"
WARNED = "services:\n  a: {image: 'x:1', mem_limit: 1g}\n"
BROKEN = "services:\n  a: {image: 'x:1', restart: always, mem_limit: 1g, volumes: ['data:/x']}\n"


def called(folder: Path, monkeypatch: pytest.MonkeyPatch, *paths: str, **options: Any) -> int:
    """Call the command in this process, as its wrapper does, and return its exit code."""
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    session = Session("lint", True, Wanted(url="", token="", token_file=None, data_dir=None))
    return lint(session, [Path(path) for path in paths], **options)


@pytest.mark.parametrize(
    ("text", "is_strict", "code"),
    [(CLEAN, False, 0), (WARNED, False, 0), (WARNED, True, 1), (BROKEN, False, 1), ("", False, 3)],
)
def test_v_the_exit_code_says_how_bad_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: int, *, is_strict: bool
) -> None:
    if text:
        (tmp_path / "compose.yaml").write_text(text)
    assert called(tmp_path, monkeypatch, ".", strict=is_strict) == code


def test_v_a_finding_is_one_line_with_file_line_severity_and_rule(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(WARNED)
    lines = command(tmp_path, "lint", "compose.yaml").stdout.splitlines()
    assert lines[0].startswith("compose.yaml:2: warning restart-missing a has no restart policy")
    assert lines[1].strip().startswith("-> restart: unless-stopped")
    assert lines[-1] == "looked at 1 compose: 0 errors, 1 warnings, 0 info"


def test_nothing_read_is_said_and_is_no_success(tmp_path: Path) -> None:
    done = command(tmp_path, "lint", ".", "--json")
    assert done.returncode == 3
    assert json_of(done)["data"]["verdict"] == "UNKNOWN"
    assert "UNKNOWN: nothing was read" in command(tmp_path, "lint", ".").stdout


@pytest.mark.parametrize(
    ("paths", "options", "code"),
    [
        ((), {}, "NoPath"),
        (("nope",), {}, "PathMissing"),
        ((".",), {"arch": ["blackwell"]}, "BadArch"),
        ((".",), {"running": ["x"]}, "StackMissing"),
    ],
)
def test_wrong_use_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    paths: tuple[str, ...],
    options: dict[str, Any],
    code: str,
) -> None:
    with pytest.raises(ConfigError) as caught:
        called(tmp_path, monkeypatch, *paths, **options)
    assert (caught.value.code, caught.value.exit_code) == (code, 2)


def test_v_the_decision_stack_as_json(tmp_path: Path) -> None:
    done = command(tmp_path, "lint", str(fixture("trading")), "--json")
    assert done.returncode == 1
    data = json_of(done)["data"]
    found = {(f["rule"], Path(f["file"]).name, f["line"]) for f in data["findings"]}
    assert ("port-twice", "docker-compose.yml", 197) in found
    assert ("url-port-closed", "docker-compose.yml", 427) in found
    assert ("placeholder", "alertmanager.config.yml", 8) in found
    assert data["verdict"] == "FAIL"
    assert data["looked_at"]["compose"] == 2


def test_the_rules_are_listed(tmp_path: Path) -> None:
    data = json_of(command(tmp_path, "lint", "--rules", "--json"))["data"]
    assert {"rule", "kind", "severity", "what", "why"} == set(data[0])
    assert "restart-missing" in {rule["rule"] for rule in data}


PM2 = (
    "module.exports = {apps: [{name: 'a', script: 'a.py', cwd: '/x', args: '--fast', min_uptime: '60s'}]};\n"
)
SLOW = [{"name": "a", "monit": {"memory": 1}, "pm2_env": {"status": "online", "args": ["--slow"]}}]


def program(folder: Path, name: str, text: str) -> None:
    """Put a stand-in for a program that is not here on the PATH of the command."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a000_13_declared_beside_a_listing(tmp_path: Path) -> None:
    (tmp_path / "ecosystem.config.js").write_text(PM2)
    (tmp_path / "jlist.json").write_text("[PM2] Spawning PM2 daemon\n" + json.dumps(SLOW))
    done = command(tmp_path, "lint", "ecosystem.config.js", "--running", "jlist.json")
    assert done.returncode == 1
    assert "arguments-differ a does not run" in done.stdout
    assert "1 running" in done.stdout


def test_a000_13_declared_beside_what_runs_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ecosystem.config.js").write_text(PM2)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    program(tmp_path, "pm2", f"echo '{json.dumps(SLOW)}'")
    program(tmp_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    called(tmp_path, monkeypatch, "ecosystem.config.js", running=["live"])
    data = json.loads(capsys.readouterr().out)["data"]
    assert {f["rule"] for f in data["findings"]} == {"arguments-differ"}
    assert data["not_understood"] == [{"file": "docker", "why": "Cannot connect to the Docker daemon"}]


def test_a_manager_that_does_not_answer_is_no_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ecosystem.config.js").write_text(PM2)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    for name in ("pm2", "docker"):
        program(tmp_path, name, "echo no | tee /dev/stderr; exit 1")
    assert called(tmp_path, monkeypatch, "ecosystem.config.js", running=["live"]) == 3
    silent = json.loads(capsys.readouterr().out)["data"]["not_understood"]
    assert [one["file"] for one in silent] == ["pm2", "docker"]


def test_containers_are_asked_for_their_memory_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "compose.yaml").write_text(CLEAN)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    labels = {"com.docker.compose.service": "a", "com.docker.compose.project": tmp_path.name}
    seen = [{
        "Name": "/some-a-1", "State": {"Running": True, "Status": "running"}, "Config": {"Labels": labels},
        "HostConfig": {"RestartPolicy": {"Name": "always"}},
    }]  # fmt: skip
    program(
        tmp_path, "docker",
        f"case $1 in ps) echo abc;; inspect) echo '{json.dumps(seen)}';; "
        """stats) echo '{"Name":"some-a-1","MemUsage":"3GiB / 4GiB"}';; esac""",
    )  # fmt: skip
    program(tmp_path, "pm2", "exit 1")
    called(tmp_path, monkeypatch, "compose.yaml", running=["live"])
    data = json.loads(capsys.readouterr().out)["data"]
    assert [(f["rule"], f["subject"]) for f in data["findings"]] == [("memory-over-limit", "some-a-1")]
