"""``standfast gate``: gates that a person or a script asks before something happens."""

from __future__ import annotations

from typing import Annotated

import typer

from standfast.checks.architecture import architecture_gate
from standfast.checks.kernel_probe import probe_container, probe_python
from standfast.cli.output import Printer
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.kernel.errors import ConfigError, RefusedError
from standfast.kernel.verdict import Gate

Python = Annotated[
    str,
    typer.Option(
        "--python", metavar="PROGRAM", help="Python whose torch is meant, such as .venv/bin/python."
    ),
]
Container = Annotated[
    str, typer.Option("--container", metavar="NAME", help="Running container whose Python is meant.")
]
AllowCpu = Annotated[
    bool,
    typer.Option("--allow-cpu", help="Let the processor stand in where no GPU works; the result says so."),
]
Timeout = Annotated[
    int, typer.Option("--timeout", min=1, max=3_600, metavar="SECONDS", help="How long the kernels may take.")
]


def add(app: typer.Typer) -> None:
    """Add the gates."""
    example = "standfast gate arch --container meta-controller"
    command(app, arch, "arch", schema="gate-arch", example=example, is_remote=False)


def arch(
    session: Session, python: Python = "", container: Container = "", allow_cpu: AllowCpu = False,
    timeout: Timeout = 120,
) -> int:  # fmt: skip
    """Run a real kernel on every GPU of an environment, and compare it with what torch was compiled for.

    Open (exit 0) only where each device's architecture is compiled in, CUDA is available and a kernel
    computed the right result. Anything else, and anything unknown, is refused (exit 5).
    """
    if not python and not container:
        raise ConfigError(
            "no environment is named", fix="--python .venv/bin/python or --container NAME", code="NoTarget"
        )
    sample = (
        probe_container(container, python or "python3", timeout)
        if container
        else probe_python(python, timeout)
    )
    gate = architecture_gate(sample, allows_cpu=allow_cpu)
    data = {"gate": gate.name, "verdict": gate.verdict.name, "findings": [f.as_dict() for f in gate.findings]}
    session.emit(data, lambda out: _print(out, gate))
    return 0 if gate.is_open else RefusedError.exit_code


def _print(out: Printer, gate: Gate) -> None:
    out.findings(finding.as_dict() for finding in gate.findings)
    out.line(f"gate {gate.name}: {'open' if gate.is_open else f'closed ({gate.verdict.name})'}")
