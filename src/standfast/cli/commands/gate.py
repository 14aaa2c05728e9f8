"""``standfast gate``: gates that a person or a script asks before something happens."""

from __future__ import annotations

from typing import Annotated

import typer

from standfast.app.deploy_gate import deploy_gate, next_steps
from standfast.checks.architecture import architecture_gate
from standfast.checks.kernel_probe import probe_container, probe_python
from standfast.cli.commands.services import local
from standfast.cli.output import Printer
from standfast.cli.registry import command
from standfast.cli.session import Session
from standfast.kernel.errors import ConfigError, RefusedError
from standfast.kernel.verdict import Gate, Verdict

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
    command(app, deploy, "deploy", schema="gate-deploy", example="standfast gate deploy")


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


def deploy(session: Session) -> int:
    """Say whether this may be deployed: every service, need and required check is looked at now.

    GO (exit 0) only where all of them are PASS, and every service is ready, stable and was not restarted
    lately. Anything else, and anything unknown, is DO NOT DEPLOY (exit 5), with the blockers and what clears
    them, in order. Nothing of that is done by itself.
    """
    gate = deploy_gate(local(session))
    steps = () if gate.is_open else next_steps(gate)
    data = {
        "gate": gate.name, "verdict": gate.verdict.name, "is_open": gate.is_open,
        "decision": "GO" if gate.is_open else "DO NOT DEPLOY",
        "blockers": [finding.as_dict() for finding in gate.objections],
        "next_steps": list(steps), "findings": [finding.as_dict() for finding in gate.findings],
    }  # fmt: skip
    session.emit(data, lambda out: _print_deploy(out, gate, steps))
    return 0 if gate.is_open else RefusedError.exit_code


def _print_deploy(out: Printer, gate: Gate, steps: tuple[str, ...]) -> None:
    passed = sum(finding.verdict is Verdict.PASS for finding in gate.findings)
    if gate.is_open:
        out.line(f"GO: {passed} findings are PASS, looked at just now", style="bold green")
        return
    blockers = gate.objections
    out.line(f"DO NOT DEPLOY: {len(blockers)} of {len(gate.findings)} findings block", style="bold red")
    out.findings(finding.as_dict() for finding in blockers)
    out.line("next steps, in this order:")
    for number, step in enumerate(steps, start=1):
        out.line(f"  {number}. {step}")


def _print(out: Printer, gate: Gate) -> None:
    out.findings(finding.as_dict() for finding in gate.findings)
    out.line(f"gate {gate.name}: {'open' if gate.is_open else f'closed ({gate.verdict.name})'}")
