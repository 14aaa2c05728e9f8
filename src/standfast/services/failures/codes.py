"""What an exit code or a signal says by itself.

Sources: signal(7), sysexits(3), POSIX (Shell Command Language 2.8.2: 126, 127, 128 + n), systemd.exec(5).
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import NamedTuple

from standfast.services.failures.model import Action, FailureClass

_C = FailureClass


class Reading(NamedTuple):
    """What a status alone supports. ``is_final``: no last words can say otherwise."""

    cls: FailureClass
    sub: str
    confidence: float
    why: str
    rule: str
    fix: str = ""
    is_final: bool = False
    action: Action | None = None
    action_text: str = ""


_CODES: Mapping[int, tuple[FailureClass, str, float, str]] = {
    2: (_C.PERMANENT_CONFIG, "bad_args", 0.35, "many programs end with 2 when they are called wrongly"),
    64: (_C.PERMANENT_CONFIG, "bad_args", 0.8, "EX_USAGE: it was started with wrong arguments"),
    65: (_C.PERMANENT_CONFIG, "bad_input", 0.5, "EX_DATAERR: its input is wrong"),
    66: (_C.PERMANENT_CONFIG, "missing_file", 0.8, "EX_NOINPUT: an input that it needs is missing"),
    67: (_C.PERMANENT_CONFIG, "user", 0.5, "EX_NOUSER: a user that it needs does not exist"),
    68: (_C.TRANSIENT_NETWORK, "dns", 0.5, "EX_NOHOST: a host that it needs is not known"),
    69: (
        _C.TRANSIENT_NETWORK,
        "unavailable",
        0.6,
        "EX_UNAVAILABLE: a service that it needs is not available",
    ),
    70: (_C.CODE_BUG, "", 0.5, "EX_SOFTWARE: an error of its own"),
    72: (_C.PERMANENT_CONFIG, "missing_file", 0.6, "EX_OSFILE: a file of the system is missing"),
    73: (_C.PERMANENT_AUTH, "permission", 0.4, "EX_CANTCREAT: it cannot create a file"),
    75: (_C.TRANSIENT_NETWORK, "", 0.6, "EX_TEMPFAIL: it says itself that trying again may help"),
    76: (_C.TRANSIENT_NETWORK, "protocol", 0.4, "EX_PROTOCOL: the far end answered wrongly"),
    77: (_C.PERMANENT_AUTH, "permission", 0.8, "EX_NOPERM: it lacks a permission"),
    78: (_C.PERMANENT_CONFIG, "bad_config", 0.85, "EX_CONFIG: its configuration is wrong"),
    126: (_C.PERMANENT_CONFIG, "not_executable", 0.85, "126: the program cannot be executed"),
    127: (_C.PERMANENT_CONFIG, "missing_binary", 0.85, "127: the program, or what it needs, was not found"),
    200: (_C.PERMANENT_CONFIG, "missing_file", 0.5, "200: systemd could not change to the working directory"),
    203: (_C.PERMANENT_CONFIG, "missing_binary", 0.6, "203: systemd could not execute the program"),
    217: (_C.PERMANENT_CONFIG, "user", 0.6, "217: systemd did not find the user of the unit"),
    226: (_C.PERMANENT_CONFIG, "bad_config", 0.5, "226: systemd could not set up the unit's namespace"),
}

_SIGNALS: Mapping[int, tuple[FailureClass, str, float, str]] = {
    signal.SIGILL: (
        _C.PERMANENT_CONFIG,
        "cpu_instruction",
        0.7,
        "the CPU does not know an instruction of it",
    ),
    signal.SIGTRAP: (_C.CODE_BUG, "native_crash", 0.5, "a trap that nobody handled"),
    signal.SIGABRT: (_C.CODE_BUG, "native_crash", 0.6, "it aborted itself"),
    signal.SIGBUS: (_C.RESOURCE_SHM, "shm", 0.6, "memory that was mapped is not there: a full /dev/shm"),
    signal.SIGFPE: (_C.CODE_BUG, "native_crash", 0.75, "an arithmetic error, as a division by zero"),
    signal.SIGSEGV: (_C.CODE_BUG, "native_crash", 0.75, "it used memory that is not its own"),
    signal.SIGPIPE: (_C.UNKNOWN, "sigpipe", 0.2, "whoever read its output is gone"),
    signal.SIGXCPU: (_C.PERMANENT_CONFIG, "cpu_limit", 0.5, "it used up its CPU time limit"),
    signal.SIGXFSZ: (_C.RESOURCE_DISK, "file_size", 0.7, "it reached the limit of the size of a file"),
    signal.SIGSYS: (_C.PERMANENT_CONFIG, "seccomp", 0.7, "it made a system call that its sandbox forbids"),
}

_STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})


def of_code(code: int) -> Reading:
    """Return what an exit code says; most of them say nothing."""
    if code == 0:
        why = "exit code 0: it says that it is done; a service that should run on may have forked away"
        fix = "keep it in the foreground; if it is to run once, declare it as a task"
        return Reading(_C.UNKNOWN, "ended", 0.2, why, "exit.0", fix)
    if code in _CODES:
        cls, sub, confidence, why = _CODES[code]
        return Reading(cls, sub, confidence, why, f"exit.{code}")
    return Reading(_C.UNKNOWN, "", 0.1, f"exit code {code} says nothing by itself", "exit")


def of_signal(number: int, *, was_watched: bool) -> Reading:
    """Return what a signal says. ``was_watched``: it is known that nobody here asked for the stop."""
    if number == signal.SIGKILL:
        return Reading(
            _C.AMBIGUOUS_137, "", 0.6,
            "SIGKILL, and neither kernel, cgroup nor runtime speaks of memory: a stop that took too long, an "
            "engine that died, and an operator look the same", "signal.9",
            "look who sent it before calling it memory: dmesg | grep -i oom; docker events --since 1h",
            is_final=True,
        )  # fmt: skip
    if number in _STOPS:
        return _stop(signal.Signals(number).name, number, was_watched=was_watched)
    if number in _SIGNALS:
        cls, sub, confidence, why = _SIGNALS[number]
        return Reading(cls, sub, confidence, why, f"signal.{number}")
    return Reading(_C.UNKNOWN, "", 0.1, f"signal {number} says nothing by itself", "signal")


def _stop(name: str, number: int, *, was_watched: bool) -> Reading:
    if not was_watched:
        why = f"{name} is how a stop is asked for; who sent it was not observed"
        return Reading(_C.REQUESTED_STOP, "", 0.75, why, f"signal.{number}", is_final=True)
    why = f"{name} was sent by somebody outside of this supervisor"
    return Reading(
        _C.REQUESTED_STOP, "outside", 0.6, why, f"signal.{number}", is_final=True, action=Action.BACKOFF,
        action_text="start again: nobody here asked for the stop",
    )  # fmt: skip
