"""What a fact is and how facts are chained, so that a changed past shows.

``hash = sha256(canonical JSON of [seq, at, kind, subject, body, previous hash])``. The head (last number
and hash) is kept beside the chain, so that a chain whose end was cut off is broken too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from standfast.kernel.canonical import digest

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened: ``kind`` is dotted (``round.published``), ``at`` is ISO 8601 in UTC."""

    seq: int
    at: str
    kind: str
    subject: str
    body: Mapping[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Intact:
    """Every row follows from the one before it, up to the head."""

    count: int
    head: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The first row that does not follow, and what is wrong with it."""

    seq: int
    reason: str


def fact_hash(seq: int, at: str, kind: str, subject: str, rest: tuple[Mapping[str, Any], str]) -> str:
    """Return the hash of a row; ``rest`` is (body, previous hash)."""
    body, previous = rest
    return digest([seq, at, kind, subject, body, previous])


def verify(facts: Iterable[Fact | Broken], *, head_seq: int, head: str) -> Intact | Broken:
    """Walk the chain from its start and name the first broken row.

    A ``Broken`` in ``facts`` stands for a row that could not be read at all.
    """
    expected_seq, previous = 1, GENESIS
    for fact in facts:
        if fact.seq != expected_seq:
            return _misplaced(fact.seq, expected_seq)
        if isinstance(fact, Broken):
            return fact
        if fact.previous != previous:
            return Broken(fact.seq, "it does not name the hash of the row before it")
        if fact.hash != fact_hash(fact.seq, fact.at, fact.kind, fact.subject, (fact.body, fact.previous)):
            return Broken(fact.seq, "its content does not have its hash")
        expected_seq, previous = fact.seq + 1, fact.hash
    if (expected_seq - 1, previous) != (head_seq, head):
        return Broken(expected_seq, f"the chain ends at {expected_seq - 1}, its recorded head is {head_seq}")
    return Intact(expected_seq - 1, previous)


def _misplaced(seq: int, expected_seq: int) -> Broken:
    if seq < expected_seq:
        return Broken(seq, "it stands before the first row")
    return Broken(expected_seq, f"row {expected_seq} is missing (the next one is {seq})")
