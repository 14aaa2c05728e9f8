"""The judgements of preflight: samples in, findings out; no judgement looks at the machine itself.

1. A sample that is missing is UNKNOWN, and UNKNOWN keeps the gate closed (I1).
2. What does not apply to this configuration is SKIPPED and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from standfast.checks.model import (
    ClockSample,
    EnvironmentSample,
    FolderSample,
    PackageSample,
    PortSample,
    ProcessSample,
    Samples,
    StoreSample,
    Unread,
)
from standfast.kernel.verdict import Finding, Gate, Verdict

LEAST_PYTHON = (3, 11)
LEAST_FREE_BYTES = 200_000_000
LEAST_FREE_INODES = 1_000
#: Before the first line of this code was written; a clock that says so was never set.
LEAST_YEAR = 2024
#: Two clocks read one after the other differ by scheduling; half a second is no scheduling.
MOST_DRIFT_S = 0.5
_DOCTOR = "standfast doctor shows it again"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its name, what it looks for, and the judgement."""

    name: str
    summary: str
    judge: Callable[[Samples], Iterable[Finding]]


def preflight(samples: Samples, *, checks: Iterable[Check] | None = None) -> Gate:
    """Return the gate that must be open before an instance starts."""
    chosen = BUILTIN if checks is None else tuple(checks)
    return Gate("preflight", tuple(finding for check in chosen for finding in check.judge(samples)))


def judge_config(samples: Samples) -> Iterator[Finding]:
    """Judge whether the configuration can be used."""
    sample = samples.config
    if isinstance(sample, Unread):
        yield _unread("config", sample)
    elif sample.trouble is not None:
        trouble = sample.trouble
        yield Finding("config", Verdict.FAIL, trouble.code, trouble.what, sample.source, remedy=trouble.fix)
    else:
        yield _pass(
            "config",
            "Valid",
            f"{sample.subjects} subjects, {sample.environments} environments",
            sample.source,
        )


def judge_process(samples: Samples) -> Iterator[Finding]:
    """Judge the Python that runs and its limit of open files."""
    sample = samples.process
    if isinstance(sample, Unread):
        yield _unread("python", sample)
        return
    version = ".".join(map(str, sample.python))
    if sample.python[:2] < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        yield Finding(
            "python", Verdict.FAIL, "TooOld", f"this is Python {version}, {least} is needed",
            remedy=f"install Python {least} or later and make the environment again: make clean up",
        )  # fmt: skip
    else:
        yield _pass("python", "Supported", f"Python {version}")
    yield _judge_open_files(sample)


def _judge_open_files(sample: ProcessSample) -> Finding:
    text = f"{sample.open_files} files may be open, {sample.needed_files} are needed"
    if sample.open_files >= sample.needed_files:
        return _pass("open-files", "Enough", text)
    is_raisable = sample.open_files_hard >= sample.needed_files
    command = f"ulimit -n {sample.needed_files}"
    remedy = command if is_raisable else f"as root: raise the hard limit (limits.conf), then {command}"
    return Finding("open-files", Verdict.FAIL, "TooFew", text, remedy=remedy)


def judge_packages(samples: Samples) -> Iterator[Finding]:
    """Judge whether everything that Standfast needs is installed, at versions that it works with."""
    sample = samples.packages
    if isinstance(sample, Unread):
        yield _unread("packages", sample)
        return
    wrong = [package for package in sample if not package.is_satisfied]
    if not sample:
        yield _unread("packages", Unread("the metadata of standfast lists no requirement"))
    elif wrong:
        text = ", ".join(_package_text(package) for package in wrong)
        yield Finding(
            "packages", Verdict.FAIL, "Missing", text,
            remedy="pip install --require-hashes -r requirements.lock (make up does it)",
        )  # fmt: skip
    else:
        yield _pass("packages", "Installed", f"{len(sample)} required packages are there")


def _package_text(package: PackageSample) -> str:
    return f"{package.name}{package.wanted} is needed, {package.installed or 'nothing'} is installed"


def judge_environments(samples: Samples) -> Iterator[Finding]:
    """Judge whether each environment of the configuration can be made here."""
    sample = samples.environments
    if isinstance(sample, Unread):
        yield _unread("environments", sample)
        return
    if not sample:
        yield Finding("environments", Verdict.SKIPPED, "NoneConfigured", "no [[evaluation.environments]]")
    for environment in sample:
        yield _judge_environment(environment)


def _judge_environment(environment: EnvironmentSample) -> Finding:
    if not environment.error:
        return _pass("environments", "Works", "it was made and reset in a process of its own", environment.id)
    return Finding(
        "environments", Verdict.FAIL, "CannotBeMade", environment.error, environment.id,
        remedy=environment.fix or 'pip install "standfast[environments]", or remove it from the file',
    )  # fmt: skip


def judge_folder(samples: Samples) -> Iterator[Finding]:
    """Judge whether the data directory takes files, and how much room is left."""
    sample = samples.folder
    if isinstance(sample, Unread):
        yield _unread("data-dir", sample)
        return
    if sample.error:
        yield Finding(
            "data-dir", Verdict.FAIL, "NotWritable", sample.error, sample.path,
            remedy=f"make it writable for this user (ls -ld {sample.path}), or choose another: --data-dir",
        )  # fmt: skip
    else:
        yield _pass("data-dir", "Writable", "a file was written to disk and removed", sample.path)
    yield _judge_room(sample)


def _judge_room(sample: FolderSample) -> Finding:
    room = f"{sample.free_bytes / 1e6:.0f} MB and " + (
        f"{sample.free_inodes} inodes are free" if sample.free_inodes >= 0 else "inodes as needed"
    )
    too_little = ""
    if sample.free_bytes < LEAST_FREE_BYTES:
        reason, too_little, option = "NoRoom", f"{LEAST_FREE_BYTES / 1e6:.0f} MB", "-h"
    elif 0 <= sample.free_inodes < LEAST_FREE_INODES:
        reason, too_little, option = "NoInodes", f"{LEAST_FREE_INODES} inodes", "-i"
    if not too_little:
        return _pass("disk", "Room", room, sample.path)
    return Finding(
        "disk", Verdict.FAIL, reason, f"{room}; {too_little} are needed", sample.path,
        remedy=f"make room: df {option} {sample.path}",
    )  # fmt: skip


def judge_store(samples: Samples) -> Iterator[Finding]:
    """Judge whether the store opens, is sound, and is not newer than this code."""
    sample = samples.store
    if isinstance(sample, Unread):
        yield _unread("store", sample)
        yield _unread("facts", sample)
        return
    if sample.trouble is not None:
        trouble = sample.trouble
        yield Finding("store", Verdict.FAIL, trouble.code, trouble.what, sample.name, remedy=trouble.fix)
        yield _unread("facts", Unread("the store cannot be read"), sample.name)
        return
    if sample.is_new:
        yield _pass("store", "New", "there is none yet: it is made at the first start", sample.name)
        yield Finding("facts", Verdict.SKIPPED, "NoStore", "there are no facts yet", sample.name)
        return
    schema = f"; {sample.schema}: it is migrated at the next start" if sample.schema else ""
    yield _pass("store", "Sound", f"it opens and its pages are whole{schema}", sample.name)
    yield _judge_facts(sample)


def _judge_facts(sample: StoreSample) -> Finding:
    if sample.broken_fact:
        return Finding(
            "facts", Verdict.FAIL, "ChainBroken", sample.broken_fact, sample.name,
            remedy="keep a copy of the store, find out who changed it, restore a backup",
        )  # fmt: skip
    return _pass("facts", "Intact", f"{sample.facts} facts follow from one another", sample.name)


def judge_ports(samples: Samples) -> Iterator[Finding]:
    """Judge whether each port is free."""
    sample = samples.ports
    if isinstance(sample, Unread):
        yield _unread("ports", sample)
        return
    if not sample:
        yield Finding("ports", Verdict.SKIPPED, "InUseByItself", "an instance runs here and has its ports")
    for port in sample:
        yield _judge_port(port)


def _judge_port(port: PortSample) -> Finding:
    subject = f"{port.purpose} {port.host}:{port.port}"
    if port.holder:
        return Finding(
            "ports", Verdict.FAIL, "PortInUse", f"{subject} is held by {port.holder}", subject,
            remedy="stop that program, or choose another port: --port, or the service's port in the file",
        )  # fmt: skip
    if port.error:
        return Finding(
            "ports", Verdict.FAIL, "CannotListen", f"{subject}: {port.error}", subject,
            remedy="choose an address of this machine (api.host) and a port that this user may have",
        )  # fmt: skip
    return _pass("ports", "Free", "nobody listens on it" if port.port else "any free one is taken", subject)


def judge_clock(samples: Samples) -> Iterator[Finding]:
    """Judge whether the clocks go, and whether the wall clock was ever set."""
    sample = samples.clock
    if isinstance(sample, Unread):
        yield _unread("clock", sample)
        return
    yield _judge_clock(sample)


def _judge_clock(sample: ClockSample) -> Finding:
    remedy = "set the clock: timedatectl set-ntp true (or chronyc makestep)"
    drift_s = sample.wall_s - sample.monotonic_s
    if sample.year < LEAST_YEAR:
        return Finding(
            "clock", Verdict.FAIL, "NeverSet", f"it says that it is the year {sample.year}", remedy=remedy
        )
    if sample.monotonic_s <= 0:
        return Finding("clock", Verdict.FAIL, "Stands", "the monotonic clock did not advance", remedy=_DOCTOR)
    if abs(drift_s) > MOST_DRIFT_S:
        jumped = f"the wall clock went {drift_s:+.1f} s against the monotonic one"
        return Finding("clock", Verdict.FAIL, "Jumps", jumped, remedy=remedy)
    return _pass("clock", "Steady", "wall and monotonic clock agree")


def _pass(check: str, reason: str, message: str, subject: str = "") -> Finding:
    return Finding(check, Verdict.PASS, reason, message, subject)


def _unread(check: str, sample: Unread, subject: str = "") -> Finding:
    return Finding(check, Verdict.UNKNOWN, "NotRead", sample.why, subject, remedy=_DOCTOR)


BUILTIN = (
    Check("config", "the configuration is valid", judge_config),
    Check("process", "the Python is new enough and may open enough files", judge_process),
    Check("packages", "everything required is installed", judge_packages),
    Check("environments", "every configured environment can be made", judge_environments),
    Check("folder", "the data directory takes files and has room", judge_folder),
    Check("store", "the store opens, is sound, and its facts are whole", judge_store),
    Check("ports", "every port that will be listened on is free", judge_ports),
    Check("clock", "the clocks go and agree", judge_clock),
)
