"""Whether the API may receive work: one probe of the store at a time, and an answer within 2 s (K7).

1. No answer in time, an exception, or another schema is never "ready" (I1).
2. However often readiness is asked, at most one probe is under way (I13): a store that hangs is not
   helped by more connections that hang.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from standfast.api.access import StoreAccess
from standfast.facts.database import Database, Migrations, schema_findings
from standfast.kernel.clock import Clock
from standfast.kernel.errors import StandfastError
from standfast.kernel.verdict import Finding, Verdict

#: What is left of 2 s for everything around it.
PROBE_S = 1.5


class StoreProbe:
    """Looks at the store; ``look`` returns a finding within ``PROBE_S``, whatever the store does."""

    def __init__(
        self, database: Database, migrations: Sequence[Migrations], access: StoreAccess, clock: Clock
    ) -> None:
        self._database = database
        self._migrations = migrations
        self._access = access
        self._clock = clock
        self._under_way: asyncio.Task[Finding] | None = None
        self._started_at = 0.0

    async def look(self) -> Finding:
        """Return PASS when the store answered with this code's schema, else what is wrong with it."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.ensure_future(self._probe())
            self._started_at = self._clock.monotonic()
        done, _ = await asyncio.wait({self._under_way}, timeout=PROBE_S)
        if done:
            return self._under_way.result()
        waited_s = self._clock.monotonic() - self._started_at
        return Finding(
            "store", Verdict.UNKNOWN, "StoreSilent", subject="store",
            message=f"the store {self._database.name} has not answered for {waited_s:.1f} s",
            remedy="look at the database server, or at the disk of the store file; nothing else is needed",
        )  # fmt: skip

    async def _probe(self) -> Finding:
        try:
            difference = await self._database.read(lambda tx: schema_findings(tx, self._migrations))
        except StandfastError as error:
            return store_finding(error)
        except Exception as error:  # noqa: BLE001 - no exception of any kind may read as ready (I1).
            return Finding(
                "store", Verdict.UNKNOWN, "StoreProbeFailed", subject="store",
                message=f"looking at the store raised {type(error).__name__}", remedy="standfast doctor",
            )  # fmt: skip
        if difference:
            return Finding(
                "store", Verdict.FAIL, "SchemaMismatch", difference, subject="store",
                remedy="run the version of standfast that this store is for; a newer one migrates it",
            )  # fmt: skip
        failing = self._access.failing
        if failing is not None:
            return store_finding(failing)
        return Finding("store", Verdict.PASS, "StoreAnswers", "the store answers", subject="store")


def store_finding(error: StandfastError) -> Finding:
    """Return what an error of the store says about it."""
    message = f"{error.what}, because {error.why}" if error.why else error.what
    return Finding(
        "store", Verdict.FAIL, error.code, message, subject="store",
        remedy=error.fix or "standfast doctor", since=error.since,
    )  # fmt: skip
