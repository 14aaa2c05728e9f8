"""A000-13 and A000-2: pm2's files, and what is declared beside what runs; one finding for each difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fixtures_dir import fixture
from lint_lab import only, places, report, rules
from standfast.kernel.errors import ConfigError
from standfast.services.lint.judging import judge
from standfast.services.lint.listing import memory_bytes, read_listing
from standfast.services.lint.model import LintReport, Severity
from standfast.services.lint.reading import read_tree

WORKER = """
    module.exports = {
      apps: [
        {
          name: 'worker',
          script: 'serve.py',
          interpreter: 'python3',
          cwd: '/srv/app',
          args: '--port 10010 --enable-validation --validation-threshold 0.12',
          min_uptime: '30s',
          max_restarts: 10,
          max_memory_restart: '6G',
        },
      ],
    };
"""


def process(name: str, args: str = "", memory: float = 0.0, **env: Any) -> dict[str, Any]:
    """Return an entry of ``pm2 jlist``; memory in GiB."""
    settings = {"status": "online", "restart_time": 2, "unstable_restarts": 0, "args": args.split(), **env}
    return {"name": name, "pid": 7, "monit": {"memory": int(memory * 2**30), "cpu": 1}, "pm2_env": settings}


def of(found: LintReport, rule: str) -> list[str]:
    return [f.subject for f in found.findings if f.rule == rule]


def beside(folder: Path, *running: dict[str, Any], files: dict[str, str] | None = None) -> LintReport:
    return report(
        folder, files or {"ecosystem.config.js": WORKER}, running=json.dumps(list(running), indent=1)
    )


RIGHT = process("worker", "--port 10010 --enable-validation --validation-threshold 0.12", 4.5)


def test_what_runs_as_declared_gives_no_finding(tmp_path: Path) -> None:
    found = beside(tmp_path, RIGHT)
    assert found.findings == ()
    assert found.processes == 1


def test_a000_13_more_memory_than_the_limit(tmp_path: Path) -> None:
    finding = only(beside(tmp_path, {**RIGHT, "monit": {"memory": int(32.3 * 2**30)}}), "memory-over-limit")
    assert (finding.file, finding.line, finding.severity) == ("ecosystem.config.js", 4, Severity.ERROR)
    assert "6.0 GiB, and 32.3 GiB" in finding.message


def test_a000_13_the_limit_may_be_that_of_the_running_one(tmp_path: Path) -> None:
    files = {"ecosystem.config.js": WORKER.replace("max_memory_restart: '6G',", "")}
    running = process("worker", " ".join(RIGHT["pm2_env"]["args"]), 32.3, max_memory_restart=6 * 2**30)
    assert "6.0 GiB" in only(beside(tmp_path, running, files=files), "memory-over-limit").message


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("--port 10010 --validation-threshold 0.12", "it runs without --enable-validation"),
        ("--port 10010 --enable-validation --validation-threshold 0.3",
         "without --validation-threshold 0.12; it runs with --validation-threshold 0.3"),
        ("--port=10010 --enable-validation --validation-threshold 0.12 --debug", "it runs with --debug"),
        ("", "--port 10010"),
    ],
)  # fmt: skip
def test_a000_13_a_missing_argument(tmp_path: Path, args: str, said: str) -> None:
    finding = only(beside(tmp_path, process("worker", args)), "arguments-differ")
    assert (finding.file, finding.line) == ("ecosystem.config.js", 4)
    assert said in finding.message


def test_a000_13_arguments_in_another_form_are_the_same(tmp_path: Path) -> None:
    args = "--validation-threshold=0.12 --enable-validation --port=10010"
    assert beside(tmp_path, process("worker", args)).findings == ()


def test_a000_13_a_process_in_no_file(tmp_path: Path) -> None:
    found = beside(tmp_path, RIGHT, process("miner-sn17-mainnet", restart_time=3))
    finding = only(found, "running-undeclared")
    assert finding.subject == "miner-sn17-mainnet"
    assert (finding.file, finding.line > 1) == ("running.json", True)


def test_a000_2_restarts_that_the_breaker_does_not_see(tmp_path: Path) -> None:
    finding = only(
        beside(tmp_path, {**RIGHT, "pm2_env": {**RIGHT["pm2_env"], "restart_time": 16_660}}), "restarts-seen"
    )
    assert "16660 times, 0 counted as unstable, and is shown as online" in finding.message


def test_declared_and_not_running(tmp_path: Path) -> None:
    stopped = {**RIGHT, "pm2_env": {**RIGHT["pm2_env"], "status": "errored"}}
    assert only(beside(tmp_path / "a", stopped), "not-running").severity is Severity.WARNING
    assert only(beside(tmp_path / "b"), "not-running").severity is Severity.INFO


def test_a000_13_one_name_in_two_files_with_other_values(tmp_path: Path) -> None:
    files = {"a.config.js": WORKER, "b.config.js": WORKER.replace("'6G'", "'8G'").replace("10010", "10011")}
    finding = only(report(tmp_path, files), "pm2-twice")
    assert (finding.file, finding.line, finding.severity) == ("b.config.js", 4, Severity.ERROR)
    assert finding.evidence["differs"] == ["command", "max_memory_bytes"]
    same = only(report(tmp_path / "x", {"a.config.js": WORKER, "b.config.js": WORKER}), "pm2-twice")
    assert same.severity is Severity.WARNING


def test_names_in_folders_that_have_nothing_to_do_with_each_other_are_warnings(tmp_path: Path) -> None:
    other = WORKER.replace("10010", "1")
    found = report(tmp_path, {"a/x.config.js": WORKER, "b/x.config.js": other, "c/x.config.js": other})
    twice = [f for f in found.findings if f.rule == "pm2-twice"]
    assert [(f.file, f.severity) for f in twice] == [
        ("b/x.config.js", Severity.WARNING), ("c/x.config.js", Severity.WARNING)
    ]  # fmt: skip
    assert "and 1 more" in twice[1].message


@pytest.mark.parametrize(
    ("options", "is_found"),
    [
        ("", True),
        ("autorestart: true,", True),
        ("max_restarts: 10,", True),
        ("max_memory_restart: '8G',", True),
        ("min_uptime: 500, max_restarts: 5,", True),
        ("min_uptime: '60s',", False),
        ("min_uptime: 60000, max_restarts: 3, exp_backoff_restart_delay: 100,", False),
        ("autorestart: false,", False),
        ("stop_exit_codes: [78],", False),
    ],
)
def test_a000_13_a_breaker_that_cannot_trip(tmp_path: Path, options: str, *, is_found: bool) -> None:
    text = f"module.exports = {{apps: [{{name: 'a', cwd: '/x', script: 'a.py', {options}}}]}};\n"
    found = report(tmp_path, {"pm2.config.js": text})
    assert rules(found) == ({"pm2-breaker"} if is_found else set())


def test_other_config_files_are_none_of_pm2s(tmp_path: Path) -> None:
    found = report(tmp_path, {"vite.config.js": "export default { server: { port: 3000 } };\n"})
    assert not found.has_evidence


def test_a_file_that_must_be_run_is_not_judged_and_that_is_said(tmp_path: Path) -> None:
    text = "const n = require('os').cpus().length;\nmodule.exports = {apps: [{name: 'a', instances: n}]};\n"
    found = report(tmp_path, {"ecosystem.config.js": text})
    assert found.findings == ()
    assert not found.has_evidence
    assert "it is not run here" in found.not_understood[0].why


def test_a000_13_the_generation_stack_s_files() -> None:
    folder = fixture("generation/pm2")
    found = judge(read_tree([folder]), folder)
    assert places(found, "pm2-breaker") == [
        "generation.competitive.config.js:3", "instantmesh.config.js:3", "miner.competitive.config.js:3"
    ]  # fmt: skip
    assert {f.subject: f.evidence["has_no_option"] for f in found.findings if f.rule == "pm2-breaker"} == {
        "generation-competitive": True, "miner-competitive": True, "instantmesh-service": False
    }  # fmt: skip
    twice = only(found, "pm2-twice")
    assert (twice.file, twice.line, twice.subject) == (
        "ecosystem.trellis.config.js",
        3,
        "trellis-microservice",
    )
    assert twice.evidence["differs"] == ["env", "min_uptime_s", "restart_delay_s", "backoff_s"]
    assert rules(found) == {"pm2-breaker", "pm2-twice"}


def test_a000_13_the_generation_stack_beside_what_ran() -> None:
    """The audit's list: 32.3 GB beside 6G, an argument less, and the miner that no file declares."""
    folder = fixture("generation/pm2")
    ran = [
        process("gen-worker-1", "serve_competitive.py --port 10010 --enable-validation", 32.3,
                max_memory_restart=6 * 2**30),
        process("trellis-microservice", "generation/serve_trellis.py --host 0.0.0.0 --port 10008", 6.2),
        process("miner-sn17-mainnet", restart_time=16_660),
    ]  # fmt: skip
    listing = read_listing(Path("jlist.json"), json.dumps(ran))
    found = judge(read_tree([folder], running=listing), folder)
    assert of(found, "memory-over-limit") == ["gen-worker-1"]
    assert of(found, "arguments-differ") == ["gen-worker-1"]
    assert of(found, "running-undeclared") == ["miner-sn17-mainnet"]
    assert of(found, "restarts-seen") == ["miner-sn17-mainnet"]
    assert of(found, "pm2-twice") == ["trellis-microservice"]


COMPOSE = """
    services:
      api: {image: "x:1", restart: always, mem_limit: 1g, command: ["serve", "--port", "80"]}
      db: {image: "postgres:16", restart: unless-stopped, mem_limit: 1g, container_name: the-db}
"""


def container(name: str, **change: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "Name": f"/{name}", "RestartCount": 0, "State": {"Running": True, "Status": "running"},
        "Config": {"Cmd": ["serve", "--port", "80"], "Labels": {}},
        "HostConfig": {"Memory": 2**30, "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}},
    }  # fmt: skip
    return {**entry, **change}


def db(**change: Any) -> dict[str, Any]:
    return container("the-db", HostConfig={"RestartPolicy": {"Name": "unless-stopped"}}, **change)


def compared(folder: Path, *running: dict[str, Any]) -> LintReport:
    (folder / "shop").mkdir()
    return report(folder / "shop", {"compose.yaml": COMPOSE}, running=json.dumps(list(running)))


def test_containers_as_declared_give_no_finding(tmp_path: Path) -> None:
    assert compared(tmp_path, container("shop-api-1"), db()).findings == ()


def test_a000_13_containers_beside_their_file(tmp_path: Path) -> None:
    api = container(
        "shop-api-1", Config={"Cmd": ["serve"], "Labels": {}}, HostConfig={"RestartPolicy": {"Name": "no"}}
    )
    other = container(
        "other", Config={"Labels": {"com.docker.compose.project.config_files": "/y/compose.yaml"}}
    )
    found = compared(
        tmp_path, api, db(State={"Running": False, "Status": "exited"}), other, container("stray")
    )
    assert {(f.rule, f.subject, f.severity.value) for f in found.findings} == {
        ("arguments-differ", "shop-api-1", "error"), ("policy-differs", "api", "warning"),
        ("not-running", "db", "warning"), ("running-undeclared", "stray", "warning"),
        ("running-undeclared", "other", "info"),
    }  # fmt: skip


def test_docker_ps_and_docker_stats_are_read_line_by_line(tmp_path: Path) -> None:
    text = (
        '{"Names":"shop-api-1","Image":"x:1","State":"running","Labels":"com.docker.compose.service=api"}\n'
        '{"Name":"shop-api-1","MemUsage":"1.5GiB / 2GiB"}\n'
        '{"Names":"the-db","Image":"postgres:16","State":"exited"}\n'
    )
    (tmp_path / "shop").mkdir()
    found = report(tmp_path / "shop", {"compose.yaml": COMPOSE}, running=text)
    assert {(f.rule, f.subject) for f in found.findings} == {
        ("memory-over-limit", "shop-api-1"), ("not-running", "db")
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "┌────┬────┐\n│ id │ name │", "{}", "[1, 2]", '[{"name": "x"}]', "[" * 3000, "null"]
)
def test_what_is_no_listing_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_listing(Path("list"), text)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("6G", 6 * 10**9),
        ("1.5GiB", int(1.5 * 2**30)),
        ("12MB", 12 * 10**6),
        ("x", None),
        ("1.2.3G", None),
        ("7", 7),
    ],
)
def test_amounts(text: str, wanted: int | None) -> None:
    assert memory_bytes(text) == wanted


def test_what_pm2_cannot_use_and_what_became_undefined(tmp_path: Path) -> None:
    text = """
        module.exports = {apps: [
          {name: 'a', cwd: '/x', min_uptime: '60s'},
          {name: 'b', cwd: '/x', script: 'b.py', min_uptime: '60s',
           env: {LIBS: '/opt/lib:' + process.env.LD_LIBRARY_PATH}},
        ]};
    """
    found = report(tmp_path, {"ecosystem.config.js": text})
    assert places(found, "pm2-invalid") == ["ecosystem.config.js:2"]
    assert places(found, "pm2-undefined") == ["ecosystem.config.js:4"]
