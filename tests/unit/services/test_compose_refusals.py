"""What is wrong with a compose file is said by name, file and line, all of it at once, and never ignored."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from standfast.kernel.errors import ConfigError
from standfast.kernel.verdict import Verdict
from standfast.services.stacks.compose import read_compose
from standfast.services.stacks.documents import LARGEST_FILE_BYTES
from standfast.services.stacks.model import Stack


def read(folder: Path, files: Mapping[str, str | bytes], **env: str) -> Stack:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_compose([folder / next(iter(files))], environment=env)


def errors(folder: Path, text: str, **env: str) -> list[tuple[str, int, str]]:
    found = read(folder, {"compose.yaml": text}, **env)
    with pytest.raises(ConfigError) as caught:
        found.usable()
    assert caught.value.fix
    return [(f.reason, int(str(f.evidence["line"])), f.message) for f in found.errors]


@pytest.mark.parametrize(
    ("body", "reason", "line", "words"),
    [
        ("    port: [80]\n", "KeyUnknown", 4, "there is no key services.web.port"),
        ("    credential_spec: {file: x}\n", "KeyNotSupported", 4, "services.web.credential_spec"),
        ("    models: [m]\n", "KeyNotSupported", 4, "changes what runs"),
        ("    deploy:\n      mode: global\n", "BadValue", 5, "needs a swarm"),
        ("    deploy:\n      resources: {limits: {memory: lots}}\n", "BadValue", 5, "'lots' is no size"),
        ("    healthcheck:\n      tests: a\n", "KeyUnknown", 5, "services.web.healthcheck.tests"),
        ("    healthcheck:\n      test: [curl, x]\n", "BadValue", 5, "CMD-SHELL"),
        ("    healthcheck:\n      interval: 30\n", "BadValue", 5, "'30' is no time with a unit"),
        ("    healthcheck:\n      retries: few\n", "BadType", 5, "a number is needed, this is 'few'"),
        ("    healthcheck: yes\n", "BadType", 4, "a mapping is needed, this is text"),
        ("    restart: sometimes\n", "BadValue", 4, "'sometimes' is none of no, always"),
        ("    restart: always:3\n", "BadValue", 4, "'always:3'"),
        ("    restart: false\n", "BadType", 4, "text is needed, this is a truth value"),
        ("    ports: '80:80'\n", "BadType", 4, "a list is needed"),
        ("    ports:\n      - 80:80\n      - x\n", "BadValue", 6, "'x' is no port"),
        ("    ports:\n      - target: 80\n        publish: 81\n", "KeyUnknown", 6, "ports.publish"),
        ("    volumes:\n      - a:/b:c:d\n", "BadValue", 5, "too many colons"),
        ("    volumes:\n      - {type: bind, target: /a}\n", "BadValue", 5, "no source"),
        ("    volumes:\n      - {type: floppy, target: /a}\n", "BadValue", 5, "'floppy' is none of bind"),
        ("    volumes:\n      - data:/data\n", "VolumeUnknown", 5, "the volume data, which is not in"),
        ("    networks:\n      - back\n", "NetworkUnknown", 5, "the network back, which is not in networks"),
        ("    secrets:\n      - key\n", "ResourceUnknown", 5, "uses 'key', which is not in secrets"),
        ("    command: 'a \"b'\n", "BadValue", 4, "has no end"),
        ("    command: [[a]]\n", "BadType", 4, "text is needed, this is a list"),
        ("    environment: [[a]]\n", "BadType", 4, "text is needed, this is a list"),
        ("    environment: {a: [b]}\n", "BadType", 4, "text or a number is needed"),
        ("    environment: text\n", "BadType", 4, "a list or a mapping is needed"),
        ("    env_file: missing.env\n", "StackMissing", 4, "there is no"),
        ("    depends_on: [db]\n", "DependencyUnknown", 4, "depends on db, which nothing declares"),
        ("    depends_on: db\n", "BadType", 4, "a mapping is needed, this is text"),
        ("    depends_on:\n      web2:\n        condition: healthy\n", "BadValue", 6, "service_healthy"),
        ("    depends_on: [web]\n", "DependencyLoop", 4, "web -> web"),
        ("    cpus: many\n", "BadType", 4, "a number is needed"),
        ("    mem_limit: 1g\n    deploy: {resources: {limits: {memory: 2g}}}\n", "ImpossibleCombination", 4,
         "deploy says"),
        ("    container_name: a\n    scale: 2\n", "ImpossibleCombination", 4, "2 replicas"),
        ("    network_mode: host\n    networks: [default]\n", "ImpossibleCombination", 4, "network_mode"),
        ("    privileged: perhaps\n", "BadValue", 4, "neither true nor false"),
        ("    gpus: some\n", "BadValue", 4, "neither all nor a list"),
        ("    scale: 1000000000\n", "BadValue", 4, "not from 0 to 1000"),
        ("    deploy:\n      replicas: -1\n", "BadValue", 5, "not from 0 to 1000"),
        ("    cpus: -1\n", "BadValue", 4, "less than nothing"),
        ("    ports: ['1-10000', '1.1.1.1:1-10000:1-10000', '1.1.1.2:1-10000:1-10000']\n", "BadValue", 4,
         "more than 20000 ports"),
        ("    build: {context: ., dockerfil: x}\n", "KeyUnknown", 4, "services.web.build.dockerfil"),
        ("    extends: {}\n", "KeyMissing", 4, "service is missing"),
    ],
)  # fmt: skip
def test_each_thing_that_is_wrong_is_named_with_its_line(
    tmp_path: Path, body: str, reason: str, line: int, words: str
) -> None:
    text = f"services:\n  web:\n    image: web\n{body}  web2: {{image: x}}\n"
    try:
        found = read(tmp_path, {"compose.yaml": text})
    except ConfigError as error:
        messages = [(error.code, str(error))]
    else:
        messages = [(f.reason, f.message) for f in found.errors]
    assert messages
    assert messages[0][0] == reason
    assert f"compose.yaml:{line}: " in messages[0][1]
    assert words in messages[0][1]


def test_the_nearest_name_is_offered(tmp_path: Path) -> None:
    text = (
        "services:\n  web:\n    image: web\n    enviroment: {A: 1}\n    depends_on: [databse]\n"
        "    volumes: ['dta:/x']\n  database: {image: x}\nvolumes: {data: }\nnetworks: {n: {drivr: x}}\n"
    )
    found = read(tmp_path, {"compose.yaml": text})
    fixes = {f.reason + str(f.evidence["line"]): f.remedy for f in found.errors}
    assert fixes["KeyUnknown4"] == "did you mean environment?"
    assert fixes["DependencyUnknown5"] == "did you mean database?"
    assert fixes["VolumeUnknown6"].endswith("did you mean data?")
    assert fixes["KeyUnknown9"] == "did you mean driver?"


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    text = "services:\n  web: {image: web, restart: x, cpus: y, foo: 1, ports: [z, '80:80', q]}\n"
    found = read(tmp_path, {"compose.yaml": text})
    assert [f.reason for f in found.errors] == ["BadType", "BadValue", "BadValue", "BadValue", "KeyUnknown"]
    with pytest.raises(ConfigError) as caught:
        found.usable()
    assert caught.value.why.count("also ") == 4
    assert [port.host for port in found.services[0].ports] == [80]


@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        ({"compose.yaml": "include: [a.yaml]\n", "a.yaml": "include: [compose.yaml]\n"}, "IncludeLoop",
         "compose.yaml -> "),
        ({"compose.yaml": "include: [compose.yaml]\n"}, "IncludeLoop", "compose.yaml:1"),
        ({"compose.yaml": "include: [missing.yaml]\n"}, "StackMissing", "missing.yaml"),
        ({"compose.yaml": "include: ['https://example.org/c.yaml']\n"}, "KeyNotSupported",
         "nothing is fetched"),
        ({"compose.yaml": "include: {path: a}\n"}, "BadType", "compose.yaml:1: include needs a list"),
        ({"compose.yaml": "include: [{paths: a}]\n"}, "KeyMissing", "path is missing"),
        ({"compose.yaml": "include: [{path: a.yaml, env_file: e}]\n", "a.yaml": ""}, "StackMissing", "/e"),
        ({"compose.yaml": "services:\n  a: {extends: b}\n  b: {extends: a}\n"}, "ExtendsLoop", "a -> b -> a"),
        ({"compose.yaml": "services:\n  a: {extends: a}\n"}, "ExtendsLoop", "a -> a"),
        ({"compose.yaml": "services:\n  a: {extends: other}\n  othr: {}\n"}, "ServiceUnknown",
         "did you mean othr"),
        ({"compose.yaml": "services: {a: {extends: {service: x, file: b.yaml}}}\n",
          "b.yaml": "services: {y: {}}\n"}, "ServiceUnknown", "known: y"),
        ({"compose.yaml": "services:\n  a: {image: '${V:?give it}'}\n"}, "VariableMissing",
         "compose.yaml:2: the required variable V is not set, because give it"),
        ({"compose.yaml": "services:\n  a: {image: '${V'}\n"}, "VariableInvalid", "compose.yaml:2"),
        ({"compose.yaml": "services:\n  a: !custom {image: x}\n"}, "UnknownTag", "!custom"),
        ({"compose.yaml": "services:\n  1: {image: x}\n"}, "BadType", "'1' is a number"),
        ({"compose.yaml": "- a\n"}, "BadType", "a mapping is needed, this is a list"),
        ({"compose.yaml": "services:\n  a: {}\n  a: {}\n"}, "KeyTwice", "line 2"),
        ({"compose.yaml": "services:\n\ta: {}\n"}, "NotYaml", "tab"),
        ({"compose.yaml": b"\x7fELF\0\0"}, "StackUnreadable", "NUL"),
        ({"compose.yaml": b"\xff\xfe\0"}, "StackUnreadable", "not UTF-8"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_at_all_is_refused(
    tmp_path: Path, files: dict[str, str | bytes], code: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, files)
    assert caught.value.code == code
    assert words in str(caught.value)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("text", "reason", "words"),
    [
        ("", "EmptyStack", "declares nothing"),
        ("services: [a]\n", "BadType", "a mapping is needed, this is a list"),
        ("services:\n  a:\n", "BadType", "this is nothing"),
        ("services:\n  a b: {image: x}\n", "BadName", "'a b' cannot be the name"),
        ("services:\n  a: {restart: always}\n", "NothingToRun", "a has neither image nor build"),
        ("service:\n  a: {image: x}\n", "KeyUnknown", "no key service"),
        ("services: {a: {image: x}}\nvolumes: {v: {driver_opt: {}}}\n", "KeyUnknown", "v.driver_opt"),
        ("services:\n  a: {image: x}\nvolumes: {v: text}\n", "BadType", "a mapping is needed"),
        ("services:\n  a: {image: x, container_name: n}\n  b: {image: x, container_name: n}\n", "NameTwice",
         "b and a ("),
    ],
)  # fmt: skip
def test_a_stack_that_makes_no_sense_is_unusable(tmp_path: Path, text: str, reason: str, words: str) -> None:
    found = errors(tmp_path, text)
    assert found[0][0] == reason
    assert words in found[0][2]


def test_a_circle_of_dependencies_is_named_in_order(tmp_path: Path) -> None:
    text = (
        "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [c]}\n"
        "  c: {image: x, depends_on: [a]}\n  d: {image: x, depends_on: [a]}\n"
    )
    found = errors(tmp_path, text)
    assert len(found) == 1
    assert found[0][0] == "DependencyLoop"
    assert found[0][2].endswith("compose.yaml:2: the dependencies go in a circle: a -> b -> c -> a")


def test_a_dependency_that_no_active_profile_runs_is_an_error_unless_it_is_optional(tmp_path: Path) -> None:
    body = "services:\n  a:\n    image: x\n    depends_on: {b: {condition: service_started%s}}\n"
    rest = "  b: {image: x, profiles: [debug]}\n"
    found = errors(tmp_path, body % "" + rest)
    assert [f[0] for f in found] == ["DependencyInactive"]
    assert "(debug)" in found[0][2]
    assert not read(tmp_path, {"compose.yaml": body % ", required: false" + rest}).errors
    assert not read(tmp_path, {"compose.yaml": body % "" + rest}, COMPOSE_PROFILES="debug").errors


def test_r1_a_name_that_an_include_declares_differently_is_an_error_with_both_lines(tmp_path: Path) -> None:
    files = {
        "compose.yaml": "include: [sub/c.yaml]\nservices:\n  redis: {image: redis:7}\n  same: {image: x}\n",
        "sub/c.yaml": "services:\n  other: {image: x}\n  redis: {image: redis:6}\n  same: {image: x}\n",
    }
    found = read(tmp_path, files)
    assert [f.reason for f in found.errors] == ["NameTwice"]
    message = found.errors[0].message
    assert f"{tmp_path}/compose.yaml:3: redis of services is declared here" in message
    assert f"{tmp_path}/sub/c.yaml:3" in message
    assert "compose.override.yaml" in found.errors[0].remedy


def test_hostile_sizes_are_refused(tmp_path: Path) -> None:
    bomb = "x-a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"x-{'abcdefgh'[n]}: &{'abcdefgh'[n]} [{','.join(['*' + 'abcdefgh'[n - 1]] * 10)}]\n"
        for n in range(1, 8)
    )
    deep = "services: " + "{a: " * 200 + "1" + "}" * 200
    chain = (
        "services:\n" + "".join(f"  s{n}: {{extends: s{n + 1}}}\n" for n in range(2_000)) + "  s2000: {}\n"
    )
    for text, code in ((bomb, "TooManyValues"), (deep, "TooDeep"), (chain, "TooDeep")):
        with pytest.raises(ConfigError) as caught:
            read(tmp_path, {"compose.yaml": text})
        assert caught.value.code == code
    loop = {f"{n}.yaml": f"include: [{n + 1}.yaml]\n" for n in range(100)}
    with pytest.raises(ConfigError, match=r"nested deeper"):
        read(tmp_path, loop)
    (tmp_path / "compose.yaml").write_bytes(b"a" * (LARGEST_FILE_BYTES + 1))
    with pytest.raises(ConfigError) as caught:
        read_compose([tmp_path / "compose.yaml"], environment={})
    assert caught.value.code == "StackTooLarge"
    with pytest.raises(ConfigError, match=r"is a folder"):
        read_compose([tmp_path], environment={})


_ATOMS = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(
    ["", "a", "80:80", "$X", "${X:-y}", "1g", "10s", "all", "service:a", "./p:/q", "always", "A=1", "1.5"]
)  # fmt: skip
_VALUES = st.recursive(
    _ATOMS,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["a", "test", "target", "source", "type", "path", "service", "file", "condition", "limits",
             "resources", "devices", "context", "image", "driver", "retries", "name", "external"]
        ),
        inner, max_size=3,
    ),
    max_leaves=8,
)  # fmt: skip
_KEYS = st.sampled_from(
    ["image", "build", "command", "entrypoint", "environment", "env_file", "ports", "depends_on",
     "healthcheck", "restart", "deploy", "volumes", "networks", "labels", "gpus", "extends",
     "secrets", "configs", "scale", "mem_limit", "cpus", "ulimits", "devices", "extra_hosts",
     "logging", "links", "network_mode", "tmpfs", "profiles", "container_name", "stop_grace_period",
     "shm_size", "label_file", "blkio_config"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    service=st.dictionaries(_KEYS, _VALUES, max_size=5),
    top=st.dictionaries(
        st.sampled_from(["name", "volumes", "networks", "secrets", "configs", "include", "version"]), _VALUES,
        max_size=2,
    ),
    over=st.dictionaries(_KEYS, _VALUES, max_size=3),
)  # fmt: skip
def test_wrong_types_anywhere_are_errors_and_never_a_crash(
    tmp_path: Path, service: object, top: dict[str, object], over: object
) -> None:
    (tmp_path / "a.yaml").write_text(json.dumps({"services": {"a": service, "b": {"image": "x"}}, **top}))
    (tmp_path / "b.yaml").write_text(json.dumps({"services": {"a": over}}))
    with contextlib.suppress(ConfigError):
        found = read_compose([tmp_path / "a.yaml", tmp_path / "b.yaml"], environment={})
        json.dumps(found.as_dict())
        assert all(f.verdict is not Verdict.PASS and f.message and f.remedy for f in found.findings)
