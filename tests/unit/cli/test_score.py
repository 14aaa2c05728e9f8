"""``standfast score``: what its document may not say, and the names under which it answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from standfast.cli.main import main

SCORES = {
    "env_ids": ["a", "b"], "miner_scores": {"1": {"a": 1.0, "b": 0.8}, "2": {"a": 0.2, "b": 0.1}},
    "first_blocks": {"1": 5, "2": 6}, "episodes_per_env": 20,
}  # fmt: skip
Captured = pytest.CaptureFixture[str]


def refused(tmp_path: Path, text: str, capsys: Captured) -> str:
    path = tmp_path / "in.json"
    path.write_text(text)
    assert main(["score", "--input", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


@pytest.mark.parametrize("temperature", ["0", "-1", "NaN", "Infinity", "-Infinity", '"abc"', "null", "true"])
def test_k8_temperature_is_refused(tmp_path: Path, temperature: str, capsys: Captured) -> None:
    text = json.dumps(SCORES)[:-1] + f', "temperature": {temperature}}}'
    assert "temperature" in refused(tmp_path, text, capsys)


@pytest.mark.parametrize("document", ["[]", "3", "null", "{}"])
def test_what_is_no_scoring_document_is_refused(tmp_path: Path, document: str, capsys: Captured) -> None:
    assert "fix" in refused(tmp_path, document, capsys)


def test_x6_an_unknown_key_names_the_nearest(tmp_path: Path, capsys: Captured) -> None:
    assert "temperature" in refused(tmp_path, json.dumps({**SCORES, "temprature": 1}), capsys)


def test_the_answer_has_every_step(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "in.json"
    path.write_text(json.dumps(SCORES))
    assert main(["score", "--input", str(path), "--json"]) == 0
    envelope = json.loads(capsys.readouterr().out)
    assert envelope["schema"] == "standfast.score/1"
    wanted = {"epsilons", "frontier_uids", "thresholds", "subset_scores", "weights", "u16"}
    assert wanted <= set(envelope["data"])


def test_a_person_sees_who_gets_what(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "in.json"
    path.write_text(json.dumps(SCORES))
    assert main(["score", "--input", str(path)]) == 0
    out = capsys.readouterr().out
    assert "65535" in out
    assert "frontier" in out
