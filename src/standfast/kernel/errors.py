"""What went wrong, sorted by what the reader must do about it.

Every error that reaches a person carries a stable code, what happened, why, since when where that is
known, and the command that fixes it. A broken invariant is an ``assert`` and is not in this tree.
"""

from __future__ import annotations


class StandfastError(Exception):
    """Root of the tree. ``code`` is stable, ``fix`` is a command or an action, never an apology."""

    code = "Error"
    exit_code = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "", since: str = "", code: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.since = since
        if code:
            self.code = code

    def __str__(self) -> str:
        parts = [self.what]
        if self.why:
            parts.append(f"because {self.why}")
        if self.since:
            parts.append(f"since {self.since}")
        text = ", ".join(parts)
        return f"{text}. To fix: {self.fix}" if self.fix else text


class ConfigError(StandfastError):
    """The operator must change something that was written down; trying again will not help."""

    code = "ConfigError"
    exit_code = 2


class TransientError(StandfastError):
    """The same call may succeed later; whoever owns the loop retries it with backoff."""

    code = "Unavailable"
    exit_code = 7


class UnhealthyError(StandfastError):
    """Something that must work does not; the findings say what."""

    code = "Unhealthy"
    exit_code = 3


class AuthError(StandfastError):
    """The caller showed no token, a wrong one, or one without the scope."""

    code = "NotAuthorized"
    exit_code = 4


class RefusedError(StandfastError):
    """A gate is closed: nothing happened, and the objections say why."""

    code = "Refused"
    exit_code = 5


class ConflictError(StandfastError):
    """The thing is not in the state that the request needs, or somebody else has it."""

    code = "Conflict"
    exit_code = 6


class StaleTokenError(ConflictError):
    """The lease or the leadership has passed to somebody else; stop, do not retry."""

    code = "StaleToken"


class NotFoundError(StandfastError):
    """There is no such thing; the message names what there is."""

    code = "NotFound"


class StoreError(StandfastError):
    """The store cannot be used as it is; an operator must act (damaged, newer, read-only)."""

    code = "StoreError"
    exit_code = 3


class StoreUnavailableError(TransientError):
    """The store does not answer or has no room now; nothing was acknowledged."""

    code = "StoreUnavailable"
