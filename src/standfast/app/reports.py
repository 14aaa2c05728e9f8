"""What an executor says about an episode, turned into a report that may be counted, or refused (K2).

Every field is checked on its own, because the other items of the batch must not suffer for this one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from standfast.evaluation.model import OutcomeClass
from standfast.kernel.canonical import canonical_json
from standfast.tasks.model import Report

_MAX_ID, _MAX_TEXT, _MAX_NUMBER = 64, 2_000, 1e12
_KNOWN = frozenset(
    (
        "task_id", "token", "success", "score", "total_reward", "steps", "duration_s", "subject_s", "error",
        "error_code", "fault",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Invalid:
    """The item cannot be used; ``task_id`` is what could be read of it, bounded."""

    task_id: str
    message: str


def to_report(item: object) -> Report | Invalid:
    """Return the report that ``item`` makes, or why it makes none; never raises."""
    if not isinstance(item, Mapping):
        return Invalid("", "an item must be an object")
    task_id = item.get("task_id")
    shown = task_id[:_MAX_ID] if isinstance(task_id, str) else ""
    flaw = _identity_flaw(item) or _text_flaw(item) or _number_flaw(item) or _sense_flaw(item)
    if flaw:
        return Invalid(shown.replace("\0", "?"), flaw)
    outcome_class = _class(item)
    outcome = {
        "success": item["success"],
        "score": float(item.get("score", 0.0)),
        "total_reward": float(item.get("total_reward", 0.0)),
        "steps": item.get("steps", 0),
        "duration_s": float(item.get("duration_s", 0.0)),
        "subject_s": float(item.get("subject_s", 0.0)),
        "error_code": item.get("error_code") or "",
        "error": item.get("error") or "",
    }
    return Report(
        task_id=item["task_id"],
        token=item["token"],
        is_result=outcome_class is not OutcomeClass.INFRA_ERROR,
        is_clean=outcome_class in (OutcomeClass.WON, OutcomeClass.LOST),
        outcome_class=outcome_class.value,
        outcome=canonical_json(outcome),
        error_code=outcome["error_code"],
        error=outcome["error"],
    )


def _identity_flaw(item: Mapping[Any, Any]) -> str:
    unknown = [str(key)[:32] for key in item if key not in _KNOWN]
    if unknown:
        return f"unknown field {unknown[0]!r}"
    task_id, token = item.get("task_id"), item.get("token")
    if not isinstance(task_id, str) or not 0 < len(task_id) <= _MAX_ID:
        return f"task_id must be text of 1 to {_MAX_ID} characters"
    if not isinstance(token, int) or isinstance(token, bool) or not 0 < token < 2**62:
        return "token must be a positive whole number"
    return ""


def _text_flaw(item: Mapping[Any, Any]) -> str:
    for name in ("task_id", "error", "error_code"):
        value = item.get(name) or ""
        if not isinstance(value, str) or len(value) > _MAX_TEXT:
            return f"{name} must be text of at most {_MAX_TEXT} characters"
        if "\0" in value or not _is_unicode(value):
            return f"{name} holds a character that cannot be stored"
    return ""


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _number_flaw(item: Mapping[Any, Any]) -> str:
    for name in ("score", "total_reward", "duration_s", "subject_s", "steps"):
        value = item.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{name} must be a number"
        if not math.isfinite(value) or abs(value) > _MAX_NUMBER:
            return f"{name} must be finite and at most {_MAX_NUMBER:g}"
    if not 0 <= item.get("score", 0) <= 1:
        return "score must be from 0 to 1"
    steps = item.get("steps", 0)
    return "" if isinstance(steps, int) and steps >= 0 else "steps must be a whole number, not negative"


def _sense_flaw(item: Mapping[Any, Any]) -> str:
    success, fault = item.get("success"), item.get("fault")
    has_error = bool(item.get("error") or item.get("error_code"))
    if not isinstance(success, bool):
        return "success must be true or false"
    if fault not in (None, "subject", "infrastructure"):
        return "fault must be subject, infrastructure or null"
    if success and (has_error or fault):
        return "success and an error contradict each other"
    if has_error != (fault is not None):
        return "an error needs a fault (subject or infrastructure), and a fault an error"
    if fault and not item.get("error_code"):
        return "an error needs an error_code"
    return ""


def _class(item: Mapping[Any, Any]) -> OutcomeClass:
    if item.get("fault") == "infrastructure":
        return OutcomeClass.INFRA_ERROR
    if item.get("fault") == "subject":
        return OutcomeClass.SUBJECT_ERROR
    return OutcomeClass.WON if item["success"] else OutcomeClass.LOST
