"""The gen-worker as a real process, beside real and bad models: A000-8 and A000-9 over real HTTP.

Times are scaled down where they are settings (backoff 0.1 to 0.5 s, outages of seconds). With
STANDFAST_REAL_OUTAGE=1 the outage of A000-8 lasts its real 60 s, with the backoff that is shipped.
"""

from __future__ import annotations

import http.server
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generation_stack.splats import ply
from generation_stack.splats.cloud import ATTRIBUTES, Cloud
from generation_stack.splats.judge import judge

from integration.generation_lab import Lab, Program, lab_in, reply, splats, task
from integration.processes import wait_until

#: So many Gaussians per second: a task of 4,000 takes a second.
SLOW = ("--demo-pace", "4000")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_in(tmp_path) as made:
        yield made


def counts(worker: Program) -> dict[str, Any]:
    found = worker.get("/status").body
    states = ("queued", "running", "done", "failed")
    assert found["accepted"] == sum(found[state] for state in states), "no task is lost or counted twice"
    return dict(found)


def is_over(worker: Program, id_: str) -> bool:
    return worker.get(f"/tasks/{id_}").body["state"] in ("done", "failed")


def finished(worker: Program, id_: str, *, within_s: float = 30.0) -> dict[str, Any]:
    wait_until(lambda: is_over(worker, id_), within_s=within_s, what=f"{id_} over")
    return dict(worker.get(f"/tasks/{id_}").body)


def outcomes(found: dict[str, Any]) -> list[str]:
    return [attempt["outcome"] for attempt in found["attempts"]]


OUTAGES = [
    pytest.param(4.0, (), id="4s"),
    pytest.param(
        60.0,
        ("--backoff-s", "0.5", "--backoff-cap-s", "10", "--probe-s", "2"),
        id="60s",
        marks=pytest.mark.skipif(
            "STANDFAST_REAL_OUTAGE" not in os.environ, reason="takes 75 s: set STANDFAST_REAL_OUTAGE=1"
        ),
    ),
]


@pytest.mark.parametrize(("outage_s", "options"), OUTAGES)
def test_a000_8_an_outage_loses_no_task_and_completes_none_before_it_is_over(
    lab: Lab, outage_s: float, options: tuple[str, ...]
) -> None:
    model = lab.model("--demo-load-s", "1")
    worker = lab.worker(model.url, *options).start().until()
    for number in range(5):
        assert worker.post("/tasks", task(f"t{number}", deadline_s=outage_s + 50)).status == 202
    ends = time.monotonic() + outage_s
    while time.monotonic() < ends:
        found = counts(worker)
        assert (found["open"], found["done"], found["failed"]) == (5, 0, 0)
        time.sleep(0.5)
    health = worker.get("/health")
    assert (health.status, health.body["model"]["state"]) == (503, "refused")
    # Not even what the worker says of itself is taken for readiness of the model.
    assert worker.get("/ready").status == 200
    model.start()
    wait_until(lambda: counts(worker)["done"] == 5, within_s=30.0, what="all done")
    served = model.get("/health").body
    # Nothing was sent while it was loading: it had nothing to refuse.
    assert (served["accepted"], served["completed"], served["refused"]) == (5, 5, 0)
    for number in range(5):
        found = finished(worker, f"t{number}")
        assert outcomes(found) == ["done"], "waiting spends no attempt"
        result = worker.get(f"/tasks/t{number}/result")
        assert judge(result.data).is_usable


def test_a000_8_a_task_whose_deadline_passes_has_failed_and_says_why(lab: Lab) -> None:
    worker = lab.worker("http://127.0.0.1:9").start().until()
    worker.post("/tasks", task("t", deadline_s=1.5))
    found = finished(worker, "t", within_s=8.0)
    assert found["state"] == "failed"
    assert "before the model was ready" in found["reason"]
    assert "refused" in found["reason"]
    assert found["attempts"] == []
    assert worker.get("/tasks/t/result").status == 409
    assert (counts(worker)["done"], counts(worker)["failed"]) == (0, 1)


def test_a000_8_a_model_killed_in_mid_request_loses_nothing(lab: Lab) -> None:
    model = lab.model(*SLOW).start().until()
    worker = lab.worker(model.url).start().until()
    for number in range(3):
        worker.post("/tasks", task(f"t{number}"))
    wait_until(lambda: model.get("/health").body["running"] == 1, what="at work")
    model.kill()
    wait_until(lambda: worker.get("/health").body["model"]["state"] == "refused", what="seen")
    assert counts(worker)["open"] == 3
    model.start()
    wait_until(lambda: counts(worker)["done"] == 3, within_s=40.0, what="all done")
    cut = [finished(worker, f"t{number}") for number in range(3)]
    # One was cut off and says so; no other was touched.
    assert sorted(outcomes(found) for found in cut) == [["done"], ["done"], ["lost", "done"]]
    assert counts(worker)["failed"] == 0


def test_a000_8_kill_nine_of_the_worker_in_mid_task_completes_it_exactly_once(lab: Lab) -> None:
    model = lab.model(*SLOW).start().until()
    worker = lab.worker(model.url).start().until()
    for number in range(2):
        worker.post("/tasks", task(f"t{number}"))
    wait_until(lambda: model.get("/health").body["running"] == 1, what="at work")
    worker.kill()
    # A000-9: whoever asked is gone, and so is the work.
    wait_until(lambda: model.get("/health").body["abandoned"] == 1, what="stopped")
    worker.start().until()
    assert worker.told("recovered")[-1]["queued_again"] == 1
    wait_until(lambda: counts(worker)["done"] == 2, within_s=30.0, what="all done")
    assert outcomes(finished(worker, "t0")) == ["interrupted", "done"]
    assert outcomes(finished(worker, "t1")) == ["done"]
    assert model.get("/health").body["completed"] == 2
    assert [entry["id"] for entry in worker.told("done")].count("t0") == 1
    # And once more after the end: nothing is done again.
    worker.kill()
    worker.start().until()
    assert counts(worker)["done"] == 2
    assert model.get("/health").body["accepted"] == 3


def test_a000_9_a_model_that_never_answers_is_a_typed_timeout(lab: Lab) -> None:
    gone = threading.Event()

    def never(handler: http.server.BaseHTTPRequestHandler) -> None:
        # Blocks until the worker closes the connection: reading then ends.
        handler.connection.settimeout(20.0)
        if handler.connection.recv(1) == b"":
            gone.set()

    worker = lab.worker(lab.serve(never), "--timeout-s", "2").start().until()
    worker.post("/tasks", task("t", deadline_s=5.5))
    wait_until(lambda: worker.get("/tasks/t").body["attempts"] != [], what="one attempt")
    attempt = worker.get("/tasks/t").body["attempts"][0]
    assert attempt["outcome"] == "timeout"
    assert "TIMEOUT" in attempt["reason"]
    assert attempt["seconds"] == pytest.approx(2.0, abs=1.0)
    assert gone.wait(5.0), "the caller went away with its timeout"
    found = finished(worker, "t")
    assert (found["state"], set(outcomes(found))) == ("failed", {"timeout"})
    assert "timeout: TIMEOUT" in found["reason"]


def test_a000_9_a_model_that_is_stopped_is_seen_as_silent_and_sent_nothing(lab: Lab) -> None:
    """SIGSTOP: the kernel accepts connections for it, and nobody ever answers."""
    model = lab.model().start().until()
    worker = lab.worker(model.url).start().until()
    wait_until(lambda: worker.get("/health").status == 200, what="well")
    model.signal(signal.SIGSTOP)
    wait_until(lambda: worker.get("/health").body["model"]["state"] == "timeout", what="silent")
    worker.post("/tasks", task("t"))
    time.sleep(0.5)
    assert counts(worker)["queued"] == 1
    model.signal(signal.SIGCONT)
    assert outcomes(finished(worker, "t")) == ["done"]


def spoiled() -> dict[str, bytes]:
    whole = splats()
    rows = ply.decode(whole, most=10_000).rows
    nan, still = rows.copy(), rows.copy()
    nan[5, ATTRIBUTES.index("scale_1")] = np.nan
    still[:, :3] = 0.5
    return {
        "not_finite": ply.encode(Cloud(nan)),
        "constant": ply.encode(Cloud(still)),
        "truncated": whole[: len(whole) // 3],
        "wrong_count": whole + bytes(68),
        "too_few": ply.encode(Cloud(rows[:500])),
        "not_a_ply": b'{"detail": "ok"}',
    }


@pytest.mark.parametrize("code", spoiled().keys())
def test_a000_11_a_result_that_cannot_be_used_is_never_done(lab: Lab, code: str) -> None:
    url = lab.serve(lambda handler: reply(handler, 200, spoiled()[code]))
    worker = lab.worker(url).start().until()
    worker.post("/tasks", task("t"))
    found = finished(worker, "t")
    assert found["state"] == "failed"
    assert outcomes(found) == ["bad_output", "bad_output"]
    assert f"2 results could not be used: {code}:" in found["reason"]
    assert list((lab.folder / "worker" / "results").iterdir()) == []


def half(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.wfile.write(splats()[:50_000])
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]
#: How a model may fail, what that is called, and whether it is tried again.
FAILURES: list[tuple[str, Answer, str, bool]] = [
    ("wrong input", lambda h: reply(h, 422, {"error": "e", "reason": "image"}), "invalid_input", False),
    ("an error", lambda h: reply(h, 500, {"error": "e", "reason": "oops"}), "error", True),
    ("busy", lambda h: reply(h, 429, {}, **{"Retry-After": "1"}), "busy", True),
    ("not ready", lambda h: reply(h, 503, {}), "unready", True),
    ("its own timeout", lambda h: reply(h, 504, {}), "timeout", True),
    ("half an answer", half, "lost", True),
    ("a redirect in a circle", lambda h: reply(h, 307, {}, Location="/generate"), "lost", True),
]


@pytest.mark.parametrize(
    ("answer", "outcome", "again"), [f[1:] for f in FAILURES], ids=[f[0] for f in FAILURES]
)
def test_a000_8_every_failure_has_its_name_and_ends_by_the_deadline(
    lab: Lab, answer: Answer, outcome: str, again: bool
) -> None:
    worker = lab.worker(lab.serve(answer)).start().until()
    worker.post("/tasks", task("t", deadline_s=2.5))
    found = finished(worker, "t", within_s=10.0)
    assert found["state"] == "failed"
    assert set(outcomes(found)) == {outcome}
    assert (len(found["attempts"]) > 1) == again
    assert counts(worker)["done"] == 0


def test_tasks_are_taken_strictly_and_once(lab: Lab) -> None:
    worker = lab.worker("http://127.0.0.1:9", "--most-open", "2").start().until()
    assert worker.post("/tasks", task("t")).status == 202
    assert worker.post("/tasks", task("t")).status == 200
    other = worker.post("/tasks", task("t", seed=5))
    assert (other.status, other.body["error"]) == (409, "conflict")
    wrong = worker.post("/tasks", {"id": "../../etc", "prompt": "", "deadline_s": "x"})
    assert wrong.status == 422
    assert {problem["field"] for problem in wrong.body["problems"]} == {"id", "prompt", "deadline_s"}
    assert worker.post("/tasks", b"{").status == 400
    assert worker.post("/tasks", task("u")).status == 202
    full = worker.post("/tasks", task("v"))
    assert (full.status, full.body["error"]) == (429, "busy")
    assert worker.post("/tasks", task("u")).status == 200, "what is known needs no room"
    assert worker.get("/tasks/v").status == 404
    assert worker.post("/tasks/t/ack").status == 409, "only an end is acknowledged"
    assert counts(worker)["accepted"] == 2


def test_results_are_kept_until_they_are_acknowledged(lab: Lab) -> None:
    model = lab.model().start().until()
    worker = lab.worker(model.url).start().until()
    worker.post("/tasks", task("t", origin={"validator": "v", "task": "1"}))
    finished(worker, "t")
    first = worker.get("/tasks/t/result").data
    worker.kill()
    worker.start().until()
    assert worker.get("/tasks/t/result").data == first
    assert [entry["id"] for entry in worker.get("/tasks").body["tasks"]] == ["t"]
    assert worker.post("/tasks/t/ack").status == 200
    assert worker.get("/tasks").body["tasks"] == []
    assert worker.get("/tasks/t/result").status == 410
    assert counts(worker)["done"] == 1


def test_a_second_worker_on_the_same_data_is_refused(lab: Lab) -> None:
    worker = lab.worker("http://127.0.0.1:9").start().until()
    second = lab.worker("http://127.0.0.1:9").start()
    assert second.ended() == 1
    assert "another worker uses" in second.errors.read_text()
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0
    assert second.start().until().get("/ready").status == 200
