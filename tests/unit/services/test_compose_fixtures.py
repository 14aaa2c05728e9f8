"""The real compose files of a trading stack, read as they are."""

from __future__ import annotations

from pathlib import Path

from fixtures_dir import fixture
from standfast.kernel.verdict import Verdict
from standfast.services.stacks.compose import default_files, read_compose
from standfast.services.stacks.graph import order
from standfast.services.stacks.model import Condition, Stack

ROOT = "trading/compose/docker-compose.yml"
INFRASTRUCTURE = "trading/compose/infrastructure/docker-compose.yml"


def stack(path: str, *profiles: str) -> Stack:
    file = fixture(path)
    files = default_files(file.parent, {})
    assert files == (file.absolute(),)
    return read_compose(files, environment={}, profiles=profiles).usable()


def test_the_infrastructure_stack_is_read_whole() -> None:
    found = stack(INFRASTRUCTURE)
    assert len(found.services) == 17
    assert found.inactive == ()
    meta = found.get("meta-controller")
    assert meta is not None
    assert (meta.line, meta.places["restart"].line) == (313, 334)
    assert [(d.name, d.condition, d.line) for d in meta.depends_on] == [
        ("kafka-1", Condition.READY, 317), ("kafka-2", Condition.READY, 319),
        ("kafka-3", Condition.READY, 321), ("redis", Condition.READY, 323),
        ("mlflow", Condition.STARTED, 325),
    ]  # fmt: skip
    assert [(g.number, g.driver) for g in meta.gpus] == [(1, "nvidia")]
    assert meta.build is not None
    assert Path(meta.build.context) == fixture("trading/compose") / "services/meta_controller"


def test_r3_the_services_without_a_restart_policy_are_known() -> None:
    found = stack(INFRASTRUCTURE)
    assert [s.name for s in found.services if s.restart is None] == [
        "timescaledb", "mlflow", "prometheus", "grafana", "redis", "zookeeper", "kafka-1", "kafka-2",
        "kafka-3", "data-service",
    ]  # fmt: skip
    assert [s.mem_limit_bytes for s in found.services] == [None] * 17


def test_the_order_of_start_is_three_deep() -> None:
    steps = order(stack(INFRASTRUCTURE))
    assert steps[0] == ["alertmanager", "redis", "timescaledb", "zookeeper"]
    assert sum(map(len, steps)) == 17
    assert "inference-service" in steps[2]


def test_numbers_in_an_environment_are_passed_on_as_compose_does() -> None:
    kafka = stack(INFRASTRUCTURE).get("kafka-1")
    assert kafka is not None
    assert kafka.env["KAFKA_BROKER_ID"] == "1"
    assert kafka.env["KAFKA_LOG_SEGMENT_BYTES"] == "1073741824"
    assert kafka.env["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert [(p.host, p.container) for p in kafka.ports] == [(9092, 9092), (19092, 19092)]


def test_profiles_of_the_root_stack() -> None:
    assert stack(ROOT).services == ()
    assert len(stack(ROOT).inactive) == 9
    assert [s.name for s in stack(ROOT, "infrastructure").services] == [
        "redis", "data-service", "online-learning",
    ]  # fmt: skip
    whole = stack(ROOT, "*")
    assert len(whole.services) == 9
    # `version` is the only thing that has no effect, and nothing is missing.
    assert [(f.verdict, f.reason, f.evidence["line"]) for f in whole.findings] == [
        (Verdict.SKIPPED, "KeyWithoutEffect", 1)
    ]
    backtest = whole.get("backtest")
    assert backtest is not None
    assert backtest.command is not None
    assert " ".join(backtest.command) == (
        "python run_backtest.py --symbol BTC-USD --start 2023-01-01 --end 2024-01-01 "
        "--capital 100000 --commission 0.001"
    )
    gpu = whole.get("ultrathink-gpu")
    assert gpu is not None
    assert gpu.options == {"runtime": "nvidia"}
