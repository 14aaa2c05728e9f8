"""Verifies a round from its evidence and, where it was published, from the publication itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from standfast.evaluation import evidence as rounds_evidence
from standfast.kernel.canonical import canonical_json
from standfast.kernel.errors import StandfastError
from standfast.kernel.verdict import Finding, Verdict
from standfast.publication.document import Document, parse

_REMEDY = "do not use this publication; compare it with the evidence of its round"


def verify_evidence(bundle: Mapping[str, Any]) -> list[Finding]:
    """Return one finding for each thing that was recomputed.

    ``bundle`` is what ``GET /api/v1/rounds/REF/evidence`` answers: ``evidence``, ``recorded`` (with the
    ``evidence_sha256`` that was recorded when the round ended) and ``publication`` (the document, or None).
    An evidence document alone is taken too; then nothing is there to compare its digest with.
    """
    if "evidence" not in bundle:
        bundle = {"evidence": bundle}
    document = bundle.get("evidence") or {}
    recorded = bundle.get("recorded") or {}
    findings = rounds_evidence.verify(document, recorded_sha256=str(recorded.get("evidence_sha256") or ""))
    raw = bundle.get("publication")
    if raw is None:
        return [*findings, _skipped(recorded)]
    try:
        publication = parse(canonical_json(raw).encode("utf-8"))
    except (StandfastError, TypeError, ValueError) as error:
        message = f"the publication cannot be read: {error}"
        return [*findings, Finding("publication", Verdict.UNKNOWN, "Unreadable", message, remedy=_REMEDY)]
    return [*findings, _against_publication(document, recorded, publication)]


def _skipped(recorded: Mapping[str, Any]) -> Finding:
    why = f"the round is {recorded.get('state', 'not published')}: there is no publication to compare"
    return Finding("publication", Verdict.SKIPPED, "NotPublished", why)


def _against_publication(
    document: Mapping[str, Any], recorded: Mapping[str, Any], publication: Document
) -> Finding:
    result, plan = document.get("result", {}), document.get("plan", {})
    hotkeys = {str(s.get("uid")): s.get("hotkey") for s in plan.get("subjects", [])}
    expected = {
        uid: (hotkeys.get(uid), weight, result.get("u16", {}).get(uid))
        for uid, weight in result.get("weights", {}).items()
        if weight > 0
    }
    actual = {uid: (e.hotkey, e.weight, e.u16) for uid, e in publication.weights.items()}
    sha256 = recorded.get("evidence_sha256")
    if expected != actual:
        flaw = f"published are {actual}, the evidence gives {expected}"
    elif publication.round_id != f"round-{plan.get('number', 0):06}":
        flaw = f"it claims to be of {publication.round_id}, the evidence is of round {plan.get('number')}"
    elif publication.evidence_sha256 != sha256:
        flaw = f"it names evidence {publication.evidence_sha256}, recorded is {sha256}"
    else:
        return Finding(
            "publication", Verdict.PASS, "Recomputed", "the published weights are those of the evidence"
        )
    return Finding("publication", Verdict.FAIL, "Mismatch", flaw, remedy=_REMEDY)
