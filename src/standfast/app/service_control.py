"""What can be asked of a supervisor: to look, hold, release, restart, recover; over its own socket.

Nothing heavy may be imported here: the supervisor of a stack alone answers with it.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from standfast.app.supervision import Supervision
from standfast.kernel.errors import ConflictError, NotFoundError, StoreUnavailableError
from standfast.services.wire import spec_from_dict

#: Longest text that a person may give as a reason.
_LONGEST_REASON = 500
#: Longest wait for a hold to be on disk.
_WRITE_S = 5.0


class Control:
    """Answers requests about one supervisor."""

    def __init__(self, supervision: Supervision, *, stop: Callable[[], None]) -> None:
        self._supervisor = supervision.supervisor
        self._history = supervision.history
        self._stop = stop

    async def __call__(self, op: str, asked: Mapping[str, Any]) -> Any:
        """Do what is asked; KeyError for an operation that there is not.

        A hold and its release are acknowledged once they are on disk; before, nobody may rely on them.
        """
        done = {
            "list": self._list, "lives": self._lives, "hold": self._hold, "release": self._release,
            "restart": self._restart, "declare": self._declare, "stop": self._ask_stop, "hurry": self._hurry,
            "leave": self._leave,
        }[op](asked)  # fmt: skip
        if op in ("hold", "release") and not await asyncio.to_thread(self._history.flush, _WRITE_S):
            raise StoreUnavailableError(
                f"the {op} acts now, but it is not on record and would not outlive this supervisor",
                why=self._history.trouble or "the disk does not answer",
                fix="df -h; make room, then say it again",
                code="NotOnRecord",
            )
        return done

    def _list(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return {"services": self._supervisor.snapshot(), "trouble": self._history.trouble}

    def _lives(self, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._history.lives(str(asked.get("service", "")), limit=int(asked.get("limit", 50)))

    def _hold(self, asked: Mapping[str, Any]) -> list[str]:
        names = self._names(asked)
        self._supervisor.hold(names, str(asked["who"]), str(asked.get("why", ""))[:_LONGEST_REASON])
        return names

    def _release(self, asked: Mapping[str, Any]) -> list[str]:
        names = self._names(asked)
        return list(self._supervisor.release(names, str(asked["who"])))

    def _restart(self, asked: Mapping[str, Any]) -> list[str]:
        names = self._names(asked)
        for name in names:
            if held := self._history.held_by(name):
                raise _held(name, *held)
        return list(self._supervisor.restart(names, str(asked["who"]), only=bool(asked.get("only", False))))

    def _declare(self, asked: Mapping[str, Any]) -> int:
        specs = [spec_from_dict(one) for one in asked["services"]]
        self._supervisor.declare(specs)
        return len(specs)

    def _ask_stop(self, _: Mapping[str, Any]) -> bool:
        self._stop()
        return True

    def _hurry(self, _: Mapping[str, Any]) -> bool:
        self._supervisor.hurry()
        return True

    def _leave(self, _: Mapping[str, Any]) -> bool:
        self._supervisor.leave()
        return True

    def _names(self, asked: Mapping[str, Any]) -> list[str]:
        known = self._supervisor.specs()
        names = [str(name) for name in asked["names"]] or list(known)
        for name in names:
            if name not in known:
                raise unknown_service(name, list(known))
        return names


def _held(name: str, who: str, why: str, since: str) -> ConflictError:
    """Return the error for a restart of what a person holds: only a person may end that."""
    return ConflictError(
        f"{name} is held by {who}",
        why=f"{why}; since {since}" if why else f"since {since}",
        fix=f"standfast release {name}",
        code="HeldByPerson",
    )


def unknown_service(name: str, known: Sequence[str]) -> NotFoundError:
    """Return the error for a name that no service has, with the nearest one."""
    near = difflib.get_close_matches(name, known, n=1)
    fix = f"did you mean {near[0]}?" if near else f"the services are: {', '.join(sorted(known)) or 'none'}"
    return NotFoundError(f"there is no service {name!r}", fix=fix, code="UnknownService")
