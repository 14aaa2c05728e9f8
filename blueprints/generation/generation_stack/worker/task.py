"""What a task is: what is asked for, until when, and how it stands."""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from typing import Any

from generation_stack.program.fields import Fields
from generation_stack.worker.rules import Attempt

LONGEST_ID = 128
#: A picture of 1024 x 1024 without any compression, as base64.
LONGEST_IMAGE = 6_000_000
_KNOWN = ("id", "prompt", "image", "seed", "num_gaussians", "deadline_s", "origin")
_ID_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:")


class State(enum.StrEnum):
    """How a task stands; every task is in exactly one."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Task:
    """One task of the journal; times are the clock's seconds of this boot."""

    id: str
    #: What is sent to the model, without its deadline.
    request: dict[str, Any]
    origin: dict[str, Any]
    accepted_at: float
    deadline: float
    state: State = State.QUEUED
    due_at: float = 0.0
    reason: str = ""
    attempts: tuple[Attempt, ...] = field(default=())
    sha256: str = ""
    result_bytes: int = 0
    gaussians: int = 0
    filled: float = 0.0
    is_acknowledged: bool = False

    def view(self, now: float) -> dict[str, Any]:
        """Return what is shown of the task."""
        return {
            "id": self.id,
            "state": self.state,
            "reason": self.reason,
            "origin": self.origin,
            "deadline_in_s": round(self.deadline - now, 3),
            "acknowledged": self.is_acknowledged,
            "sha256": self.sha256,
            "bytes": self.result_bytes,
            "gaussians": self.gaussians,
            "filled": self.filled,
            "attempts": [
                {
                    "outcome": attempt.outcome,
                    "reason": attempt.reason,
                    "seconds": round(attempt.ended_s - attempt.started_s, 3),
                }
                for attempt in self.attempts
            ],
        }


def read(body: Any, *, now: float) -> Task:
    """Return the task that a body asks for; raises BadFieldsError."""
    fields = Fields(body, _KNOWN)
    id_ = fields.text("id", longest=LONGEST_ID)
    if not _ID_LETTERS.issuperset(id_) or id_.startswith("."):
        fields.wrong("id", "may hold letters, digits, '-', '_', '.' and ':', and does not begin with '.'")
    request: dict[str, Any] = {"seed": fields.whole("seed", 0, 2**32 - 1, default=0)}
    if fields.has("prompt") == fields.has("image"):
        fields.wrong("prompt", "or image must be there, and not both")
    elif fields.has("prompt"):
        request["prompt"] = fields.text("prompt", longest=1_000)
    else:
        request["image"] = fields.text("image", longest=LONGEST_IMAGE)
    if fields.has("num_gaussians"):
        request["num_gaussians"] = fields.whole("num_gaussians", 1_000, 500_000)
    deadline_s = fields.seconds("deadline_s", 0.1, 86_400.0)
    origin = body.get("origin") or {}
    if not isinstance(origin, dict) or len(json.dumps(origin)) > 2_000:
        fields.wrong("origin", "must be a small JSON object")
    fields.finish()
    return Task(id_, request, origin, now, now + deadline_s, due_at=now)
