"""R1: which file owns a name; the wrong file is refused with the right one, and nothing is guessed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from fixtures_dir import fixture
from standfast.kernel.errors import ConfigError, ConflictError, NotFoundError
from standfast.services.stacks.index import Owner, Refused, StackIndex, conflicts, owner
from standfast.services.stacks.indexing import read_index


def tree(folder: Path, files: Mapping[str, str]) -> StackIndex:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_index(folder, {})


def compose(*names: str, image: str = "x") -> str:
    return "services:\n" + "".join(f"  {name}: {{image: {image}}}\n" for name in names)


def refused(found: Owner | Refused) -> Refused:
    assert isinstance(found, Refused), found
    return found


def owned(found: Owner | Refused) -> Owner:
    assert isinstance(found, Owner), found
    return found


def test_r1_the_wrong_file_is_refused_with_the_right_one(tmp_path: Path) -> None:
    index = tree(tmp_path, {
        "docker-compose.yml": compose("web"), "infra/docker-compose.yml": compose("db", "meta"),
    })  # fmt: skip
    for asked in (tmp_path, tmp_path / "docker-compose.yml"):
        found = refused(owner(index, "meta", asked, verb="build"))
        assert found.code == "WrongFile"
        assert found.message == (
            "meta is not in docker-compose.yml; it is defined in infra/docker-compose.yml"
        )
        assert found.fix == "docker compose -f infra/docker-compose.yml build meta"
        assert isinstance(found.as_error(), NotFoundError)
    here = owned(owner(index, "meta", tmp_path / "infra", verb="build"))
    assert (here.entry.file, here.entry.line) == (tmp_path / "infra/docker-compose.yml", 3)
    assert here.command == "docker compose -f infra/docker-compose.yml build meta"
    assert owned(owner(index, "meta")).entry is here.entry


def test_r1_one_name_in_two_files_is_a_conflict_with_both_lines(tmp_path: Path) -> None:
    index = tree(tmp_path, {
        "docker-compose.yml": compose("web", "redis"),
        "infra/docker-compose.yml": compose("redis", image="y"),
    })  # fmt: skip
    found = refused(owner(index, "redis"))
    assert found.code == "NameConflict"
    assert found.message == (
        "redis is declared in docker-compose.yml:3 and infra/docker-compose.yml:2 with other values of image"
    )
    assert "docker compose -f infra/docker-compose.yml up redis" in found.fix
    assert isinstance(found.as_error(), ConflictError)
    # Who names the file gets it, and is told of the other one.
    named = owned(owner(index, "redis", tmp_path / "infra/docker-compose.yml"))
    assert [c.second.file.parent for c in named.conflicts] == [tmp_path]
    assert named.as_dict()["conflicts"] == [f"{tmp_path}/docker-compose.yml:3"]
    assert len(conflicts(index)) == 1


def test_the_same_content_twice_is_no_conflict(tmp_path: Path) -> None:
    index = tree(tmp_path, {"docker-compose.yml": compose("a"), "copy/docker-compose.yml": compose("a")})
    assert owned(owner(index, "a")).entry.file == tmp_path / "docker-compose.yml"
    assert conflicts(index) == ()


def test_files_of_one_stack_are_one(tmp_path: Path) -> None:
    index = tree(tmp_path, {
        "compose.yaml": "include: [sub/inc.yaml]\n" + compose("a", "b"),
        "compose.override.yaml": compose("a", "c", image="y"),
        "sub/inc.yaml": compose("d"),
        "base.yaml": compose("e"),
        "other/compose.yaml": "services:\n  e: {extends: {file: ../base.yaml, service: e}, user: me}\n",
    })  # fmt: skip
    assert conflicts(index) == ()
    for name in ("a", "b", "c", "d"):
        assert owned(owner(index, name, tmp_path)).entry.name == name
    assert owned(owner(index, "c", tmp_path, verb="logs")).command == (
        "docker compose -f compose.yaml -f compose.override.yaml logs c"
    )


def test_an_unknown_name_gets_the_nearest_one_and_what_could_not_be_read(tmp_path: Path) -> None:
    index = tree(tmp_path, {"docker-compose.yml": compose("data-service"), "x/compose.yml": "a: [\n"})
    found = refused(owner(index, "data-servise"))
    assert (found.code, found.fix) == ("ServiceUnknown", "did you mean data-service?")
    assert "1 could not be read" in found.message
    assert "x/compose.yml" in found.message
    assert refused(owner(index, "zzz")).fix == "known: data-service"


def test_every_kind_of_file_is_indexed(tmp_path: Path) -> None:
    index = tree(tmp_path, {
        "docker-compose.gpu.yml": compose("one"),
        "stack.yml": compose("two"),
        "ecosystem.config.js": "module.exports = {apps: [{\n name: 'three', script: 'x'}]}",
        "computed.config.js": "module.exports = {apps: [1].map(() => ({\n\n name: 'four', script: 'x'}))}",
        "processes.json": '{"apps": [{"name": "five", "script": "x"}]}',
        "pm2.yml": "apps:\n  - name: six\n    script: x\n",
        "standfast.toml": '[[services]]\nname = "seven"\ncommand = ["x"]\n\n[[services]]\nname = "eight"\n',
        "vite.config.js": "export default {plugins: [name: 'no']}",
        "workflow.yml": "jobs: {x: {services: {pg: {image: x}}}}\n",
        "values.yml": "services:\n  nine: {replicas: 1}\n",
        ".git/docker-compose.yml": compose("hidden"),
        "node_modules/p/docker-compose.yml": compose("hidden"),
        ".venv/docker-compose.yml": compose("hidden"),
    })  # fmt: skip
    assert {(e.name, e.kind, e.line) for e in index.entries} == {
        ("one", "compose", 2), ("two", "compose", 2), ("three", "pm2", 2), ("four", "pm2", 3),
        ("five", "pm2", 1), ("six", "pm2", 2), ("seven", "standfast", 1), ("eight", "standfast", 5),
    }  # fmt: skip
    assert index.findings == ()
    assert owned(owner(index, "three")).command == "pm2 start ecosystem.config.js --only three"
    assert owned(owner(index, "seven")).command == "standfast up ."


def test_a_name_whose_content_only_a_run_could_tell_is_a_conflict(tmp_path: Path) -> None:
    index = tree(tmp_path, {
        "a.config.js": "module.exports = {apps: [{name: 'x', script: 'a'}]}",
        "b.config.js": "module.exports = {apps: f({name: 'x', script: 'a'})}",
    })  # fmt: skip
    assert refused(owner(index, "x")).code == "NameConflict"


def test_a_process_and_a_container_of_one_name_are_a_conflict(tmp_path: Path) -> None:
    index = tree(tmp_path, {
        "compose.yaml": compose("x"), "a.config.js": "module.exports = {apps: [{name: 'x', script: 'a'}]}",
    })  # fmt: skip
    assert refused(owner(index, "x")).code == "NameConflict"


def test_the_walk_is_bounded_and_follows_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "dangling.yml").symlink_to("nowhere.yml")
    os.mkfifo(tmp_path / "compose.yaml")
    index = tree(tmp_path, {"a/compose.yaml": compose("x")})
    assert [e.name for e in index.entries] == ["x"]
    deep = tmp_path / "/".join("d" * 20)
    deep.mkdir(parents=True)
    (deep / "compose.yaml").write_text(compose("deep"))
    index = read_index(tmp_path, {})
    assert [e.name for e in index.entries] == ["x"]
    assert not index.is_whole
    assert "the search ended at its bound" in refused(owner(index, "deep")).message
    monkeypatch.setattr("standfast.services.stacks.indexing.MOST_ENTRIES", 1)
    assert not read_index(tmp_path, {}).is_whole
    with pytest.raises(ConfigError, match=r"is no folder"):
        read_index(tmp_path / "nowhere", {})


@pytest.mark.parametrize(
    "text", ["", "services:\n", "services: []\n", "services: {a: }\n", "services: {a: [1]}\n", "include: 5\n",
             "include: [{path: 5}]\nservices: {a: {extends: {file: [1]}}}\n", "services: {a: {extends: 5}}\n"]
)  # fmt: skip
def test_strange_files_do_not_stop_the_index(tmp_path: Path, text: str) -> None:
    index = tree(tmp_path, {"compose.yaml": text, "b/compose.yaml": compose("b"), "standfast.toml": "a = ["})
    assert owned(owner(index, "b")).entry.line == 2
    assert [f.reason for f in index.findings] == ["NotToml"]


def test_r1_the_real_tree_refuses_the_build_of_the_incident() -> None:
    root = fixture("trading/compose")
    index = read_index(root, {})
    found = refused(owner(index, "meta-controller", root / "docker-compose.yml", verb="build"))
    assert found.message == (
        "meta-controller is not in docker-compose.yml; it is defined in infrastructure/docker-compose.yml"
    )
    assert found.fix == "docker compose -f infrastructure/docker-compose.yml build meta-controller"
    assert {c.first.name for c in conflicts(index)} == {"redis", "data-service"}
    redis = refused(owner(index, "redis"))
    assert "docker-compose.yml:140 and infrastructure/docker-compose.yml:114" in redis.message


def test_a000_13_one_name_declared_twice_with_different_values() -> None:
    index = read_index(fixture("generation/pm2"), {})
    found = conflicts(index)
    assert [
        (c.first.name, c.first.file.name, c.first.line, c.second.file.name, c.second.line) for c in found
    ] == [("trellis-microservice", "ecosystem.config.js", 4, "ecosystem.trellis.config.js", 3)]
    assert {"min_uptime", "restart_delay", "exp_backoff_restart_delay", "env"} <= set(found[0].keys)
