"""Miner, worker, model and validator as real processes: A000-3, and what travels between them."""

from __future__ import annotations

import hashlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
from generation_stack.network.identity import Hotkey, hotkey_in
from generation_stack.splats.judge import judge

from blueprint_programs import blueprint_file
from integration.generation_lab import HOTKEY, Lab, Program, Reply, lab_in, splats
from integration.processes import wait_until


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with lab_in(tmp_path) as made:
        yield made


def account(validator: Program, hotkey: str = HOTKEY) -> dict[str, Any]:
    found = validator.get("/status").body["miners"].get(hotkey, {"issued": 0, "accepted": 0})
    parts = ("open", "accepted", "rejected", "expired")
    assert found["issued"] == sum(found.get(part, 0) for part in parts), "the sets are disjoint"
    return dict(found)


def registered(lab: Lab, *more: str) -> tuple[int, str]:
    program = str(blueprint_file("generation/registered.py"))
    command = [sys.executable, program, "--file", str(lab.registry), "--hotkey", HOTKEY, *more]
    done = run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a000_3_a_miner_that_is_not_registered_does_not_start_until_it_is(lab: Lab) -> None:
    lab.registry.write_text('{"17": {"somebody": ""}}')
    validator = lab.validator().start().until()
    worker = lab.worker(lab.model().start().until().url).start().until()
    miner = lab.miner(worker, validator).start()
    assert miner.ended() == 1
    last = miner.errors.read_text().splitlines()[-1]
    assert last.startswith(
        f"RuntimeError: Wallet Wallet (Name: 'validator', Hotkey: '{HOTKEY}', Path: '~/.bittensor/wallets/') "
        "not registered on netuid 17. Please register using `"
    )
    assert registered(lab)[0] == 1
    assert "Traceback" not in last
    # It told no validator and no worker about itself, and registered nobody.
    assert account(validator)["issued"] == 0
    assert lab.registry.read_text() == '{"17": {"somebody": ""}}'
    # The command in the message is the one that clears it.
    fix = last.split("`")[1]
    assert run(fix, shell=True, capture_output=True, timeout=60, check=False).returncode == 0
    assert registered(lab)[0] == 0
    miner.start().until()
    wait_until(lambda: account(validator)["accepted"] >= 1, within_s=30.0, what="mined")


@pytest.mark.parametrize("text", [None, "{", '{"17": []}'])
def test_a000_3_what_cannot_be_told_is_not_registered(lab: Lab, text: str | None) -> None:
    lab.registry.unlink() if text is None else lab.registry.write_text(text)
    code, said = registered(lab)
    assert code == 75
    assert "cannot be told" in said
    miner = lab.miner(lab.worker("http://127.0.0.1:9"), lab.validator()).start()
    assert miner.ended() == 75
    assert "cannot be told" in miner.errors.read_text()


def test_a000_3_on_a_chain_nothing_is_ever_registered(lab: Lab) -> None:
    code, said = registered(lab, "--registry", "bittensor", "--register")
    assert code == 2
    assert "spends money" in said
    code, said = registered(lab, "--registry", "bittensor", "--network", "ws://127.0.0.1:9")
    # Without the SDK, or without a chain: unknown either way.
    assert code == 75


def test_tasks_flow_and_every_one_is_accounted_for(lab: Lab) -> None:
    model = lab.model("--demo-load-s", "1").start()
    worker = lab.worker(model.url).start()
    validator = lab.validator().start()
    miner = lab.miner(worker, validator, "--registered-every-s", "0.3").start()
    for program in (worker, validator, miner):
        program.until()
    wait_until(lambda: account(validator)["accepted"] >= 6, within_s=60.0, what="six accepted")
    found = account(validator)
    assert (found["rejected"], found["expired"]) == (0, 0)
    assert 0.5 < found["average_score"] <= 1.0
    assert model.get("/health").body["refused"] == 0, "nothing was sent while it was loading"
    gallery = sorted((lab.folder / "validator" / "gallery").glob("*.ply"))
    assert len(gallery) >= 6
    assert all(judge(path.read_bytes()).is_usable for path in gallery)
    feedback = miner.told("feedback")
    assert {entry["end"] for entry in feedback} == {"accepted"}
    assert all(0.5 < entry["score"] <= 1.0 for entry in feedback)
    # Its registration goes away while it works: it ends, and says so in the same words.
    lab.registry.write_text('{"17": {}}')
    assert miner.ended() == 1
    assert f"Hotkey: '{HOTKEY}'" in miner.errors.read_text().splitlines()[-1]
    for program in (worker, validator, model):
        program.signal(signal.SIGTERM)
        assert program.ended() == 0


def test_a_miner_and_a_validator_that_are_killed_lose_and_double_nothing(lab: Lab) -> None:
    model = lab.model("--demo-pace", "40000").start().until()
    worker = lab.worker(model.url).start().until()
    validator = lab.validator().start().until()
    miner = lab.miner(worker, validator).start().until()

    def in_work() -> bool:
        return bool(worker.get("/status").body["in_hand"])

    wait_until(in_work, what="a task in hand")
    miner.kill()
    wait_until(lambda: worker.get("/status").body["done"] >= 1, what="done without its miner")
    miner.start().until()
    wait_until(lambda: account(validator)["accepted"] >= 1, what="handed in by the next life")
    wait_until(in_work, what="another task in hand")
    validator.kill()
    wait_until(lambda: not in_work(), what="done without its validator")
    wait_until(lambda: miner.get("/status").body["trouble"] != {}, what="seen")
    validator.start().until()
    before = account(validator)["accepted"]
    wait_until(lambda: account(validator)["accepted"] > before, what="handed in afterwards")
    found = account(validator)
    assert (found["rejected"], found["expired"]) == (0, 0)
    # Every task was worked on once: what was accepted or is open is what the model was asked for.
    assert model.get("/health").body["completed"] <= found["issued"]
    ends = [entry["task"] for entry in miner.told("feedback")]
    assert len(ends) == len(set(ends))


def test_a_task_that_fails_is_told_and_not_left_to_expire(lab: Lab) -> None:
    worker = lab.worker(lab.model().start().until().url, "--fewest", "90000").start().until()
    validator = lab.validator().start().until()
    miner = lab.miner(worker, validator).start().until()
    wait_until(lambda: account(validator).get("rejected", 0) >= 1, within_s=30.0, what="given up")
    miner.kill()
    recent = validator.get("/status").body["recent"]
    told = next(entry for entry in recent if entry["state"] == "rejected")
    assert "given_up: 2 results could not be used: too_few" in told["reasons"][0]
    # A rejected result costs four cooldowns.
    assert account(validator)["expired"] == 0


class Hands:
    """A miner's dealings with a validator, one by one."""

    def __init__(self, validator: Program, hotkey: Hotkey) -> None:
        self.validator = validator
        self.hotkey = hotkey

    def pull(self, *have: str, signature: str = "") -> Reply:
        key = self.hotkey
        signed = signature or key.sign(["pull", key.name, *sorted(have)])
        body = {"hotkey": key.name, "public_key": key.public_key, "have": have, "signature": signed}
        return self.validator.post("/pull", body)

    def pulled(self) -> str:
        """Return the id of a task once there is one for it."""
        ids: list[str] = []

        def try_once() -> bool:
            answer = self.pull()
            ids.extend([answer.body["id"]] if answer.status == 200 else [])
            return bool(ids)

        wait_until(try_once, what="a task")
        return ids[0]

    def submit(self, id_: str, data: bytes, *, signed_for: str = "") -> Reply:
        key = self.hotkey
        signature = key.sign(["result", key.name, signed_for or id_, hashlib.sha256(data).hexdigest()])
        headers = {"X-Hotkey": key.name, "X-Public-Key": key.public_key, "X-Signature": signature}
        return self.validator.post(f"/results/{id_}", data, **headers)


def test_a_validator_deals_only_with_who_is_registered_and_signs(lab: Lab) -> None:
    validator = lab.validator().start().until()
    one = Hands(validator, hotkey_in(lab.folder / "a", HOTKEY))
    thief = Hands(validator, hotkey_in(lab.folder / "b", HOTKEY))
    stranger = Hands(validator, hotkey_in(lab.folder / "c", "stranger"))
    assert (stranger.pull().status, stranger.pull().body["error"]) == (403, "not_registered")
    assert one.pull(signature="00").body["error"] == "signature"
    given = one.pull()
    assert given.status == 200
    assert given.body["deadline_in_s"] > 100
    # The first key is the hotkey's own.
    assert (thief.pull().status, thief.pull().body["error"]) == (403, "other_key")
    assert thief.submit(given.body["id"], splats()).body["error"] == "other_key"
    assert one.submit(given.body["id"], splats(), signed_for="another").body["error"] == "signature"
    assert one.submit("nothing", splats()).status == 404
    assert validator.post("/pull", {"hotkey": HOTKEY}).status == 422
    lab.registry.write_text("{")
    assert (one.pull().status, one.pull().body["error"]) == (503, "registry")
    assert account(validator)["issued"] == 1


def test_a000_11_a_result_counts_once_fresh_and_in_time(lab: Lab) -> None:
    validator = lab.validator("--deadline-s", "6", "--cooldown-s", "0.4").start().until()
    one = Hands(validator, hotkey_in(lab.folder / "a", HOTKEY))
    first = one.pull().body["id"]
    assert one.pull().body["id"] == first, "what was lost on the way is given again, and not issued twice"
    second = one.pull(first).body["id"]
    full = one.pull(first, second)
    assert (full.status, full.body["error"]) == (429, "open")
    bad = one.submit(first, splats()[:-100])
    assert (bad.status, bad.body["accepted"], bad.body["score"]) == (200, False, 0.0)
    assert bad.body["reasons"][0].startswith("truncated:")
    assert bad.body["cooldown_s"] == pytest.approx(1.6)
    early = one.pull(second)
    assert (early.status, early.body["error"]) == (429, "cooldown")
    assert 0.0 < early.body["retry_after_s"] <= 1.6
    # A second try at a closed task is told what it was told.
    assert one.submit(first, splats()).body == bad.body
    good = one.submit(second, splats())
    assert (good.body["accepted"], good.body["reasons"]) == (True, [])
    assert one.submit(second, splats()).body["accepted"] is True
    stale = one.submit(one.pulled(), splats())
    assert stale.body["accepted"] is False
    assert stale.body["reasons"][0] == f"stale: these bytes were accepted for task {second} before"
    fourth = one.pulled()
    wait_until(lambda: account(validator)["expired"] == 1, what="expired")
    late = one.submit(fourth, splats(seed=9))
    assert (late.status, late.body["error"]) == (410, "expired")
    found = account(validator)
    assert [found[part] for part in ("issued", "open", "accepted", "rejected", "expired")] == [4, 0, 1, 2, 1]
    validator.kill()
    validator.start().until()
    assert account(validator) | {"cooldown_s": 0} == found | {"cooldown_s": 0}


def test_many_hands_at_once_get_no_more_than_is_allowed(lab: Lab) -> None:
    validator = lab.validator().start().until()
    one = Hands(validator, hotkey_in(lab.folder / "a", HOTKEY))
    first = one.pull().body["id"]
    replies: list[Reply] = []
    threads = [threading.Thread(target=lambda: replies.append(one.pull(first))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # The second open task is given to all who do not have it; there is no third.
    assert {reply.status for reply in replies} <= {200, 429}
    assert account(validator)["issued"] == 2
