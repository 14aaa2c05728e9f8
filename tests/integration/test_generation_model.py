"""The model service as a real process: A000-7, A000-9, A000-11 and A000-15 over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from generation_stack.model.engine import Engine, GenerationTimeoutError, Limits
from generation_stack.model.port import CancelToken, Memory, Wish
from generation_stack.model.standing import State
from generation_stack.program.log import Log
from generation_stack.splats.judge import judge

from integration.generation_lab import Lab, Program, Reply, asking, lab_in, picture, splats
from integration.processes import eventually, wait_until

#: So many Gaussians per second: a request of 40,000 takes two seconds.
SLOW = ("--demo-pace", "20000")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_in(tmp_path) as made:
        yield made


def asks(program: Program, count: int, body: dict[str, object]) -> list[Reply]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: program.post("/generate", body), range(count)))


def counts(program: Program) -> dict[str, int]:
    health = program.get("/health").body
    closed = sum(health[name] for name in ("completed", "failed", "timed_out", "abandoned"))
    assert health["accepted"] == closed + health["open"], "every accepted request is in one set"
    return health


def slots(program: Program) -> int:
    health = counts(program)
    return health["open"] + health["stopping"]


def test_a000_7_while_it_loads_it_is_live_and_says_that_it_is_not_ready(lab: Lab) -> None:
    model = lab.model("--demo-load-s", "1.5").start().until("/live")
    health, ready = model.get("/health"), model.get("/ready")
    assert (health.status, ready.status) == (503, 503)
    assert (health.body["state"], health.body["reason"]) == ("starting", "the model is being loaded")
    assert health.body["loaded_s"] is None
    refused = model.post("/generate", {"prompt": "a ball"})
    assert (refused.status, refused.body["error"]) == (503, "starting")
    assert int(refused.headers["Retry-After"]) >= 1
    later = model.get("/health").body
    assert later["since_s"] > health.body["since_s"]
    model.until("/health")
    assert model.get("/health").body["loaded_s"] >= 1.5
    made = model.post("/generate", {"prompt": "a ball", "num_gaussians": 2_000})
    assert (made.status, judge(made.data).reasons) == (200, [])
    # The start-up time is measured, and stands in the log.
    assert model.told("ready")[0]["after_s"] >= 1.5
    assert counts(model)["refused"] == 1


def test_a_prompt_and_a_picture_give_splats_and_the_same_seed_the_same_bytes(lab: Lab) -> None:
    model = lab.model().start().until()
    first, again, other = (
        model.post("/generate", {"prompt": "an oak tree", "seed": seed}) for seed in (5, 5, 6)
    )
    assert first.data == again.data
    assert first.data != other.data
    assert (judge(first.data).count, first.headers["X-Gaussians"]) == (40_000, "40000")
    shown = model.post("/generate", {"image": picture(), "seed": 1, "num_gaussians": 5_000})
    assert (shown.status, judge(shown.data).reasons, judge(shown.data).count) == (200, [], 5_000)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with lab_in(tmp_path_factory.mktemp("quick")) as lab:
        yield lab.model().start().until()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "image": "b"}, "prompt"),
        ({"prompt": "   "}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "x" * 1_001}, "prompt"),
        ({"prompt": "a", "seed": -1}, "seed"),
        ({"prompt": "a", "seed": 2**32}, "seed"),
        ({"prompt": "a", "seed": True}, "seed"),
        ({"prompt": "a", "num_gaussians": 10**9}, "num_gaussians"),
        ({"prompt": "a", "deadline_s": 0}, "deadline_s"),
        ({"prompt": "a", "deadline_s": "soon"}, "deadline_s"),
        ({"prompt": "a", "steps": 12}, "steps"),
        ({"image": "not base64!"}, "image"),
        ({"image": "aGVsbG8="}, "image"),
        ({"image": 7}, "image"),
        (["prompt"], ""),
    ],
)
def test_a000_11_wrong_input_is_422_with_the_field_and_the_reason(
    quick: Program, body: object, field: str
) -> None:
    before = counts(quick)
    answer = quick.post("/generate", body)
    assert (answer.status, answer.body["error"]) == (422, "invalid_input")
    assert field in {problem["field"] for problem in answer.body["problems"]}
    after = counts(quick)
    assert (after["invalid"], after["completed"]) == (before["invalid"] + 1, before["completed"])


def test_other_bad_requests_have_their_own_names(quick: Program) -> None:
    form = quick.post("/generate", b"--x\r\nContent-Disposition: form-data; name=prompt\r\n\r\nball\r\n--x--")
    assert (form.status, form.body["error"]) == (400, "not_json")
    assert quick.post("/generate", b"[" * 100_000).status == 400
    assert quick.post("/generate", b" " * 9_000_000).status == 413
    assert quick.get("/generate").status == 405
    assert (quick.get("/nothing").status, quick.get("/nothing").body["error"]) == (404, "not_found")


def test_a000_11_a_burst_that_failed_is_not_a_success(lab: Lab) -> None:
    """Both bursts of the audit were reported as excellent: ten times 422, and ten timeouts."""
    model = lab.model(*SLOW, "--queue", "9").start().until()
    wrong = asks(model, 10, {"image_url": "burst.png"})
    late = asks(model, 10, {"prompt": "a house", "deadline_s": 1.0})
    assert [answer.status for answer in wrong] == [422] * 10
    assert {answer.status for answer in late} == {504}
    assert all(answer.body["error"] == "timeout" for answer in late)
    assert not any(judge(answer.data).is_usable for answer in (*wrong, *late))
    found = counts(model)
    assert (found["completed"], found["invalid"], found["timed_out"]) == (0, 10, 10)
    assert model.told("completed") == []


def test_a000_9_a_request_ends_at_its_deadline_and_its_work_with_it(lab: Lab) -> None:
    model = lab.model(*SLOW, "--timeout-s", "2").start().until()
    # The service's own bound holds, whatever the caller would wait.
    late = model.post("/generate", {"prompt": "a car", "num_gaussians": 500_000, "deadline_s": 600})
    assert (late.status, late.body["error"]) == (504, "timeout")
    assert late.seconds == pytest.approx(2.0, abs=1.0)
    wait_until(lambda: slots(model) == 0, within_s=2.0, what="the work stopped")
    made = model.post("/generate", {"prompt": "a car", "num_gaussians": 2_000})
    assert (made.status, made.seconds < 1.5) == (200, True)


def test_a000_9_the_work_stops_when_the_client_goes_and_the_memory_returns(lab: Lab) -> None:
    model = lab.model(*SLOW).start().until()
    # 25 s of work each, were somebody to wait for them; the second waits in the queue.
    with asking(model, {"prompt": "a tower", "num_gaussians": 500_000}, times=2):
        wait_until(lambda: (counts(model)["running"], counts(model)["open"]) == (1, 2), what="at work")
    wait_until(lambda: slots(model) == 0, within_s=3.0, what="the work stopped")
    assert (counts(model)["abandoned"], counts(model)["completed"]) == (2, 0)
    made = model.post("/generate", {"prompt": "a ball", "num_gaussians": 2_000})
    assert (made.status, made.seconds < 3.0) == (200, True)
    # What was half made is gone: the next request began where an idle service is.
    series = model.get("/memory").body["series"]
    assert series[-1]["before_bytes"] < 150_000_000
    assert model.get("/health").body["loads"] == 1


def test_a000_7_a_full_queue_is_busy_and_refuses_with_a_time(lab: Lab) -> None:
    model = lab.model(*SLOW, "--queue", "1").start().until()
    with asking(model, {"prompt": "a tower", "num_gaussians": 100_000}, times=2):
        wait_until(lambda: counts(model)["open"] == 2, what="both accepted")
        health = model.get("/health")
        assert (health.status, health.body["state"]) == (503, "busy")
        # It works through what it has: that is readiness, and no reason to restart it.
        assert (model.get("/ready").status, model.get("/live").status) == (200, 200)
        refused = model.post("/generate", {"prompt": "a ball"})
        assert (refused.status, refused.body["error"]) == (429, "busy")
        assert int(refused.headers["Retry-After"]) >= 1
    model.until("/health")
    assert counts(model)["refused"] == 1


def test_a000_15_memory_returns_after_each_request_and_the_model_stays_loaded(lab: Lab) -> None:
    model = lab.model().start().until()
    for number in range(10):
        body = {"prompt": "a house beside a tree", "seed": number, "num_gaussians": 60_000}
        assert model.post("/generate", body).status == 200
    series = model.get("/memory").body["series"]
    assert [entry["outcome"] for entry in series] == ["completed"] * 10
    for entry in series:
        # At the peak there was the work as well; afterwards at most the result that is being sent.
        assert entry["peak_bytes"] > entry["before_bytes"] + entry["result_bytes"]
        assert entry["after_bytes"] < entry["peak_bytes"]
    before = [entry["before_bytes"] for entry in series]
    # A result is 4 MB: had one stayed of each request, that would be 24 MB here.
    assert max(before[3:]) - min(before[3:]) < 10_000_000
    assert (counts(model)["loads"], len(model.told("loading"))) == (1, 1)


def test_a_reader_that_is_too_slow_does_not_hold_the_model(lab: Lab) -> None:
    model = lab.model("--queue", "0").start().until()
    with asking(model, {"prompt": "a ball", "num_gaussians": 300_000, "deadline_s": 8}) as [client]:
        received = client.recv(2_000)
        assert received.startswith(b"HTTP/1.1 200"), "sending has begun"
        wait_until(lambda: slots(model) == 0, within_s=15.0, what="given up")
        assert counts(model)["timed_out"] == 1
        with contextlib.suppress(ConnectionError):
            while chunk := client.recv(1 << 20):
                received += chunk
    # Half a file must not look like a whole one.
    assert len(received) < 20_000_000


def test_it_ends_in_order_when_told_to(lab: Lab) -> None:
    model = lab.model(*SLOW, "--drain-s", "10").start().until()
    answers: list[Reply] = []
    body = {"prompt": "a ball", "num_gaussians": 20_000}
    caller = threading.Thread(target=lambda: answers.append(model.post("/generate", body)))
    caller.start()
    wait_until(lambda: counts(model)["running"] == 1, what="at work")
    model.signal(signal.SIGTERM)
    caller.join()
    assert (answers[0].status, model.ended()) == (200, 0)
    stubborn = lab.model(*SLOW, "--drain-s", "0.3").start().until()
    with asking(stubborn, {"prompt": "a ball", "num_gaussians": 500_000}):
        wait_until(lambda: counts(stubborn)["running"] == 1, what="at work")
        stubborn.signal(signal.SIGTERM)
        assert stubborn.ended(within_s=8.0) == 0


def test_wrong_arguments_and_a_taken_port_are_said(lab: Lab) -> None:
    first = lab.model().start().until("/live")
    second = lab.model()
    second.port = first.port
    assert second.start().ended() == 1
    assert f"Cannot listen on 127.0.0.1:{first.port}" in second.errors.read_text()
    for arguments, words in (
        (("--timeout-s", "nan"), "not a number of seconds"),
        (("--queue", "-1"), "not a whole number"),
        (("--backend", "sdxl"), "invalid choice"),
    ):
        wrong = lab.model(*arguments).start()
        assert wrong.ended() == 2
        assert words in wrong.errors.read_text()


class DeafBackend:
    """A model that does not listen when it is told to stop, as one stuck in a kernel does not."""

    name = "deaf"
    takes = frozenset({"prompt"})
    takes_count = True

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def load(self, token: CancelToken) -> None:
        return

    def make(self, wish: Wish, token: CancelToken) -> bytes:
        self.let_go.wait(30.0)
        return splats()

    def release(self) -> None:
        return

    def memory(self) -> Memory:
        return Memory("none", 0, 0)


def test_a000_9_work_that_does_not_stop_is_a_failure_that_only_a_restart_ends() -> None:
    backend = DeafBackend()

    async def body() -> None:
        engine = Engine(backend, Limits(capacity=2, deaf_s=0.3), Log("test"))
        assert await engine.load()
        began = time.monotonic()
        with pytest.raises(GenerationTimeoutError):
            async with engine.generation("one", Wish(1, "a"), 0.2):
                pass
        # The caller is not kept waiting by it.
        assert time.monotonic() - began < 2.0
        assert engine.standing.state is State.READY
        await eventually(lambda: engine.standing.state is State.FAILED, what="deaf")
        assert "only a restart" in engine.standing.reason
        assert (engine.open, engine.stopping) == (0, 1)
        backend.let_go.set()
        await eventually(lambda: engine.standing.state is State.READY, what="it came back after all")
        assert engine.counts == {"accepted": 1, "timed_out": 1}

    asyncio.run(body())


def test_a_model_that_makes_nonsense_is_answered_with_an_error() -> None:
    class Nonsense(DeafBackend):
        def make(self, wish: Wish, token: CancelToken) -> bytes:
            return b"ply\nnonsense"

    async def body() -> None:
        engine = Engine(Nonsense(), Limits(), Log("test"))
        await engine.load()
        with pytest.raises(Exception, match="not_a_ply"):
            async with engine.generation("one", Wish(1, "a"), 5.0):
                pass
        assert engine.counts == {"accepted": 1, "failed": 1}
        await eventually(lambda: engine.stopping == 0)

    asyncio.run(body())
