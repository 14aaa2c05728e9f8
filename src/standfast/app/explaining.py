"""Gathers what a subject is explained from, with or without a supervisor that answers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from standfast.app.config import Config
from standfast.app.declared import programs_of, services_of
from standfast.app.instance import Found, Run
from standfast.app.offline import blueprint_of, config_of
from standfast.app.stack_look import StackSeen, is_stack, look_at_stack
from standfast.app.stack_status import rows_of, supervisor_findings
from standfast.kernel.errors import ConfigError, NotFoundError
from standfast.kernel.explanation import ExplainedGate, Explanation
from standfast.kernel.verdict import Finding, Verdict
from standfast.services.adapters.records import read_records
from standfast.services.decide.explain import Known, explain
from standfast.services.model import ServiceSpec
from standfast.services.stacks.index import Owner, Refused, owner
from standfast.services.stacks.indexing import read_index


def explain_service(found: Found, name: str, *, folder: Path) -> Explanation:
    """Return why the service ``name`` of an instance stands where it stands.

    Where the instance does not declare it, the files below ``folder`` are searched for it. Raises
    NotFoundError for a name that nothing declares, ConflictError for one that several files declare.
    """
    seen = look_at_stack(found.data_dir, blueprint=blueprint_of(found))
    config, trouble = _config(found)
    known = known_of(seen, config, name, is_alone=is_stack(found.data_dir, seen.run))
    if name in known.specs or known.declared_now:
        return explain(known)
    owned = owner_of(name, folder)
    if isinstance(owned, Owner):
        return explain(replace(known, elsewhere=(str(owned.entry.place),), runs_by=owned.command))
    if owned.code == "NameConflict":
        raise owned.as_error()
    gate = explain(known).gates[0]
    raise NotFoundError(gate.observed, why=trouble, fix=gate.remedy, code="UnknownService")


def explain_declared(name: str, *, folder: Path, asked: Path | None) -> Explanation:
    """Return what is known of a name that no instance runs: which file below ``folder`` declares it (R1).

    Raises NotFoundError where that is not the file that was ``asked``, or none declares it, and ConflictError
    where several do.
    """
    owned = owner_of(name, folder, asked)
    if isinstance(owned, Refused):
        raise owned.as_error()
    declared = ExplainedGate(
        "declared", Verdict.PASS, f"{owned.entry.place} declares it ({owned.entry.kind})"
    )
    supervised = ExplainedGate(
        "supervised", Verdict.UNKNOWN, "no instance of standfast in this folder runs it",
        "a supervisor runs and answers", remedy=owned.command,
        evidence=tuple(f"also declared otherwise in {one.second.place}" for one in owned.conflicts),
    )  # fmt: skip
    return Explanation("service", name, (declared, supervised))


def owner_of(name: str, folder: Path, asked: Path | None = None) -> Owner | Refused:
    """Return which file below ``folder`` declares ``name``, or why that cannot be told."""
    return owner(read_index(folder, os.environ), name, asked)


def known_of(seen: StackSeen, config: Config | None, name: str, *, is_alone: bool) -> Known:
    """Return everything that ``name`` is explained from; ``is_alone`` says that it is of a stack alone."""
    written = _written(config, is_alone=is_alone)
    specs = seen.specs if is_alone and seen.specs else written
    if seen.answer is not None:
        # What the supervisor runs beside what the configuration declares (executors) has no other source.
        specs = (*specs, *_only_seen(seen.views, specs))
    records = read_records(seen.data_dir) if seen.answer is not None else seen.records
    sources = tuple(dict.fromkeys(spec.file for spec in specs if spec.file))
    now = next((spec for spec in written if spec.name == name), None)
    return Known(
        name,
        specs={spec.name: spec for spec in specs},
        views={str(row["name"]): row for row in rows_of(seen)},
        supervised=_supervised(seen),
        is_fresh=seen.answer is not None,
        holds=records.holds,
        lives=records.lives.get(name, ()),
        declared_now=_place(now) if now is not None else "",
        sources=sources or ((str(config.source),) if config is not None else ()),
    )


def _config(found: Found) -> tuple[Config | None, str]:
    """Return the configuration as it is written now, or why it cannot be read; both help to explain."""
    try:
        return config_of(found), ""
    except ConfigError as error:
        return None, str(error)


def _written(config: Config | None, *, is_alone: bool) -> tuple[ServiceSpec, ...]:
    if config is None:
        return ()
    return programs_of(config) if is_alone else services_of(config, url="")


def _only_seen(views: Sequence[Mapping[str, Any]], specs: Sequence[ServiceSpec]) -> list[ServiceSpec]:
    known = {spec.name for spec in specs}
    return [ServiceSpec(str(view["name"]), ()) for view in views if view["name"] not in known]


def _place(spec: ServiceSpec) -> str:
    return f"{spec.file}:{spec.line}" if spec.line else spec.file


def _supervised(seen: StackSeen) -> ExplainedGate:
    """Return the gate of the supervisor itself: the worst that is to be said about it."""
    worst = max(supervisor_findings(seen), key=lambda one: one.verdict, default=None)
    if worst is None:
        worst = Finding(
            "supervisor", Verdict.UNKNOWN, "Unseen", "nothing is known", remedy="standfast status"
        )
    evidence = [f"{key}: {value}" for key, value in worst.evidence.items() if value and key != "log"]
    run = seen.run if isinstance(seen.run, Run) else None
    return ExplainedGate(
        "supervised", worst.verdict, worst.message, "a supervisor runs and answers",
        since=worst.since or (run.started_at if run and worst.verdict is Verdict.PASS else ""),
        evidence=tuple(evidence), remedy=worst.remedy,
    )  # fmt: skip
