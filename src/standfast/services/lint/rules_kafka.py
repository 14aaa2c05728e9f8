"""Rules about Kafka: replication that survives the loss of a broker, and topics that somebody creates.

Defaults are those of the Kafka documentation ("Broker Configs"): default.replication.factor 1,
min.insync.replicas 1, auto.create.topics.enable true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from standfast.services.lint.model import Hit, Severity, Spot
from standfast.services.lint.monitoring import MetricRule
from standfast.services.lint.promql import selectors
from standfast.services.lint.sources import made_topics
from standfast.services.lint.tree import DeclaredStack, LintService, Tree

_KEY = re.compile(r"KAFKA_(?:CFG_)?(.+)")
_IMAGE = re.compile(r"(?:^|/)(?:cp-kafka|cp-server|kafka|kafka-native)$")
_SHARED_KEYS = ("ZOOKEEPER_CONNECT", "CONTROLLER_QUORUM_VOTERS", "CLUSTER_ID", "KRAFT_CLUSTER_ID")
#: What is kept how often, and what must be in step for a write that asks for all of them.
_PAIRS = (
    ("DEFAULT_REPLICATION_FACTOR", "MIN_INSYNC_REPLICAS", "topics"),
    ("OFFSETS_TOPIC_REPLICATION_FACTOR", "MIN_INSYNC_REPLICAS", "consumer offsets"),
    ("TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "TRANSACTION_STATE_LOG_MIN_ISR", "transactions"),
)
_TOPIC_KEY = re.compile(r"(?:^|_)TOPICS?(?:_NAMES?)?(?:$|_(?!PARTITIONS|REPLICATION|RETENTION|COUNT|CONFIG))")
_NO_TOPICS = frozenset({"true", "false", "yes", "no"})
_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,248}")
_CLIENT_KEY = re.compile(r"KAFKA.*(?:BOOTSTRAP|BROKER|SERVERS|HOSTS?$|URL)|BOOTSTRAP_SERVERS?$")


class Broker(NamedTuple):
    """A service that runs a broker, with its settings and the variable that each comes from."""

    service: LintService
    settings: dict[str, tuple[str, str]]

    def number(self, key: str) -> int | None:
        """Return a setting as a number."""
        value = self.settings.get(key, ("", ""))[0]
        return int(value) if value.isdigit() else None

    def spot(self, key: str) -> Spot:
        """Return where a setting stands, or where the service does."""
        variable = self.settings.get(key, ("", ""))[1]
        return self.service.at("environment", variable) if variable else self.service.spot


def brokers(tree: Tree, stack: DeclaredStack) -> list[Broker]:
    """Return the brokers of a stack; controllers that keep no data are none."""
    found: list[Broker] = []
    for service in tree.services_of(stack):
        settings = {
            match[1]: (value.strip(), key)
            for key, value in service.declared.env.items()
            if (match := _KEY.fullmatch(key))
        }
        is_image = service.ref is not None and _IMAGE.search(service.ref.name) is not None
        is_broker = is_image or ("ADVERTISED_LISTENERS" in settings and "BOOTSTRAP_SERVERS" not in settings)
        roles = settings.get("PROCESS_ROLES", ("broker", ""))[0]
        if is_broker and "broker" in roles:
            found.append(Broker(service, settings))
    return found


def _clusters(tree: Tree, stack: DeclaredStack) -> list[list[Broker]]:
    groups: dict[str, list[Broker]] = {}
    for broker in brokers(tree, stack):
        key = next((broker.settings[k][0] for k in _SHARED_KEYS if k in broker.settings), "")
        groups.setdefault(key, []).append(broker)
    return list(groups.values())


def judge_replication(tree: Tree) -> Iterator[Hit]:
    """Judge whether a cluster keeps taking writes when one broker is gone."""
    for stack in tree.stacks:
        for cluster in _clusters(tree, stack):
            size = sum(max(1, broker.service.declared.replicas) for broker in cluster)
            for broker in cluster:
                yield from _judge_broker(broker, size)


def _judge_broker(broker: Broker, size: int) -> Iterator[Hit]:
    name = broker.service.name
    for factor_key, _, what in _PAIRS:
        factor = broker.number(factor_key)
        if factor is not None and factor > size:
            yield Hit(
                broker.spot(factor_key), f"{what} are to be kept {factor} times, and there are {size} "
                "brokers: they cannot be created", f"{factor_key} at most {size}", name, Severity.ERROR,
                {"factor": factor, "brokers": size},
            )  # fmt: skip
    weak = [found for pair in _PAIRS if (found := _weak(broker, *pair)) is not None] if size > 1 else []
    if weak:
        said = "; ".join(text for _, text in weak)
        yield Hit(
            broker.spot(weak[0][0]), f"{size} brokers, and the loss of one is not survived: {said}",
            "replication factor 3 with min.insync.replicas 2 (one more copy than must be in step)", name,
            evidence={"brokers": size, "settings": [key for key, _ in weak]},
        )  # fmt: skip


def _weak(broker: Broker, factor_key: str, in_step_key: str, what: str) -> tuple[str, str] | None:
    factor, in_step = broker.number(factor_key), broker.number(in_step_key) or 1
    if factor is None:
        # Unset internal topics have three copies; an unset default is one.
        return (factor_key, f"{what} have one copy (default)") if factor_key == _PAIRS[0][0] else None
    if factor == 1:
        return factor_key, f"{what} have one copy"
    if factor - in_step < 1:
        return factor_key, f"{what} have {factor} copies and {in_step} must be in step for a write"
    return None


class _Used(NamedTuple):
    topic: str
    spot: Spot
    who: str


def judge_topics(tree: Tree) -> Iterator[Hit]:
    """Judge topics that are used, where brokers create none by themselves and nobody else does."""
    closed = [b for stack in tree.stacks for b in brokers(tree, stack) if _is_closed(b)]
    if not closed:
        return
    made = _made(tree)
    used = list(_used(tree, closed))
    seen: set[tuple[str, Spot]] = set()
    for one in used:
        if one.topic not in made and (one.topic, one.spot) not in seen:
            seen.add((one.topic, one.spot))
            yield Hit(
                one.spot, f"the topic {one.topic} is used by {one.who}, nothing here creates it, and the "
                f"brokers do not either ({closed[0].service.name}, line {_auto(closed[0]).line})",
                f"create it before its users start: kafka-topics --create --topic {one.topic}", one.topic,
                evidence={"topic": one.topic, "used_by": one.who},
            )  # fmt: skip
    clients = _clients(tree, closed)
    if clients and not made:
        yield Hit(
            _auto(closed[0]), "the brokers create no topics, nothing in what was read does, and "
            f"{', '.join(clients)} use them", "add a service that runs kafka-topics --create once",
            closed[0].service.name, Severity.WARNING, {"clients": clients},
        )  # fmt: skip


def _is_closed(broker: Broker) -> bool:
    return broker.settings.get("AUTO_CREATE_TOPICS_ENABLE", ("", ""))[0].lower() in ("false", "no", "0")


def _auto(broker: Broker) -> Spot:
    return broker.spot("AUTO_CREATE_TOPICS_ENABLE")


def _made(tree: Tree) -> set[str]:
    """Return every word that stands where topics are created; names may come through variables."""
    composed = {file for stack in tree.stacks for file in stack.stack.read}
    made = {word for source in tree.sources if source.path not in composed for word in source.makes}
    for service in tree.services:
        declared = service.declared
        text = " ".join((*(declared.entrypoint or ()), *(declared.command or ())))
        listed = " ".join(f"{k}={v}" for k, v in declared.env.items() if "CREATE_TOPICS" in k)
        made |= made_topics(f"{text} {listed}")
    return made


def _used(tree: Tree, closed: list[Broker]) -> Iterator[_Used]:
    own = {broker.service.name for broker in closed}
    for service in tree.services:
        if service.name not in own:
            yield from _told(service)
    for source in tree.sources:
        yield from (_Used(use.topic, Spot(use.file, use.line), use.file.name) for use in source.uses)
    for rules in tree.rule_files:
        for rule in rules.rules:
            for topic in _watched(rule):
                yield _Used(topic, Spot(rules.path, rule.line_of(topic)), f"the {rule.kind} {rule.name}")


def _told(service: LintService) -> Iterator[_Used]:
    """Yield the topics that the environment of a service names."""
    for key, value in service.declared.env.items():
        if _TOPIC_KEY.search(key.upper()) and "CREATE_TOPICS" not in key:
            for topic in re.split(r"[,;\s]+", value):
                if _TOPIC.fullmatch(topic) and not topic.isdigit() and topic.lower() not in _NO_TOPICS:
                    yield _Used(topic, service.at("environment", key), service.name)


def _watched(rule: MetricRule) -> list[str]:
    found = [m for selector in selectors(rule.expression) for m in selector.matchers]
    return [m.value for m in found if m.label == "topic" and m.operator == "=" and m.value]


def _clients(tree: Tree, closed: list[Broker]) -> list[str]:
    own = {broker.service.name for broker in closed}
    found = [
        service.name
        for service in tree.services
        if service.name not in own and any(_CLIENT_KEY.search(key.upper()) for key in service.declared.env)
    ]
    return list(dict.fromkeys(found))
