"""``standfast import pm2 | compose`` as a person types it: what is printed, written and refused, and how."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fixtures_dir import fixture
from integration.instances import command, json_of
from standfast.app.config import load_config

APPS = """module.exports = { apps: [
  { name: 'miner', script: 'miner.py', interpreter: 'none', cwd: '/srv',
    env: { A: '1' }, env_prod: { A: '2' } },
  { name: 'web', script: 'web.js', cwd: '/srv', exec_mode: 'cluster', instances: 4 },
] };
"""
COMPOSE = "services:\n  db: {image: postgres}\n  web: {image: web, depends_on: [db]}\n"


def test_what_cannot_be_read_is_an_error_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services:\n  a: {image: x}\n  a: {image: y}\n")
    done = command(tmp_path, "import", "compose")
    assert (done.returncode, done.stdout) == (2, "")
    assert "KeyTwice" in done.stderr
    assert "compose.yaml:3" in done.stderr
    assert "line 2" in done.stderr
    done = command(tmp_path, "import", "pm2", "absent.config.js", "--json")
    assert done.returncode == 2
    assert json_of(done)["error"]["code"] == "StackMissing"
    done = command(tmp_path, "import", "pm2")
    assert done.returncode == 2
    done = command(tmp_path, "import", "podman", "x")
    assert "did you mean" in done.stderr or "known: pm2, compose" in done.stderr


def test_r1_a_service_that_the_file_does_not_have_is_refused_with_the_right_file(tmp_path: Path) -> None:
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra/docker-compose.yml").write_text(COMPOSE)
    (tmp_path / "docker-compose.yml").write_text("services:\n  app: {image: x}\n")
    done = command(tmp_path, "import", "compose", "--has", "db", "--write", "out.toml")
    assert (done.returncode, done.stdout) == (1, "")
    assert "db is not in docker-compose.yml; it is defined in infra/docker-compose.yml" in done.stderr
    assert "docker compose -f infra/docker-compose.yml up db" in done.stderr
    assert not (tmp_path / "out.toml").exists()
    done = command(tmp_path, "import", "compose", "--has", "dbb")
    assert "did you mean db?" in done.stderr
    assert command(tmp_path, "import", "compose", "infra", "--has", "db").returncode == 0


def test_apps_are_printed_or_written_and_never_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "ecosystem.config.js").write_text(APPS)
    done = command(tmp_path, "import", "pm2", "ecosystem.config.js", "--env", "prod")
    assert done.returncode == 1
    assert '[[services]]\nname = "miner"' in done.stdout
    assert '# name = "web-0"' in done.stdout
    assert "KeyNotSupported" in done.stderr
    assert "ecosystem.config.js:4" in done.stderr
    done = command(tmp_path, "import", "pm2", "ecosystem.config.js", "--env", "prod", "--write", ".")
    assert done.returncode == 1
    config = load_config(tmp_path)
    assert [(s.name, s.command, s.env) for s in config.services] == [
        ("miner", ("/srv/miner.py",), {"A": "2"})
    ]
    before = (tmp_path / "standfast.toml").read_bytes()
    done = command(tmp_path, "import", "pm2", "ecosystem.config.js", "--write", "standfast.toml")
    assert done.returncode == 6
    assert "exists already" in done.stderr
    assert (tmp_path / "standfast.toml").read_bytes() == before


def test_a_compose_stack_is_written_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / "compose.override.yaml").write_text("services:\n  web: {image: other, profiles: [p]}\n")
    done = command(tmp_path, "import", "compose", ".", "--profile", "p", "--json")
    assert done.returncode == 0, done.stderr
    data = json_of(done)["data"]
    assert data["toml"].endswith(
        '[stack]\nfiles = ["compose.yaml", "compose.override.yaml"]\nprofiles = ["p"]\n'
    )
    assert [s["name"] for s in data["stack"]["services"]] == ["db", "web"]
    assert data["stack"]["services"][1]["depends_on"][0]["condition"] == "started"
    done = command(tmp_path, "import", "compose", "--write", "new.toml")
    assert done.returncode == 0, done.stderr
    assert load_config(tmp_path / "new.toml").stack.files == ("compose.yaml", "compose.override.yaml")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is absent")
def test_a_file_that_computes_is_run_only_where_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "a.config.js").write_text(
        "module.exports = {apps: ['x', 'y'].map(n => ({name: n, script: 's', cwd: '/'}))}"
    )
    assert command(tmp_path, "import", "pm2", "a.config.js").stdout.count("[[services]]") == 2
    done = command(tmp_path, "import", "pm2", "a.config.js", "--no-run")
    assert done.returncode == 2
    assert "ScriptUnreadable" in done.stderr


@pytest.mark.parametrize(
    ("kind", "path", "services"),
    [
        ("pm2", "generation/pm2/ecosystem.config.js", 4),
        ("pm2", "generation/pm2/miner.competitive.config.js", 1),
        ("compose", "trading/compose/infrastructure/docker-compose.yml", 17),
    ],
)
def test_the_real_stacks_are_taken_over(tmp_path: Path, kind: str, path: str, services: int) -> None:
    done = command(tmp_path, "import", kind, str(fixture(path)), "--write", "standfast.toml", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json_of(done)["data"]["stack"]["services"]) == services
    config = load_config(tmp_path)
    assert len(config.services) == (services if kind == "pm2" else 0)
    assert config.is_stack
