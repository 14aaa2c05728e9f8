"""``standfast round``: what was compared, why each weight is what it is, and the proof of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from standfast.app.verify import verify_evidence
from standfast.cli.documents import read_json
from standfast.cli.output import Printer
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.kernel.canonical import canonical_json
from standfast.kernel.errors import ConfigError, ConflictError, NotFoundError, StandfastError
from standfast.kernel.verdict import Gate

Ref = Annotated[str, typer.Argument(metavar="[REF]", help="Number of a round, or `latest`.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=200, help="Most rounds to show.")]
EvidenceFile = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="Evidence to verify, without an instance; - is stdin."),
]
SaveTo = Annotated[
    Path | None, typer.Option("--save", metavar="FILE", help="Also write the evidence to a file.")
]

_PENDING = 8
#: Evidence has a row per episode; a large round takes longer than any other reply.
_EVIDENCE_S = 60.0


class PendingError(StandfastError):
    """What was asked for does not exist yet, and will."""

    code = "Pending"
    exit_code = _PENDING


def add(app: typer.Typer) -> None:
    """Add the commands of this group."""
    command(app, ls, "ls", schema="round.ls", example="standfast round ls --limit 5")
    command(app, show, "show", schema="round.show", example="standfast round show latest")
    command(app, verify, "verify", schema="round.verify", example="standfast round verify 12")


def ls(session: Session, limit: Limit = 20) -> None:
    """List rounds, newest first."""
    data = session.get("/rounds", limit=limit)
    session.emit(data, lambda out: _print_rounds(out, data["rounds"]))


def show(session: Session, ref: Ref = "latest") -> int:
    """Show one round: its progress, its rates, and why each weight is what it is.

    `latest` is the newest round that is over. Exit code 8 where it is still open.
    """
    try:
        data = session.get(f"/rounds/{_checked(ref)}")
    except NotFoundError as error:
        raise _pending(ref, error) from error
    session.emit(data, lambda out: print_round(out, data))
    return _PENDING if data["state"] == "open" else 0


def verify(session: Session, ref: Ref = "latest", file: EvidenceFile = None, save: SaveTo = None) -> int:
    """Recompute a round from its evidence and compare; exit code 1 unless everything agrees.

    Seeds, task names, rates, weights and the publication are made again here, not by the instance.
    """
    bundle = read_json(file) if file is not None else _evidence(session, ref)
    if not isinstance(bundle, dict):
        raise ConfigError(
            "evidence must be a JSON object", fix="standfast round verify --save FILE writes one"
        )
    if save is not None:
        _save(save, bundle)
    gate = Gate("verify", tuple(verify_evidence(bundle)))
    findings = [finding.as_dict() for finding in gate.findings]
    data = {
        "verdict": gate.verdict.name,
        "round": bundle.get("recorded", {}).get("round"),
        "findings": findings,
    }
    session.emit(data, lambda out: _print_verdict(out, data))
    return 0 if gate.is_open else 1


def _evidence(session: Session, ref: str) -> Any:
    try:
        return session.call("GET", f"/rounds/{_checked(ref)}/evidence", total_s=_EVIDENCE_S)
    except (NotFoundError, ConflictError) as error:
        raise _pending(ref, error) from error


def _checked(ref: str) -> str:
    if ref != "latest" and not (ref.isascii() and ref.isdigit()):
        raise ConfigError(f"{ref[:32]!r} names no round", fix="give a number, or latest", code="UnknownRound")
    return ref


def _pending(ref: str, error: StandfastError) -> StandfastError:
    """Return the error as "not yet" where waiting will cure it."""
    is_open = "open" in error.what and isinstance(error, ConflictError)
    if ref == "latest" or is_open:
        return PendingError(error.what, why=error.why, fix="wait for it: standfast status --watch")
    return error


def _save(path: Path, bundle: Mapping[str, Any]) -> None:
    try:
        path.write_text(canonical_json(bundle) + "\n", "utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written", why=error.strerror or "", fix="name another file"
        ) from error


def _print_rounds(out: Printer, rounds: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            r["round"], r["state"], r["opened_at"], r["ended_at"], _progress(r["counts"]), r["epoch"],
            r["reason"] or r["code"],
        )
        for r in rounds
    ]  # fmt: skip
    out.table((">round", "state", "opened", "ended", "done / failed / open", ">publication", "why"), rows)


def _progress(counts: Mapping[str, int]) -> str:
    still = counts["running"] + counts["pending"]
    return f"{counts['succeeded']} / {counts['failed']} / {still} of {counts['total']}"


def print_round(out: Printer, data: Mapping[str, Any]) -> None:
    """Print one round: head, rates, weights with their reasons, publication."""
    out.line(f"round {data['round']}: {data['state']}", style="bold")
    out.line(
        f"  opened {data['opened_at']}, ended {data['ended_at'] or 'not yet'}; {_progress(data['counts'])}"
    )
    out.line(f"  seeds committed to by {data['commitment'][:16]}, {_revealed(data)}")
    if data["reason"] or data["code"]:
        out.line(f"  because {data['reason'] or data['code']}")
    _print_rates(out, data)
    result = data["result"]
    if result is None:
        out.line(
            "no weights: the round is still open" if data["state"] == "open" else "no weights were computed"
        )
    else:
        _print_weights(out, data, result)
    _print_publication(out, data["publication"])


def _revealed(data: Mapping[str, Any]) -> str:
    return f"revealed as {data['secret'][:16]}" if data["secret"] else "secret until the round ends"


def _print_rates(out: Printer, data: Mapping[str, Any]) -> None:
    environments = [environment["id"] for environment in data["plan"]["environments"]]
    rates = (data["result"] or {}).get("rates", {})
    rows = []
    for subject in data["subjects"]:
        classes = subject["classes"]
        cells = [_rate(rates.get(subject["uid"], {}).get(e), classes.get(e, {})) for e in environments]
        counts = subject["counts"] or {}
        open_tasks = counts.get("running", 0) + counts.get("pending", 0)
        rows.append((subject["uid"], subject["hotkey"], *cells, open_tasks, counts.get("failed", 0)))
    headings = (">uid", "hotkey", *(f">{e}" for e in environments), ">open", ">not scored")
    out.table(headings, rows, title="success rate, and wins of scored episodes (e: the subject's own errors)")


def _rate(rate: float | None, classes: Mapping[str, int]) -> str:
    scored, won = sum(classes.values()), classes.get("won", 0)
    errors = classes.get("subject_error", 0)
    share = f"{rate:.2f} " if rate is not None else ""
    return f"{share}({won}/{scored}{f', {errors}e' if errors else ''})" if scored else share or "-"


def _print_weights(out: Printer, data: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    hotkeys = {subject["uid"]: subject["hotkey"] for subject in data["subjects"]}
    rows = [
        (
            e["uid"], hotkeys.get(e["uid"]), f"{e['points']:g}", f"{e['sets_won']}/{e['sets_total']}",
            ", ".join(e["beaten_by"]) or "nobody", f"{e['weight']:.6f}", e["u16"], e["reason"],
        )
        for e in sorted(result["explanations"], key=lambda e: (-e["weight"], -e["points"], int(e["uid"])))
    ]  # fmt: skip
    headings = (">uid", "hotkey", ">points", ">sets won", "beaten by", ">weight", ">u16", "why")
    out.table(headings, rows, title="weights")
    if result["outcome"] != "weights":
        out.line(f"outcome {result['outcome']}: {result['reason']}")
    for uid in result["missing"]:
        out.line(f"uid {uid} was not scored enough to count")
    for uid, carried in result["carried"].items():
        out.line(f"uid {uid} keeps its rates of round {carried['round']}: this one scored too little of it")


def _print_publication(out: Printer, publication: Mapping[str, Any] | None) -> None:
    if publication is None:
        out.line("not published")
        return
    out.line(f"publication {publication['epoch']}: {publication['state']} {publication['settled_at'] or ''}")
    if publication["reason"]:
        out.line(f"  because {publication['reason']}")


def _print_verdict(out: Printer, data: Mapping[str, Any]) -> None:
    out.findings(data["findings"])
    out.line(f"round {data['round'] or 'of this file'}: {data['verdict']}", style="bold")
