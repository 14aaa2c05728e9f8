"""What ``status --watch`` draws: each look on its own, never an old page under a fresh time."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from rich.live import Live

from standfast.cli.commands.status import page_of


def status(at: str, verdict: str) -> dict[str, Any]:
    finding = {
        "check": "executor-1",
        "verdict": verdict,
        "reason": "R",
        "message": f"seen at {at}",
        "remedy": "do it",
    }
    return {"at": at, "verdict": verdict, "findings": [finding]}


def test_a_look_shows_itself_only_while_a_page_is_live() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Live(console=terminal, screen=True, auto_refresh=False) as live:
        first = page_of(status("09:00", "PASS"), terminal)
        live.update(first, refresh=True)
        second = page_of(status("09:02", "FAIL"), terminal).plain
    assert "09:00" in first.plain
    assert "09:02" in second
    assert "FAIL" in second
    assert "09:00" not in second
    assert "PASS" not in second.replace("0 of 1 findings are PASS", "")
