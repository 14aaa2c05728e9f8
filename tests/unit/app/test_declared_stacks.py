"""What a supervisor runs of compose and ecosystem files: refusals first, then each rule with literals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures_dir import fixture
from standfast.app.config import load_config, parse_config
from standfast.app.declared import programs_of, stacks_of
from standfast.app.declared_stacks import Declared, declared_in, specs_of_files
from standfast.app.stack_up import specs_of
from standfast.kernel.canonical import canonical_json
from standfast.kernel.errors import ConfigError
from standfast.kernel.verdict import Verdict
from standfast.services.decide.digest import digest_of
from standfast.services.model import (
    Condition,
    Dependency,
    Limits,
    Readiness,
    RestartPolicy,
    RestartWhen,
    ServiceSpec,
)
from standfast.services.wire import spec_from_dict, spec_to_dict


def declared(folder: Path, text: str, *profiles: str, name: str = "compose.yaml") -> Declared:
    (folder / name).write_text(text)
    return declared_in([folder / name], profiles=profiles, environment={})


def specs(folder: Path, text: str, name: str = "compose.yaml") -> dict[str, ServiceSpec]:
    return {spec.name: spec for spec in declared(folder, text, name=name).specs}


def compose(*lines: str) -> str:
    return "services:\n  one:\n    image: x:1\n" + "".join(f"    {line}\n" for line in lines)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("blkio_config: {weight: 10}", "blkio_config of one is not acted on"),
        ("volumes: [{type: cluster, source: c, target: /c}]", "type cluster"),
        ("volumes: [{type: bind, source: ., target: /c, bind: {recursive: disabled}}]", "recursive"),
        ("volumes: [{type: volume, target: /c, volume: {subpath: x}}]", "subpath"),
        ("credential_spec: {file: x}", "credential_spec"),
        ("deploy: {replicas: 2}\n    ports: ['80:80']", "cannot all have port 80"),
    ],
)
def test_what_nobody_acts_on_is_refused_with_its_file_and_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        declared(tmp_path, compose(line))
    assert f"{tmp_path / 'compose.yaml'}:" in caught.value.what
    assert caught.value.fix


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        declared(tmp_path, compose("cpu_count: 2", "cpu_percent: 3"))
    assert "cpu_count" in caught.value.what
    assert "cpu_percent" in caught.value.why


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no .*absent\.yml"):
        declared_in([tmp_path / "absent.yml"], environment={})


def test_r1_one_name_in_two_stacks_names_both_places(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "compose.yml").write_text(compose())
    config = parse_config(
        '[stack]\nfiles = ["a/compose.yml", "b/compose.yml"]\n', source=tmp_path / "standfast.toml"
    )
    with pytest.raises(ConfigError, match="one is declared twice") as caught:
        specs_of(config)
    assert f"{tmp_path}/a/compose.yml:2" in caught.value.what
    assert f"{tmp_path}/b/compose.yml:2" in caught.value.what


def test_a_library_that_is_missing_is_named_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(ConfigError, match="library") as caught:
        declared(tmp_path, compose())
    assert "standfast[containers]" in caught.value.fix


def test_who_has_no_containers_does_not_load_their_library() -> None:
    code = (
        "import sys, standfast.app.stack, standfast.app.declared, standfast.app.drivers, standfast.app.hold; "
        "sys.exit(bool({'docker', 'requests', 'urllib3'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("line", "when"),
    [
        ("", RestartWhen.NEVER),
        ("restart: 'no'", RestartWhen.NEVER),
        ("restart: on-failure", RestartWhen.ON_FAILURE),
        ("restart: always", RestartWhen.ALWAYS),
        ("restart: unless-stopped", RestartWhen.ALWAYS),
        ("deploy: {restart_policy: {condition: any}}", RestartWhen.ALWAYS),
    ],
)
def test_restart_policies(tmp_path: Path, line: str, when: RestartWhen) -> None:
    assert specs(tmp_path, compose(line) if line else compose())["one"].restart.when is when


def test_a_limit_of_restarts_is_a_budget_and_a_delay_the_first_wait(tmp_path: Path) -> None:
    assert specs(tmp_path, compose("restart: on-failure:4"))["one"].restart.budget == 4
    delayed = compose("deploy: {restart_policy: {condition: any, delay: 45s}}")
    assert specs(tmp_path, delayed)["one"].restart == RestartPolicy(
        RestartWhen.ALWAYS, backoff_s=45.0, cap_s=45.0
    )


def test_conditions_and_what_is_waited_for_to_complete_is_a_task(tmp_path: Path) -> None:
    text = """
services:
  db: {image: x, healthcheck: {test: [CMD, check], interval: 10s, retries: 4, start_period: 20s}}
  image-checks: {image: x}
  migrate: {image: x, depends_on: {db: {condition: service_healthy}}}
  web:
    image: x
    depends_on:
      migrate: {condition: service_completed_successfully}
      image-checks: {condition: service_healthy, restart: true}
      absent: {condition: service_started, required: false}
  plain: {image: x, depends_on: [web], healthcheck: {disable: true}}
"""
    found = specs(tmp_path, text)
    assert found["web"].depends_on == (
        Dependency("migrate", Condition.COMPLETED),
        Dependency("image-checks", Condition.READY, restart=True),
    )
    assert found["plain"].depends_on == (Dependency("web", Condition.STARTED),)
    assert [name for name, spec in found.items() if spec.is_task] == ["migrate"]
    assert found["db"].ready == Readiness(health=True, interval_s=10.0, start_s=60.0)
    assert found["image-checks"].ready.health, "its image must have a check"
    assert not found["web"].ready.is_probed
    assert not found["plain"].ready.is_probed


def test_limits_signals_ports_and_places(tmp_path: Path) -> None:
    text = compose(
        "mem_limit: 256m", "cpus: 1.5", "stop_signal: SIGQUIT", "stop_grace_period: 90s",
        "ports: ['53:53/udp', '127.0.0.1:8080:80']", "environment: {A: b}", "entrypoint: [run]",
        "command: it now",
    )  # fmt: skip
    one = specs(tmp_path, text)["one"]
    assert one.limits == Limits(256 * 2**20, 1.5)
    assert (one.stop_signal, one.stop_timeout_s, one.port) == (signal.SIGQUIT, 90.0, 8080)
    assert (one.driver, one.command, dict(one.env)) == ("container", ("run", "it", "now"), {"A": "b"})
    assert (one.file, one.line) == (str(tmp_path / "compose.yaml"), 2)
    assert specs(tmp_path, compose())["one"].stop_timeout_s == 10.0


def test_replicas_are_services_of_their_own_and_waited_for_all_together(tmp_path: Path) -> None:
    text = (
        "services:\n  a: {image: x, scale: 2}\n  b: {image: x, depends_on: [a]}\n  c: {image: x, scale: 0}\n"
    )
    found = specs(tmp_path, text)
    assert list(found) == ["a-1", "a-2", "b"]
    assert [spec.options["number"] for spec in found.values()] == [1, 2, 1]
    assert [one.name for one in found["b"].depends_on] == ["a-1", "a-2"]


def test_a_declaration_survives_its_way_to_the_supervisor(tmp_path: Path) -> None:
    text = compose(
        "build: {context: ., args: {A: b}, labels: {c: d}}", "ports: ['8000-8003:80']", "tmpfs: /t",
        "volumes: ['v:/v', '/anonymous', '.:/here:ro']", "networks: {n: {aliases: [other], priority: 3}}",
        "healthcheck: {test: check, interval: 1s}", "gpus: [{device_ids: ['0'], capabilities: [gpu]}]",
        "ulimits: {nofile: {soft: 1, hard: 2}}", "extra_hosts: ['h:10.0.0.1']",
    )  # fmt: skip
    text += "volumes: {v: }\nnetworks: {n: {driver: bridge, ipam: {config: [{subnet: 10.9.0.0/24}]}}}\n"
    one = specs(tmp_path, text)["one"]
    again = spec_from_dict(json.loads(canonical_json(spec_to_dict(one))))
    assert again == one
    assert digest_of(again) == digest_of(one), "or every container would be made anew"


def test_files_of_one_folder_are_one_stack_and_a_folder_stands_for_its_files(tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(compose())
    (tmp_path / "docker-compose.override.yml").write_text("services: {one: {command: over}}\n")
    over = specs_of_files([tmp_path / "docker-compose.yml", tmp_path / "docker-compose.override.yml"], (), {})
    assert [spec.command for spec in over] == [("over",)]
    assert specs_of_files([tmp_path], (), {}) == over
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "more.yml").write_text("services: {one: {command: more}}\n")
    together = (tmp_path / "docker-compose.yml", tmp_path / "b" / "more.yml")
    (joined,) = declared_in([together], environment={}).specs
    assert joined.command == ("more",)


def test_profiles_switch_services_on(tmp_path: Path) -> None:
    text = "services:\n  a: {image: x}\n  b: {image: x, profiles: [more]}\n"
    assert [spec.name for spec in declared(tmp_path, text).specs] == ["a"]
    assert [spec.name for spec in declared(tmp_path, text, "more").specs] == ["a", "b"]


def test_a_stack_in_which_every_profile_is_off_says_which_there_are(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: x, profiles: [more]}}\n")
    config = load_config(tmp_path / "compose.yaml")
    with pytest.raises(ConfigError, match="each has a profile") as caught:
        programs_of(config)
    assert caught.value.fix == "switch one on: --profile more"
    assert len(programs_of(config.changed(profiles=("more",)))) == 1


def test_what_has_no_effect_is_said_and_refuses_nothing(tmp_path: Path) -> None:
    text = compose("pull_policy: always", "build: {context: ., ssh: [default]}")
    remarks = declared(tmp_path, text).remarks
    verdicts = {one.reason: one.verdict for one in remarks}
    assert verdicts["NothingPulled"] is Verdict.SKIPPED
    assert verdicts["BuildNotSupported"] is Verdict.UNKNOWN


APPS = """module.exports = {{ apps: [{{
  name: 'app', script: '/bin/sleep', args: '600', cwd: '.', interpreter: 'none', {0}
}}] }};
"""


def app(folder: Path, *keys: str) -> ServiceSpec:
    found = specs(folder, APPS.format(", ".join(keys)), name="ecosystem.config.js")
    return next(iter(found.values()))


def test_an_app_is_kept_as_pm2_was_told_and_held_as_we_think_right(tmp_path: Path) -> None:
    plain = app(tmp_path)
    assert (plain.driver, plain.command, plain.cwd) == ("process", ("/bin/sleep", "600"), tmp_path)
    assert (plain.stop_signal, plain.stop_timeout_s) == (signal.SIGINT, 1.6)
    assert plain.restart == RestartPolicy(RestartWhen.ALWAYS)
    assert app(tmp_path, "autorestart: false").restart.when is RestartWhen.NEVER
    assert app(tmp_path, "stop_exit_codes: [0]").restart.when is RestartWhen.ON_FAILURE
    assert app(tmp_path, "restart_delay: 5000").restart == RestartPolicy(RestartWhen.ALWAYS, backoff_s=5.0)
    slow = app(tmp_path, "exp_backoff_restart_delay: 100").restart
    assert (slow.backoff_s, slow.cap_s) == (0.1, 15.0)
    assert app(tmp_path, "max_restarts: 10", "min_uptime: '30s'").restart == plain.restart
    assert app(tmp_path, "max_memory_restart: '300M'").limits.memory_bytes == 300 * 2**20
    assert app(tmp_path, "kill_timeout: 5000").stop_timeout_s == 5.0


def test_instances_are_numbered_as_pm2_does(tmp_path: Path) -> None:
    text = APPS.format("instances: 2, port: 0").replace(", port: 0", "")
    found = specs(tmp_path, text, name="ecosystem.config.js")
    assert {name: spec.env["NODE_APP_INSTANCE"] for name, spec in found.items()} == {
        "app-1": "0",
        "app-2": "1",
    }


def test_what_pm2_does_and_we_do_not_is_said(tmp_path: Path) -> None:
    text = APPS.format("wait_ready: true, cron_restart: '0 0 * * *', stop_exit_codes: [3], out_file: 'x.log'")
    reasons = {one.reason for one in declared(tmp_path, text, name="ecosystem.config.js").remarks}
    assert {"ReadyNotCarried", "KeyNotCarried", "LogElsewhere"} <= reasons
    assert "BreakerInert" not in reasons, "it is about pm2, which does not run here"


def test_a_name_that_no_file_and_no_command_could_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be the name"):
        declared(tmp_path, APPS.format("").replace("'app'", "'a/../b'"), name="ecosystem.config.js")


@pytest.mark.parametrize("name", ["docker-compose.yml", "stack.yaml", "ecosystem.config.js"])
def test_a_bare_file_is_a_configuration_of_its_own(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(APPS.format("") if name.endswith(".js") else compose())
    config = load_config(tmp_path / name)
    assert config.is_stack
    assert (config.folder, config.data_dir) == (tmp_path, tmp_path / ".standfast")
    assert [spec.name for spec in programs_of(config)] == ["app" if name.endswith(".js") else "one"]


def test_a_folder_with_only_a_compose_file_is_one_too_and_profiles_come_from_the_command(
    tmp_path: Path,
) -> None:
    (tmp_path / "compose.yaml").write_text("services:\n  a: {image: x}\n  b: {image: x, profiles: [more]}\n")
    config = load_config(tmp_path)
    assert [spec.name for spec in stacks_of(config).specs] == ["a"]
    assert [spec.name for spec in stacks_of(config.changed(profiles=("more",))).specs] == ["a", "b"]


@pytest.mark.parametrize(
    "path", ["trading/compose/docker-compose.yml", "trading/compose/infrastructure/docker-compose.yml"]
)
def test_the_real_compose_files_can_be_run_as_they_are(path: str) -> None:
    file = fixture(path)
    found = declared_in([file], profiles=("*",), environment={"HOME": "/nonexistent"})
    assert found.specs
    assert {spec.driver for spec in found.specs} == {"container"}


@pytest.mark.parametrize(
    "name", ["ecosystem.config.js", "generation.competitive.config.js", "miner.competitive.config.js"]
)
def test_the_real_ecosystem_files_can_be_run_as_they_are(name: str) -> None:
    found = declared_in([fixture(f"generation/pm2/{name}")], environment={"PATH": "/usr/bin"})
    assert found.specs
    assert {spec.driver for spec in found.specs} == {"process"}
