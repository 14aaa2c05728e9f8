"""The spool: durable, bounded, alone, and honest about damage."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from standfast.app.spool import Spool, SpoolLimits, SpoolUnwritableError
from standfast.kernel.errors import ConflictError

ITEM = {"task_id": "0" * 16, "token": 1, "success": True}


def items(spool: Spool) -> list[object]:
    return [spooled.item for spooled in spool.waiting]


def test_k6_what_was_appended_is_there_in_the_next_life_and_in_order(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    numbers = [first.append({**ITEM, "token": n}).number for n in range(5)]
    first.remove(numbers[1:3])
    first.close()
    second = Spool(tmp_path)
    assert items(second) == [{**ITEM, "token": n} for n in (0, 3, 4)]
    assert second.append(ITEM).number > numbers[-1]
    second.close()


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "garbage", "list"])
def test_a_damaged_report_is_set_aside_and_costs_no_other(tmp_path: Path, damage: str) -> None:
    spool = Spool(tmp_path)
    for n in range(3):
        spool.append({**ITEM, "token": n})
    spool.close()
    victim = sorted(tmp_path.glob("*.report"))[1]
    raw = bytearray(victim.read_bytes())
    if damage == "flip":
        raw[-3] ^= 1
    contents = {
        "flip": bytes(raw),
        "cut": bytes(raw[:-5]),
        "empty": b"",
        "garbage": b"\xff\x00",
        "list": b"[]",
    }
    victim.write_bytes(contents[damage])
    for _ in range(2):  # It stays known in later lives too.
        again = Spool(tmp_path)
        assert [item["token"] for item in items(again)] == [0, 2]  # type: ignore[index]
        assert again.damaged == 1
        assert len(list((tmp_path / "damaged").iterdir())) == 1
        again.close()


def test_every_bit_flip_and_every_cut_is_noticed(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(ITEM)
    spool.close()
    path = next(tmp_path.glob("*.report"))
    whole = path.read_bytes()
    broken = [whole[:n] for n in range(len(whole))]
    broken += [
        bytes(byte ^ (1 << bit) if index == at else byte for index, byte in enumerate(whole))
        for at in range(0, len(whole), 7)
        for bit in (0, 5)
    ]
    for raw in broken:
        for old in (tmp_path / "damaged").glob("*"):
            old.unlink()
        path.write_bytes(raw)
        again = Spool(tmp_path)
        assert (len(again), again.damaged) == (0, 1), raw
        again.close()


def test_a_half_written_report_was_never_acknowledged(tmp_path: Path) -> None:
    (tmp_path / "000000000009.partial").write_bytes(b"half")
    spool = Spool(tmp_path)
    assert (len(spool), spool.damaged) == (0, 0)
    assert not list(tmp_path.glob("*.partial"))
    spool.close()


def test_it_is_bounded_in_reports_and_bytes(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a", SpoolLimits(reports=2))
    spool.append(ITEM)
    assert spool.room() == 1
    kept = spool.append(ITEM)
    with pytest.raises(SpoolUnwritableError) as error:
        spool.append(ITEM)
    assert error.value.code == "SpoolFull"
    spool.remove([kept.number])
    assert spool.room() == 1
    spool.close()
    small = Spool(tmp_path / "b", SpoolLimits(bytes=10))
    small.append(ITEM)
    assert small.room() == 0
    small.close()


def test_one_process_per_folder(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(ConflictError) as error:
        Spool(tmp_path)
    assert str(os.getpid()) in error.value.what
    spool.close()
    Spool(tmp_path).close()


def test_a_full_disk_is_a_typed_refusal_and_leaves_nothing_half(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(ITEM)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(SpoolUnwritableError) as error:
            spool.append({**ITEM, "error": "x" * 500})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert error.value.code == "SpoolDiskFull"
    assert len(spool) == 1
    spool.append(ITEM)
    spool.close()
    again = Spool(tmp_path)
    assert (len(again), again.damaged) == (2, 0)
    again.close()


def test_a_folder_that_cannot_be_used_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SpoolUnwritableError):
        Spool(tmp_path / "file" / "spool")
