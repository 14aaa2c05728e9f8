"""Rounds from opening to publication, on the real control plane in virtual time."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from network import Network, broke, lost, said, toml, won

from standfast.app import views
from standfast.app.verify import verify_evidence
from standfast.facts.model import Intact
from standfast.kernel.errors import ConflictError, StaleTokenError
from standfast.kernel.verdict import Verdict
from standfast.tasks import operate
from standfast.tasks.model import Answer, Lease


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def by_uid(winners: set[str]) -> Any:
    return lambda lease: won(lease) if lease.subject in winners else lost(lease)


def carrying(weights: dict[str, float]) -> dict[str, float]:
    return {uid: weight for uid, weight in weights.items() if weight > 0}


def bundle(network: Network, ref: str = "latest") -> dict[str, Any]:
    return network.database.read_now(lambda tx: views.round_evidence(tx, network.plane, ref))


def test_k1_round_completes_is_published_and_verifies(tmp_path: Path) -> None:
    network = Network(tmp_path, toml())
    run(network.play(by_uid({"1"}), until=lambda: network.states().get(2) == "published"))
    evidence = bundle(network)
    findings = verify_evidence(evidence)
    assert {f.check: f.verdict for f in findings} == {
        "evidence-digest": Verdict.PASS, "seed-commitment": Verdict.PASS, "episodes": Verdict.PASS,
        "rates": Verdict.PASS, "weights": Verdict.PASS, "publication": Verdict.PASS,
    }  # fmt: skip
    assert carrying(evidence["evidence"]["result"]["weights"]) == {"1": 1.0}
    latest = json.loads((tmp_path / ".standfast/publications/latest.json").read_text())
    assert (latest["epoch"], latest["weights"]["1"]["hotkey"]) == (2, "hk1")
    assert isinstance(network.database.read_now(network.plane.facts.verify), Intact)


@pytest.mark.parametrize(
    ("path", "value", "check"),
    [
        (("secret",), "00" * 32, "seed-commitment"),
        (("episodes", 0, "seed"), 1, "episodes"),
        (("episodes", 0, "class"), "won", "rates"),
        (("result", "weights", "1"), 0.5, "weights"),
        (("result", "rates", "0", "classic/cartpole"), 1.0, "rates"),
    ],
)
def test_k17_any_change_of_the_evidence_shows(
    tmp_path: Path, path: tuple[Any, ...], value: Any, check: str
) -> None:
    network = Network(tmp_path, toml())
    run(network.play(by_uid({"1"}), until=lambda: network.states().get(1) == "published"))
    forged = bundle(network)
    target = forged["evidence"]
    for step in path[:-1]:
        target = target[step]
    assert target[path[-1]] != value, "the change must change something"
    target[path[-1]] = value
    verdicts = {f.check: f.verdict for f in verify_evidence(forged)}
    assert verdicts[check] is Verdict.FAIL
    assert verdicts["evidence-digest"] is Verdict.FAIL


@pytest.mark.parametrize(
    "junk", [{}, {"evidence": {}}, {"evidence": {"schema": 1}}, {"evidence": {"plan": []}}]
)
def test_x1_malformed_evidence_is_never_pass(junk: dict[str, Any]) -> None:
    assert all(f.verdict is not Verdict.PASS for f in verify_evidence(junk))


def test_k1_seeds_are_paired_and_committed_before_the_first_dispatch(tmp_path: Path) -> None:
    network = Network(tmp_path, toml())
    run(network.tick())
    view = network.database.read_now(lambda tx: views.round_view(tx, network.plane, "1"))
    assert view["secret"] is None
    fact = network.database.read_now(lambda tx: network.plane.facts.page(tx, kind="round.opened"))[0]
    assert fact.body["commitment"] == view["commitment"]
    specs: dict[tuple[str, int], set[int]] = {}
    leases = network.claim(count=100)
    for lease in leases:
        spec = json.loads(lease.spec)
        specs.setdefault((spec["environment"], spec["episode"]), set()).add(spec["seed"])
    assert any(len([lease for lease in leases if lease.subject == uid]) > 1 for uid in "012")
    assert all(len(seeds) == 1 for seeds in specs.values())


def test_k1_a_restarted_scheduler_keeps_the_round_and_adds_nothing(tmp_path: Path) -> None:
    network = Network(tmp_path, toml())
    run(network.tick())
    before = network.database.read_now(lambda tx: operate.task_list(tx, network.plane.tasks, "round-000001"))
    again = Network(tmp_path, toml(), seed=2, database=network.database)
    again.clock.now_s = network.clock.now_s + 100
    run(again.tick())
    run(again.tick(20.0))
    after = network.database.read_now(lambda tx: operate.task_list(tx, network.plane.tasks, "round-000001"))
    assert [(t["task_id"], t["key"], t["spec"]) for t in before] == [
        (t["task_id"], t["key"], t["spec"]) for t in after
    ]
    assert again.states() == {1: "open"}


def test_k2_a_loss_is_scored_and_our_own_failure_is_not(tmp_path: Path) -> None:
    failed: set[str] = set()

    def play(lease: Lease) -> dict[str, Any]:
        if lease.task_id not in failed:
            failed.add(lease.task_id)
            return broke(lease)
        return won(lease) if lease.subject == "0" else lost(lease)

    network = Network(tmp_path, toml())
    run(network.play(play, until=lambda: network.states().get(1) == "published"))
    result = bundle(network, "1")["evidence"]["result"]
    assert result["rates"]["0"] == {"classic/cartpole": 1.0, "classic/pendulum": 1.0}, (
        "each episode failed once by our doing"
    )
    view = network.database.read_now(lambda tx: views.round_view(tx, network.plane, "1"))
    attempts = {(a["state"], a["error_code"]): a["count"] for a in view["attempts"]}
    assert attempts == {("failed", "Killed"): 24, ("result", ""): 24}
    assert view["subjects"][1]["classes"]["classic/cartpole"] == {"won": 0, "lost": 4, "subject_error": 0}


def test_k2_an_error_of_the_subject_is_scored_zero(tmp_path: Path) -> None:
    def play(lease: Lease) -> dict[str, Any]:
        if lease.subject == "2":
            return said(lease, success=False, error="no answer", error_code="Timeout", fault="subject")
        return won(lease)

    network = Network(tmp_path, toml())
    run(network.play(play, until=lambda: network.states().get(1) == "published"))
    result = bundle(network, "1")["evidence"]["result"]
    assert result["rates"]["2"] == {"classic/cartpole": 0.0, "classic/pendulum": 0.0}
    assert "2" not in result["weights"] or result["weights"]["2"] == 0


def test_k5_an_empty_round_never_completes(tmp_path: Path) -> None:
    network = Network(tmp_path, toml(uids=0))
    run(network.tick())
    run(network.tick())
    row = network.rounds()[-1]
    assert (row.state.value, row.code) == ("failed", "EmptyRound")
    assert not (tmp_path / ".standfast/publications/latest.json").exists()


@pytest.mark.parametrize("policy", ["fail", "partial"])
def test_k5_open_tasks_at_the_deadline(tmp_path: Path, policy: str) -> None:
    """Subject 2 is never finished: the round fails or ends in part, and nothing of it is served again."""
    network = Network(tmp_path, toml(evaluation=f'on_deadline = "{policy}"', tasks="max_attempts = 100"))
    play = lambda lease: None if lease.subject == "2" else by_uid({"0"})(lease)  # noqa: E731
    run(network.play(play, until=lambda: network.states().get(1, "open") != "open"))
    row = network.rounds()[-1]
    counts = network.database.read_now(lambda tx: network.plane.rounds.counts(tx, row))
    assert (counts.succeeded, counts.cancelled, counts.pending, counts.running) == (16, 8, 0, 0)
    assert counts.total == counts.succeeded + counts.failed + counts.running + counts.pending == 24
    if policy == "fail":
        assert (row.state.value, row.code) == ("failed", "DeadlinePassed")
        assert not (tmp_path / ".standfast/publications/latest.json").exists()
    else:
        assert (row.state.value, row.code) == ("published", "Partial")
        assert (row.result or {})["missing"] == ["2"]
    run(network.tick(30.0))
    assert all(lease.batch != "round-000001" for lease in network.claim(count=100))


def test_k5_a_failed_round_never_becomes_complete_and_leaves_the_last_publication(tmp_path: Path) -> None:
    network = Network(tmp_path, toml(evaluation='on_deadline = "fail"'))
    run(network.play(by_uid({"0"}), until=lambda: network.states().get(1) == "published"))
    latest = (tmp_path / ".standfast/publications/latest.json").read_bytes()
    leases: list[Lease] = []
    run(network.play(leases.append, until=lambda: network.states().get(2) == "failed"))
    assert leases, "the second round handed out work that nobody finished"
    assert {a.answer for a in network.submit([won(lease) for lease in leases[:4]])} <= {
        Answer.EXPIRED,
        Answer.STALE,
    }
    run(network.tick())
    assert network.states()[2] == "failed"
    assert (tmp_path / ".standfast/publications/latest.json").read_bytes() == latest
    with pytest.raises(ConflictError):
        network.write(lambda tx: operate.requeue(tx, network.plane.tasks, leases[0].task_id))


def test_k5_a_second_scheduler_cannot_make_the_first_publish(tmp_path: Path) -> None:
    """The first is silent, the second takes over, the first finds out and stops."""
    network = Network(tmp_path, toml())
    run(network.tick())
    second = Network(tmp_path, toml(), seed=2, database=network.database)
    second.scheduler.name = second.scheduler._leadership._name = "scheduler-2"
    run(second.tick())
    assert not second.scheduler.state["is_leader"], "the first one leads and was heard of just now"
    run(second.tick(11.0))
    assert second.scheduler.state["is_leader"]
    with pytest.raises(StaleTokenError):
        run(network.scheduler.tick())
    assert not network.scheduler.state["is_leader"]
    run(second.play(by_uid({"0"}), until=lambda: second.states().get(1) == "published"))
    assert json.loads((tmp_path / ".standfast/publications/latest.json").read_text())["leader_term"] == 2


def test_k5_one_dead_subject_does_not_veto_the_others(tmp_path: Path) -> None:
    def play(lease: Lease) -> dict[str, Any]:
        if lease.subject == "2":
            return said(lease, success=False, error="refused", error_code="SubjectRefused", fault="subject")
        return won(lease) if lease.subject == "0" else lost(lease)

    network = Network(tmp_path, toml())
    run(network.play(play, until=lambda: network.states().get(1) == "published"))
    assert carrying(bundle(network, "1")["evidence"]["result"]["weights"]) == {"0": 1.0}


def test_i6_a_subject_that_we_could_not_measure_keeps_its_last_rates(tmp_path: Path) -> None:
    network = Network(tmp_path, toml(tasks="max_attempts = 1"))
    run(network.play(by_uid({"0", "2"}), until=lambda: network.states().get(1) == "published"))
    first = bundle(network, "1")["evidence"]["result"]
    play = lambda lease: broke(lease) if lease.subject == "2" else by_uid({"0"})(lease)  # noqa: E731
    run(network.play(play, until=lambda: network.states().get(2) == "published"))
    second = bundle(network, "2")
    result = second["evidence"]["result"]
    assert result["carried"]["2"] == {"round": 1, "rates": first["rates"]["2"], "share": 1.0}
    assert result["weights"] == first["weights"], "our own failure lowered nobody's weight"
    assert all(f.verdict is Verdict.PASS for f in verify_evidence(second))


def test_i7_nobody_qualified_withholds_and_says_so(tmp_path: Path) -> None:
    network = Network(tmp_path, toml())
    run(network.play(lost, until=lambda: network.states().get(1) == "withheld"))
    row = network.rounds()[-1]
    assert (row.code, "nobody" in row.reason) == ("NobodyQualified", True)
    assert not (tmp_path / ".standfast/publications/latest.json").exists()


def test_i14_hour_jumps_of_the_wall_clock_change_no_lease_and_no_deadline(tmp_path: Path) -> None:
    network = Network(tmp_path, toml())
    run(network.tick())
    leases = network.claim(count=4)
    for jump in (3600.0, -7200.0):
        network.clock.wall_offset_s += jump
        run(network.tick())
        assert network.scheduler.state["clock_jump_s"] == pytest.approx(jump, abs=1.0)
    assert network.states() == {1: "open"}
    assert {a.answer for a in network.submit([won(lease) for lease in leases])} == {Answer.ACCEPTED}


def test_i14_a_store_that_is_away_is_not_a_clock_that_jumps(tmp_path: Path) -> None:
    network = Network(tmp_path, toml())
    run(network.tick())
    network.database.write_now(lambda tx: tx.rows("ALTER TABLE control RENAME TO control_away"))
    for _ in range(4):
        with pytest.raises(Exception, match="no such table"):
            run(network.tick(8.0))
    network.database.write_now(lambda tx: tx.rows("ALTER TABLE control_away RENAME TO control"))
    run(network.tick(8.0))
    assert network.scheduler.state["clock_jump_s"] == 0.0


def test_i7_a_foreign_publication_is_put_on_record(tmp_path: Path) -> None:
    network = Network(tmp_path, toml())
    run(network.play(by_uid({"0"}), until=lambda: network.states().get(1) == "published"))
    stranger = Network(tmp_path / "other", toml(), seed=7)
    stranger.scheduler._publishing._publisher = network.scheduler._publisher
    run(stranger.play(by_uid({"1"}), until=lambda: stranger.states().get(3) == "published"))
    run(network.play(by_uid({"0"}), until=lambda: network.states().get(2) in ("published", "withheld")))
    facts = network.database.read_now(lambda tx: network.plane.facts.page(tx, kind="publication.foreign"))
    assert [fact.body for fact in facts] == [{"held_epoch": 4, "own_epoch": 1}]


def test_i14_a_control_plane_that_slept_expires_no_lease_that_nobody_could_renew(tmp_path: Path) -> None:
    network = Network(tmp_path, toml())
    run(network.tick())
    leases = network.claim(count=4)
    run(network.tick(3600.0))
    still = network.database.read_now(lambda tx: network.plane.facts.page(tx, kind="control.stood_still"))
    assert [fact.body["seconds"] for fact in still] == [3600.0], "it is on record"
    assert {a.answer for a in network.submit([won(lease) for lease in leases])} == {Answer.ACCEPTED}


def test_i3_a_lease_that_ran_out_is_refused_and_its_task_runs_again(tmp_path: Path) -> None:
    network = Network(tmp_path, toml())
    run(network.tick())
    leases = network.claim(count=4)
    for _ in range(50):
        run(network.tick())
    assert {a.answer for a in network.submit([won(lease) for lease in leases])} == {Answer.EXPIRED}
    run(network.play(by_uid({"0"}), until=lambda: network.states().get(1) == "published"))
    view = network.database.read_now(lambda tx: operate.task_view(tx, network.plane.tasks, leases[0].task_id))
    assert [a["state"] for a in view["history"]] == ["expired", "result"]
    assert [late["answer"] for late in view["late_reports"]] == ["expired"]


def test_k1_sampling_lists_rotate_between_rounds(tmp_path: Path) -> None:
    network = Network(tmp_path, toml())
    run(network.play(by_uid({"0"}), until=lambda: network.states().get(2) == "published"))
    second, first = [row.plan.environments[0].variants for row in network.rounds()[-2:]]
    assert len(first) == len(second) == 4
    assert first[2:] == second[:2]
    assert set(second[2:]).isdisjoint(first)


def test_a_lost_store_is_succeeded_by_a_new_one(tmp_path: Path) -> None:
    network = Network(tmp_path, toml())
    run(network.play(by_uid({"0"}), until=lambda: network.states().get(2) == "published"))
    fresh = Network(tmp_path, toml(), seed=9)
    run(fresh.scheduler._learn_floor())
    run(fresh.play(by_uid({"1"}), until=lambda: fresh.states().get(1) == "published"))
    latest = json.loads((tmp_path / ".standfast/publications/latest.json").read_text())
    assert (latest["epoch"], latest["leader_term"]) == (3, 2)
    begun = fresh.database.read_now(lambda tx: fresh.plane.facts.page(tx, kind="store.begins_anew"))
    assert [fact.body["published_before"] for fact in begun] == [2], "the loss is on record"


def test_old_rounds_are_pruned_and_their_results_stay(tmp_path: Path) -> None:
    network = Network(tmp_path, toml(evaluation="keep_rounds = 1"))
    run(network.play(by_uid({"0"}), until=lambda: network.states().get(3) == "published"))
    network.write(network.plane.rounds.prune)
    with pytest.raises(ConflictError, match="pruned"):
        bundle(network, "1")
    assert carrying(network.rounds()[-1].result["weights"]) == {"0": 1.0}
    assert all(f.verdict is Verdict.PASS for f in verify_evidence(bundle(network, "3")))
