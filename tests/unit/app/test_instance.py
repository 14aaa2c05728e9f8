"""How an instance writes down that it runs, and how a command finds the one that is meant."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from standfast.app.instance import (
    Address,
    Child,
    Found,
    Run,
    Unreadable,
    Wanted,
    find,
    need_free,
    noted_config,
    read_run,
    register,
    registry_folder,
    token_of,
    write_run,
)
from standfast.app.tokens import new_token, write_token
from standfast.kernel.clock import SystemEntropy
from standfast.kernel.errors import ConfigError, ConflictError, TransientError
from standfast.services.adapters.procfs import identify
from standfast.services.model import Identity

GONE = Identity("another-boot", 4_000_000, 1)


def run_of(folder: Path, process: Identity, started_from: Path | None = None) -> Run:
    return Run(
        instance="i", name="n", process=process, started_at="2026-01-01T00:00:00Z", version="0.1.0",
        config=str(folder / "standfast.toml"), blueprint=str(folder),
        started_from=str(started_from or folder),
        url="http://127.0.0.1:1", children=(Child("a", GONE, "a.log"),),
    )  # fmt: skip


def own() -> Identity:
    identity = identify(os.getpid())
    assert identity is not None
    return identity


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


def instance(folder: Path, environ: dict[str, str], process: Identity, started_from: Path) -> Path:
    """Make a folder that looks as if an instance had been started in it; return its data directory."""
    folder.mkdir(parents=True)
    (folder / "standfast.toml").write_text("")
    data_dir = folder / ".standfast"
    run = run_of(folder, process, started_from)
    write_run(data_dir, run)
    register(data_dir, run, environ)
    return data_dir


@pytest.mark.parametrize("text", ["", "garbage", "[]", "3", "{}", '{"process": 3}', "\x00", '{"a":' * 9_999])
def test_i1_a_record_that_is_garbage_is_unknown_not_absent(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert isinstance(read_run(tmp_path), Unreadable)


def test_a_huge_record_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b" " * 1_000_001)
    assert isinstance(read_run(tmp_path), Unreadable)


def test_no_record_is_no_run(tmp_path: Path) -> None:
    assert read_run(tmp_path) is None


def test_a_record_comes_back_as_it_was_and_only_for_this_user(tmp_path: Path) -> None:
    run = run_of(tmp_path, own())
    write_run(tmp_path, run)
    assert read_run(tmp_path) == run
    assert (tmp_path / "run.json").stat().st_mode & 0o077 == 0
    assert run.is_alive


@pytest.mark.parametrize("change", [{"boot_id": "x"}, {"start_ticks": 1}])
def test_a_pid_that_was_given_out_again_is_not_the_instance(change: dict[str, object]) -> None:
    other = own()._replace(**change)  # type: ignore[arg-type]
    assert not run_of(Path(), other).is_alive


def test_starting_over_a_living_instance_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, run_of(tmp_path, own()))
    with pytest.raises(ConflictError, match=f"process {os.getpid()}"):
        need_free(tmp_path)
    write_run(tmp_path, run_of(tmp_path, GONE))
    need_free(tmp_path)


def test_nothing_known_says_how_to_start_one(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(TransientError) as caught:
        find(Wanted(), tmp_path, environ)
    assert caught.value.exit_code == 7
    assert "standfast up" in caught.value.fix


def test_an_address_wins_over_everything(tmp_path: Path, environ: dict[str, str]) -> None:
    instance(tmp_path / "b", environ, own(), tmp_path)
    assert find(Wanted(url="http://h:1", token="t"), tmp_path / "b", environ) == Address("http://h:1", "t")


def test_a_data_directory_wins_over_the_folder(tmp_path: Path, environ: dict[str, str]) -> None:
    instance(tmp_path / "b", environ, own(), tmp_path)
    found = find(Wanted(data_dir=tmp_path / "x"), tmp_path / "b", environ)
    assert isinstance(found, Found)
    assert found.data_dir == tmp_path / "x"


@pytest.mark.parametrize("below", ["", "deep/er"])
def test_the_folder_or_one_above_is_found(tmp_path: Path, environ: dict[str, str], below: str) -> None:
    data_dir = instance(tmp_path / "b", environ, GONE, tmp_path / "elsewhere")
    (tmp_path / "b" / below).mkdir(parents=True, exist_ok=True)
    found = find(Wanted(), tmp_path / "b" / below, environ)
    assert isinstance(found, Found)
    assert found.data_dir == data_dir


def test_an_instance_is_found_where_it_was_started_from(tmp_path: Path, environ: dict[str, str]) -> None:
    data_dir = instance(tmp_path / "other" / "b", environ, GONE, tmp_path / "here")
    found = find(Wanted(), tmp_path / "here", environ)
    assert isinstance(found, Found)
    assert found.data_dir == data_dir


def test_an_instance_whose_blueprint_lies_below_is_found(tmp_path: Path, environ: dict[str, str]) -> None:
    data_dir = instance(tmp_path / "blueprints" / "b", environ, GONE, tmp_path / "elsewhere")
    found = find(Wanted(), tmp_path, environ)
    assert isinstance(found, Found)
    assert found.data_dir == data_dir


def test_of_several_the_one_that_lives_is_meant(tmp_path: Path, environ: dict[str, str]) -> None:
    instance(tmp_path / "a", environ, GONE, tmp_path)
    living = instance(tmp_path / "b", environ, own(), tmp_path)
    found = find(Wanted(), tmp_path, environ)
    assert isinstance(found, Found)
    assert found.data_dir == living


@pytest.mark.parametrize("process", ["gone", "own"])
def test_several_that_fit_are_named_not_guessed(
    tmp_path: Path, environ: dict[str, str], process: str
) -> None:
    chosen = own() if process == "own" else GONE
    first = instance(tmp_path / "a", environ, chosen, tmp_path)
    second = instance(tmp_path / "b", environ, chosen, tmp_path)
    with pytest.raises(ConflictError) as caught:
        find(Wanted(), tmp_path, environ)
    assert str(first) in caught.value.why
    assert str(second) in caught.value.why


def test_a_data_directory_elsewhere_is_found_by_its_configuration(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    folder, data_dir = tmp_path / "b", tmp_path / "data"
    folder.mkdir()
    (folder / "standfast.toml").write_text("")
    run = run_of(folder, GONE)
    write_run(data_dir, run)
    register(data_dir, run, environ)
    found = find(Wanted(), folder, environ)
    assert isinstance(found, Found)
    assert found.data_dir == data_dir
    assert noted_config(data_dir, environ) == folder / "standfast.toml"


def test_a_damaged_note_hides_no_other(tmp_path: Path, environ: dict[str, str]) -> None:
    data_dir = instance(tmp_path / "a", environ, GONE, tmp_path)
    for index, text in enumerate(("", "[]", '{"data_dir": 3}', json.dumps({"data_dir": "/nowhere"}))):
        (registry_folder(environ) / f"{index}.json").write_text(text)
    found = find(Wanted(), tmp_path, environ)
    assert isinstance(found, Found)
    assert found.data_dir == data_dir


def test_tokens_come_from_the_command_line_then_from_the_instance(tmp_path: Path) -> None:
    token, other = new_token(SystemEntropy()), new_token(SystemEntropy())
    write_token(tmp_path / "token", token)
    write_token(tmp_path / "other", other)
    found = Found(tmp_path, "")
    assert token_of(Wanted(), found) == token
    assert token_of(Wanted(token_file=tmp_path / "other"), found) == other
    assert token_of(Wanted(token="x"), found) == "x"


@pytest.mark.parametrize(("text", "mode"), [(None, 0), ("nonsense", 0o600), ("", 0o600)])
def test_a_token_file_that_is_unusable_is_refused(tmp_path: Path, text: str | None, mode: int) -> None:
    path = tmp_path / "t"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        token_of(Wanted(token_file=path), Found(tmp_path, ""))
    assert "chmod 600" in caught.value.fix


def test_a_token_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write_token(path, new_token(SystemEntropy()))
    path.chmod(0o644)
    with pytest.raises(ConfigError):
        token_of(Wanted(token_file=path), Found(tmp_path, ""))


def test_replacing_a_record_leaves_no_partial_file(tmp_path: Path) -> None:
    run = run_of(tmp_path, own())
    write_run(tmp_path, run)
    write_run(tmp_path, replace(run, url=""))
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_run_below_this_folder_is_found_though_another_home_registered_it(tmp_path: Path) -> None:
    data = tmp_path / "repo" / "blueprints" / "evaluation" / ".standfast"
    data.mkdir(parents=True)
    elsewhere = {"XDG_STATE_HOME": str(tmp_path / "nobody")}
    with pytest.raises(TransientError, match="no instance is known"):
        find(Wanted(), tmp_path / "repo", elsewhere)
    (data / "run.json").write_text("{}")
    assert find(Wanted(), tmp_path / "repo", elsewhere).data_dir == data


def test_two_runs_below_are_named_not_guessed_though_only_one_is_registered(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    for name in ("x", "y"):
        (tmp_path / name / ".standfast").mkdir(parents=True)
        (tmp_path / name / ".standfast" / "run.json").write_text("{}")
    register(tmp_path / "y" / ".standfast", run_of(tmp_path / "y", own(), started_from=tmp_path), environ)
    with pytest.raises(ConflictError) as caught:
        find(Wanted(), tmp_path, environ)
    assert caught.value.code == "SeveralInstances"
