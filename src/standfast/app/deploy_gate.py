"""May this be deployed: everything that speaks against it, looked at now, in the order of its clearing.

1. Every check and every need is run at this moment, and the supervisor is asked after that. What gives no
   answer is UNKNOWN, and UNKNOWN never opens the gate (I1).
2. A service that runs for a moment, or was restarted within its budget's window, is not yet a reason to go.
3. What would clear a blocker is shown and never done: nothing is registered, paid or released by a gate.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from standfast.app.config import Config
from standfast.app.declared import programs_of
from standfast.app.instance import Found
from standfast.app.offline import blueprint_of, config_of
from standfast.app.service_findings import service_findings
from standfast.app.stack_look import StackSeen, look_at_stack
from standfast.app.stack_status import supervisor_findings
from standfast.kernel.errors import ConfigError
from standfast.kernel.verdict import Finding, Gate, Verdict
from standfast.services.adapters.probes import run_command
from standfast.services.decide.up import window_of
from standfast.services.model import Need, ServiceSpec

GATE_NAME = "deploy"
AGAIN = "standfast gate deploy"
#: Commands that run at once: each may be heavy.
_AT_ONCE = 4


class Asked(NamedTuple):
    """One command whose exit code 0 is needed; ``subject`` is the service that needs it, or empty."""

    need: Need
    spec: ServiceSpec
    subject: str = ""


class Answer(NamedTuple):
    """What a command said; ``code`` is None where it gave no answer."""

    asked: Asked
    code: int | None
    said: str


def deploy_gate(found: Found) -> Gate:
    """Run every check and look at every service now; return the gate."""
    try:
        config, trouble = config_of(found), None
    except ConfigError as error:
        config, trouble = None, error
    asked = asked_of(config)
    answers = asyncio.run(_ask_all(asked))
    # Last, so that what it says is not older than the checks.
    seen = look_at_stack(found.data_dir, blueprint=blueprint_of(found))
    return judge(seen, answers, trouble=trouble)


def judge(seen: StackSeen, answers: Sequence[Answer], *, trouble: ConfigError | None = None) -> Gate:
    """Return the gate; pure. Without a service and without a check nothing speaks for it: it stays closed."""
    found: list[Finding] = []
    if trouble is not None:
        found.append(
            Finding("configuration", Verdict.UNKNOWN, trouble.code, trouble.what, remedy=trouble.fix or AGAIN)
        )
    found += [
        one for one in supervisor_findings(seen) if one.reason != "DeclarationUnreadable" or not seen.answer
    ]
    by_name = {str(view["name"]): view for view in seen.views}
    found += [_judged(one, by_name[one.subject]) for one in service_findings(seen.views)]
    found += [_answered(one) for one in answers]
    if not by_name and not answers:
        found.append(
            Finding(
                "services", Verdict.UNKNOWN, "NothingToLookAt",
                "no service is known and no check is declared",
                remedy="standfast status; declare what must hold in [[gate.checks]]",
            )
        )  # fmt: skip
    return Gate(GATE_NAME, tuple(found))


def next_steps(gate: Gate) -> tuple[str, ...]:
    """Return what has to be done, in order, without repetition; the last step is to ask again."""
    steps = [
        one.remedy for one in _in_order(gate.objections) if one.reason != "DependencyNotReady" and one.remedy
    ]
    return (*dict.fromkeys(steps), AGAIN)


def _in_order(objections: Iterable[Finding]) -> list[Finding]:
    """Order blockers as they have to be cleared: the supervisor before what it runs, causes first."""
    rank = {"configuration": 0, "supervisor": 1, "history": 2, "service": 3, "need": 4, "check": 5}
    return sorted(objections, key=lambda one: rank.get(one.check, 6))


def _judged(finding: Finding, view: Mapping[str, Any]) -> Finding:
    """Return the finding of a service as the gate sees it: stricter where it is ready, not where optional."""
    if finding.verdict > Verdict.PASS:
        if view.get("is_required", True):
            return finding
        message = f"{finding.message}; it is declared as not required"
        return Finding("service", Verdict.SKIPPED, finding.reason, message, finding.subject)
    restarts = int(view.get("restarts_in_window", 0))
    if restarts:
        return Finding(
            "service", Verdict.FAIL, "RestartedLately",
            f"{finding.subject} was restarted {restarts} times within its budget's window, last: "
            f"{view.get('last_exit') or 'not known'}",
            finding.subject, since=finding.since, evidence=finding.evidence,
            remedy=f"find out why, it counts until the window is over: standfast explain {finding.subject}",
        )  # fmt: skip
    stable_s, window_s = float(view.get("stable_for_s", 0.0)), window_of(view)
    if view["state"] == "ready" and stable_s < window_s:
        return Finding(
            "service", Verdict.UNKNOWN, "NotStableYet",
            f"{finding.subject} is ready for {stable_s:.0f} s only, {window_s:.0f} s are needed",
            finding.subject, remedy=f"wait {window_s - stable_s:.0f} s", since=finding.since,
        )  # fmt: skip
    return finding


def asked_of(config: Config | None) -> tuple[Asked, ...]:
    """Return the commands whose answers the gate needs: of required services, and the gate's own."""
    if config is None:
        return ()
    specs = [spec for spec in programs_of(config) if spec.is_required]
    needs = [Asked(need, spec, spec.name) for spec in specs for need in spec.needs]
    return (*needs, *_checks(config))


def _checks(config: Config) -> Iterator[Asked]:
    place = ServiceSpec("gate", (), cwd=config.folder)
    for check in config.gate.checks:
        command = tuple(_filled(part, config) for part in check.command)
        yield Asked(Need(check.name, command, _filled(check.fix, config), timeout_s=check.timeout_s), place)


def _filled(text: str, config: Config) -> str:
    return text.replace("{python}", sys.executable).replace("{blueprint}", str(config.folder))


async def _ask_all(asked: Sequence[Asked]) -> list[Answer]:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(question: Asked) -> Answer:
        async with turns:
            return await _ask(question)

    return list(await asyncio.gather(*(one(question) for question in asked)))


async def _ask(asked: Asked) -> Answer:
    need = asked.need
    try:
        async with asyncio.timeout(need.timeout_s):
            return Answer(asked, *await run_command(need.command, asked.spec))
    except TimeoutError:
        return Answer(asked, None, f"gave no answer within {need.timeout_s:g} s")
    except OSError as error:
        return Answer(asked, None, f"cannot run: {error.strerror or error}")


def _answered(answer: Answer) -> Finding:
    need, subject = answer.asked.need, answer.asked.subject
    check = "need" if subject else "check"
    of = f"{subject} needs: " if subject else ""
    said = f": {answer.said}" if answer.said else ""
    if answer.code == 0:
        return Finding(check, Verdict.PASS, "Holds", f"{of}{need.name}{said}", subject or need.name)
    evidence: dict[str, object] = {"exit_code": answer.code, "said": answer.said}
    verdict, reason, text = (
        (Verdict.UNKNOWN, "NoAnswer", f"{of}{need.name}: its check {answer.said}")
        if answer.code is None
        else (Verdict.FAIL, "NotSo", f"{of}{need.name}, which is not so{said}")
    )
    return Finding(
        check, verdict, reason, text, subject or need.name, evidence, need.fix or f"make true: {need.name}"
    )
