"""Compose files as they are: several files, includes, extended services, profiles, variables, long forms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from standfast.kernel.errors import ConfigError
from standfast.kernel.verdict import Verdict
from standfast.services.stacks.compose import default_files, read_compose
from standfast.services.stacks.graph import cycles, order
from standfast.services.stacks.model import Condition, DeclaredService, Stack


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def stack(
    folder: Path, *names: str, files: Mapping[str, str], profiles: tuple[str, ...] = (), **env: str
) -> Stack:
    write(folder, files)
    paths = [folder / name for name in names or ("compose.yaml",)]
    return read_compose(paths, environment=env, profiles=profiles)


def service(folder: Path, body: str, rest: str = "", **env: str) -> DeclaredService:
    text = f"services:\n  web:\n    image: web\n{body}{rest}"
    write(folder, {"compose.yaml": text})
    return read_compose([folder / "compose.yaml"], environment=env).usable().services[0]


def test_every_key_of_a_service_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"a.env": "A=file\nB=file\n"})
    body = """\
    build: {context: ./src, args: [X=1, FROM_OUTSIDE], target: prod, network: host}
    command: python -m "my app"
    entrypoint: []
    environment: {A: own, N: 1.0, FLAG: true, FROM_OUTSIDE: , NOT_SET: }
    env_file: a.env
    ports: ["8080:80", {target: 53, published: "5353", protocol: udp}]
    depends_on: {db: {condition: service_healthy}, job: {condition: service_completed_successfully}}
    healthcheck: {test: curl -f localhost, interval: 1m30s, timeout: 500ms, retries: 3, start_period: 40s}
    restart: on-failure:5
    deploy:
      replicas: 2
      resources:
        limits: {memory: 6G, cpus: "1.5"}
        reservations: {devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]}
    volumes: ["./data:/data:ro", "cache:/cache", /anonymous]
    networks: {back: {aliases: [w]}}
    labels: [a=b, c]
    user: 1000:1000
    working_dir: /srv
    stop_signal: SIGINT
    stop_grace_period: 20s
    shm_size: 1g
    extra_hosts: ["h:1.2.3.4"]
  db: {image: db}
  job: {image: job}
"""
    rest = "volumes: {cache: }\nnetworks: {back: {driver: bridge}}\n"
    web = service(tmp_path, body, rest, FROM_OUTSIDE="outside")
    assert web.build is not None
    assert (web.build.context, web.build.dockerfile, web.build.target) == (
        str(tmp_path / "src"), "Dockerfile", "prod",
    )  # fmt: skip
    assert web.build.args == {"X": "1"} | {"FROM_OUTSIDE": "outside"}
    assert web.build.options == {"network": "host"}
    assert (web.command, web.entrypoint) == (("python", "-m", "my app"), ())
    assert web.env == {"A": "own", "B": "file", "N": "1", "FLAG": "true", "FROM_OUTSIDE": "outside"}
    assert [(p.container, p.host, p.protocol, p.line) for p in web.ports] == [
        (80, 8080, "tcp", 9), (53, 5353, "udp", 9),
    ]  # fmt: skip
    assert [(d.name, d.condition, d.line) for d in web.depends_on] == [
        ("db", Condition.READY, 10), ("job", Condition.COMPLETED, 10),
    ]  # fmt: skip
    assert web.healthcheck is not None
    assert web.healthcheck.test == ("CMD-SHELL", "curl -f localhost")
    assert (web.healthcheck.interval_s, web.healthcheck.timeout_s) == (90, 0.5)
    assert web.restart is not None
    assert (web.restart.policy, web.restart.most) == ("on-failure", 5)
    assert (web.mem_limit_bytes, web.cpus, web.replicas) == (6 * 1024**3, 1.5, 2)
    assert [(g.number, g.driver, g.capabilities) for g in web.gpus] == [(1, "nvidia", ("gpu",))]
    assert [(m.kind, m.source, m.target, m.is_read_only) for m in web.volumes] == [
        ("bind", str(tmp_path / "data"), "/data", True),
        ("volume", "cache", "/cache", False),
        ("volume", "", "/anonymous", False),
    ]
    assert [(n.name, n.aliases) for n in web.networks] == [("back", ("w",))]
    assert web.labels == {"a": "b", "c": ""}
    assert (web.user, web.working_dir, web.stop_signal, web.stop_grace_s) == (
        "1000:1000",
        "/srv",
        "SIGINT",
        20,
    )
    assert web.options == {"shm_size": 1024**3, "extra_hosts": ["h=1.2.3.4"]}
    assert (web.line, web.places["restart"].line) == (2, 12)
    assert web.as_dict()["healthcheck"]["retries"] == 3


def test_later_files_go_over_earlier_ones(tmp_path: Path) -> None:
    base = """\
services:
  web:
    image: one
    command: [a, b]
    environment: {A: 1, B: 2}
    ports: ["80:80"]
    dns: 1.1.1.1
    volumes: ["./a:/data", "./b:/other"]
    depends_on: [db]
    labels: [x=1]
  db: {image: db}
"""
    over = """\
services:
  web:
    image: two
    command: c
    environment: [B=3, C=4]
    ports: ["81:81"]
    dns: [8.8.8.8]
    volumes: ["./c:/data"]
    depends_on: {db: {condition: service_healthy}}
    labels: {x: }
  extra: {image: extra}
"""
    found = stack(
        tmp_path, "compose.yaml", "sub/over.yaml", files={"compose.yaml": base, "sub/over.yaml": over}
    ).usable()
    web = found.get("web")
    assert web is not None
    assert (web.image, web.command) == ("two", ("c",))
    assert web.env == {"A": "1", "B": "3", "C": "4"}
    assert [port.host for port in web.ports] == [80, 81]
    assert web.options["dns"] == ["1.1.1.1", "8.8.8.8"]
    # Paths count from the first file's folder, whichever file they stand in.
    assert [mount.source for mount in web.volumes] == [str(tmp_path / "c"), str(tmp_path / "b")]
    assert web.depends_on[0].condition is Condition.READY
    assert [s.name for s in found.services] == ["web", "db", "extra"]
    assert web.places["image"].file.name == "compose.yaml"


def test_reset_removes_and_override_replaces(tmp_path: Path) -> None:
    base = (
        "services:\n  web:\n    image: a\n    ports: ['80:80']\n    environment: {A: 1, B: 2}\n    user: me\n"
    )
    over = (
        "services:\n  web:\n    ports: !override ['81:81']\n    environment: {A: !reset null}\n"
        "    user: !reset null\n"
    )
    web = stack(tmp_path, "a.yaml", "b.yaml", files={"a.yaml": base, "b.yaml": over}).usable().services[0]
    assert [port.host for port in web.ports] == [81]
    assert (web.env, web.user) == ({"B": "2"}, "")


def test_the_override_file_and_compose_file_are_picked_up_as_compose_does(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no compose file"):
        default_files(tmp_path, {})
    write(tmp_path, {"docker-compose.yml": "", "docker-compose.override.yml": "", "compose.yaml": ""})
    names = [path.name for path in default_files(tmp_path, {})]
    assert names == ["compose.yaml", "docker-compose.override.yml"]
    write(tmp_path, {".env": "COMPOSE_FILE=x.yml:y.yml\n"})
    assert [path.name for path in default_files(tmp_path, {})] == ["x.yml", "y.yml"]
    assert [path.name for path in default_files(tmp_path, {"COMPOSE_FILE": "z.yml"})] == ["z.yml"]


def test_an_include_has_its_own_folder_and_variables(tmp_path: Path) -> None:
    files = {
        "compose.yaml": "include:\n  - sub/compose.yaml\n  - path: [other/a.yaml, other/b.yaml]\n"
        "    project_directory: .\n    env_file: other/vars\nservices:\n  web:\n    image: web:${TAG:-none}\n"
        "    depends_on: [db]\n",
        "sub/compose.yaml": "services:\n  db:\n    image: db:$TAG\n    volumes: ['./d:/d']\n    build: {}\n"
        "    environment: [TAG, OUT]\n",
        "sub/.env": "TAG=sub\nOUT=sub\n",
        "other/a.yaml": "services:\n  job:\n    image: job:$TAG\n    volumes: ['./d:/d']\n",
        "other/b.yaml": "services:\n  job:\n    user: me\n",
        "other/vars": "TAG=vars\n",
    }
    found = stack(tmp_path, files=files, OUT="outside").usable()
    db, job, web = (found.get(name) for name in ("db", "job", "web"))
    assert db is not None
    assert db.build is not None
    assert job is not None
    assert web is not None
    assert (db.image, job.image, web.image) == ("db:sub", "job:vars", "web:none")
    assert db.env == {"TAG": "sub", "OUT": "outside"}
    assert (db.volumes[0].source, db.build.context) == (str(tmp_path / "sub/d"), str(tmp_path / "sub"))
    assert (job.volumes[0].source, job.user) == (str(tmp_path / "d"), "me")
    assert db.file == tmp_path / "sub/compose.yaml"
    assert len(found.read) == 4


def test_a_service_extends_another_in_the_same_or_another_file(tmp_path: Path) -> None:
    files = {
        "compose.yaml": "services:\n  web:\n    extends: {file: sub/common.yaml, service: app}\n"
        "    environment: [B=own]\n  local:\n    extends: web\n    image: local\n",
        "sub/common.yaml": "services:\n  app:\n    extends: base\n    build: ./src\n"
        "    environment: {A: 1, B: 2}\n  base:\n    image: base\n    env_file: e\n    command: run\n",
        "sub/e": "FROM_FILE=yes\n",
    }
    found = stack(tmp_path, files=files).usable()
    web, local = found.services
    assert web.build is not None
    assert web.build.context == str(tmp_path / "sub/src")
    assert (web.image, web.command, local.image) == ("base", ("run",), "local")
    assert web.env == local.env == {"A": "1", "B": "own", "FROM_FILE": "yes"}
    assert [s.name for s in found.services] == ["web", "local"]


def test_profiles_decide_what_runs(tmp_path: Path) -> None:
    text = (
        "services:\n  a: {image: a}\n  b: {image: b, profiles: [debug]}\n"
        "  c: {image: c, profiles: [test, debug]}\n"
    )
    files = {"compose.yaml": text}

    def names(**how: object) -> list[str]:
        found = read_compose([tmp_path / "compose.yaml"], **({"environment": {}} | how))  # type: ignore[arg-type]
        assert len(found.services) + len(found.inactive) == 3
        return [s.name for s in found.services]

    write(tmp_path, files)
    assert names() == ["a"]
    assert names(profiles=["test"]) == ["a", "c"]
    assert names(profiles=["*"]) == ["a", "b", "c"]
    assert names(environment={"COMPOSE_PROFILES": "x, debug"}) == ["a", "b", "c"]
    assert names(profiles=["test"], environment={"COMPOSE_PROFILES": "debug"}) == ["a", "c"]
    assert names(named=["c"]) == ["a", "b", "c"]


def test_variables_come_from_outside_then_from_the_env_file(tmp_path: Path) -> None:
    files = {
        ".env": "TAG=file\nPORT=8080\n",
        "compose.yaml": "name: My-Stack\nservices:\n  web:\n    image: ${COMPOSE_PROJECT_NAME}:$TAG\n"
        "    ports: ['$PORT:80']\n    user: ${WHO}\n",
    }
    found = stack(tmp_path, files=files, PORT="9090").usable()
    web = found.services[0]
    assert (found.name, web.image, web.ports[0].host) == ("my-stack", "my-stack:file", 9090)
    warning = next(f for f in found.findings if f.reason == "VariableUnset")
    assert warning.verdict is Verdict.UNKNOWN
    assert warning.message == f"{tmp_path}/compose.yaml:6: the variable WHO is not set: it is blank here"


def test_extensions_and_anchors_are_ordinary(tmp_path: Path) -> None:
    text = (
        "x-common: &common\n  restart: always\n  environment: {A: 1}\nservices:\n  web:\n    <<: *common\n"
        "    image: web\n    x-note: mine\n"
    )
    found = stack(tmp_path, files={"compose.yaml": text}).usable()
    assert found.findings == ()
    assert found.services[0].restart is not None


def test_what_has_no_effect_here_is_said_and_is_no_error(tmp_path: Path) -> None:
    text = (
        "version: '3.8'\nservices:\n  web:\n    image: web\n    develop: {watch: []}\n"
        "    deploy: {update_config: {parallelism: 2}}\n    build: {context: ., cache_from: [x]}\n"
    )
    found = stack(tmp_path, files={"compose.yaml": text}).usable()
    said = {f.message.split(": ", 1)[1] for f in found.findings}
    assert said == {
        f"{key} has no effect here"
        for key in ("version", "services.web.develop", "services.web.deploy.update_config",
                    "services.web.build.cache_from")
    }  # fmt: skip
    assert {f.verdict for f in found.findings} == {Verdict.SKIPPED}
    assert [(u.key, u.line, u.changes_what_runs) for u in found.services[0].unsupported] == [
        ("services.web.deploy.update_config", 6, False), ("services.web.develop", 5, False),
    ]  # fmt: skip


def test_a_command_that_compose_cuts_short_is_a_warning(tmp_path: Path) -> None:
    text = "services:\n  web:\n    image: web\n    command: migrate && serve\n"
    found = stack(tmp_path, files={"compose.yaml": text}).usable()
    assert found.services[0].command == ("migrate",)
    assert [(f.reason, f.verdict) for f in found.findings] == [("CommandCut", Verdict.UNKNOWN)]
    assert "'&& serve'" in found.findings[0].message


def test_secrets_and_configs_that_are_files_become_mounts(tmp_path: Path) -> None:
    rest = "secrets: {key: {file: ./key.txt}}\nconfigs: {conf: {file: ./c.ini}}\n"
    body = "    secrets: [key, {source: key, target: other}]\n"
    body += "    configs: [{source: conf, target: /etc/c.ini}]\n"
    web = service(tmp_path, body, rest)
    assert [(m.source, m.target, m.is_read_only) for m in web.volumes] == [
        (str(tmp_path / "key.txt"), "/run/secrets/key", True),
        (str(tmp_path / "key.txt"), "/run/secrets/other", True),
        (str(tmp_path / "c.ini"), "/etc/c.ini", True),
    ]


def test_what_is_shared_with_another_service_makes_a_dependency(tmp_path: Path) -> None:
    body = "    links: ['db:database']\n    pid: service:a\n    volumes_from: [b, container:c]\n"
    rest = "  db: {image: x}\n  a: {image: x}\n  b: {image: x}\n"
    assert [d.name for d in service(tmp_path, body, rest).depends_on] == ["db", "a", "b"]


def test_resources_get_the_names_that_the_engine_knows(tmp_path: Path) -> None:
    text = (
        "name: st\nservices: {a: {image: a}}\nvolumes: {v: , own: {name: x}, out: {external: true}}\n"
        "networks: {n: {driver: bridge, internal: true}}\n"
    )
    found = stack(tmp_path, files={"compose.yaml": text}).usable()
    assert {key: (r.name, r.is_external) for key, r in found.volumes.items()} == {
        "v": ("st_v", False), "own": ("x", False), "out": ("out", True),
    }  # fmt: skip
    assert found.networks["n"].options == {"internal": True}


def test_the_order_of_start_follows_the_dependencies(tmp_path: Path) -> None:
    text = (
        "services:\n  a: {image: x, depends_on: [b, c]}\n  b: {image: x, depends_on: [d]}\n"
        "  c: {image: x, depends_on: [d]}\n  d: {image: x}\n"
    )
    assert order(stack(tmp_path, files={"compose.yaml": text})) == [["d"], ["b", "c"], ["a"]]


@pytest.mark.parametrize(
    ("edges", "found"),
    [
        ({}, []),
        ({"a": ["b"], "b": []}, []),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, []),
        ({"a": ["a"]}, [["a"]]),
        ({"a": ["b"], "b": ["a"]}, [["a", "b"]]),
        ({"a": ["b"], "b": ["c"], "c": ["b", "d"], "d": []}, [["b", "c"]]),
        ({"a": ["nowhere"]}, []),
    ],
)
def test_circles_are_found_once(edges: dict[str, list[str]], found: list[list[str]]) -> None:
    assert cycles(edges) == found


def test_a_long_chain_is_walked_without_recursion() -> None:
    chain = {str(n): [str(n + 1)] for n in range(5_000)}
    assert cycles(chain) == []
    assert cycles({**chain, "5000": ["0"]})[0][:2] == ["0", "1"]
