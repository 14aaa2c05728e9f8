"""Whose doing a failure was: every way in which an episode can go wrong, and the side it is charged to.

1. Charged to the subject is only what its own host must have done: it refused, answered wrongly, or had
   a connection and did not use it. It then scores 0.
2. What our machine, network, environment or process did is infrastructure: never scored, tried again (I6).
3. Where both are possible, the evidence decides, and where there is none the table says which and why.
   A subject gains nothing by making itself look like our fault: what is never scored leaves its row
   incomplete, and the round's completeness rule decides about such a row.
"""

from __future__ import annotations

import enum
import errno
import math
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from standfast.evaluation.model import EpisodeReport, Fault, OutcomeClass

TIMEOUT = "Timeout"

#: Every code with whose doing it is and what it means. ``Timeout`` is either's, see ``blame_timeout``.
CODES: Mapping[str, tuple[Fault, str]] = {
    "SubjectEndpointInvalid": (Fault.SUBJECT, "the committed endpoint is no http or https address"),
    "SubjectAddressForbidden": (Fault.SUBJECT, "the endpoint lies in a network that subjects may not name"),
    "SubjectNameUnknown": (Fault.SUBJECT, "the name service answered that the host does not exist"),
    "SubjectRefused": (Fault.SUBJECT, "its host refused the connection"),
    "SubjectUnreachable": (
        Fault.SUBJECT,
        "no connection came about in time, and no sign that it is our network",
    ),
    "SubjectTlsFailed": (Fault.SUBJECT, "its certificate or its TLS is not valid"),
    "SubjectTimeout": (
        Fault.SUBJECT,
        "it was connected and gave no complete reply within the limit of the call",
    ),
    "SubjectBudgetSpent": (Fault.SUBJECT, "all calls together took longer than the budget of the episode"),
    "SubjectClosed": (Fault.SUBJECT, "it closed the connection before its reply was complete"),
    "SubjectRedirected": (Fault.SUBJECT, "it answered with a redirect, which is not followed"),
    "SubjectStatus": (Fault.SUBJECT, "it answered with a status other than 200"),
    "SubjectReplyTooLarge": (Fault.SUBJECT, "its reply exceeds the limit in bytes"),
    "SubjectReplyNotHttp": (Fault.SUBJECT, "its reply is not HTTP"),
    "SubjectReplyNotJson": (Fault.SUBJECT, "its reply is not JSON"),
    "SubjectResetInvalid": (Fault.SUBJECT, "its reply to /reset has the wrong shape"),
    "SubjectActionInvalid": (Fault.SUBJECT, "its action has the wrong shape or type"),
    "SubjectActionNotFinite": (Fault.SUBJECT, "its action holds NaN or infinity"),
    "SpecInvalid": (Fault.INFRASTRUCTURE, "the episode was asked for with impossible values"),
    "EnvironmentUnknown": (Fault.INFRASTRUCTURE, "this executor's catalogue has no such environment"),
    "EnvironmentMissing": (Fault.INFRASTRUCTURE, "the simulator is not installed here"),
    "EnvironmentRaised": (Fault.INFRASTRUCTURE, "the environment raised an exception"),
    "EnvironmentNotFinite": (Fault.INFRASTRUCTURE, "the environment returned NaN or infinity"),
    "EnvironmentMalformed": (Fault.INFRASTRUCTURE, "the environment returned the wrong shape or type"),
    "NetworkFailed": (Fault.INFRASTRUCTURE, "our own network or name service failed, or no witness answers"),
    "ExecutorStarved": (Fault.INFRASTRUCTURE, "the call ran out of time while we were waiting for a CPU"),
    "ExecutorStopped": (Fault.INFRASTRUCTURE, "the executor was stopped in mid-episode"),
    "EpisodeCrashed": (Fault.INFRASTRUCTURE, "the episode's own code failed: a bug of ours"),
    "EpisodeKilled": (Fault.INFRASTRUCTURE, "the episode's process was killed by a signal"),
    "EpisodeExited": (Fault.INFRASTRUCTURE, "the episode's process exited without a report"),
    "EpisodeGarbled": (Fault.INFRASTRUCTURE, "the episode's process left a report that cannot be read"),
    "ForkServerLost": (Fault.INFRASTRUCTURE, "the process that starts episodes is gone or does not start"),
}


@dataclass(frozen=True, slots=True)
class Mishap:
    """One failure: a code of ``CODES`` (or ``Timeout``), a line for people, and whose doing it was."""

    code: str
    text: str
    fault: Fault


def mishap(code: str, text: str) -> Mishap:
    """Return the failure ``code``, charged as the table says."""
    return Mishap(code, text, CODES[code][0])


class MishapError(Exception):
    """Ends an episode; carries the failure as a value."""

    def __init__(self, failure: Mishap) -> None:
        super().__init__(failure.text)
        self.failure = failure


def fail(code: str, text: str) -> MishapError:
    """Return the error to raise for the failure ``code``."""
    return MishapError(mishap(code, text))


class Phase(enum.IntEnum):
    """What an episode's process is doing."""

    STARTING = 0
    ENVIRONMENT = 1
    SUBJECT = 2
    ENDING = 3  # The report is written; only the environment's close is left.


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an episode came: seconds spent on each side include the phase that was under way."""

    phase: Phase = Phase.STARTING
    steps: int = 0
    subject_s: float = 0.0
    environment_s: float = 0.0


#: Failures to connect that only our own machine or its network can cause. ENETUNREACH and EADDRNOTAVAIL
#: are answered by the local routing table, EACCES and EPERM by a local firewall, the rest by local limits.
_LOCAL_ERRNOS = frozenset(
    {
        errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM, errno.EMFILE,
        errno.ENFILE, errno.ENOBUFS, errno.ENOMEM,
    }
)  # fmt: skip


def blame_connect_error(number: int | None, text: str) -> Mishap:
    """Say whose doing it was that no connection came about, from the error number of ``connect``.

    A refusal is sent by the subject's host. EHOSTUNREACH comes from a router near it or from ours, so it
    counts as unreachable, for which a witness is heard.
    """
    if number == errno.ECONNREFUSED:
        return mishap("SubjectRefused", f"the subject refused the connection ({text})")
    if number in _LOCAL_ERRNOS:
        return mishap("NetworkFailed", f"this machine could not connect at all ({text})")
    if number in (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED):
        return mishap("SubjectClosed", f"the subject reset the connection ({text})")
    return mishap("SubjectUnreachable", f"no connection to the subject came about ({text})")


def blame_stream_error(number: int | None, text: str) -> Mishap:
    """Say whose doing it was that an established connection broke, from the error number, if it has one."""
    if number in _LOCAL_ERRNOS:
        return mishap("NetworkFailed", f"this machine lost the connection ({text})")
    return mishap(
        "SubjectClosed", f"the subject closed the connection before its reply was complete ({text})"
    )


def blame_lookup_error(number: int | None, text: str) -> Mishap:
    """Say whose doing it was that a host name was not resolved, from the error number of getaddrinfo.

    "No such name" is an answer about the subject's name. Everything else says that no answer was had.
    """
    if number in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
        return mishap("SubjectNameUnknown", f"the subject's host name does not exist ({text})")
    return mishap("NetworkFailed", f"the name service gave no answer ({text})")


#: A call that overran is ours when at least this share of its limit, and at least this long, was spent
#: waiting for a CPU: the subject's answer may have been there in time, and we did not look.
STARVED_SHARE = 0.2
STARVED_S = 0.03


class CallStage(enum.Enum):
    """How far a call to the subject came."""

    RESOLVING = "resolving"
    CONNECTING = "connecting"
    CONNECTED = "connected"


def blame_overrun(stage: CallStage, *, limit_s: float, elapsed_s: float, starved_s: float) -> Mishap:
    """Say whose doing it was that a call was not finished within ``limit_s``.

    ``starved_s`` is how long this process was ready to run and got no CPU during the call. A name service
    that says nothing is ours. Silence to a connection attempt is the subject's, if a witness answers.
    """
    lost_s = max(starved_s, elapsed_s - limit_s)
    if lost_s >= max(STARVED_S, STARVED_SHARE * limit_s):
        return mishap(
            "ExecutorStarved",
            f"a call had {limit_s:g} s, and this machine was too busy for {lost_s:.2f} of them",
        )
    if stage is CallStage.RESOLVING:
        return mishap("NetworkFailed", f"the name service gave no answer within {limit_s:g} s")
    if stage is CallStage.CONNECTING:
        return mishap("SubjectUnreachable", f"no connection to the subject within {limit_s:g} s")
    return mishap("SubjectTimeout", f"the subject gave no complete reply within {limit_s:g} s")


#: A kill that came this much later than asked (a share of the limit) shows that the machine was
#: overloaded or suspended; nobody is charged for that time.
LATE_SHARE = 0.1


def blame_timeout(progress: Progress, *, timeout_s: float, elapsed_s: float) -> Mishap:
    """Say whose doing it was that an episode had to be killed at ``timeout_s``.

    The subject's, if more than half of the time went into waiting for it and the kill came on time:
    then the episode could have been finished had the subject been quick. Everything else, ties too,
    is ours.
    """
    is_late = elapsed_s > timeout_s * (1 + LATE_SHARE)
    is_subjects = not is_late and progress.subject_s > elapsed_s / 2
    fault = Fault.SUBJECT if is_subjects else Fault.INFRASTRUCTURE
    text = (
        f"killed after {timeout_s:g} s in phase {progress.phase.name.lower()}, step {progress.steps}, "
        f"having waited {progress.subject_s:.2f} s for the subject "
        f"and {progress.environment_s:.2f} s for the environment"
    )
    return Mishap(TIMEOUT, text, fault)


def describe_death(status: int) -> Mishap:
    """Name how a process ended that left no report; ``status`` is negative for a signal."""
    if status >= 0:
        return mishap("EpisodeExited", f"the episode's process exited with status {status} and no report")
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = ", as the kernel does when memory runs out" if -status == signal.SIGKILL else ""
    return mishap("EpisodeKilled", f"the episode's process was killed by {name}{hint}")


class InvalidReportError(ValueError):
    """A report contradicts itself; it is refused whole."""


def classify(report: EpisodeReport) -> OutcomeClass:
    """Say how an episode ended (K2); InvalidReportError for a report that contradicts itself.

    Refused are success together with an error, an error without its three parts, and numbers that are
    not finite, negative, or (the score) above 1.
    """
    parts = (bool(report.error_code), bool(report.error), report.fault is not None)
    if any(parts) and not all(parts):
        raise InvalidReportError("an error needs all of code, text and fault")
    if report.fault is not None and (report.success or report.score > 0):
        raise InvalidReportError(f"it claims success or a score and also the error {report.error_code}")
    numbers = (report.score, report.steps, report.duration_s, report.subject_s)
    if not all(math.isfinite(n) and n >= 0 for n in numbers) or not math.isfinite(report.total_reward):
        raise InvalidReportError("its numbers must be finite and, but for the reward, not negative")
    if report.score > 1:
        raise InvalidReportError(f"its score is {report.score}, and must be 0 to 1")
    if report.fault is not None:
        is_subjects = report.fault is Fault.SUBJECT
        return OutcomeClass.SUBJECT_ERROR if is_subjects else OutcomeClass.INFRA_ERROR
    return OutcomeClass.WON if report.success else OutcomeClass.LOST
