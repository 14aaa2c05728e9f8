"""From a configuration to the programs that ``up`` runs."""

from __future__ import annotations

import sys
from pathlib import Path

from standfast.app.config import parse_config
from standfast.app.declared import services_of

TEXT = """
[executor]
count = 2
[[services]]
name = "miner"
command = ["{python}", "{blueprint}/miner.py", "--port", "{port}"]
cwd = "sub"
port = 9001
env = { A = "b" }
ready = { http = "/health", timeout_s = 1.5 }
restart = { backoff_s = 0.5, cap_s = 4.0, max_fast_failures = 2 }
required = false
[[services]]
name = "plain"
command = ["sleep", "1"]
ready = { tcp = "127.0.0.1:99" }
"""
CONFIG = parse_config(TEXT, source=Path("/etc/net/standfast.toml"))


def test_placeholders_are_replaced_and_paths_count_from_the_file() -> None:
    miner = services_of(CONFIG, url="http://h:1")[0]
    assert miner.command == (sys.executable, "/etc/net/miner.py", "--port", "9001")
    assert miner.cwd == Path("/etc/net/sub")
    assert miner.ready.http == "http://127.0.0.1:9001/health"
    assert (miner.ready.timeout_s, miner.restart.max_fast_failures, miner.is_required) == (1.5, 2, False)
    assert miner.env == {"A": "b"}


def test_executors_start_after_the_programs_and_hold_no_token_in_their_command() -> None:
    services = services_of(CONFIG, url="http://h:1")
    executors = [service for service in services if service.name.startswith("executor-")]
    assert [service.name for service in executors] == ["executor-1", "executor-2"]
    for executor in executors:
        assert {one.name for one in executor.depends_on} == {"miner", "plain"}
        assert all(0 < one.patience_s < float("inf") for one in executor.depends_on), "one must not stop all"
    command = executors[0].command
    assert command[command.index("--url") + 1] == "http://h:1"
    assert command[command.index("--token-file") + 1] == "/etc/net/.standfast/executors/token"
    assert "--token" not in command
