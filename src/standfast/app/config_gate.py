"""The section of ``standfast.toml`` that says what must hold before a deployment, beside the services."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from standfast.app.config_problem import Problem, repeated
from standfast.app.config_sections import Many, NonEmpty, Seconds, Section, Text

if TYPE_CHECKING:
    from standfast.app.config import Config

_KNOWN = frozenset({"python", "blueprint"})


class GateCheckSettings(Section):
    """One check that `standfast gate deploy` runs each time it is asked."""

    name: NonEmpty = Field(description="What must be so, in words.")
    command: Many[NonEmpty] = Field(
        description="Program that ends with exit code 0 where it is so; `{python}` and `{blueprint}` fill in."
    )
    fix: Text = Field("", description="The command that makes it so; it is shown and never run.")
    timeout_s: Seconds = Field(30.0, description="Longest wait; without an answer the gate stays closed.")


class GateSettings(Section):
    """What the deploy gate asks beside the services and their needs."""

    checks: Many[GateCheckSettings] = Field((), description="Checks that must all hold.")


def impossible_gate(config: Config) -> Iterator[Problem]:
    """Yield everything that cannot work among the gate's checks."""
    yield from repeated(("gate", "checks"), "name", [check.name for check in config.gate.checks])
    for index, check in enumerate(config.gate.checks):
        path = ("gate", "checks", index, "command")
        if not check.command:
            what = f"check {check.name!r}: command is empty"
            yield Problem("WrongValue", path, what, "name a program that ends with exit code 0")
        for unknown in sorted(set(re.findall(r"\{(\w+)\}", " ".join(check.command))) - _KNOWN):
            what = f"check {check.name!r}: {{{unknown}}} stands for nothing in a command"
            yield Problem("UnknownPlaceholder", path, what, "known: {blueprint}, {python}")
