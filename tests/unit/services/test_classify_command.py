"""``standfast classify``: what it refuses, what it answers, and that it always says when it does not know."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fixtures_dir import fixture
from standfast.cli.main import main

Captured = pytest.CaptureFixture[str]


def refused(capsys: Captured, *arguments: str) -> str:
    assert main(["classify", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def answer(capsys: Captured, *arguments: str) -> dict[str, Any]:
    assert main(["classify", *arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert document["schema"] == "standfast.classify/1"
    data: dict[str, Any] = document["data"]
    assert {"class", "action", "evidence", "fix", "rule"} <= set(data)
    return data


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "service.log"
    path.write_text("starting\nbind: address already in use\n")
    return path


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--exit", "900"), "no exit code"),
        (("--exit", "-99"), "no exit code"),
        (("--signal", "SIGNONE"), "no signal"),
        (("--ready-s", "-1"), "no time"),
        (("--ready-s", "nan"), "no time"),
        (("--never-ready", "--ready-s", "3"), "contradict"),
        (("--rules", "absent.toml"), "cannot be read"),
        (("--kernel", "absent.log"), "cannot be read"),
    ],
)
def test_wrong_options_are_refused(log: Path, capsys: Captured, options: tuple[str, ...], said: str) -> None:
    assert said in refused(capsys, str(log), *options)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, capsys: Captured) -> None:
    assert "No such file" in refused(capsys, str(tmp_path / "absent"))
    assert "Is a directory" in refused(capsys, str(tmp_path))
    assert "FILE" in refused(capsys)


def test_a_file_gets_class_action_evidence_fix_and_rule(log: Path, capsys: Captured) -> None:
    data = answer(capsys, "--exit", "1", "--never-ready", str(log))
    assert (data["class"], data["action"], data["rule"]) == (
        "port_conflict",
        "hold_until_clear",
        "ports.in-use",
    )
    assert "was never ready" in data["evidence"]
    assert data["fix"].startswith("ss ")


def test_people_read_the_same(log: Path, capsys: Captured) -> None:
    assert main(["classify", "--exit", "1", str(log)]) == 0
    out = capsys.readouterr().out
    assert "port_conflict" in out
    assert "address already in use" in out
    assert "fix " in out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (bytes(range(256)) * 40, "no text"),
        (b"\x00" * 10_000, "no text"),
        (b"all went well, it seems\n", "guess"),
    ],
)
def test_what_nothing_names_is_unknown_and_says_so(
    tmp_path: Path, capsys: Captured, content: bytes, said: str
) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    data = answer(capsys, "--exit", "1", str(path))
    assert (data["class"], data["is_permanent"]) == ("unknown", False)
    assert data["confidence"] < 0.3
    assert any(said in fact for fact in data["evidence"])
    assert main(["classify", str(path)]) == 0
    assert "unknown: nothing" in capsys.readouterr().out


def test_standard_input_and_other_encodings(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = "No module named 'x1'".encode("utf-16")
    (tmp_path / "wide").write_bytes(raw)
    assert answer(capsys, "--exit", "1", str(tmp_path / "wide"))["class"] == "permanent_config"
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe broken \xe9 no space left on device\n"))
    )
    assert answer(capsys, "--exit", "1", "-")["class"] in ("resource_disk", "unknown")


def test_of_a_large_file_only_the_end_is_read(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "large.log"
    with path.open("wb") as stream:
        stream.truncate(300_000_000)
        stream.seek(0, 2)
        stream.write(b"\n" + b"all is well\n" * 60_000 + b"accept: too many open files\n")
    assert answer(capsys, "--exit", "1", str(path))["class"] == "resource_fd"


@pytest.mark.parametrize(
    "options", [("--exit", "137"), ("--exit", "-9"), ("--signal", "KILL"), ("--signal", "9")]
)
def test_r4_137_needs_evidence_for_memory(
    log: Path, capsys: Captured, options: tuple[str, ...], tmp_path: Path
) -> None:
    assert answer(capsys, *options, str(log))["class"] == "ambiguous_137"
    assert answer(capsys, *options, "--oom-killed", str(log))["class"] == "resource_oom"
    kernel = tmp_path / "dmesg"
    kernel.write_text("[  12.000001] Out of memory: Killed process 77 (api) total-vm:1kB, anon-rss:9kB\n")
    found = answer(capsys, *options, "--kernel", str(kernel), str(log))
    assert found["class"] == "resource_oom"
    assert any("process 77 (api)" in fact for fact in found["evidence"])


def test_who_asked_is_heard(log: Path, capsys: Captured) -> None:
    assert answer(capsys, "--exit", "1", "--asked-by", "an operator", str(log))["class"] == "requested_stop"


def test_a_dependency_is_declared(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "x"
    path.write_text("dial tcp 10.0.0.3:6379: connect: connection refused\n")
    mine = answer(capsys, "--exit", "1", "--dependency", "10.0.0.3:6379", str(path))
    assert mine["class"] == "dependency_not_ready"
    other = answer(capsys, "--exit", "1", "--dependency", "db:5432", str(path))
    assert other["class"] == "transient_network"


def test_own_rules_are_tried_and_tested(tmp_path: Path, log: Path, capsys: Captured) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[[rule]]\nid = "own.x"\nclass = "hardware"\nconfidence = 0.95\nwhen = ["address already in use"]\n'
        'fix = "x"\nsource = "y"\nmatch = ["address already in use"]\nrefuse = ["no"]\n'
    )
    assert answer(capsys, "--exit", "1", "--rules", str(own), str(log))["rule"] == "own.x"
    assert main(["classify", "--self-test", "--rules", str(own)]) == 0
    own.write_text(own.read_text().replace('refuse = ["no"]', 'refuse = ["address already in use"]'))
    capsys.readouterr()
    assert main(["classify", "--self-test", "--rules", str(own)]) == 1
    assert "own.x matches what it must refuse" in capsys.readouterr().out
    assert main(["classify", "--list", "--rules", str(own)]) == 0
    assert "own.x" in capsys.readouterr().out


def test_a_text_of_others_reaches_no_terminal_with_its_controls(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "x"
    path.write_text("\x1b]0;owned\x07\x1b[2J bind: address already in use \x9b31m\n")
    assert main(["classify", "--exit", "1", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x9b" not in out


def test_a_fixture_through_the_command(capsys: Captured) -> None:
    found = answer(capsys, "--exit", "1", str(fixture("failures/loc_22_py_wallet_seed_like.log")))
    assert (found["class"], found["action"]) == ("permanent_registration", "hold_until_true")
