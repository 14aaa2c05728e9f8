"""How commands end: messages on stderr, one envelope on stdout, exit codes that mean something."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from standfast.cli import main as top
from standfast.cli.application import BRANCHES, Branch

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    for name in ("STANDFAST_URL", "STANDFAST_TOKEN", "STANDFAST_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["scor"], "standfast score"),
        (["xyz"], "standfast --help; known: up"),
        (["round", "veryfy"], "standfast round verify"),
        (["task", "requeu", "1"], "standfast task requeue"),
        (["score", "--inptu", "x"], "--input"),
        (["status", "--jsn"], "--json"),
    ],
)
def test_x6_unknown_command_or_option_names_the_nearest(
    arguments: list[str], near: str, capsys: Captured
) -> None:
    assert top.main(arguments) == 2
    out, err = capsys.readouterr()
    assert near in err
    assert out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["score"],
        ["score", "--input"],
        ["round", "ls", "--limit", "0"],
        ["round", "ls", "--limit", "x"],
        ["up", "--port", "99999"],
    ],
)
def test_wrong_usage_is_2_and_says_where_help_is(arguments: list[str], capsys: Captured) -> None:
    assert top.main(arguments) == 2
    out, err = capsys.readouterr()
    assert "error Usage" in err
    assert out == ""


def test_wrong_usage_with_json_is_an_envelope_too(capsys: Captured) -> None:
    assert top.main(["score", "--json"]) == 2
    out, _ = capsys.readouterr()
    assert json.loads(out)["error"]["exit_code"] == 2


def test_an_error_of_a_command_is_on_both_streams_with_json(capsys: Captured) -> None:
    assert top.main(["score", "--input", "absent.json", "--json"]) == 2
    out, err = capsys.readouterr()
    envelope = json.loads(out)
    assert envelope["schema"] == "standfast.score/1"
    assert envelope["error"]["code"] == "InputUnreadable"
    assert set(envelope) == {"schema", "at", "error"}
    assert "InputUnreadable" in err


def test_no_instance_is_7_with_the_command_that_starts_one(capsys: Captured) -> None:
    assert top.main(["round", "ls"]) == 7
    _, err = capsys.readouterr()
    assert "NoInstance" in err
    assert "standfast up" in err


def test_a_bug_is_70_and_its_traceback_lies_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def broken(word: str) -> None:
        raise ZeroDivisionError("sf_" + "a" * 43)

    monkeypatch.setattr(top, "build", broken)
    assert top.main(["status", "--json"]) == 70
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["exit_code"] == 70
    assert "Traceback" not in err
    crashes = list((tmp_path / "state" / "standfast" / "crashes").iterdir())
    assert len(crashes) == 1
    assert str(crashes[0]) in err
    text = crashes[0].read_text()
    assert "ZeroDivisionError" in text
    assert "a" * 43 not in text, "a token in a message is a secret (I12)"


def test_crash_files_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "state" / "standfast" / "crashes"
    folder.mkdir(parents=True)
    for index in range(40):
        (folder / f"standfast-crash-2020{index:02}.txt").write_text("old")
    monkeypatch.setattr(top, "build", lambda word: 1 / 0)
    assert top.main(["status"]) == 70
    assert len(list(folder.iterdir())) <= 21


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(word: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(top, "build", interrupted)
    assert top.main(["status"]) == 130


@pytest.mark.parametrize("branch", BRANCHES, ids=lambda branch: branch.module)
def test_each_branch_alone_knows_its_words(branch: Branch, capsys: Captured) -> None:
    for word in branch.words:
        assert top.main([word, "--help"]) == 0
        out, _ = capsys.readouterr()
        assert "Usage: standfast " + word in out
