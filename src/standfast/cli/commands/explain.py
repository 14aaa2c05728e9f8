"""``standfast explain``: why something is not as it should be, and the command that clears it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from standfast.app.explaining import explain_declared, explain_service
from standfast.cli.commands.services import local
from standfast.cli.output import Printer
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.kernel.errors import ConflictError, NotFoundError, TransientError, UnhealthyError
from standfast.kernel.explanation import ExplainedGate, Explanation
from standfast.kernel.verdict import Verdict

Subject = Annotated[str, typer.Argument(metavar="SUBJECT", help="Service.")]
File = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="File or folder that it is expected in."),
]

_MARKS = {Verdict.PASS: "ok", Verdict.SKIPPED: "-", Verdict.UNKNOWN: "?", Verdict.FAIL: "CLOSED"}


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(app, explain, "explain", schema="explain", example="standfast explain api")


def explain(session: Session, subject: Subject, file: File = None) -> int:
    """Say why a service stands where it stands: its gates in order, the first closed one is the answer.

    It works when nothing runs, from what is declared and on record. A name that is not declared in what runs,
    or not in --file, is answered with the file below this folder that has it. Exit code 0 where no gate is
    closed, 3 where one is or is unknown, 1 for a name that is not there, 6 where several files declare it.
    """
    found = _explained(session, subject, file)
    session.emit(found.as_dict(), lambda out: print_explanation(out, found))
    return 0 if found.verdict is Verdict.PASS else UnhealthyError.exit_code


def _explained(session: Session, subject: str, file: Path | None) -> Explanation:
    folder = Path.cwd()
    if file is not None:
        declared = explain_declared(subject, folder=folder, asked=file)
        try:
            return explain_service(local(session), subject, folder=folder)
        except (TransientError, NotFoundError, ConflictError):
            return declared
    try:
        instance = local(session)
    except TransientError as error:
        if error.code != "NoInstance":
            raise
        return explain_declared(subject, folder=folder, asked=None)
    return explain_service(instance, subject, folder=folder)


def print_explanation(out: Printer, found: Explanation) -> None:
    """Print every gate, the answer marked, and the command that clears it last."""
    answer = found.answer
    for gate in found.gates:
        _print_gate(out, gate, is_answer=gate is answer)
    if answer is None:
        out.line(f"{found.subject} is as it should be")
        return
    out.line(f"{found.subject}: {answer.observed}")
    out.line(f"  -> {answer.remedy}")


def _print_gate(out: Printer, gate: ExplainedGate, *, is_answer: bool) -> None:
    style = "bold red" if is_answer else "dim" if gate.verdict is Verdict.SKIPPED else ""
    arrow = "=>" if is_answer else "  "
    out.line(f"{arrow} {_MARKS[gate.verdict]:<6} {gate.name}: {gate.observed}", style=style)
    for label, text in (
        ("wanted", gate.expected if gate.is_closed else ""),
        ("since", gate.since if gate.is_closed else ""),
        *(("seen", one) for one in gate.evidence),
        ("clear", gate.remedy if gate.is_closed else ""),
    ):
        if text:
            out.line(f"            {label:<7}{text}", style="dim" if not is_answer else "")
