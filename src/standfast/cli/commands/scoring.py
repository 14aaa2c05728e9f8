"""``standfast score``: the scoring rules on a document, without an instance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from standfast.cli.documents import read_json
from standfast.cli.output import Printer
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.evaluation.scoring import score_document

Input = Annotated[Path, typer.Option("--input", metavar="FILE", help="Scoring document in JSON; - is stdin.")]


def add(app: typer.Typer) -> None:
    """Add ``score``."""
    example = "standfast score --input rates.json --json"
    command(app, score, "score", schema="score", example=example, is_remote=False)


def score(session: Session, document: Input) -> None:
    """Compute weights from success rates and show every step.

    The document has env_ids, miner_scores {uid: {env: rate}}, first_blocks {uid: block}, episodes_per_env,
    and optionally uid_order, temperature, subset_weight_scheme (linear, exponential, equal) and policy
    (standfast, original).
    """
    result = score_document(read_json(document))
    session.emit(result, lambda out: _print(out, result))


def _print(out: Printer, result: Mapping[str, Any]) -> None:
    weights: Mapping[str, float] = result["weights"]
    u16 = dict(zip(result["u16"]["uids"], result["u16"]["values"], strict=True))
    out.line(f"policy {result['policy']}, outcome {result['outcome']}")
    if result.get("reason"):
        out.line(f"because {result['reason']}")
    out.line(f"epsilons {', '.join(f'{value:.4g}' for value in result['epsilons'])}")
    frontier = {str(uid) for uid in result["frontier_uids"]}
    points: Mapping[str, float] = result["subset_scores"]
    rows = [
        (uid, uid in frontier, points[uid], f"{weights.get(uid, 0.0):.6f}", u16.get(int(uid), 0))
        for uid in sorted(points, key=lambda uid: (-points[uid], int(uid)))
    ]
    out.table(("uid", "frontier", ">points", ">weight", ">u16"), rows)
    for name, why in result.get("omitted", {}).items():
        out.line(f"{name} is not shown: {why}")
