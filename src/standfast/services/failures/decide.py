"""The rules of naming an end: which evidence decides, in which order, and how sure it makes.

1. The order: who asked for the stop; the kernel's log, the cgroup's counter and the runtime's flag; the exit
   code or signal; the phase; the last lines; the repetition; the state of the declared dependencies.
2. Signatures name a failure; they never decide alone. A signal that somebody sent stays what it is, whatever
   the last lines say; a life that was ready weakens a class that says it could never have worked.
3. 137 is SIGKILL. It is memory only where the kernel, the cgroup or the runtime says so (R4).
4. What nothing names is unknown. A guess carries a confidence below ``SURE``.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from standfast.services.failures import kernel_log
from standfast.services.failures.codes import Reading, of_code, of_signal
from standfast.services.failures.model import (
    ACTIONS,
    FIXES,
    GUESSED,
    HELD_REPEATEDLY,
    HOLDS,
    MOST_REPEATS,
    PERMANENT,
    SURE,
    Action,
    Classified,
    Course,
    Evidence,
    FailureClass,
)
from standfast.services.failures.peers import Peer, is_declared, peer
from standfast.services.failures.rules import Hit, Rule
from standfast.services.failures.text import Tail, tail

_C = FailureClass
#: Less than this is not shown as a class at all.
_LEAST = 0.3
#: Of two lines that speak equally clearly, the later one is nearer to the end.
_LATER = 0.04
#: Lines after the one that is meant, and how much it then counts. What ends a program is among the last
#: things that it says, with its frames and its goodbyes behind it.
_RECENT, _LONG_AGO = ((20, 1.0), (50, 0.85)), 0.7
#: A user's own rule is believed before a shipped one that is as good.
_OWN = 0.1
#: The kernel named the process, or it was said that its log is about this one.
_PROVEN = 0.95
#: The kernel told of a device that this one may use; what its own last lines say clearly is stronger.
_SUSPECTED = 0.74
_GPU_WORDS = ("cuda", "gpu", "nvidia", "nvml", "torch", "rocm", "hip ", "tensor", "vulkan", "xla")
_GPU_LINES = 50
#: A life that was ready had what it needed; what could never have worked is then less likely.
_WAS_READY = 0.8
#: Exit code 0 says that all went well, whatever its lines speak of.
_SAID_DONE = 0.6
_OOM_FIX = "raise the memory limit of the service, or make it need less"
_MOST_EVIDENCE = 8
_MOST_LINE = 300
#: Lines after the one that named it, in which a host and a port may stand (node prints them one by one).
_PEER_LINES = 12


class Named(NamedTuple):
    """A class that some evidence supports, before the rest of the evidence has been heard."""

    cls: FailureClass
    sub: str
    confidence: float
    why: tuple[str, ...]
    fix: str = ""
    rule: str = ""
    course: Course | None = None


def classify(evidence: Evidence, rules: Sequence[Rule]) -> Classified:
    """Name the end that ``evidence`` is of; what nothing supports is UNKNOWN with a low confidence."""
    named = _asked(evidence) or _by_memory(evidence)
    if named is None:
        device = _by_device(evidence, rules)
        is_proven = device is not None and device.confidence >= _PROVEN
        named = device if is_proven else _by_rest(evidence, rules, device)
    assert named is not None
    return _classified(named, evidence)


def _asked(evidence: Evidence) -> Named | None:
    if not evidence.asked_by:
        return None
    return Named(_C.REQUESTED_STOP, "", 0.99, (f"{evidence.asked_by} asked for the stop",), rule="asked")


def _by_memory(evidence: Evidence) -> Named | None:
    """Hear the kernel, the cgroup and the runtime: what they say does not depend on anybody's wording."""
    killed = _oom_lines(evidence)
    if killed:
        return Named(_C.RESOURCE_OOM, "kernel", 0.97, killed, _OOM_FIX, "kernel.oom")
    if evidence.is_oom_flagged:
        why = _oom_words(evidence, "the container runtime has flagged it as killed for memory (OOMKilled)")
        return Named(_C.RESOURCE_OOM, "runtime", 0.96, why, _OOM_FIX, "runtime.oom")
    is_killed = evidence.signal_number == signal.SIGKILL
    if evidence.oom_kills and (is_killed or not evidence.is_cgroup_shared):
        why = _oom_words(evidence, f"the cgroup's oom_kill counter grew by {evidence.oom_kills}")
        sure = 0.8 if evidence.is_cgroup_shared else 0.96
        return Named(_C.RESOURCE_OOM, "cgroup", sure, why, _OOM_FIX, "cgroup.oom")
    return None


def _oom_words(evidence: Evidence, fact: str) -> tuple[str, ...]:
    if evidence.status is not None and evidence.signal_number != signal.SIGKILL:
        return fact, f"it ended with {evidence.status.text}: the kernel killed a process that it had started"
    return (fact,)


def _oom_lines(evidence: Evidence) -> tuple[str, ...]:
    is_killed = evidence.signal_number == signal.SIGKILL
    if evidence.exit_code == 0:
        return ()
    name = evidence.command[0].rpartition("/")[2] if evidence.command else ""
    if name and not evidence.pids and not evidence.cgroup and not is_killed:
        # A name alone is shared by many processes; it needs the signal beside it.
        return ()
    kills = [
        kill
        for kill in kernel_log.oom_kills(evidence.kernel_lines)
        if kernel_log.is_about(kill, pids=evidence.pids, cgroup=evidence.cgroup, name=name)
    ]
    return tuple(kill.text for kill in kills[:3])


def _by_device(evidence: Evidence, rules: Sequence[Rule]) -> Named | None:
    """Hear what the kernel says of devices; only a line that names this process proves anything."""
    meant = [line for line in evidence.kernel_lines if _may_be_meant(line, evidence)]
    if not meant:
        return None
    best = _best(_hits(tail(meant), [r for r in rules if r.is_kernel and r.cls is not _C.RESOURCE_OOM]))
    if best is None:
        return None
    is_named = not evidence.pids or any(x.pid in evidence.pids for x in kernel_log.xids((best.line,)))
    if not is_named and best.rule.sub.startswith("gpu") and not _uses_gpu(evidence):
        return None
    return _of_hit(best, _PROVEN if is_named else _SUSPECTED, f"the kernel's log: {best.line}")


def _uses_gpu(evidence: Evidence) -> bool:
    said = " ".join((*evidence.command, *evidence.lines[-_GPU_LINES:])).lower()
    return any(word in said for word in _GPU_WORDS)


def _may_be_meant(line: str, evidence: Evidence) -> bool:
    if not evidence.pids:
        return True
    errors = kernel_log.xids((line,))
    return not any(error.pid and error.pid not in evidence.pids for error in errors)


def _by_rest(evidence: Evidence, rules: Sequence[Rule], device: Named | None) -> Named:
    """Hear status, phase, lines and dependencies; ``device`` is what the kernel may have said of this one."""
    by_status = _by_status(evidence)
    read = tail(evidence.lines)
    if by_status is not None and by_status.is_final:
        return _told_of_kill(read, rules, evidence) or _of_reading(by_status)
    usable = [rule for rule in rules if _fits(rule, evidence)]
    best = _best(_hits(read, usable))
    by_text = None if best is None else _by_hit(best, read, evidence)
    if by_text is not None and by_text.confidence < _LEAST:
        by_text = None
    if device is not None and (by_text is None or by_text.confidence < device.confidence):
        by_text = device
    named = _stronger(by_text, None if by_status is None else _of_reading(by_status))
    return _with_dependencies(named, evidence)


def _by_status(evidence: Evidence) -> Reading | None:
    if evidence.status is None:
        return None
    if evidence.signal_number:
        return of_signal(evidence.signal_number, was_watched=evidence.asked_by is not None)
    return of_code(evidence.status.code)


def _told_of_kill(read: Tail, rules: Sequence[Rule], evidence: Evidence) -> Named | None:
    """Return a kill for memory, where the last lines themselves hold the kernel's or the runtime's word."""
    if evidence.signal_number != signal.SIGKILL:
        return None
    best = _best(_hits(read, [rule for rule in rules if rule.is_kernel and rule.cls is _C.RESOURCE_OOM]))
    return None if best is None else _by_hit(best, read, evidence)


def _fits(rule: Rule, evidence: Evidence) -> bool:
    """Whether a rule may be heard on this end at all: its exit codes, signals and phase, where it has any."""
    if rule.exit or rule.signal:
        code, number = evidence.exit_code, evidence.signal_number
        if not (code is not None and code in rule.exit) and not (number and number in rule.signal):
            return False
    if rule.phase == "never_ready":
        return not evidence.ready_s
    return rule.phase != "was_ready" or bool(evidence.ready_s)


def _hits(read: Tail, rules: Iterable[Rule]) -> list[tuple[float, Hit]]:
    found = []
    for rule in rules:
        for hit in rule.hits(read):
            # A warning is its own subject: that it calls itself one makes it no weaker.
            counted = 1.0 if rule.cls is _C.WARNING_CONFIG else hit.weight
            later = _LATER * (hit.number + 1) / len(read.lines)
            counted *= _recency(len(read.lines) - 1 - hit.number)
            found.append((rule.confidence * counted + later + (_OWN if rule.is_own else 0.0), hit))
    return found


def _recency(lines_after: int) -> float:
    """Return how much a line counts by what was said after it: a program that went on had survived it."""
    return next((counts for most, counts in _RECENT if lines_after <= most), _LONG_AGO)


def _best(hits: Sequence[tuple[float, Hit]]) -> Hit | None:
    if not hits:
        return None
    # Of two phrases of one rule the one that names more makes the better fix.
    return max(hits, key=lambda scored: (scored[0], len(scored[1].named)))[1]


def _by_hit(hit: Hit, read: Tail, evidence: Evidence) -> Named:
    counted = 1.0 if hit.rule.cls is _C.WARNING_CONFIG else hit.weight
    counted *= _recency(len(read.lines) - 1 - hit.number)
    named = _of_hit(hit, min(hit.rule.confidence * counted, 0.99), f"its last lines: {hit.line}")
    if evidence.exit_code == 0 and named.cls not in (_C.WARNING_CONFIG, _C.REQUESTED_STOP):
        named = named._replace(confidence=named.confidence * _SAID_DONE)
    if hit.rule.outside is not None:
        named = _by_peer(named, hit, read, evidence)
    if evidence.ready_s and named.cls in (_C.PERMANENT_CONFIG, _C.PERMANENT_AUTH):
        said = f"it had been ready for {evidence.ready_s:.0f} s, so that this worked before"
        named = named._replace(confidence=named.confidence * _WAS_READY, why=(*named.why, said))
    return named


def _of_hit(hit: Hit, confidence: float, why: str) -> Named:
    rule = hit.rule
    course = None if rule.action is None else Course(rule.action, ACTIONS[rule.cls].text)
    return Named(rule.cls, rule.sub, confidence, (why[:_MOST_LINE],), hit.fix, rule.id, course)


def _by_peer(named: Named, hit: Hit, read: Tail, evidence: Evidence) -> Named:
    """Tell a dependency from the rest of the world, by the far end that the lines name."""
    assert hit.rule.outside is not None
    far = peer(read.lines[hit.number : hit.number + _PEER_LINES])
    if not far.host and not far.port:
        far = Peer(hit.named.get("host", ""), 0)
    outside = named._replace(cls=hit.rule.outside)
    declared = evidence.dependency_addresses
    if declared is not None:
        if (far.host or far.port) and is_declared(far, declared):
            said = f"{far.address} is a declared dependency"
            return named._replace(
                cls=_C.DEPENDENCY_NOT_READY, confidence=max(named.confidence, 0.93), why=(*named.why, said)
            )
        if not far.host and not far.port and evidence.dependencies_down:
            return named
        return outside._replace(why=(*named.why, f"{far.address or 'it'} is no declared dependency"))
    if hit.rule.cls is _C.DEPENDENCY_NOT_READY and not far.is_near:
        return outside._replace(why=(*named.why, f"{far.address} is outside of this network"))
    return named


def _of_reading(reading: Reading) -> Named:
    course = Course(reading.action, reading.action_text) if reading.action else None
    return Named(
        reading.cls, reading.sub, reading.confidence, (reading.why,), reading.fix, reading.rule, course
    )


def _stronger(by_text: Named | None, by_status: Named | None) -> Named:
    """Return what is supported better; where both say the same, each makes the other surer."""
    if by_text is None or by_status is None:
        return by_text or by_status or Named(_C.UNKNOWN, "", 0.1, ("nothing in the evidence names it",))
    if by_text.cls is by_status.cls:
        return by_text._replace(
            confidence=min(max(by_text.confidence, by_status.confidence) + 0.05, 0.99),
            why=(*by_status.why, *by_text.why),
        )
    if by_status.cls is _C.UNKNOWN:
        return by_text
    # The lines are nearer to the cause than a code that several causes share.
    if by_text.confidence + 0.15 >= by_status.confidence:
        return by_text._replace(why=(*by_status.why, *by_text.why))
    return by_status._replace(why=(*by_status.why, *by_text.why))


def _with_dependencies(named: Named, evidence: Evidence) -> Named:
    """Blame a declared dependency that was down, where nothing else is named with certainty."""
    if not evidence.dependencies_down or named.cls in (_C.BLOCKED_BY_DEPENDENCY, _C.REQUESTED_STOP):
        return named
    names = ", ".join(evidence.dependencies_down)
    said = f"not ready at its end: {names}"
    is_network = named.cls in (_C.TRANSIENT_NETWORK, _C.DEPENDENCY_NOT_READY)
    if is_network or (named.confidence < SURE and not evidence.ready_s):
        sure = 0.92 if is_network else 0.6
        return Named(
            _C.DEPENDENCY_NOT_READY, named.sub if is_network else "", sure, (*named.why, said),
            f"cure {names} first", named.rule or "dependencies.down",
        )  # fmt: skip
    return named._replace(why=(*named.why, said))


def _classified(named: Named, evidence: Evidence) -> Classified:
    named = _with_repetition(named, evidence)
    course = named.course or _course(named, evidence)
    return Classified(
        cls=named.cls, sub=named.sub, action=course.action, action_text=course.text,
        evidence=_evidence(named, evidence), fix=named.fix or FIXES[named.cls], rule=named.rule,
        confidence=round(min(named.confidence, 0.99), 2),
    )  # fmt: skip


def _with_repetition(named: Named, evidence: Evidence) -> Named:
    """Make a permanent class surer where the same end came again and again, never ready."""
    if evidence.repeats < MOST_REPEATS or evidence.ready_s or named.cls not in PERMANENT:
        return named
    return named._replace(confidence=min(named.confidence + 0.15, 0.99))


def _course(named: Named, evidence: Evidence) -> Course:
    course = ACTIONS[named.cls]
    if named.confidence < SURE and course.action in HOLDS:
        course = GUESSED
    if evidence.repeats >= MOST_REPEATS and not evidence.ready_s and course.action is Action.BACKOFF_LIMITED:
        return HELD_REPEATEDLY
    if course.action is Action.PARK and not _is_declared_down(named, evidence):
        return Course(Action.BACKOFF, "start again with backoff: which dependency it is was not declared")
    return course


def _is_declared_down(named: Named, evidence: Evidence) -> bool:
    # Without a declaration to look at, the class's own action is the best advice there is.
    return evidence.dependency_addresses is None or bool(
        evidence.dependencies_down or named.confidence >= 0.9
    )


def _evidence(named: Named, evidence: Evidence) -> tuple[str, ...]:
    facts: list[str] = []
    if evidence.status is not None:
        facts.append(evidence.status.text)
    if evidence.ready_s is not None:
        facts.append(f"was ready for {evidence.ready_s:.1f} s" if evidence.ready_s else "was never ready")
    if evidence.lived_s is not None:
        facts.append(f"lived {evidence.lived_s:.1f} s")
    facts += [fact for fact in named.why if fact not in facts]
    if evidence.repeats > 1:
        facts.append(f"{evidence.repeats} times in a row in the same way")
    if named.confidence < SURE:
        facts.append("this is a guess: nothing in the evidence proves it")
    return tuple(facts[:_MOST_EVIDENCE])
