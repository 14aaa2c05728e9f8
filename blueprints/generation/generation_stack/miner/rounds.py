"""The miner's loop: hand in what is done, then fetch what there is room for.

Every pass looks at the worker first and owes what it sees there. A validator that does not answer costs the
others nothing but its own timeout: each has a loop of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from generation_stack.miner import rules
from generation_stack.miner.clients import Reply, UnreachableError, Validator, Worker
from generation_stack.miner.rules import Step
from generation_stack.program.log import Log

#: Wait before something is handed in again that was not taken; the validator may be full, or not know us.
_AGAIN_S = 3.0


class Rounds:
    """The dealings of one miner with its validators."""

    def __init__(self, worker: Worker, validators: list[Validator], log: Log, *, poll_s: float) -> None:
        self.counts: Counter[str] = Counter()
        self.worker_state = "not asked yet"
        #: Set to false while nobody can tell whether the miner is registered: then no work is fetched.
        self.may_pull = True
        self._worker = worker
        self._validators = validators
        self._urls = {validator.url for validator in validators}
        self._log = log
        self._poll_s = poll_s
        self._free_at: dict[str, float] = {}
        self._again_at: dict[str, float] = {}
        self.trouble: dict[str, str] = {}

    async def run(self) -> None:
        """Deal with all validators until cancelled."""
        async with asyncio.TaskGroup() as group:
            for validator in self._validators:
                group.create_task(self._deal(validator))

    async def _deal(self, validator: Validator) -> None:
        while True:
            try:
                tasks = await self._worker.tasks()
                self._well(self._worker.url)
                await self._settle(validator, tasks)
                await self._pull(validator, tasks)
                self._well(validator.url)
            except UnreachableError as error:
                self._troubled(error)
            await asyncio.sleep(self._poll_s)

    def _troubled(self, error: UnreachableError) -> None:
        # Said once per trouble, not once per try.
        if error.who not in self.trouble:
            self._log.warning("unreachable", who=error.who, reason=str(error))
        self.trouble[error.who] = str(error)

    def _well(self, who: str) -> None:
        if self.trouble.pop(who, None) is not None:
            self._log.info("reachable", who=who)

    async def _settle(self, validator: Validator, tasks: list[dict[str, Any]]) -> None:
        for task in tasks:
            step = rules.owed(task, self._urls)
            is_own = task["origin"].get("validator") == validator.url
            if step is Step.FORGET:
                self._log.error("undelivered", id=task["id"], reason="its validator cannot be told any more")
                self.counts["undelivered"] += 1
                await self._worker.acknowledge(task["id"])
            elif is_own and step is not Step.WAIT and time.monotonic() >= self._again_at.get(task["id"], 0.0):
                await self._hand_in(validator, task, step)

    async def _hand_in(self, validator: Validator, task: dict[str, Any], step: Step) -> None:
        id_ = str(task["origin"]["task"])
        if step is Step.GIVE_UP:
            reply = await validator.give_up(id_, task["reason"])
        else:
            data = await self._worker.result(task["id"])
            if data is None:
                return
            reply = await validator.submit(id_, data)
        answer = rules.answered(reply.status, reply.body)
        if not answer.end:
            self._again_at[task["id"]] = time.monotonic() + _AGAIN_S
            self._log.warning("not_taken", task=id_, status=reply.status, reason=reply.body.get("reason"))
            return
        self.counts[answer.end] += 1
        self._hold_back(validator, float(reply.body.get("cooldown_s") or 0.0))
        self._log.info(
            "feedback", task=id_, validator=validator.url, end=answer.end, score=reply.body.get("score"),
            average_score=reply.body.get("average_score"), reasons=reply.body.get("reasons"),
        )  # fmt: skip
        # Only now: until the validator has it, the worker keeps it.
        await self._worker.acknowledge(task["id"])
        self._again_at.pop(task["id"], None)

    async def _pull(self, validator: Validator, tasks: list[dict[str, Any]]) -> None:
        if not self.may_pull or time.monotonic() < self._free_at.get(validator.url, 0.0):
            return
        is_well, reason = await self._worker.is_well()
        self.worker_state = "ready" if is_well else reason
        if not is_well:
            return
        have = [
            str(task["origin"]["task"]) for task in tasks if task["origin"].get("validator") == validator.url
        ]
        reply = await validator.pull(have)
        if reply.status == 200:
            await self._take(validator, reply)
            return
        self.counts["waited" if reply.status == 429 else "refused"] += 1
        self._hold_back(validator, max(reply.retry_after_s, self._poll_s))
        if reply.status != 429:
            self._log.warning(
                "refused", validator=validator.url, status=reply.status, reason=reply.body.get("reason")
            )

    async def _take(self, validator: Validator, reply: Reply) -> None:
        id_, left_s = str(reply.body["id"]), float(reply.body["deadline_in_s"])
        given = await self._worker.add(
            {
                "id": rules.worker_id(validator.url, id_),
                **reply.body["request"],
                "deadline_s": max(0.1, rules.worker_deadline_s(left_s)),
                "origin": {"validator": validator.url, "task": id_},
            }
        )
        if given.status not in (200, 202):
            # It stays open at the validator, which gives it again with the next pull.
            self._log.warning(
                "worker_refused", task=id_, status=given.status, reason=given.body.get("reason")
            )
            return
        self.counts["pulled"] += 1
        self._log.info("pulled", task=id_, validator=validator.url, deadline_s=round(left_s, 3))

    def _hold_back(self, validator: Validator, wait_s: float) -> None:
        self._free_at[validator.url] = time.monotonic() + wait_s
