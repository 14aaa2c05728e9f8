"""The systemd unit of a stack: what it says, and that systemd itself takes it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from standfast.app.config import Config, parse_config
from standfast.app.units import stop_limit_s, unit_name, unit_of, write_unit
from standfast.kernel.errors import ConflictError
from standfast.services.model import Dependency, ServiceSpec

STACK = '[instance]\nname = "trading"\n[[services]]\nname = "db"\ncommand = ["db"]\n'
SPECS = (ServiceSpec("db", ("db",)), ServiceSpec("api", ("api",), depends_on=(Dependency("db"),)))


def config(folder: Path, text: str = STACK) -> Config:
    return parse_config(text, source=folder / "standfast.toml")


def settings(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and line[0] not in "#[")


def test_r3_the_unit_minds_the_supervisor_alone_and_lets_services_outlive_it(tmp_path: Path) -> None:
    unit = unit_of(config(tmp_path), SPECS, is_user=False)
    found = settings(unit.text)
    assert unit.name == "standfast-trading.service"
    assert found["ExecStart"].endswith(f"-m standfast.app.stack {tmp_path}/.standfast")
    assert found["KillMode"] == "process"
    assert (found["Restart"], found["StartLimitIntervalSec"]) == ("on-failure", "0")
    assert found["RestartPreventExitStatus"] == "6", "another supervisor has it: trying again is no use"
    assert found["OOMPolicy"] == "continue"
    assert found["Environment"].startswith("PATH=")
    assert found["WantedBy"] == "multi-user.target"
    assert "network-online.target" in found["After"]


def test_a_users_own_unit_waits_for_nothing_that_users_have_not(tmp_path: Path) -> None:
    unit = unit_of(config(tmp_path), SPECS, is_user=True)
    found = settings(unit.text)
    assert found["WantedBy"] == "default.target"
    assert "After" not in found
    assert "User" not in found
    assert any("enable-linger" in step for step in unit.steps)


def test_an_instance_with_an_api_is_started_by_up(tmp_path: Path) -> None:
    found = settings(unit_of(config(tmp_path, STACK + "[api]\nport = 0\n"), SPECS, is_user=False).text)
    assert f"-m standfast.cli up {tmp_path} --data-dir {tmp_path}/.standfast" in found["ExecStart"]


def test_containers_wait_for_their_engine(tmp_path: Path) -> None:
    boxed = (ServiceSpec("db", (), driver="container"),)
    assert "docker.service" in unit_of(config(tmp_path), boxed, is_user=False).text


def test_what_systemd_would_read_otherwise_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin:/opt/my tools/50%/bin")
    odd = tmp_path / "a b $HOME 100%"
    found = settings(unit_of(config(odd), SPECS, is_user=False).text)
    assert f'"{tmp_path}/a b $$HOME 100%%/.standfast"' in found["ExecStart"]
    assert found["WorkingDirectory"] == f"{tmp_path}/a b $HOME 100%%"
    assert found["Environment"] == '"PATH=/bin:/opt/my tools/50%%/bin"'


def test_the_time_for_an_orderly_end_covers_every_wave() -> None:
    assert stop_limit_s(SPECS) == 60
    slow = tuple(
        ServiceSpec(one.name, one.command, depends_on=one.depends_on, stop_timeout_s=120.0) for one in SPECS
    )
    assert stop_limit_s(slow) == 255


@pytest.mark.parametrize(
    ("name", "unit"),
    [("trading", "trading"), ("a b/c", "a-b-c"), ("../../etc", "etc"), ("", "instance"), ("...", "instance")],
)
def test_a_name_makes_a_file_name(name: str, unit: str) -> None:
    assert unit_name(name) == f"standfast-{unit}.service"


def test_a_unit_that_somebody_else_wrote_is_left_alone(tmp_path: Path) -> None:
    unit = unit_of(config(tmp_path), SPECS, is_user=False)
    path = write_unit(tmp_path / "units", unit)
    assert path.read_text() == unit.text
    assert write_unit(tmp_path / "units", unit) == path, "our own is written anew"
    path.write_text("[Unit]\nDescription=mine\n")
    with pytest.raises(ConflictError, match="was not written by standfast"):
        write_unit(tmp_path / "units", unit)
    assert path.read_text() == "[Unit]\nDescription=mine\n"


@pytest.mark.parametrize("is_user", [False, True])
def test_r3_systemd_takes_the_unit_and_would_refuse_a_wrong_one(tmp_path: Path, is_user: bool) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    folder = tmp_path / "a folder"
    folder.mkdir()
    unit = unit_of(config(folder), SPECS, is_user=is_user)
    path = write_unit(tmp_path, unit)
    assert verified(path, is_user=is_user) == ""
    spoilt = tmp_path / "standfast-spoilt.service"
    spoilt.write_text(unit.text.replace("KillMode=process", "KillMode=nobody"))
    assert "kill mode" in verified(spoilt, is_user=is_user), "the check can fail"


def verified(path: Path, *, is_user: bool) -> str:
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(path.parent), "SYSTEMD_LOG_LEVEL": "warning"}
    words = ["systemd-analyze", *(["--user"] if is_user else []), "verify", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, env=environ)
    return "\n".join(line for line in done.stderr.splitlines() if path.name in line)
