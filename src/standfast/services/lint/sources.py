"""What the sources beside a stack say: which names they define, which topics they use and make, which ports.

It is a word search, on purpose: the sources are in any language. A name that stands in a text is a reason
not to complain; only its absence everywhere is one to complain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_LITERAL = re.compile(r"[\"'`]([A-Za-z_][A-Za-z0-9_:.\-]{1,127})[\"'`]")
_TOPIC_USES = (
    re.compile(
        r"(?:KafkaConsumer|AIOKafkaConsumer|\.subscribe|\.send_and_wait|\.send|\.produce|ConsumerRecords?)"
        r"\s*\(\s*(?:topics?\s*=\s*)?\[?\s*[\"']([A-Za-z0-9._-]{2,249})[\"']"
    ),
    re.compile(
        r"\b(?:kafka_)?topics?(?:_name)?[\"']?\s*[:=]\s*\[?\s*[\"']([A-Za-z0-9._-]{2,249})[\"']",
        re.IGNORECASE,
    ),
)
_KAFKA = re.compile(r"kafka|confluent|redpanda|librdkafka", re.IGNORECASE)
_TOPIC_MADE = re.compile(r"NewTopic\s*\(\s*(?:name\s*=\s*|topic\s*=\s*)?[\"']([A-Za-z0-9._-]{2,249})[\"']")
_MAKES_TOPICS = re.compile(
    r"NewTopic|create_topics|createTopics|--create\b|topic\s+create|KAFKA_CREATE_TOPICS|kind:\s*KafkaTopic"
)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,248}")
_PORT = re.compile(r"(?:port\D{0,12}|listen\D{0,12}|:)(\d{2,5})\b", re.IGNORECASE)


class TopicUse(NamedTuple):
    """A topic that somebody reads or writes, and where it says so."""

    topic: str
    file: Path
    line: int


@dataclass(frozen=True, slots=True)
class Source:
    """What one text says."""

    path: Path
    names: frozenset[str]
    ports: frozenset[int]
    uses: tuple[TopicUse, ...]
    makes: frozenset[str]


def read_source(path: Path, text: str, *, is_code: bool = True) -> Source:
    """Return what ``text`` says; a text that makes topics makes every word in it, names may be variables.

    Names and uses are taken from code only: a dashboard or an alert that names a metric defines none.
    """
    uses = tuple(_uses(path, text)) if is_code and _KAFKA.search(text) else ()
    names = frozenset(_LITERAL.findall(text)) if is_code else frozenset()
    ports = frozenset(int(n) for n in _PORT.findall(text))
    return Source(path, names, ports, uses, frozenset(made_topics(text)))


def made_topics(text: str) -> set[str]:
    """Return every word of a text that creates topics, and nothing of one that creates none."""
    made = set(_TOPIC_MADE.findall(text))
    return made | set(_WORD.findall(text)) if _MAKES_TOPICS.search(text) else made


def _uses(path: Path, text: str) -> Iterator[TopicUse]:
    for pattern in _TOPIC_USES:
        for match in pattern.finditer(text):
            yield TopicUse(match[1], path, text.count("\n", 0, match.start(1)) + 1)


_SUFFIXES = ("_total", "_bucket", "_count", "_sum", "_created", "_info", "_max", "_min")


def defines(names: Iterable[str], metric: str) -> bool:
    """Return whether a text with the literals ``names`` can define ``metric``.

    A client adds the suffix, and namespace and subsystem with underscores, so that the parts suffice.
    """
    known = names if isinstance(names, frozenset | set) else set(names)
    wanted = {metric, *(metric.removesuffix(suffix) for suffix in _SUFFIXES)}
    return any(name in known or _in_parts(name, known) for name in wanted)


def _in_parts(name: str, known: frozenset[str] | set[str]) -> bool:
    parts = name.split("_")
    for first in range(1, len(parts)):
        head, rest = "_".join(parts[:first]), "_".join(parts[first:])
        if head in known and (rest in known or _in_parts(rest, known)):
            return True
    return False
