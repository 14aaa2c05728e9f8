"""Ecosystem files and the list of a running pm2, as services: what is carried, what is not, what is inert."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures_dir import fixture
from standfast.kernel.errors import ConfigError
from standfast.kernel.verdict import Verdict
from standfast.services.stacks.breaker import breaker_of
from standfast.services.stacks.model import DeclaredService, ProcessRules, Stack
from standfast.services.stacks.pm2 import read_pm2
from standfast.services.stacks.script_node import run_script

ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "HOME": "/users/me", "TOKEN": "secret"}
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is absent")


def read(folder: Path, text: str | bytes, name: str = "ecosystem.config.js", **how: object) -> Stack:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_pm2(path, **({"environment": ENVIRONMENT} | how))  # type: ignore[arg-type]


def app(folder: Path, body: str, mode: str = "") -> tuple[DeclaredService, list[tuple[str, Verdict, int]]]:
    text = f"module.exports = {{ apps: [{{\n  name: 'a', cwd: '/srv', script: 'run.sh',\n{body}\n}}] }};"
    found = read(folder, text, mode=mode)
    said = [(f.reason, f.verdict, int(str(f.evidence["line"]))) for f in found.findings]
    return found.services[0], [one for one in said if not one[0].startswith("Breaker")]


@pytest.mark.parametrize(
    ("body", "reason", "verdict"),
    [
        ("exec_mode: 'cluster', instances: 4", "KeyNotSupported", Verdict.FAIL),
        ("exec_mode: 'cluster'", "ClusterOfOne", Verdict.UNKNOWN),
        ("instances: 'max'", "KeyNotSupported", Verdict.FAIL),
        ("instances: -1", "KeyNotSupported", Verdict.FAIL),
        ("instances: 1e9", "BadValue", Verdict.FAIL),
        ("port: 70000", "BadValue", Verdict.FAIL),
        ("cron_restart: '0 3 * * *'", "KeyNotCarried", Verdict.UNKNOWN),
        ("uid: 'www'", "KeyNotCarried", Verdict.UNKNOWN),
        ("shutdown_with_message: true", "KeyNotCarried", Verdict.UNKNOWN),
        ("filter_env: true", "KeyNotCarried", Verdict.UNKNOWN),
        ("wait_ready: true", "ReadyNotCarried", Verdict.UNKNOWN),
        ("watch: true", "WatchNotCarried", Verdict.UNKNOWN),
        ("autostart: false", "KeyNotCarried", Verdict.UNKNOWN),
        ("treekill: false", "KeyNotCarried", Verdict.UNKNOWN),
        ("max_restart: 5", "KeyUnknown", Verdict.UNKNOWN),
        ("max_memory_restart: '8GB'", "BadValue", Verdict.FAIL),
        ("min_uptime: 'long'", "BadType", Verdict.FAIL),
        ("restart_delay: -5", "BadValue", Verdict.FAIL),
        ("env: 'A=1'", "BadType", Verdict.FAIL),
        ("args: {a: 1}", "BadType", Verdict.FAIL),
        ("autorestart: 'perhaps'", "BadValue", Verdict.FAIL),
        ("env: {A: process.env.TOKEN}", "EnvironmentTaken", Verdict.UNKNOWN),
        ("env: {A: 'x' + process.env.NOPE}", "VariableUnset", Verdict.UNKNOWN),
        ("env_production: {A: 1}", "ModeNotChosen", Verdict.SKIPPED),
    ],
)
def test_what_is_not_carried_over_is_said_with_its_line(
    tmp_path: Path, body: str, reason: str, verdict: Verdict
) -> None:
    assert (reason, verdict, 3) in app(tmp_path, f"  {body},")[1]


@pytest.mark.parametrize(
    ("text", "name", "code"),
    [
        ("module.exports = {apps: ", "a.config.js", "NotScript"),
        ("module.exports = {apps: f()}", "a.config.js", "ScriptUnreadable"),
        ("{", "a.json", "NotScript"),
        ("apps: [", "a.yml", "NotYaml"),
        ("apps:\n- name: a\n  name: b\n", "a.yml", "KeyTwice"),
        (b"\x7fELF\0", "a.config.js", "StackUnreadable"),
        (b"\xff\xfe", "a.json", "StackUnreadable"),
        ("5", "a.json", "BadType"),
        ("a: 1\n---\nb: 2", "a.yml", "NothingToRun"),
        ("[]", "a.json", "EmptyStack"),
        ("{}", "a.json", "EmptyStack"),
        ("", "a.yml", "BadType"),
        ('{"apps": []}', "a.json", "EmptyStack"),
        ('{"apps": [5]}', "a.json", "BadType"),
        ('{"apps": [{}]}', "a.json", "NothingToRun"),
        ('{"apps": [{"name": "a", "script": "x"}, {"name": "a", "script": "y"}]}', "a.json", "NameTwice"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, text: str | bytes, name: str, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, name).usable()
    assert caught.value.code == code
    assert name in caught.value.what
    assert caught.value.fix


def test_a_mode_that_no_app_has_is_refused(tmp_path: Path) -> None:
    text = '{"apps": [{"name": "a", "script": "x", "env_prod": {}}]}'
    with pytest.raises(ConfigError, match=r"no app has env_production") as caught:
        read(tmp_path, text, "a.json", mode="production").usable()
    assert "prod" in caught.value.fix


def test_every_setting_is_carried(tmp_path: Path) -> None:
    body = """
      args: '--port 80 --name "a b" --x="c d"', interpreter: '/opt/py/bin/python3', interpreter_args: '-u -O',
      env: { A: 1, B: true, C: {x: [1]}, D: 'd', TOKEN: process.env.TOKEN }, env_prod: { D: 'prod', E: 'e' },
      instances: 2, autorestart: false, maxRestarts: 7, min_uptime: '2m', restart_delay: 1500,
      exp_backoff_restart_delay: 100, max_memory_restart: '10G', kill_timeout: 3000, listen_timeout: 8000,
      stop_exit_codes: [0, 3], out_file: '/o', err_file: '/e', port: 8080, log_date_format: 'x',
    """
    found, said = app(tmp_path, body, mode="prod")
    assert found.command == (
        "/opt/py/bin/python3", "-u", "-O", "/srv/run.sh", "--port", "80", "--name", "a b", '--x="c d"',
    )  # fmt: skip
    assert found.env == {
        "A": "1", "B": "true", "C": '{"x":[1]}', "D": "prod", "E": "e", "PORT": "8080",
        "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    assert (found.working_dir, found.replicas, found.mem_limit_bytes) == ("/srv", 2, 10 * 1024**3)
    assert (found.stop_signal, found.stop_grace_s) == ("SIGINT", 3.0)
    assert found.process == ProcessRules(
        autorestart=False, max_restarts=7, min_uptime_s=120, restart_delay_s=1.5, backoff_s=0.1,
        max_memory_bytes=10 * 1024**3, kill_timeout_s=3.0, listen_timeout_s=8.0, stop_exit_codes=(0, 3),
        out_file="/o", error_file="/e",
    )  # fmt: skip
    assert said == []
    assert (found.driver, found.line, [u.key for u in found.unsupported]) == (
        "process",
        2,
        ["log_date_format"],
    )


@pytest.mark.parametrize(
    ("body", "command"),
    [
        ("script: 'a.py'", ["python", "/srv/a.py"]),
        ("script: './b.js', node_args: ['--x']", ["node", "--x", "/srv/b.js"]),
        ("script: '/opt/prog', interpreter: 'none', args: ['a b', 'c']", ["/opt/prog", "a b", "c"]),
        ("script: 'serve', interpreter: 'none'", ["serve"]),
        ("script: 'echo a && b'", ["bash", "-c", "echo a && b"]),
        ("exec: 'x/y', exec_interpreter: 'none'", ["/srv/x/y"]),
        ("cmd: 'x.sh'", ["bash", "/srv/x.sh"]),
    ],
)
def test_commands_are_put_together_as_pm2_does(tmp_path: Path, body: str, command: list[str]) -> None:
    text = f"module.exports = {{apps: [{{name: 'a', cwd: '/srv', {body}}}]}}"
    assert list(read(tmp_path, text).services[0].command or ()) == command


def test_every_form_of_file_is_read(tmp_path: Path) -> None:
    forms = {
        "a.config.js": "module.exports = {apps: [{name: 'x', script: 's', cwd: '/'}]}",
        "a.config.cjs": "exports.apps = {name: 'x', script: 's', cwd: '/'}",
        "a.config.mjs": "export default {apps: [{name: 'x', script: 's', cwd: '/'}]}",
        "a.json": '{"apps": [{"name": "x", "script": "s", "cwd": "/"}]}',
        "list.json": '[{"name": "x", "script": "s", "cwd": "/"}]',
        "one.json": '{"name": "x", "script": "s", "cwd": "/"}',
        "package.json": '{"name": "p", "pm2": {"apps": [{"name": "x", "script": "s", "cwd": "/"}]}}',
        "a.yml": "apps:\n  - name: x\n    script: s\n    cwd: /\n",
    }
    for name, text in forms.items():
        found = read(tmp_path, text, name).usable()
        assert [(s.name, s.command) for s in found.services] == [("x", ("s",))], name


def test_the_name_and_the_folder_have_pm2s_defaults(tmp_path: Path) -> None:
    found = read(tmp_path, "module.exports = {apps: [{script: 'dir/server.js'}]}")
    assert (found.services[0].name, found.services[0].working_dir) == ("server", str(tmp_path))
    assert [f.reason for f in found.findings] == ["CwdNotDeclared", "BreakerInert"]


def test_the_list_of_a_running_pm2_is_read(tmp_path: Path) -> None:
    def running(number: int, name: str) -> dict[str, object]:
        own = {
            "pm_id": number,
            "name": name,
            "unique_id": "u",
            "PM2_HOME": "/p",
            "A": "1",
            "HOME": "/users/me",
        }
        settings = {
            "name": name, "pm_exec_path": "/srv/a.py", "pm_cwd": "/srv", "exec_interpreter": "python3",
            "args": ["--x"], "node_args": [], "env": own, "exec_mode": "fork_mode", "status": "online",
            "autorestart": True, "restart_time": 16660, "max_memory_restart": 100, "axm_options": {"x": [1]},
        }  # fmt: skip
        return {"pid": 5, "name": name, "pm_id": number, "monit": {"memory": 1}, "pm2_env": settings}

    text = json.dumps([running(0, "a"), running(1, "b"), running(2, "b")])
    found = read(tmp_path, text, "jlist.json").usable()
    assert [(s.name, s.replicas) for s in found.services] == [("a", 1), ("b", 2)]
    first = found.services[0]
    assert first.command == ("python3", "/srv/a.py", "--x")
    assert first.env == {"A": "1", "PYTHONUNBUFFERED": "1"}
    assert first.mem_limit_bytes == 100


@pytest.mark.parametrize(
    ("rules", "counted_s", "is_inert"),
    [
        (ProcessRules(), 1.0, True),
        (ProcessRules(max_restarts=10, min_uptime_s=30.0), 30.0, False),
        (ProcessRules(max_restarts=10, min_uptime_s=10.0, restart_delay_s=5.0), 5.5, False),
        (ProcessRules(max_restarts=10, min_uptime_s=5.0, restart_delay_s=10.0), 0.0, True),
        (ProcessRules(max_restarts=100, min_uptime_s=5.0, backoff_s=1.0), 0.0, True),
        (ProcessRules(max_restarts=10), 1.0, True),
        (ProcessRules(min_uptime_s=60.0), 60.0, False),
    ],
)
def test_a000_2_what_pm2_counts_is_computed(rules: ProcessRules, counted_s: float, is_inert: bool) -> None:
    breaker = breaker_of(rules)
    assert breaker is not None
    assert breaker.counted_life_s == pytest.approx(counted_s)
    assert breaker.is_inert is is_inert


def test_an_app_that_is_not_restarted_needs_no_breaker() -> None:
    assert breaker_of(ProcessRules(autorestart=False)) is None
    assert breaker_of(ProcessRules(max_restarts=0)) is None


COMPUTED = """
const apps = ['one', 'two'].map((name) => ({
  name,
  script: 'run.sh', cwd: '/srv', env: { NAME: name.toUpperCase(), TOKEN: process.env.TOKEN },
}));
console.log('noise');
module.exports = { apps };
"""


def test_a_file_that_computes_is_not_run_unless_that_is_allowed(tmp_path: Path) -> None:
    text = f"require('fs').writeFileSync({str(tmp_path / 'ran')!r}, '');{COMPUTED}"
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert caught.value.code == "ScriptUnreadable"
    assert "it is not run here" in caught.value.what
    assert "standfast import pm2" in caught.value.fix
    with pytest.raises(ConfigError, match=r"node is not on the PATH"):
        read(tmp_path, text, environment={"PATH": "/nonexistent"}, may_run=True)
    assert not (tmp_path / "ran").exists()


@needs_node
def test_a_file_that_computes_is_run_with_node(tmp_path: Path) -> None:
    found = read(tmp_path, COMPUTED, may_run=True).usable()
    assert [(s.name, s.env["NAME"]) for s in found.services] == [("one", "ONE"), ("two", "TWO")]
    assert any("TOKEN" in f.message for f in found.findings if f.reason == "EnvironmentAsked")


@needs_node
@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("setTimeout(() => {}, 1e6); throw new Error('broken')", "ScriptFailed", "Error: broken"),
        ("f(", "ScriptFailed", "SyntaxError"),
        ("process.exit(3)", "ScriptFailed", "ended with 3"),
        ("for (;;) {}", "ScriptTimeout", "within 0.5 s"),
        ("module.exports = {a: 1n}", "ScriptFailed", "BigInt"),
        ("const a = {}; a.a = a; module.exports = a", "ScriptFailed", "circular"),
        ("process.stdout.write('x'.repeat(1e8)); module.exports = {}", "ScriptFailed", ""),
        ("module.exports = require('./missing')", "ScriptFailed", "missing"),
        ("module.exports = undefined", "ScriptFailed", "exported nothing"),
    ],
)
def test_a_file_that_fails_under_node_is_refused(tmp_path: Path, text: str, code: str, words: str) -> None:
    path = tmp_path / "a.config.js"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        run_script(path, ENVIRONMENT, run_s=0.5 if code == "ScriptTimeout" else 20.0)
    assert caught.value.code == code
    assert words in str(caught.value)


@needs_node
def test_a_file_gets_the_environment_it_is_given_and_no_network(tmp_path: Path) -> None:
    path = tmp_path / "a.config.js"
    path.write_text(
        "module.exports = {env: {...process.env}, nets: Object.keys(require('os').networkInterfaces()),"
        " cwd: process.cwd()};"
    )
    found = run_script(path, {"PATH": ENVIRONMENT["PATH"], "ONLY": "1"})
    assert set(found.value["env"]) <= {"PATH", "ONLY", "__CF_USER_TEXT_ENCODING", "PWD", "SHLVL", "_"}
    assert found.value["cwd"] == str(tmp_path)
    assert found.asked == ("*", *found.asked[1:])
    if found.is_offline:
        assert found.value["nets"] == []


_ATOMS = (
    st.none() | st.booleans() | st.integers(-3, 5) | st.sampled_from(["", "a", "x.py", "10s", "1G", "max"])
)
_VALUES = st.recursive(
    _ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
_KEYS = st.sampled_from(
    ["name", "script", "args", "cwd", "env", "env_x", "instances", "exec_mode", "autorestart", "max_restarts",
     "min_uptime", "restart_delay", "max_memory_restart", "kill_timeout", "watch", "stop_exit_codes", "port",
     "interpreter", "node_args", "pm2_env", "wait_ready", "cron_restart", "other"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(_KEYS, _VALUES, max_size=6) | _VALUES, max_size=3))
def test_wrong_types_anywhere_are_errors_and_never_a_crash(tmp_path: Path, apps: list[object]) -> None:
    with contextlib.suppress(ConfigError):
        found = read(tmp_path, json.dumps({"apps": apps}), "a.json", mode="x")
        json.dumps(found.as_dict())
        assert all(f.message and f.remedy for f in found.findings)


@pytest.mark.parametrize(
    ("name", "apps"),
    [
        ("ecosystem.config.js", [("trellis-microservice", 4), ("gen-worker-1", 31), ("gen-worker-2", 54),
                                 ("gen-worker-3", 70)]),
        ("ecosystem.trellis.config.js", [("trellis-microservice", 3)]),
        ("generation.competitive.config.js", [("generation-competitive", 3)]),
        ("instantmesh.config.js", [("instantmesh-service", 3)]),
        ("miner.competitive.config.js", [("miner-competitive", 3)]),
    ],
)  # fmt: skip
def test_the_real_files_are_read_without_running_them(name: str, apps: list[tuple[str, int]]) -> None:
    file = fixture(f"generation/pm2/{name}")
    found = read_pm2(file, environment=ENVIRONMENT).usable()
    assert [(s.name, s.line) for s in found.services] == apps
    if shutil.which("node"):
        ran = run_script(file, ENVIRONMENT)
        assert [one["name"] for one in ran.value["apps"]] == [one[0] for one in apps]


def test_a000_2_the_miner_that_was_restarted_16660_times_has_an_inert_breaker() -> None:
    found = read_pm2(fixture("generation/pm2/miner.competitive.config.js"), environment=ENVIRONMENT)
    inert = [f for f in found.findings if f.reason == "BreakerInert"]
    assert [(f.subject, f.evidence["line"]) for f in inert] == [("miner-competitive", 3)]
    assert "max_restarts and min_uptime are not set" in inert[0].message
    worker = read_pm2(fixture("generation/pm2/ecosystem.config.js"), environment=ENVIRONMENT).get(
        "gen-worker-2"
    )
    assert worker is not None
    assert worker.mem_limit_bytes == 6 * 1024**3
