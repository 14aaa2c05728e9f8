"""Rounds in the store: opening with plan, secret and tasks; ending with result and evidence digest.

Everything here runs in the caller's transaction, under a term that the caller has just proven; the state
is checked by the statement that changes it, so a round ends once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from standfast.evaluation import decide, evidence
from standfast.evaluation.model import RoundState
from standfast.evaluation.plan import (
    EnvironmentChoice,
    PlannedEnvironment,
    RoundPlan,
    RoundSettings,
    plan_from_json,
    plan_to_json,
    planned,
    tasks_of,
)
from standfast.evaluation.sampling import RotationSkipped, entropy_draw, rotate
from standfast.evaluation.seeds import SECRET_BYTES, commit
from standfast.facts.database import Queries, Tx, load_queries
from standfast.facts.store import FactStore
from standfast.kernel.canonical import canonical_json, digest
from standfast.kernel.clock import Entropy
from standfast.kernel.errors import ConfigError
from standfast.tasks import operate
from standfast.tasks.driver import TaskDriver
from standfast.tasks.model import Counts, TaskState


@dataclass(frozen=True, slots=True)
class RoundRow:
    """One round as the store has it; ``secret`` must not leave the house while the round is open."""

    number: int
    state: RoundState
    opened_at: str
    opened_ms: int
    deadline_ms: int
    plan: RoundPlan
    secret: bytes
    first_token: int
    ended_at: str
    code: str
    reason: str
    result: Mapping[str, Any] | None
    evidence_sha256: str
    is_pruned: bool


class Rounds:
    """The rounds of one instance."""

    def __init__(
        self, settings: RoundSettings, tasks: TaskDriver, facts: FactStore, entropy: Entropy
    ) -> None:
        self.settings = settings
        self._tasks = tasks
        self._facts = facts
        self._entropy = entropy
        self._sql: Queries = load_queries("standfast.evaluation", tasks.store.dialect)

    def open_due(self, tx: Tx) -> int | None:
        """Open the next round when it is due and return its number."""
        last = tx.rows(self._sql["last_round"])
        number = int(last[0][0]) + 1 if last else 1
        if self.settings.max_rounds and number > self.settings.max_rounds:
            return None
        control = self._tasks.store.control(tx)
        due = decide.is_due(
            open_rounds=len(tx.rows(self._sql["open_rounds"])),
            opened_ms=int(last[0][1]) if last else None,
            now_ms=control.now_ms,
            interval_s=self.settings.interval_s,
        )
        if not due or control.is_draining:
            return None
        self._open(tx, number, control.now_ms)
        return number

    def _open(self, tx: Tx, number: int, now_ms: int) -> None:
        secret = self._entropy.token_bytes(SECRET_BYTES)
        settings = self.settings
        plan = RoundPlan(
            number=number,
            commitment=commit(secret, round_id=f"round-{number:06}"),
            subjects=settings.subjects,
            environments=self._rotate(tx, number),
            limits=settings.limits,
            completeness=settings.completeness,
            scoring=settings.scoring,
        )
        tx.rows(
            self._sql["open_round"],
            {
                "number": number, "opened_at": self._tasks.wall_iso(), "opened_ms": now_ms,
                "deadline_ms": now_ms + int(settings.deadline_s * 1000),
                "plan": canonical_json(plan_to_json(plan)), "secret": secret.hex(),
                "first_token": self._tasks.store.last_token(tx),
            },
        )  # fmt: skip
        self._tasks.add(tx, tasks_of(plan, secret, self._unit))
        body = {
            "commitment": plan.commitment,
            "plan_sha256": digest(plan_to_json(plan)),
            "expected": plan.expected,
        }
        self._facts.append(tx, "round.opened", str(number), body)

    def _rotate(self, tx: Tx, number: int) -> tuple[PlannedEnvironment, ...]:
        current = {name: json.loads(items) for name, items in tx.rows(self._sql["sampling_lists"])}
        chosen = []
        for choice in self.settings.environments:
            items = self._rotated(current.get(choice.id, []), choice)
            row = {"environment": choice.id, "items": json.dumps(items), "rotated_in": number}
            tx.rows(self._sql["set_sampling_list"], row)
            chosen.append(planned(choice, items))
        return tuple(chosen)

    def _rotated(self, current: list[int], choice: EnvironmentChoice) -> list[int]:
        pool = [(0, choice.pool)]
        rotated = rotate(
            current,
            dataset=pool,
            size=choice.episodes,
            rotation=choice.rotate,
            draw=entropy_draw(self._entropy),
        )
        if isinstance(rotated, RotationSkipped) and len(rotated.variants) != choice.episodes:
            # A round needs a whole list: without one there is nothing to run.
            raise ConfigError(
                f"no sampling list of {choice.episodes} for {choice.id}: {rotated.reason}",
                fix="raise evaluation.environments.pool, or lower episodes or rotate",
            )
        return list(rotated.variants)

    def _unit(self) -> float:
        # In (0, 1): the logarithm of 0 is not a number that anyone can be sorted by.
        return (int.from_bytes(self._entropy.token_bytes(6), "big") + 0.5) / 2**48

    def advance(self, tx: Tx, term: int) -> RoundRow | None:
        """End the open round if it is time, and return it as it ended."""
        rows = tx.rows(self._sql["open_rounds"])
        if not rows:
            return None
        row = _row(rows[0])
        counts = self._tasks.store.counts(tx, row.plan.batch)
        is_over = self._tasks.store.control(tx).now_ms >= row.deadline_ms
        # Nothing that runs or waits: only then, or at the deadline, is it worth reading every result.
        if counts.total and (counts.pending or counts.running) and not is_over:
            return None
        episodes = self.episodes(tx, row)
        measured = decide.measure(row.plan, evidence.count_classes(episodes), self._earlier(tx, row.number))
        outcome = decide.advance(row.plan, counts, measured, is_over_deadline=is_over)
        if isinstance(outcome, decide.Wait):
            return None
        operate.close_batch(tx, self._tasks, row.plan.batch, f"round {row.number} ended")
        if isinstance(outcome, decide.Fail):
            self._end(tx, row, RoundState.FAILED, {"code": outcome.code, "reason": outcome.reason})
        else:
            self._complete(tx, row, outcome, term)
        return self.get(tx, row.number)

    def _complete(self, tx: Tx, row: RoundRow, outcome: decide.Complete, term: int) -> None:
        sheet = evidence.score_measured(row.plan, outcome.measured)
        result = evidence.result_of(row.plan, outcome.measured, sheet)
        # Read again: the open tasks have been cancelled in this transaction.
        document = evidence.build(row.plan, row.secret, self.episodes(tx, row), result)
        stored = {**result, "term": term, "explanations": evidence.explanations(sheet)}
        self._end(
            tx, row, RoundState.COMPLETE,
            {"code": "Partial" if outcome.reason else "", "reason": outcome.reason},
            result=stored, sha256=digest(document),
        )  # fmt: skip

    def _end(
        self, tx: Tx, row: RoundRow, state: RoundState, why: Mapping[str, str], *,
        result: Mapping[str, Any] | None = None, sha256: str = "",
    ) -> None:  # fmt: skip
        ended = tx.rows(
            self._sql["end_round"],
            {
                "number": row.number, "state": state.value, "ended_at": self._tasks.wall_iso(), **why,
                "result": canonical_json(result) if result is not None else None,
                "evidence_sha256": sha256 or None,
            },
        )  # fmt: skip
        assert ended, f"round {row.number} was read as open in this transaction"
        counts = self._tasks.store.counts(tx, row.plan.batch)
        body = {**why, "counts": counts.as_dict(), "evidence_sha256": sha256, "secret": row.secret.hex()}
        self._facts.append(tx, f"round.{state.value}", str(row.number), body)

    def settle(self, tx: Tx, number: int, state: RoundState, code: str, reason: str) -> bool:
        """Move a complete round to published or withheld; return whether it was still complete."""
        row = {"number": number, "state": state.value, "code": code, "reason": reason}
        return bool(tx.rows(self._sql["settle_round"], row))

    def _earlier(self, tx: Tx, number: int) -> list[decide.Earlier]:
        limit = decide.MAX_CARRIED_ROUNDS
        earlier = []
        for before, text in tx.rows(self._sql["results_before"], {"number": number, "limit": limit}):
            result = json.loads(text)
            own = {uid: rates for uid, rates in result["rates"].items() if uid not in result["carried"]}
            earlier.append(decide.Earlier(int(before), own, result["shares"]))
        return earlier

    def episodes(self, tx: Tx, row: RoundRow) -> list[dict[str, Any]]:
        """Return one row per task of the round, in the form the evidence has."""
        rows = tx.rows(self._tasks.store.sql["batch_results"], {"batch": row.plan.batch})
        episodes = []
        for name, subject, lane, key, spec_text, state, attempts, attempt_id, cls, outcome, *_ in rows:
            spec = json.loads(spec_text)
            said = json.loads(outcome) if outcome else {}
            episodes.append(
                {
                    "task": f"{name:016x}", "subject": subject, "environment": lane, "key": key,
                    "seed": spec["seed"], "variant": spec["variant"], "state": TaskState(state).name.lower(),
                    "attempts": attempts, "attempt": attempt_id, "class": cls, "score": said.get("score"),
                    "error_code": said.get("error_code") or None,
                }
            )  # fmt: skip
        return episodes

    def evidence(self, tx: Tx, row: RoundRow) -> dict[str, Any]:
        """Return the evidence of a round that ended with a result, as it was when it ended."""
        assert row.result is not None, "only a round with a result has evidence"
        computed = {k: v for k, v in row.result.items() if k not in ("term", "explanations")}
        return evidence.build(row.plan, row.secret, self.episodes(tx, row), computed)

    def counts(self, tx: Tx, row: RoundRow) -> Counts:
        """Return the disjoint counts of the round's tasks."""
        return self._tasks.store.counts(tx, row.plan.batch)

    def get(self, tx: Tx, number: int) -> RoundRow | None:
        """Return one round."""
        rows = tx.rows(self._sql["round"], {"number": number})
        return _row(rows[0]) if rows else None

    def newest(self, tx: Tx, limit: int) -> list[RoundRow]:
        """Return the last rounds, newest first."""
        return [_row(row) for row in tx.rows(self._sql["rounds"], {"limit": limit})]

    def last_scored(self, tx: Tx) -> RoundRow | None:
        """Return the newest round that ended with a result, however many failed since."""
        rows = tx.rows(self._sql["last_scored"])
        return _row(rows[0]) if rows else None

    def complete(self, tx: Tx) -> list[int]:
        """Return the rounds whose weights are not yet published or withheld, oldest first."""
        return [int(row[0]) for row in tx.rows(self._sql["complete"])]

    def prune(self, tx: Tx) -> int:
        """Forget the tasks of rounds beyond ``keep_rounds``; results, facts and publications stay."""
        last = tx.rows(self._sql["last_round"])
        up_to = int(last[0][0]) - self.settings.keep_rounds if last else 0
        numbers = [int(row[0]) for row in tx.rows(self._sql["prunable"], {"up_to": up_to})]
        for number in numbers:
            operate.forget(tx, self._tasks, f"round-{number:06}")
            tx.rows(self._sql["mark_pruned"], {"number": number})
        return len(numbers)


def _row(row: tuple[Any, ...]) -> RoundRow:
    return RoundRow(
        number=int(row[0]),
        state=RoundState(row[1]),
        opened_at=row[2],
        opened_ms=int(row[3]),
        deadline_ms=int(row[4]),
        plan=plan_from_json(json.loads(row[5])),
        secret=bytes.fromhex(row[6]),
        first_token=int(row[7]),
        ended_at=row[8] or "",
        code=row[9] or "",
        reason=row[10] or "",
        result=json.loads(row[11]) if row[11] else None,
        evidence_sha256=row[12] or "",
        is_pruned=bool(row[13]),
    )
