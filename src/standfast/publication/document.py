"""The document that leaves the house: its one byte form, its digest, and a parser that trusts nothing.

1. The bytes are the canonical JSON of the document, so two machines write the same file.
2. ``sha256`` is the digest of everything else in it; a document whose digest differs is not read.
3. Names (uid, hotkey, round) are printable ASCII without spaces: what cannot be compared by eye cannot
   name an identity that is paid.
4. Size is bounded: a reader never holds more than ``MAX_DOCUMENT_BYTES``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, NoReturn, TypeGuard

from standfast.kernel.canonical import canonical_json, digest
from standfast.kernel.clock import iso
from standfast.kernel.errors import RefusedError
from standfast.publication.model import Candidate, Published

SCHEMA: Final = "standfast.publication/1"
# 8,192 entries of two 128-character names, escaped, fit into MAX_DOCUMENT_BYTES; a network has 256.
MAX_SUBJECTS: Final = 8_192
MAX_DOCUMENT_BYTES: Final = 8 * 1024 * 1024
# The largest integer that every JSON reader keeps exactly (RFC 8259, section 6).
MAX_NUMBER: Final = 2**53 - 1
U16_MAX: Final = 65_535

_NAME = re.compile(r"[!-~]{1,128}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_KEYS = frozenset(
    {"schema", "epoch", "round", "computed_at", "weights", "evidence_sha256", "leader_term", "sha256"}
)
_ENTRY_KEYS = frozenset({"hotkey", "weight", "u16"})


class DocumentError(RefusedError):
    """The bytes, or the values, are not a publication document; the message says what is wrong."""

    code = "DocumentMalformed"


@dataclass(frozen=True, slots=True)
class Entry:
    """What one uid gets: the identity behind it, the exact weight, and the weight as the chain takes it."""

    hotkey: str
    weight: float
    u16: int


@dataclass(frozen=True, slots=True)
class Document:
    """One publication, well formed by construction: made by ``document_of`` or ``parse`` only.

    ``computed_at`` is in UTC with whole milliseconds, which is what the byte form carries.
    """

    epoch: int
    round_id: str
    computed_at: datetime
    weights: Mapping[str, Entry]
    evidence_sha256: str
    leader_term: int

    @property
    def sha256(self) -> str:
        """The digest of everything in the document but the digest itself, in hex."""
        return digest(_body(self))


def is_name(value: object) -> bool:
    """Return whether ``value`` can name a uid, a hotkey or a round: 1 to 128 printable ASCII characters."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def is_sha256(value: object) -> bool:
    """Return whether ``value`` is a SHA-256 in lower-case hex."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def is_count(value: object, *, least: int, most: int = MAX_NUMBER) -> TypeGuard[int]:
    """Return whether ``value`` is an integer (not a bool) from ``least`` to ``most``."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_weight(value: object) -> TypeGuard[float]:
    """Return whether ``value`` is a finite number (not a bool); its sign is another rule's business."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # An integer beyond the range of a float.
        return False


def document_of(candidate: Candidate) -> Document:
    """Return the document that publishes ``candidate``; DocumentError where it cannot be written as one."""
    entries = {
        uid: {"hotkey": candidate.hotkeys.get(uid), "weight": weight, "u16": candidate.u16.get(uid)}
        for uid, weight in candidate.weights.items()
    }
    fields: dict[str, Any] = {
        "epoch": candidate.epoch,
        "round": candidate.round_id,
        "computed_at": candidate.computed_at,
        "weights": entries,
        "evidence_sha256": candidate.evidence_sha256,
        "leader_term": candidate.leader_term,
    }
    return _build(fields)


def render(document: Document) -> bytes:
    """Return the one byte form of ``document``, digest included, ended by a newline."""
    return canonical_json({**_body(document), "sha256": document.sha256}).encode("ascii") + b"\n"


def parse(data: bytes) -> Document:
    """Return the document in ``data``.

    DocumentError for anything that is not exactly one: other schemas, unknown, missing or doubled keys,
    NaN and infinities, values out of bounds, a digest that does not fit. Sums are the gate's rule.
    """
    raw = _decoded(data)
    if not isinstance(raw, dict):
        raise DocumentError("the publication is not a JSON object")
    _need_keys(raw, _KEYS, "the publication")
    if raw["schema"] != SCHEMA:
        raise DocumentError(
            f"the publication's schema is not {SCHEMA}", fix="read it with the version that wrote it"
        )
    document = _build({**raw, "computed_at": _instant(raw["computed_at"])})
    if raw["sha256"] != document.sha256:
        raise DocumentError(
            "the publication's sha256 does not fit its content", why="it was changed or damaged"
        )
    return document


def published_of(document: Document) -> Published:
    """Return what a publisher holds once it holds ``document``."""
    return Published(epoch=document.epoch, leader_term=document.leader_term, sha256=document.sha256)


def is_repeat(document: Document, held: Published) -> bool:
    """Return whether ``held`` is ``document``, whichever leader sent it.

    The term is left out: a leader that takes over in mid-publication sends the same content under its
    own, higher term, and must be told that it is already there instead of being refused for ever.
    """
    if document.epoch != held.epoch:
        return False
    return replace(document, leader_term=held.leader_term).sha256 == held.sha256


def _body(document: Document) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "epoch": document.epoch,
        "round": document.round_id,
        "computed_at": iso(document.computed_at),
        "weights": {
            uid: {"hotkey": entry.hotkey, "weight": entry.weight, "u16": entry.u16}
            for uid, entry in document.weights.items()
        },
        "evidence_sha256": document.evidence_sha256,
        "leader_term": document.leader_term,
    }


def _decoded(data: bytes) -> Any:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DocumentError(f"the publication is larger than {MAX_DOCUMENT_BYTES} bytes")
    try:
        text = data.decode("utf-8")
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        # The parser's own words quote the input; the reader needs only the finding.
        raise DocumentError(
            "the publication is not valid JSON", why="it is torn or was not written here"
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _need_keys(raw: Mapping[str, Any], wanted: frozenset[str], where: str) -> None:
    missing = sorted(wanted - raw.keys())
    if missing:
        raise DocumentError(f"{where} lacks {', '.join(missing)}")
    if len(raw) > len(wanted):
        raise DocumentError(f"{where} has {len(raw) - len(wanted)} unknown keys")


def _instant(value: object) -> datetime | None:
    if not isinstance(value, str) or _INSTANT.fullmatch(value) is None:
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _build(fields: Mapping[str, Any]) -> Document:
    """Check every field's type and bounds; the only place where a Document is made."""
    _need(
        is_count(fields["epoch"], least=1),
        f"the publication's epoch is not an integer from 1 to {MAX_NUMBER}",
    )
    _need(
        is_count(fields["leader_term"], least=0),
        f"the publication's leader_term is not an integer from 0 to {MAX_NUMBER}",
    )
    _need(is_name(fields["round"]), "the publication's round is not a name")
    _need(is_sha256(fields["evidence_sha256"]), "the publication's evidence_sha256 is not a SHA-256 in hex")
    return Document(
        epoch=fields["epoch"],
        round_id=fields["round"],
        computed_at=_whole_milliseconds(fields["computed_at"]),
        weights=_entries(fields["weights"]),
        evidence_sha256=fields["evidence_sha256"],
        leader_term=fields["leader_term"],
    )


def _whole_milliseconds(value: object) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise DocumentError("the publication's computed_at is not an instant in UTC with milliseconds")
    try:
        utc = value.astimezone(UTC)
    except OverflowError:
        raise DocumentError("the publication's computed_at is beyond what a calendar holds") from None
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def _entries(raw: object) -> Mapping[str, Entry]:
    if not isinstance(raw, dict) or not 1 <= len(raw) <= MAX_SUBJECTS:
        raise DocumentError(f"the publication's weights does not name 1 to {MAX_SUBJECTS} uids")
    return MappingProxyType({uid: _entry(uid, raw[uid]) for uid in sorted(raw, key=str)})


def _entry(uid: object, raw: object) -> Entry:
    _need(is_name(uid), "a uid is not a name")
    if not isinstance(raw, dict):
        raise DocumentError(f"uid {uid} has no entry")
    _need_keys(raw, _ENTRY_KEYS, f"uid {uid}")
    _need(is_name(raw["hotkey"]), f"uid {uid}: hotkey is not a name")
    _need(is_weight(raw["weight"]) and raw["weight"] >= 0, f"uid {uid}: weight is not a finite number >= 0")
    _need(
        is_count(raw["u16"], least=0, most=U16_MAX), f"uid {uid}: u16 is not an integer from 0 to {U16_MAX}"
    )
    # Adding zero turns -0.0 into 0.0: one value, one byte form. A subclass such as numpy's loses its name.
    return Entry(hotkey=raw["hotkey"], weight=float(raw["weight"]) + 0.0, u16=raw["u16"])


def _need(holds: bool, flaw: str) -> None:
    if not holds:
        raise DocumentError(flaw)
