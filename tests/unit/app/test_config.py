"""What a configuration refuses, with which words, and what it gives to the parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from standfast.app.config import Config, load_config, parse_config
from standfast.app.config_errors import InvalidConfigError
from standfast.app.toml_lines import line_of
from standfast.kernel.errors import ConfigError

SUBJECT = '[[subjects]]\nuid = {uid}\nhotkey = "{key}"\nendpoint = "http://127.0.0.1:{port}"\n'


def refusal(text: str) -> InvalidConfigError:
    with pytest.raises(InvalidConfigError) as caught:
        parse_config(text)
    assert caught.value.exit_code == 2
    assert caught.value.fix, "a refusal names its fix"
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "what", "fix"),
    [
        ("[tasks]\n# a comment\nlease_tll_s = 30\n", 3, "tasks.lease_tll_s", "lease_ttl_s"),
        ("\n[scheduller]\ntick_s = 1\n", 2, "scheduller", "scheduler"),
        ("[evaluation.limits]\nact = 1\n", 2, "evaluation.limits.act", "act_s"),
        ("[[evaluation.environments]]\nid = 'x'\nepsiodes = 1\n", 3, "environments[1].epsiodes", "episodes"),
        ("[[services]]\nname='a'\ncommand=['x']\nreadyy={}\n", 4, "services[1].readyy", "ready"),
        ("[[services]]\nname='a'\ncommand=['x']\nready={htp='/'}\n", 4, "services[1].ready.htp", "http"),
    ],
)
def test_x6_unknown_setting_names_the_nearest_and_its_line(text: str, line: int, what: str, fix: str) -> None:
    error = refusal(text)
    assert error.code == "UnknownSetting"
    assert f"standfast.toml:{line}:" in error.what
    assert what in error.what
    assert f"did you mean '{fix}'" in error.fix


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('[tasks]\nlease_ttl_s = "30"\n', "a number, not text"),
        ("[tasks]\nlease_ttl_s = true\n", "a number, not true or false"),
        ("[tasks]\nmax_attempts = 3.5\n", "a whole number, not a number"),
        ("[tasks]\nmax_attempts = true\n", "a whole number, not true or false"),
        ("[instance]\nname = 3\n", "text in quotes, not a whole number"),
        ("[api]\nrequire_tokens = 1\n", "true or false, not a whole number"),
        ("evaluation = 3\n", "a table, not a whole number"),
        ("subjects = 3\n", "an array, not a whole number"),
        ("[[services]]\nname = 'a'\ncommand = 'sleep 1'\n", "an array, not text"),
    ],
)
def test_wrong_type_says_what_is_wanted(text: str, wanted: str) -> None:
    error = refusal(text)
    assert error.code == "WrongType"
    assert wanted in error.what


@pytest.mark.parametrize(
    "value", ["0", "0.0", "-1", "nan", "-nan", "inf", "-inf", '"abc"', "true", "[]", "1e7"]
)
def test_k8_temperature_out_of_bounds_is_refused_at_load(value: str) -> None:
    error = refusal(f"[evaluation]\ntemperature = {value}\n")
    assert error.code in ("OutOfRange", "WrongType")
    assert "standfast.toml:2: evaluation.temperature" in error.what


def numbers(schema: dict[str, Any], node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(node, dict):
        return
    if "$ref" in node:
        yield from numbers(schema, schema["$defs"][node["$ref"].rsplit("/", 1)[1]], path)
    if node.get("type") in ("number", "integer"):
        yield path, node
    for key, child in node.get("properties", {}).items():
        yield from numbers(schema, child, f"{path}.{key}")
    for key in ("items", "additionalProperties"):
        yield from numbers(schema, node.get(key), f"{path}[]")
    for key in ("anyOf", "allOf", "oneOf", "prefixItems"):
        for child in node.get(key, ()):
            yield from numbers(schema, child, path)


def bounds_of(node: dict[str, Any]) -> tuple[float | None, float | None]:
    return node.get("minimum", node.get("exclusiveMinimum")), node.get(
        "maximum", node.get("exclusiveMaximum")
    )


def all_numbers() -> list[tuple[str, dict[str, Any]]]:
    schema = Config.model_json_schema()
    return [(path.lstrip("."), node) for path, node in numbers(schema, schema, "")]


def test_k11_every_number_has_both_bounds() -> None:
    found = all_numbers()
    assert len(found) > 40, "the walk sees the settings"
    unbounded = [path for path, node in found if None in bounds_of(node)]
    assert unbounded == []


@pytest.mark.parametrize("path", [path for path, _ in all_numbers() if "[]" not in path])
def test_k11_every_bound_is_enforced(path: str) -> None:
    section, _, key = path.rpartition(".")
    low, high = bounds_of(dict(all_numbers())[path])
    assert low is not None
    assert high is not None
    for value in (low - 1, high + 1):
        error = refusal(f"[{section}]\n{key} = {value}\n")
        assert error.problems[0].code == "OutOfRange"
        assert path in error.what


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("[tasks]\nlease_ttl_s = 10\n", ("tasks.lease_ttl_s = 10", "tasks.heartbeat_s = 5")),
        (
            "[tasks]\nheartbeat_s = 0\nlease_ttl_s = 60\n",
            ("tasks.lease_ttl_s = 60", "evaluation.limits.timeout_s = 60", "tasks.heartbeat_s = 0"),
        ),
        ("[tasks]\nexecutor_silent_s = 5\n", ("tasks.executor_silent_s = 5", "tasks.heartbeat_s = 5")),
        (
            "[tasks]\nretry_base_s = 9\nretry_cap_s = 8\n",
            ("tasks.retry_cap_s = 8", "tasks.retry_base_s = 9"),
        ),
        ("[tasks]\nslots_min = 11\n", ("tasks.slots_min = 11", "tasks.slots_max = 10")),
        ("[tasks]\nslots_initial = 2\n", ("tasks.slots_initial = 2", "tasks.slots_min = 3")),
        (
            "[evaluation]\ndeadline_s = 30\n",
            ("evaluation.deadline_s = 30", "evaluation.limits.timeout_s = 60"),
        ),
        (
            "[evaluation]\nmin_subjects = 2\n" + SUBJECT.format(uid=1, key="a", port=1),
            ("evaluation.min_subjects = 2", "only 1 [[subjects]]"),
        ),
        (
            "[evaluation.limits]\nsubject_budget_s = 90\n",
            ("evaluation.limits.subject_budget_s = 90", "evaluation.limits.timeout_s = 60"),
        ),
        ("[scheduler]\ntick_s = 5\n", ("scheduler.takeover_s = 10", "scheduler.tick_s = 5")),
        (
            "[[evaluation.environments]]\nid = 'a'\nepisodes = 2\nrotate = 3\n",
            ("rotate = 3", "episodes = 2"),
        ),
        (
            "[[evaluation.environments]]\nid = 'a'\nepisodes = 9\nrotate = 2\npool = 13\n",
            ("pool = 13", "episodes = 9", "rotate = 2"),
        ),
        (
            "[api]\nhost = '0.0.0.0'\nrequire_tokens = false\n",
            ("api.require_tokens = false", "api.host = '0.0.0.0'"),
        ),
        ("[publication]\nkind = 'http'\nkey_file = 'k'\n", ("publication.kind", "publication.url")),
        ("[publication]\nkind = 'http'\nurl = 'http://h'\n", ("publication.kind", "publication.key_file")),
        (
            "[[services]]\nname = 'a'\ncommand = ['x']\nready = {http = '/', tcp = 'h:1'}\nport = 1\n",
            ("http and tcp",),
        ),
        ("[[services]]\nname = 'a'\ncommand = ['x', '{port}']\n", ("port is 0", "command")),
        ("[[services]]\nname = 'a'\ncommand = ['x']\nready = {http = '/h'}\n", ("port is 0", "ready.http")),
        (
            "[[services]]\nname = 'a'\ncommand = ['x']\nrestart = {backoff_s = 5, cap_s = 1}\n",
            ("restart.cap_s = 1", "restart.backoff_s = 5"),
        ),
    ],
)
def test_k11_impossible_combination_names_both_settings(text: str, keys: tuple[str, ...]) -> None:
    error = refusal(text)
    assert error.code == "ImpossibleCombination"
    for key in keys:
        assert key in error.what


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (SUBJECT.format(uid=1, key="a", port=1) + SUBJECT.format(uid=1, key="b", port=2), "uid = 1"),
        (SUBJECT.format(uid=1, key="a", port=1) + SUBJECT.format(uid=2, key="a", port=2), "hotkey = 'a'"),
        ("[[services]]\nname='s'\ncommand=['x']\n" * 2, "name = 's'"),
        ("[[evaluation.environments]]\nid='e'\n" * 2, "id = 'e'"),
        ("[api]\n[[services]]\nname='s'\ncommand=['x']\nport = 8321\n", "that of api.port"),
    ],
)
def test_duplicates_are_refused(text: str, what: str) -> None:
    error = refusal(text)
    assert error.code == "Duplicate"
    assert what in error.what


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[evaluation]\npolicy = 'orginal'\n", "did you mean 'original'"),
        ("[[services]]\nname='s'\ncommand=['{pyton}']\n", "did you mean {python}"),
        ("[store]\nurl = 'mysql://root:canary@h/x'\n", "sqlite"),
        ("[instance]\nname = 'a b'\n", "configuration.md"),
        ("[[subjects]]\nuid=1\nhotkey='a'\nendpoint='127.0.0.1:80'\n", "http://HOST:PORT"),
        ("[[subjects]]\nuid=1\nendpoint='http://h:1'\n", "set hotkey"),
    ],
)
def test_wrong_value_names_a_right_one(text: str, what: str) -> None:
    error = refusal(text)
    assert what in error.fix
    assert "canary" not in str(error), "a value may be a secret (I12)"


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_the_file() -> None:
    error = refusal("[tasks]\nslots_min = 99\nlease_ttl_s = 1\n[evaluation]\ndeadline_s = 1\n")
    assert [problem.path[-1] for problem in error.problems] == ["slots_min", "lease_ttl_s", "deadline_s"]
    assert error.lines == (2, 3, 5)


def test_unknown_environment_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "standfast.toml"
    path.write_text("[[evaluation.environments]]\nid = 'mujoco/reecher'\n")
    with pytest.raises(InvalidConfigError, match=r"standfast\.toml:2: .*mujoco/reecher") as caught:
        load_config(path)
    assert "mujoco/reacher" in caught.value.fix


def test_pool_larger_than_the_environment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "standfast.toml"
    path.write_text("[[evaluation.environments]]\nid = 'mujoco/reacher'\npool = 999999\n")
    with pytest.raises(InvalidConfigError, match=r"standfast\.toml:3: .*pool = 999999"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"a = \n", "NotToml"),
        (b"[a]\n[a]\n", "NotToml"),
        (b"\xff\xfe", "ConfigUnreadable"),
        (None, "ConfigMissing"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "standfast.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.code == code
    assert str(path) in str(caught.value)


def test_defaults_are_valid_and_reach_the_parts() -> None:
    config = parse_config("")
    assert config.task_policy().lease_ttl_s == 30.0
    assert config.evaluation.limits.episode_limits().act_s == 0.5
    assert config.data_dir.name == ".standfast"


def test_a_file_is_read_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "standfast.toml").write_text("[instance]\nname = 'here'\n")
    config = load_config(tmp_path)
    assert config.instance.name == "here"
    assert config.data_dir == tmp_path / ".standfast"
    assert load_config(tmp_path, data_dir=tmp_path / "d").data_dir == tmp_path / "d"


def test_what_a_command_line_overrides_is_checked_again(tmp_path: Path) -> None:
    config = parse_config("[[services]]\nname='s'\ncommand=['x']\nport=9000\n", source=tmp_path / "s.toml")
    changed = config.changed(port=0, data_dir=tmp_path / "x")
    assert (changed.api.port, changed.data_dir, changed.source) == (0, tmp_path / "x", config.source)
    with pytest.raises(InvalidConfigError, match=r"port = 9000"):
        config.changed(port=9000)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a", "x"), 2),
        (("a", "b", "y"), 4),
        (("list", 0, "k"), 6),
        (("list", 1, "k"), 8),
        (("list", 1, "inner", "z"), 10),
        (("list", 1, "absent"), 7),
        (("q", "dotted", "key"), 15),
        (("q", "fake"), 11),
        (("nowhere",), None),
    ],
)
def test_lines_are_found(path: tuple[str | int, ...], line: int | None) -> None:
    text = '''[a]
x = 1
[a.b]
y = [
[[list]]
k = 1
[[list]]  # second
k = 2
[list.inner]
z = 1
[q]
text = """
fake = 3
"""
dotted."key" = 1
'''
    assert line_of(text, path) == line
