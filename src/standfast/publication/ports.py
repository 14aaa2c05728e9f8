"""What publication needs from outside: a place that holds the last publication and refuses worse ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from standfast.kernel.errors import RefusedError, StaleTokenError, StandfastError, StoreError, TransientError
from standfast.publication.document import Document
from standfast.publication.model import Objection, ObjectionReason, Published


@dataclass(frozen=True, slots=True)
class Sent:
    """The document was not there before and is now, durably, and was read back."""

    published: Published


@dataclass(frozen=True, slots=True)
class AlreadyThere:
    """The same content was there under the same epoch; ``published`` says under which leader's term."""

    published: Published


class Publisher(Protocol):
    """Where publications go.

    * ``publish`` is all or nothing: a reader sees the document before or the one after, never a part (I7).
    * When ``publish`` returns, the document is durable and was read back (I2).
    * The same content under the same epoch again is ``AlreadyThere``, whichever leader sends it; so a
      call whose answer was lost is simply made again.
    * Other content for an epoch that is held, and an epoch below the one held, raise
      ``PublicationRefusedError``; a leader term below the one held raises ``StaleLeaderError``. What was
      held stays.
    * Of several writers of one epoch at the same time, one wins and the others are refused.
    * Epochs may have gaps: a publisher that was unreachable for a while takes the next one it is given.
    * ``read_back`` answers None only where nothing was ever published. What cannot be read, or is not a
      publication, raises: ``TransientError`` if asking again may help, ``StoreError`` if somebody must
      act, ``AuthError`` or ``ConfigError`` if the question itself was refused.
    * After a crash at any moment the next call, whichever it is, completes what was begun or undoes it.
    """

    async def publish(self, document: Document) -> Sent | AlreadyThere:
        """Make ``document`` the last publication."""
        ...

    async def read_back(self) -> Published | None:
        """Return what is held now, or None where nothing was ever published."""
        ...


class PublicationRefusedError(RefusedError):
    """The document must not replace what is held; ``objections`` say why, ``code`` is the first reason."""

    def __init__(self, objections: Sequence[Objection], *, fix: str = "") -> None:
        assert objections, "a refusal has a reason"
        super().__init__(
            "the publication was refused and the last one stays",
            why="; ".join(objection.message for objection in objections),
            fix=fix or "read what is published now and judge again; do not send this document again",
            code=objections[0].reason.value,
        )
        self.objections = tuple(objections)


class StaleLeaderError(PublicationRefusedError, StaleTokenError):
    """Somebody leads under a higher term; stop, do not retry."""


class PublisherUnavailableError(TransientError):
    """The publisher does not answer, is busy or has no room; the last publication stays.

    Whether the document arrived may be unknown: sending the same one again is safe.
    """

    code = "PublisherUnavailable"


class PublisherDamagedError(StoreError):
    """What the publisher holds is torn, foreign or contradicts itself; somebody must look at it."""

    code = "PublisherDamaged"


class PublisherUnusableError(StoreError):
    """The publisher may not write, or answers like something else; somebody must act."""

    code = "PublisherUnusable"


def refusal(objections: Sequence[Objection]) -> StandfastError:
    """Return the error to raise for ``objections``: a stale leader's where that is among them."""
    if any(objection.reason is ObjectionReason.STALE_LEADER for objection in objections):
        first = [o for o in objections if o.reason is ObjectionReason.STALE_LEADER]
        rest = [o for o in objections if o.reason is not ObjectionReason.STALE_LEADER]
        return StaleLeaderError([*first, *rest], fix="stop publishing: another scheduler leads")
    return PublicationRefusedError(objections)
