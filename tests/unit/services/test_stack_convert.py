"""What pm2 declared, as a ``standfast.toml`` that loads; what is not carried over is said."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fixtures_dir import fixture
from standfast.app.config import Config, load_config
from standfast.services.stacks import toml_text
from standfast.services.stacks.compose import read_compose
from standfast.services.stacks.convert import Converted, processes_toml, stack_toml
from standfast.services.stacks.pm2 import read_pm2

ENVIRONMENT = {"PATH": "/usr/bin", "HOME": "/users/me", "API_TOKEN": "s3cret-value", "REGION": "eu"}


def convert(folder: Path, text: str, mode: str = "") -> Converted:
    file = folder / "ecosystem.config.js"
    file.write_text(text)
    stack = read_pm2(file, environment=ENVIRONMENT, mode=mode)
    return processes_toml(stack, folder=folder, made_by="standfast import pm2 ecosystem.config.js")


def load(folder: Path, converted: Converted) -> Config:
    (folder / "standfast.toml").write_text(converted.text)
    return load_config(folder)


def apps(*bodies: str) -> str:
    return f"module.exports = {{ apps: [{', '.join(f'{{ {body} }}' for body in bodies)}] }};"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("name: 'a', script: 's', exec_mode: 'cluster', instances: 4", "cluster"),
        ("name: 'a', script: 's', instances: 'max'", "cores"),
        ("name: 'a', script: 's', args: ['']", "an argument is empty"),
        ("name: 'a', script: 's', args: ['{port}']", "word in braces"),
        ("name: 'a'", "nothing to run"),
        ("name: 'a', script: 's', max_memory_restart: 'much'", "'much' is no size"),
    ],
)
def test_an_app_that_would_not_run_as_it_did_is_only_a_comment(tmp_path: Path, body: str, words: str) -> None:
    converted = convert(tmp_path, apps(body, "name: 'good', script: 's', cwd: '/'"))
    assert converted.refused == ("a",)
    assert [service.name for service in load(tmp_path, converted).services] == ["good"]
    assert "# not carried over: " in converted.text
    assert words in converted.text


def test_of_two_apps_with_one_name_neither_is_chosen_in_silence(tmp_path: Path) -> None:
    converted = convert(tmp_path, apps("name: 'a', script: 'x'", "name: 'a', script: 'y'"))
    assert converted.refused == ("a",)
    assert load(tmp_path, converted).services == ()


def test_every_setting_arrives(tmp_path: Path) -> None:
    body = """name: 'worker', script: 'w.py', interpreter: '/opt/python', args: ['--x', 'a "b"\\n\\\\'],
      cwd: './sub', env: { A: 'é\\t"', 'odd key': '', N: 5 }, port: 8080, restart_delay: 5000,
      max_memory_restart: '2G', kill_timeout: 2500, stop_exit_codes: [0, 7], max_restarts: 3,
      out_file: '/o', cron_restart: '0 3 * * *'"""
    converted = convert(tmp_path, apps(body))
    service = load(tmp_path, converted).services[0]
    assert service.command == ("/opt/python", str(tmp_path / "sub/w.py"), "--x", 'a "b"\n\\')
    assert service.env == {"A": 'é\t"', "odd key": "", "N": "5", "PORT": "8080", "PYTHONUNBUFFERED": "1"}
    assert (service.cwd, service.port, service.stop_signal, service.stop_timeout_s) == (
        "sub",
        8080,
        "SIGINT",
        2.5,
    )
    assert service.restart.policy == "on-failure"
    assert (service.restart.backoff_s, service.restart.cap_s) == (5.0, 30.0)
    assert service.limits.memory_bytes == 2 * 1024**3
    for remark in (
        "ecosystem.config.js:1",
        "max_restarts 3",
        "stop_exit_codes [7]",
        "cron_restart 0 3",
        "out_file",
    ):
        assert remark in converted.text
    assert [f.reason for f in converted.lost] == ["KeyNotCarried"]


@pytest.mark.parametrize(
    ("body", "restart"),
    [
        ("autorestart: false", {"policy": "never", "backoff_s": 0.5, "cap_s": 30.0}),
        ("", {"policy": "always", "backoff_s": 0.5, "cap_s": 30.0}),
        ("exp_backoff_restart_delay: 100", {"policy": "always", "backoff_s": 0.1, "cap_s": 15.0}),
        ("restart_delay: 1", {"policy": "always", "backoff_s": 0.05, "cap_s": 30.0}),
        ("restart_delay: 1e12", {"policy": "always", "backoff_s": 86400.0, "cap_s": 86400.0}),
    ],
)
def test_restarts_are_carried(tmp_path: Path, body: str, restart: dict[str, object]) -> None:
    text = apps(f"name: 'a', script: 's', cwd: '/', {body}")
    rules = load(tmp_path, convert(tmp_path, text)).services[0].restart
    assert {key: getattr(rules, key) for key in restart} == restart


def test_instances_become_services_of_one_group(tmp_path: Path) -> None:
    converted = convert(tmp_path, apps("name: 'w', script: 's', cwd: '/', instances: 2, port: 80"))
    found = load(tmp_path, converted).services
    assert [(s.name, s.group, s.env["NODE_APP_INSTANCE"], s.port) for s in found] == [
        ("w-0", "w", "0", 0), ("w-1", "w", "1", 0),
    ]  # fmt: skip


def test_names_are_made_to_fit_and_stay_apart(tmp_path: Path) -> None:
    bodies = [
        f"name: {name!r}, script: 's{i}', cwd: '/'"
        for i, name in enumerate(("my app", "my-app", "!", "ü" * 90))
    ]
    converted = convert(tmp_path, apps(*bodies))
    assert [s.name for s in load(tmp_path, converted).services] == ["my-app", "my-app-2", "app", "app-2"]
    assert [f.reason for f in converted.lost].count("Renamed") == 3


def test_names_of_instances_stay_apart_from_other_names(tmp_path: Path) -> None:
    converted = convert(
        tmp_path,
        apps("name: 'a-1', script: 's', cwd: '/'", "name: 'a', script: 's', cwd: '/', instances: 2"),
    )
    assert [s.name for s in load(tmp_path, converted).services] == ["a-1", "a-2-0", "a-2-1"]


def test_a_port_that_two_apps_have_is_said_and_kept_by_the_first(tmp_path: Path) -> None:
    bodies = [f"name: '{name}', script: 's', cwd: '/', port: 80" for name in "ab"]
    converted = convert(tmp_path, apps(*bodies))
    assert [(s.port, s.env["PORT"]) for s in load(tmp_path, converted).services] == [(80, "80"), (0, "80")]
    assert [f.reason for f in converted.lost] == ["PortTwice"]


def test_secrets_of_the_environment_are_not_written(tmp_path: Path) -> None:
    body = """name: 'a', script: 's', cwd: '/', env: {
      API_TOKEN: process.env.API_TOKEN, KEY: process.env.API_TOKEN, URL: `https://${process.env.API_TOKEN}@x`,
      PLACE: process.env.REGION + '-1', OWN: 'declared' }"""
    converted = convert(tmp_path, apps(body))
    assert "s3cret" not in converted.text
    assert load(tmp_path, converted).services[0].env == {"PLACE": "eu-1", "OWN": "declared"}
    assert "# KEY: not written, it came from API_TOKEN of the environment" in converted.text
    assert "# with REGION of the environment, as it was:" in converted.text


def test_a_mode_chooses_its_variables(tmp_path: Path) -> None:
    text = apps("name: 'a', script: 's', cwd: '/', env: {A: 1, B: 1}, env_production: {B: 2}")
    assert load(tmp_path, convert(tmp_path, text, "production")).services[0].env == {"A": "1", "B": "2"}
    assert load(tmp_path, convert(tmp_path, text)).services[0].env == {"A": "1", "B": "1"}


@pytest.mark.parametrize(
    "name",
    ["ecosystem.config.js", "ecosystem.trellis.config.js", "generation.competitive.config.js",
     "instantmesh.config.js", "miner.competitive.config.js"],
)  # fmt: skip
def test_the_real_files_round_trip(tmp_path: Path, name: str) -> None:
    stack = read_pm2(fixture(f"generation/pm2/{name}"), environment=ENVIRONMENT)
    converted = processes_toml(stack, folder=tmp_path, made_by="x")
    assert converted.refused == ()
    found = {service.name: service for service in load(tmp_path, converted).services}
    for declared in stack.services:
        service = found[declared.name]
        assert service.command == declared.command
        assert service.env == declared.env
        assert service.limits.memory_bytes == (declared.mem_limit_bytes or 0)
        assert (tmp_path / service.cwd).resolve() == Path(declared.working_dir).resolve()


def test_a_compose_stack_is_named_and_not_translated(tmp_path: Path) -> None:
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra/compose.yaml").write_text(
        "services:\n  db: {image: postgres}\n  web: {build: ./web, depends_on: [db]}\n"
        "  dbg: {image: x, profiles: [debug]}\n"
    )
    stack = read_compose([tmp_path / "infra/compose.yaml"], environment={})
    converted = stack_toml(stack, folder=tmp_path, made_by="standfast import compose infra/compose.yaml")
    config = load(tmp_path, converted)
    assert (config.stack.files, config.stack.profiles, config.services) == (("infra/compose.yaml",), (), ())
    assert "# 1  db  postgres  infra/compose.yaml:2" in converted.text
    assert "# 2  web  built from infra/web  infra/compose.yaml:3" in converted.text
    assert "# off (profiles): dbg" in converted.text


def test_all_profiles_are_written_by_name() -> None:
    file = fixture("trading/compose/docker-compose.yml")
    for profiles, reasons in (((), ["NothingActive"]), (("*",), [])):
        stack = read_compose([file], environment={}, profiles=profiles)
        converted = stack_toml(stack, folder=file.parent, made_by="x")
        raw = tomllib.loads(converted.text)["stack"]
        assert raw["files"] == ["docker-compose.yml"]
        assert len(raw.get("profiles", [])) == (10 if profiles else 0)
        assert [f.reason for f in converted.lost if f.reason != "KeyWithoutEffect"] == reasons


_TEXT = st.text(max_size=30)


@given(
    st.dictionaries(
        _TEXT, st.booleans() | st.integers(-9, 9) | _TEXT | st.lists(_TEXT, max_size=3), max_size=4
    )
)
def test_what_is_written_is_read_back(given_table: dict[str, object]) -> None:
    text = "".join(f"{toml_text.key(key)} = {toml_text.value(value)}\n" for key, value in given_table.items())
    assert tomllib.loads(text) == given_table
    assert tomllib.loads(f"t = {toml_text.value(given_table)}\n") == {"t": given_table}


@given(_TEXT)
def test_a_comment_stays_one_line_of_comment(text: str) -> None:
    assert tomllib.loads(f"{toml_text.comment(text)}\na = 1\n") == {"a": 1}


_BODY = st.fixed_dictionaries(
    {"name": _TEXT, "script": st.sampled_from(["s", "a.py", "x y", "/abs/p.js"])},
    optional={
        "args": _TEXT | st.lists(_TEXT, max_size=3),
        "env": st.dictionaries(_TEXT, _TEXT | st.integers(), max_size=3),
        "cwd": st.sampled_from(["", "/", "sub", "../up"]),
        "instances": st.integers(1, 3),
        "restart_delay": st.integers(0, 10**9),
        "max_memory_restart": st.sampled_from(["1G", 5, "9999999999G"]),
        "kill_timeout": st.integers(0, 10**9),
        "autorestart": st.booleans(),
        "port": st.integers(0, 99_999),
        "interpreter": st.sampled_from(["none", "python3", "/x/node"]),
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_BODY, min_size=1, max_size=3))
def test_whatever_is_written_loads(tmp_path: Path, bodies: list[dict[str, object]]) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"apps": bodies}))
    stack = read_pm2(file, environment=ENVIRONMENT)
    converted = processes_toml(stack, folder=tmp_path, made_by="x")
    found = load(tmp_path, converted)
    assert len(found.services) + len(converted.refused) >= 1
