"""Collects what is wrong with a declaration, with file and line, so that all of it is said at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from standfast.kernel.errors import ConfigError
from standfast.kernel.verdict import Finding, Verdict
from standfast.services.stacks.documents import DeclarationError
from standfast.services.stacks.model import CHECK
from standfast.services.stacks.nodes import Place

_NEAR = 0.6


def finding(
    verdict: Verdict, place: Place, reason: str, message: str, *, subject: str = "", remedy: str = ""
) -> Finding:
    """Return a judgement about what stands at ``place``."""
    return Finding(
        CHECK, verdict, reason, f"{place}: {message}", subject=subject,
        evidence={"file": str(place.file), "line": place.line},
        remedy=remedy or f"mend {place}",
    )  # fmt: skip


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that ``name`` was probably meant to be, or nothing."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=_NEAR)), "")


def meant(name: str, known: Iterable[str]) -> str:
    """Return a fix that names the nearest known name, or all of them."""
    names = sorted(known)
    near = nearest(name, names)
    if near:
        return f"did you mean {near}?"
    return f"known: {', '.join(names[:20])}" if names else "none is known"


@dataclass(slots=True)
class Problems:
    """What was found so far, in the order found; the same is kept once."""

    found: list[Finding] = field(default_factory=list)
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def fail(self, place: Place, reason: str, message: str, *, subject: str = "", fix: str = "") -> None:
        """Keep an error: the stack cannot be used."""
        self._keep(finding(Verdict.FAIL, place, reason, message, subject=subject, remedy=fix))

    def warn(self, place: Place, reason: str, message: str, *, subject: str = "", fix: str = "") -> None:
        """Keep a warning: it works, and perhaps not as it was meant."""
        self._keep(finding(Verdict.UNKNOWN, place, reason, message, subject=subject, remedy=fix))

    def note(self, place: Place, reason: str, message: str, *, subject: str = "") -> None:
        """Keep a remark: what stands there has no effect here."""
        self._keep(finding(Verdict.SKIPPED, place, reason, message, subject=subject))

    @contextmanager
    def gathered(self, place: Place, *, subject: str = "") -> Iterator[None]:
        """Keep the ConfigError that is raised inside, as an error; ``place`` stands in where it has none."""
        try:
            yield
        except ConfigError as error:
            where = error.place if isinstance(error, DeclarationError) else place
            what = error.what.removeprefix(f"{where}: ")
            message = f"{what}, because {error.why}" if error.why else what
            self.fail(where, error.code, message, subject=subject, fix=error.fix)

    def _keep(self, found: Finding) -> None:
        key = (found.reason, found.message)
        if key not in self._seen:
            self._seen.add(key)
            self.found.append(found)
