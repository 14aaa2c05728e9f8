"""``standfast classify``: what kind of failure a captured text is, without an instance."""

from __future__ import annotations

import re
import signal
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from standfast.cli.output import Printer
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.kernel.errors import ConfigError
from standfast.services.failures.decide import classify as decide
from standfast.services.failures.model import SURE, Classified, Evidence, FailureClass
from standfast.services.failures.rules import Failed, Rule, rules_with, self_test
from standfast.services.model import ExitStatus

#: How much of a file's end is looked at; what is read of that is less still (failures.text).
_MOST_BYTES = 512_000
_CHUNK_BYTES = 1 << 20
#: So much of a text may be control characters; program output has colours, and no more.
_MOST_UNREADABLE = 0.2
_UNREADABLE = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd]")
_MOST_CODE, _MOST_SIGNAL = 255, 64

File = Annotated[Path | None, typer.Argument(metavar="FILE", help="Captured output; - is stdin.")]
Exit = Annotated[int | None, typer.Option("--exit", metavar="N", help="Exit code; 128 + n is signal n.")]
SignalName = Annotated[
    str, typer.Option("--signal", metavar="NAME", help="Signal that ended it: SIGKILL, 9.")
]
NeverReady = Annotated[bool, typer.Option("--never-ready", help="It was never ready.")]
ReadyS = Annotated[float | None, typer.Option("--ready-s", metavar="S", help="How long it had been ready.")]
OomKilled = Annotated[bool, typer.Option("--oom-killed", help="The container runtime says OOMKilled.")]
AskedBy = Annotated[str, typer.Option("--asked-by", metavar="WHO", help="Who asked for the stop.")]
Kernel = Annotated[
    Path | None, typer.Option("--kernel", metavar="FILE", help="Kernel log of that time, as dmesg prints it.")
]
Dependency = Annotated[
    list[str] | None,
    typer.Option(
        "--dependency", metavar="ADDRESS", help="Declared dependency, HOST:PORT or name; repeatable."
    ),
]
Rules = Annotated[
    list[Path] | None,
    typer.Option("--rules", metavar="PATH", help="File or folder of your own rules; repeatable."),
]
SelfTest = Annotated[
    bool, typer.Option("--self-test", help="Try every rule on its own texts; FILE is not needed.")
]
ListRules = Annotated[bool, typer.Option("--list", help="List the rules; FILE is not needed.")]


def add(app: typer.Typer) -> None:
    """Add ``classify``."""
    example = "standfast classify --exit 1 --never-ready service.log --json"
    command(app, classify, "classify", schema="classify", example=example, is_remote=False)


def classify(  # noqa: PLR0913 - each is one kind of evidence, and all of them are optional
    session: Session,
    *,
    file: File = None,
    exit_code: Exit = None,
    signal_name: SignalName = "",
    is_never_ready: NeverReady = False,
    ready_s: ReadyS = None,
    is_oom_killed: OomKilled = False,
    asked_by: AskedBy = "",
    kernel: Kernel = None,
    dependency: Dependency = None,
    rules: Rules = None,
    is_self_test: SelfTest = False,
    is_list: ListRules = False,
) -> int:
    """Name the kind of failure that a captured text is, with the action, the evidence and the fix.

    Signatures name a failure, they never decide alone: give the exit code or signal, and what else is known.
    What nothing names is unknown, and says so. Exit code 0 whenever the text could be read.
    """
    known = rules_with(rules or ())
    if is_self_test:
        return _self_test(session, known)
    if is_list:
        session.emit({"rules": [_row(rule) for rule in known]}, lambda out: _print_rules(out, known))
        return 0
    if file is None:
        raise ConfigError("no FILE is given", fix="name a file with the captured output, or - for stdin")
    if is_never_ready and ready_s:
        raise ConfigError("--never-ready and --ready-s contradict each other", fix="leave one of them out")
    lines, note = _read(file)
    evidence = Evidence(
        status=_status(exit_code, signal_name),
        lines=lines,
        asked_by=asked_by or None,
        ready_s=0.0 if is_never_ready else _seconds(ready_s),
        is_oom_flagged=is_oom_killed,
        kernel_lines=_read(kernel)[0] if kernel is not None else (),
        dependency_addresses=tuple(dependency) if dependency else None,
    )
    found = decide(evidence, known)
    session.emit(_data(found, note), lambda out: _print(out, found, note))
    return 0


def _data(found: Classified, note: str) -> dict[str, Any]:
    return {
        "class": str(found.cls),
        "sub": found.sub,
        "action": str(found.action),
        "action_text": found.action_text,
        "evidence": [*found.evidence, *([note] if note else [])],
        "fix": found.fix,
        "rule": found.rule,
        "confidence": found.confidence,
        "is_permanent": found.is_permanent,
    }


def _print(out: Printer, found: Classified, note: str) -> None:
    sub = f" ({found.sub})" if found.sub else ""
    if found.cls is FailureClass.UNKNOWN:
        out.line("class     unknown: nothing in the evidence names this failure")
    else:
        guess = "" if found.confidence >= SURE else ", a guess"
        out.line(f"class     {found.cls}{sub}, confidence {found.confidence:.2f}{guess}")
    out.line(f"action    {found.action}: {found.action_text}")
    for index, fact in enumerate((*found.evidence, *([note] if note else []))):
        out.line(f"{'evidence' if not index else '':<10}{fact}")
    out.line(f"fix       {found.fix}")
    out.line(f"rule      {found.rule or '-'}")


def _self_test(session: Session, known: Sequence[Rule]) -> int:
    failed = tuple(self_test(known))
    texts = sum(len(rule.match) + len(rule.refuse) for rule in known)
    data = {"rules": len(known), "texts": texts, "failed": [one._asdict() for one in failed]}
    session.emit(data, lambda out: _print_failed(out, f"{len(known)} rules, {texts} texts", failed))
    return 1 if failed else 0


def _print_failed(out: Printer, what: str, failed: Sequence[Failed]) -> None:
    for one in failed:
        out.line(f"FAIL  {one.rule} {one.why}: {one.text!r} ({one.file})")
    out.line(f"{what}, {len(failed)} failed")


def _row(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id, "class": str(rule.cls), "sub": rule.sub, "confidence": rule.confidence,
        "phrases": len(rule.when), "source": rule.source, "file": rule.file,
    }  # fmt: skip


def _print_rules(out: Printer, known: Sequence[Rule]) -> None:
    rows = [(r.id, str(r.cls), r.sub, r.confidence, len(r.when), r.source) for r in known]
    out.table(("rule", "class", "sub", ">confidence", ">phrases", "source"), rows)


def _status(code: int | None, name: str) -> ExitStatus | None:
    number = _signal(name) if name else 0
    if code is None:
        return ExitStatus(128 + number, number) if number else None
    # Python's subprocess says -n where signal n ended a process.
    if -_MOST_SIGNAL <= code < 0 and not number:
        return ExitStatus(128 - code, -code)
    if not 0 <= code <= _MOST_CODE:
        raise ConfigError(f"{code} is no exit code", fix="give --exit a number from 0 to 255")
    return ExitStatus(code, number)


def _signal(name: str) -> int:
    if name.isdigit() and 0 < int(name) <= _MOST_SIGNAL:
        return int(name)
    full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
    try:
        return signal.Signals[full].value
    except KeyError:
        raise ConfigError(f"there is no signal {name!r}", fix="see: kill -l", code="UnknownSignal") from None


def _seconds(value: float | None) -> float | None:
    if value is not None and not 0 <= value < float("inf"):
        raise ConfigError(f"--ready-s {value} is no time", fix="give it in seconds, 0 or more")
    return value


def _read(path: Path) -> tuple[tuple[str, ...], str]:
    """Return the last lines of ``path``, and what a reader must know about them; ConfigError without any."""
    name = "standard input" if str(path) == "-" else str(path)
    try:
        raw = _end_of(sys.stdin.buffer) if str(path) == "-" else _end_of_file(path)
    except OSError as error:
        raise ConfigError(
            f"{name} cannot be read", why=error.strerror or "", fix=f"ls -l {name}", code="InputUnreadable"
        ) from error
    text = _text(raw)
    if not text.strip():
        return (), "the text is empty: only the status speaks"
    if len(_UNREADABLE.findall(text)) > len(text) * _MOST_UNREADABLE:
        return (), "what was given is no text: only the status speaks"
    return tuple(text.splitlines()), ""


def _text(raw: bytes) -> str:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", "replace")
    return raw.decode("utf-8", "replace")


def _end_of_file(path: Path) -> bytes:
    with path.open("rb") as stream:
        if stat.S_ISREG(path.stat().st_mode):
            size = stream.seek(0, 2)
            stream.seek(max(size - _MOST_BYTES, 0))
        return _end_of(stream)


def _end_of(stream: IO[bytes]) -> bytes:
    """Return the end of ``stream``; however long it is, no more than a little of it is held."""
    end = b""
    while chunk := stream.read(_CHUNK_BYTES):
        end = (end + chunk)[-_MOST_BYTES:]
    return end
