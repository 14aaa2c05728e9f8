"""Rules about stacks: ports, addresses, limits, restarts, order, checks, Kafka; clean ones say nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from lint_lab import only, places, report, rules
from standfast.services.lint.model import Severity

CLEAN = """
    services:
      db:
        image: postgres:16.4
        restart: unless-stopped
        volumes: [data:/var/lib/postgresql/data]
        healthcheck: {test: ["CMD-SHELL", "pg_isready -U app"], interval: 2s}
        deploy: {resources: {limits: {memory: 1G}}}
      migrate:
        image: example.org/app:1.4
        command: ["migrate"]
        depends_on: {db: {condition: service_healthy}}
        mem_limit: 256m
      api:
        image: example.org/app:1.4
        restart: always
        mem_limit: 512m
        ports: ["127.0.0.1:8000:8000"]
        environment:
          DATABASE_URL: postgresql://app:secret@db:5432/app
          PUBLIC_URL: http://localhost:3000
        depends_on:
          db: {condition: service_healthy}
          migrate: {condition: service_completed_successfully}
      web:
        image: nginx:1.27-alpine
        restart: unless-stopped
        mem_limit: 128m
        ports:
          - {target: 80, published: 8080}
        environment:
          - UPSTREAM=http://api:8000
        depends_on: {api: {condition: service_started}}
        healthcheck: {test: ["CMD", "curl", "-f", "http://localhost:80/"], interval: 1m}
    volumes:
      data:
"""


def test_a_clean_stack_gives_no_finding(tmp_path: Path) -> None:
    found = report(tmp_path, {"compose.yaml": CLEAN})
    assert [f"{f.line} {f.rule} {f.message}" for f in found.findings] == []
    assert found.has_evidence


def services(*bodies: str) -> dict[str, str]:
    """Return a stack of services that are clean but for what is written: ``name: {...}`` each."""
    lines = ["services:"]
    for body in bodies:
        name, _, rest = body.partition(":")
        lines.append(f"  {name}:")
        lines.append("    mem_limit: 1g")
        lines += [f"    {line}" for line in rest.strip("\n").split("\n") if line.strip()]
        if "restart" not in rest:
            lines.append("    restart: always")
        if "image:" not in rest and "build:" not in rest:
            lines.append("    image: example.org/x:1")
    return {"compose.yaml": "\n".join(lines) + "\n"}


def found_in(tmp_path: Path, *bodies: str) -> list[str]:
    return [f"{f.line} {f.rule}" for f in report(tmp_path, services(*bodies)).findings]


@pytest.mark.parametrize(
    ("first", "second", "is_found"),
    [
        ('ports: ["80:1"]', 'ports: ["80:2"]', True),
        ('ports: ["80:1"]', 'ports: ["80:2/udp"]', False),
        ('ports: ["127.0.0.1:80:1"]', 'ports: ["127.0.0.2:80:2"]', False),
        ('ports: ["127.0.0.1:80:1"]', 'ports: ["80:2"]', True),
        ('ports: ["1"]', 'ports: ["1"]', False),
        ('ports: ["8000-8005:8000-8005"]', 'ports: ["8003:1"]', True),
        ("ports: [{target: 1, published: 80}]", 'ports: ["80:9"]', True),
        ("ports: [{target: 1, published: 80, host_ip: 127.0.0.1}]", 'ports: ["127.0.0.1:80:9"]', True),
        ('ports: ["80:1"]\nprofiles: [a]', 'ports: ["80:2"]\nprofiles: [b]', False),
        ('ports: ["80:1"]\nprofiles: [a]', 'ports: ["80:2"]\nprofiles: [a, b]', True),
        ('ports: ["80:1"]', 'ports: ["80:2"]\nprofiles: [b]', True),
    ],
)
def test_v_duplicate_host_ports(tmp_path: Path, first: str, second: str, *, is_found: bool) -> None:
    found = report(tmp_path, services(f"one:\n{first}", f"two:\n{second}"))
    assert ("port-twice" in rules(found)) is is_found
    if is_found:
        assert only(found, "port-twice").subject == "two"


def test_v_three_services_that_want_one_port_are_two_findings(tmp_path: Path) -> None:
    found = report(tmp_path, services(*(f'{name}:\nports: ["80:1"]' for name in ("a", "b", "c"))))
    assert [f.subject for f in found.findings if f.rule == "port-twice"] == ["b", "c"]


def test_v_replicas_cannot_share_a_host_port(tmp_path: Path) -> None:
    assert "port-twice" in rules(report(tmp_path, services('a:\nports: ["80:1"]\nscale: 3')))
    assert "port-twice" not in rules(report(tmp_path, services('a:\nports: ["80-90:1"]\nscale: 3')))


CALLED = 'api:\nbuild: ./api\nports: ["18001:8001"]\nnetworks: {default: {aliases: [backend]}}'
API = {"api/Dockerfile": "FROM python:3.12-slim\nEXPOSE 8001\nCOPY main.py .\n", "api/main.py": "x = 1\n"}


@pytest.mark.parametrize(
    ("value", "severity"),
    [
        ("URL: http://api:8003", Severity.ERROR),
        ("URL: http://api:18001/health", Severity.ERROR),
        ("URL: http://backend:9/x", Severity.ERROR),
        ("API_HOST: api\n  API_PORT: 8003", Severity.ERROR),
        ("PEERS: api:8001,api:8003", Severity.ERROR),
        ("URL: http://api", Severity.ERROR),
        ("URL: http://api:8001/x", None),
        ("URL: http://user:pw@api:8001", None),
        ("URL: https://example.org:8003", None),
        ("URL: http://localhost:8003", None),
        ("API_HOST: api\n  API_PORT: 8001", None),
        ("CORS_ORIGINS: http://api:3000", None),
        ("TEXT: at 10:30 the api runs", None),
    ],
)
def test_v_a_url_whose_port_nobody_listens_on(tmp_path: Path, value: str, severity: Severity | None) -> None:
    found = report(tmp_path, {**services(CALLED, f"web:\nenvironment:\n  {value}"), **API})
    if severity is None:
        assert "url-port-closed" not in rules(found)
    else:
        assert only(found, "url-port-closed").severity is severity


def test_v_the_line_is_that_of_the_variable_in_either_form(tmp_path: Path) -> None:
    as_list = services(CALLED, "web:\nenvironment:\n  - A=1\n  - URL=http://api:8003")
    text = as_list["compose.yaml"].splitlines()
    assert places(report(tmp_path, {**as_list, **API}), "url-port-closed") == [
        f"compose.yaml:{text.index('      - URL=http://api:8003') + 1}"
    ]


def test_v_what_is_told_less_surely_is_said_less_surely(tmp_path: Path) -> None:
    """An image from elsewhere may listen on ports that it does not publish; sources may name one."""
    opaque = services('api:\nports: ["80:80"]', "web:\nenvironment: {URL: 'http://api:9000'}")
    assert only(report(tmp_path / "a", opaque), "url-port-closed").severity is Severity.INFO
    files = {**services("api:\nbuild: ./api", "web:\nenvironment: {URL: 'http://api:9000'}")}
    silent = {**files, "api/Dockerfile": "FROM python:3.12-slim\n"}
    assert only(report(tmp_path / "b", silent), "url-port-closed").severity is Severity.WARNING
    spoken = {**silent, "api/main.py": "import uvicorn\nuvicorn.run('a:b', port=9000)\n"}
    assert "url-port-closed" not in rules(report(tmp_path / "c", spoken))
    known = services("r:\nimage: redis:7", "web:\nenvironment: {URL: 'redis://r:6380'}")
    assert only(report(tmp_path / "d", known), "url-port-closed").severity is Severity.ERROR
    told = services(
        "r:\nimage: redis:7\ncommand: redis-server --port 6380", "w:\nenvironment: {U: 'redis://r:6380'}"
    )
    assert "url-port-closed" not in rules(report(tmp_path / "e", told))


def test_v_a_password_is_never_shown(tmp_path: Path) -> None:
    found = report(tmp_path, services("r:\nimage: redis:7", "w:\nenvironment: {U: 'redis://u:hunter2@r:1'}"))
    assert "hunter2" not in str(found.as_dict())


def test_v_a_host_that_no_service_has(tmp_path: Path) -> None:
    found = report(
        tmp_path, services("web:\nenvironment: {URL: 'http://apii:80', X: 'http://a.example.org'}")
    )
    assert only(found, "url-host-unknown").evidence["host"] == "apii"
    shared = services("web:\nenvironment: {URL: 'http://apii:80'}\nnetworks: [out]")
    shared["compose.yaml"] += "networks: {out: {external: true}}\n"
    assert "url-host-unknown" not in rules(report(tmp_path / "b", shared))


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ("restart: on-failure", "restart-on-failure"),
        ("restart: on-failure:5", "restart-on-failure"),
        ("deploy: {restart_policy: {condition: on-failure}}\nrestart_x: 0", "restart-on-failure"),
        ('restart: "no"', "restart-off"),
        ("restart: always", None),
        ("restart: unless-stopped", None),
        ("deploy: {restart_policy: {condition: any}}\nlabels: {restart: x}", None),
    ],
)
def test_r3_restart_policies(tmp_path: Path, body: str, wanted: str | None) -> None:
    found = report(tmp_path, services(f"a:\n{body}".replace("\nrestart_x: 0", "\nlabels: {restart: x}")))
    assert {rule for rule in rules(found) if rule.startswith("restart")} == ({wanted} if wanted else set())


def test_r3_services_of_a_profile_tasks_and_shells_need_no_policy(tmp_path: Path) -> None:
    text = """
        services:
          a: {image: "x:1", mem_limit: 1g, profiles: [dev]}
          b: {image: "x:1", mem_limit: 1g, stdin_open: true, tty: true}
          c: {image: "x:1", mem_limit: 1g}
          d: {image: "x:1", mem_limit: 1g, restart: always,
              depends_on: {c: {condition: service_completed_successfully}}}
          e: {image: "x:1", mem_limit: 1g}
    """
    found = report(tmp_path, {"compose.yaml": text})
    assert [f.subject for f in found.findings] == ["e"]
    assert only(found, "restart-missing").line == 7


def test_v_memory_limits_in_every_form(tmp_path: Path) -> None:
    text = """
        x-limits: &limits {deploy: {resources: {limits: {memory: 1G}}}}
        services:
          base: {image: "x:1", restart: always, mem_limit: 1g}
          a: {image: "x:1", restart: always, <<: *limits}
          b: {extends: {service: base}}
          c: {image: "x:1", restart: always, deploy: {resources: {reservations: {memory: 1G}}}}
    """
    found = report(tmp_path, {"compose.yaml": text})
    assert [f.subject for f in found.findings] == ["c"]
    assert only(found, "memory-limit-missing").evidence == {"without": 1, "of": 4}


def test_v_list_form_depends_on(tmp_path: Path) -> None:
    assert found_in(
        tmp_path, "db:\nimage: postgres:16", "api:\ndepends_on: [db]",
        "w:\ndepends_on: {api: {condition: service_started}}",
    ) == ["8 depends-on-list"]  # fmt: skip


def test_healthy_is_waited_for_and_nothing_checks(tmp_path: Path) -> None:
    found = report(
        tmp_path, services("db:\nimage: postgres:16", "api:\ndepends_on: {db: {condition: service_healthy}}")
    )
    assert only(found, "depends-on-unchecked").severity is Severity.ERROR
    own = {**services("db:\nbuild: ./db", "api:\ndepends_on: {db: {condition: service_healthy}}")}
    own["db/Dockerfile"] = "FROM postgres:16\nHEALTHCHECK CMD pg_isready\n"
    assert "depends-on-unchecked" not in rules(report(tmp_path / "b", own))
    # An image from elsewhere may bring a check.
    opaque = services("db:\n", "api:\ndepends_on: {db: {condition: service_healthy}}")
    assert rules(report(tmp_path / "c", opaque)) == set()


@pytest.mark.parametrize(
    ("check", "wanted"),
    [
        ("interval: 30s", Severity.WARNING),
        ("retries: 3", Severity.WARNING),
        ("interval: 10s", Severity.INFO),
        ("interval: 5s", None),
        ("interval: 30s, start_period: 60s, start_interval: 1s", None),
        ("interval: 30s, start_period: 60s", Severity.WARNING),
    ],
)
def test_an_interval_that_others_wait_for(tmp_path: Path, check: str, wanted: Severity | None) -> None:
    db = f'db:\nimage: postgres:16\nhealthcheck: {{test: ["CMD", "pg_isready"], {check}}}'
    found = report(tmp_path, services(db, "api:\ndepends_on: {db: {condition: service_healthy}}"))
    if wanted is None:
        assert rules(found) == set()
    else:
        assert only(found, "healthcheck-slow").severity is wanted


@pytest.mark.parametrize(
    ("image", "test", "is_found"),
    [
        ("redis:7-alpine", '["CMD", "redis-cli", "ping"]', False),
        ("redis:7", '["CMD", "curl", "-f", "http://localhost"]', True),
        ("postgres:16", '["CMD-SHELL", "pg_isready -U x || exit 1"]', False),
        ("postgres:16", '["CMD-SHELL", "curl -f localhost"]', True),
        (
            "prom/prometheus:v3.0.0",
            '["CMD", "wget", "-q", "--spider", "http://localhost:9090/-/ready"]',
            False,
        ),
        ("prom/prometheus:v3.0.0", '["CMD", "curl", "-f", "http://localhost:9090"]', True),
        ("grafana/grafana:11.2.0", '["CMD", "curl", "-f", "http://localhost:3000"]', False),
        ("nats:2.10", '["CMD-SHELL", "wget -q x"]', True),
        ("nats:2.10-alpine", '["CMD-SHELL", "wget -q x"]', False),
        ("qdrant/qdrant:v1.12", '["CMD", "curl", "-f", "x"]', True),
        ("ollama/ollama:0.3", '["CMD", "ollama", "list"]', False),
        (
            "confluentinc/cp-zookeeper:7.5.0",
            '["CMD-SHELL", "echo srvr | nc localhost 2181 | grep Mode"]',
            False,
        ),
        ("example.org/x:1", '["CMD", "curl", "-f", "x"]', False),
        ("nginx:1.27", '["NONE"]', False),
    ],
)
def test_v_health_check_programs_of_known_images(
    tmp_path: Path, image: str, test: str, *, is_found: bool
) -> None:
    found = report(tmp_path, services(f"a:\nimage: {image}\nhealthcheck: {{test: {test}, interval: 2s}}"))
    assert ("healthcheck-program" in rules(found)) is is_found


def test_l2_tags(tmp_path: Path) -> None:
    bodies = [
        f"s{n}:\nimage: {i}"
        for n, i in enumerate(("a", "a:latest", "r:5000/a", "a:1", "a@sha256:" + "0" * 64))
    ]
    found = report(tmp_path, services(*bodies))
    assert [f.subject for f in found.findings] == ["a", "a:latest", "r:5000/a"]
    built = {
        **services("a:\nbuild: ./a\nimage: mine", "b:\nimage: mine"),
        "a/Dockerfile": "FROM python:3.12-slim\n",
    }
    assert rules(report(tmp_path / "b", built)) == set()


def test_v_builds_that_are_not_there(tmp_path: Path) -> None:
    files = services(
        "a:\nbuild: ./nope", "b:\nbuild: {context: ./b, dockerfile: Other}",
        "c:\nbuild: {context: ./b, target: x}", "d:\nbuild: https://example.org/repo.git",
        "e:\nbuild: {context: ./b, dockerfile_inline: FROM x}",
        "f:\nbuild: ./b",
    )  # fmt: skip
    found = report(tmp_path, {**files, "b/Dockerfile": "FROM python:3.12-slim\nCOPY nope.py .\n"})
    assert [f.subject for f in found.findings if f.rule == "build-missing"] == ["a", "b", "c"]
    assert only(found, "copy-missing").severity is Severity.ERROR


def test_v_volumes_and_mounts(tmp_path: Path) -> None:
    files = services(
        'a:\nvolumes: ["data:/data", "./x.conf:/x.conf", "./there.conf:/y", "./folder:/z", "/run/d.sock:/s"]'
    )
    found = report(tmp_path, {**files, "there.conf": "x"})
    assert only(found, "compose-invalid").evidence["reason"] == "VolumeUnknown"
    assert "x.conf" in only(found, "bind-missing").message


def test_gpu_services_without_a_gpu(tmp_path: Path) -> None:
    reserved = (
        "deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]}}}"
    )
    files = services(
        "a:\nenvironment: {CUDA_VISIBLE_DEVICES: 0}", "b:\nimage: nvidia/cuda:12.8.1-base-ubuntu22.04",
        f"c:\nimage: nvidia/cuda:12.8.1-base-ubuntu22.04\n{reserved}",
        "d:\nruntime: nvidia\nenvironment: {NVIDIA_VISIBLE_DEVICES: all}",
        "e:\nenvironment: {CUDA_VISIBLE_DEVICES: ''}",
        "f:\nimage: nvidia/cuda:12.8.1-base-ubuntu22.04\ngpus: all",
    )  # fmt: skip
    assert [f.subject for f in report(tmp_path, files).findings] == ["a", "b"]


def test_v_variables_that_no_shell_expands(tmp_path: Path) -> None:
    files = services(
        'a:\nimage: redis:7\nhealthcheck: {test: ["CMD", "redis-cli", "-a", "$$PASS", "ping"], interval: 2s}',
        'b:\nimage: redis:7\nhealthcheck: {test: ["CMD-SHELL", "redis-cli -a $$PASS ping"], interval: 2s}',
        'c:\ncommand: ["sh", "-c", "exec x --port $$PORT"]', 'd:\ncommand: ["x", "--port", "$$PORT"]',
    )  # fmt: skip
    found = report(tmp_path, files)
    assert [f.line for f in found.findings] == [5, 19]
    assert rules(found) == {"exec-variable"}


KAFKA = """
    services:
      {brokers}
"""


def broker(number: int, **settings: object) -> str:
    env = {"KAFKA_NODE_ID": number, "KAFKA_CLUSTER_ID": "x", **settings}
    lines = "\n".join(f"  {key}: '{value}'" for key, value in env.items())
    return f"k{number}:\nimage: confluentinc/cp-kafka:7.6.0\nenvironment:\n{lines}"


@pytest.mark.parametrize(
    ("count", "factor", "in_step", "severity"),
    [
        (3, 3, 2, None),
        (3, 2, 1, None),
        (3, 2, 2, Severity.WARNING),
        (3, 1, 1, Severity.WARNING),
        (3, 3, 3, Severity.WARNING),
        (3, 4, 2, Severity.ERROR),
        (1, 1, 1, None),
        (1, 3, 1, Severity.ERROR),
    ],
)
def test_v_replication(
    tmp_path: Path, count: int, factor: int, in_step: int, severity: Severity | None
) -> None:
    settings = {"KAFKA_DEFAULT_REPLICATION_FACTOR": factor, "KAFKA_MIN_INSYNC_REPLICAS": in_step}
    found = report(tmp_path, services(*(broker(n, **settings) for n in range(count))))
    wanted = [severity] * count if severity else []
    assert [f.severity for f in found.findings if f.rule == "kafka-replication"] == wanted


CLOSED = {"KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false"}
USER = "app:\nenvironment: {KAFKA_BOOTSTRAP_SERVERS: 'k1:9092', ORDERS_TOPIC: orders}"


@pytest.mark.parametrize(
    ("more", "files", "missing"),
    [
        ((), {}, ["orders"]),
        (("init:\ncommand: kafka-topics --create --topic orders --bootstrap-server k1:9092",), {}, []),
        (("init:\ncommand: kafka-topics --create --topic other --bootstrap-server k1:9092",), {}, ["orders"]),
        ((), {"topics.sh": "for t in orders fills; do kafka-topics.sh --create --topic $t; done\n"}, []),
        ((), {"admin.py": "import kafka.admin\nkafka.admin.NewTopic(name='orders', x=3)\n"}, []),
        ((), {"app.py": "import kafka\nc = KafkaConsumer('fills')\np.send('orders', b'')\n"},
         ["fills", "orders", "orders"]),
        ((), {"app.py": "mailer.send('welcome', user)\n"}, ["orders"]),
    ],
)  # fmt: skip
def test_v_topics(tmp_path: Path, more: tuple[str, ...], files: dict[str, str], missing: list[str]) -> None:
    found = report(tmp_path, {**services(broker(1, **CLOSED), USER, *more), **files})
    assert (
        sorted(f.subject for f in found.findings if f.rule == "topic-missing" and f.subject != "k1")
        == missing
    )


def test_v_brokers_that_create_topics_need_nobody_to(tmp_path: Path) -> None:
    assert "topic-missing" not in rules(report(tmp_path, services(broker(1), USER)))


def test_stacks_of_one_project_and_stacks_of_their_own(tmp_path: Path) -> None:
    one = services('api:\ncontainer_name: the-api\nports: ["80:80"]')["compose.yaml"]
    nested = report(tmp_path / "a", {"compose.yaml": one, "infra/compose.yaml": one})
    assert only(nested, "name-twice").severity is Severity.WARNING
    assert only(nested, "port-twice-across").severity is Severity.WARNING
    apart = report(tmp_path / "b", {"x/compose.yaml": one, "y/compose.yaml": one})
    assert {f.severity for f in apart.findings} == {Severity.INFO}


def test_an_override_completes_and_an_overlay_is_no_rival(tmp_path: Path) -> None:
    base = "services:\n  api: {image: 'x:1', restart: always}\n"
    over = "services:\n  api: {mem_limit: 1g}\n"
    assert report(tmp_path / "a", {"compose.yaml": base, "compose.override.yaml": over}).findings == ()
    found = report(tmp_path / "b", {"compose.yaml": base, "compose.prod.yaml": over})
    assert rules(found) == {"memory-limit-missing"}


def test_what_another_file_may_complete_is_a_warning(tmp_path: Path) -> None:
    text = """
        services:
          a: {mem_limit: 1g}
          b: {build: ., restart: always, mem_limit: 1g}
          c: {image: "x:1", restart: always, mem_limit: 1g, env_file: [.env]}
    """
    found = report(tmp_path, {"local/docker-compose.gpu.yml": text})
    assert {(f.rule, f.subject, f.severity) for f in found.findings} >= {
        ("compose-invalid", "", Severity.WARNING), ("build-missing", "b", Severity.WARNING),
        ("compose-invalid", "", Severity.INFO),
    }  # fmt: skip
    assert Severity.ERROR not in {f.severity for f in found.findings}
    alone = report(tmp_path / "x", {"docker-compose.yml": text})
    assert {f.rule for f in alone.findings if f.severity is Severity.ERROR} == {
        "compose-invalid",
        "build-missing",
    }
