"""Splats of the generation blueprint: what is made, how it is stored, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from generation_stack.splats import ply, procedural, prompts, render
from generation_stack.splats.assemblies import ASSEMBLIES, parts_of
from generation_stack.splats.cloud import ATTRIBUTES, Cloud
from generation_stack.splats.judge import Bounds, judge
from generation_stack.splats.ply import PlyError
from generation_stack.splats.solids import box_of
from hypothesis import given, settings
from hypothesis import strategies as st

COUNT = 3_000


def silent(made: int) -> None:
    return None


def make(prompt: str, *, seed: int = 1, count: int = COUNT) -> Cloud:
    return procedural.from_prompt(prompt, seed=seed, count=count, progress=silent)


@pytest.fixture(scope="module")
def good() -> Cloud:
    return make("a red car")


def changed(cloud: Cloud, column: str, value: float, rows: slice = slice(None)) -> bytes:
    copy = cloud.rows.copy()
    copy[rows, ATTRIBUTES.index(column)] = value
    return ply.encode(Cloud(copy))


def spoilt(cloud: Cloud) -> dict[str, tuple[bytes, str]]:
    data = ply.encode(cloud)
    flat = cloud.rows.copy()
    flat[:, :3] = 0.25
    line = cloud.rows.copy()
    line[:, 1:3] = 0.0
    still = cloud.rows.copy()
    still[:, 13:17] = 0.0
    repeated = np.repeat(cloud.rows[:100], COUNT // 100, axis=0)
    return {
        "empty": (b"", "not_a_ply"),
        "html": (b"<html>502 Bad Gateway</html>", "not_a_ply"),
        "the seed's 118 bytes": (
            b'{"detail":[{"loc":["body"],"msg":"field required"}]}'.ljust(118),
            "not_a_ply",
        ),
        "ascii": (data.replace(b"binary_little_endian", b"ascii"), "not_a_ply"),
        "no end of header": (data[:200], "not_a_ply"),
        "cut off": (data[: len(data) // 2], "truncated"),
        "one byte short": (data[:-1], "truncated"),
        "one byte more": (data + b"\0", "wrong_count"),
        "announces more": (data.replace(b"vertex 3000", b"vertex 3001"), "truncated"),
        "announces fewer": (data.replace(b"vertex 3000", b"vertex 2999"), "wrong_count"),
        "a property renamed": (data.replace(b"float opacity", b"float transp0"), "not_splats"),
        "a property twice": (data.replace(b"float nx", b"float ny"), "not_splats"),
        "doubles": (data.replace(b"property float x", b"property double x"), "not_splats"),
        "too few": (ply.encode(Cloud(cloud.rows[:999])), "too_few"),
        "nan": (changed(cloud, "y", float("nan"), slice(7, 8)), "not_finite"),
        "infinite scale": (changed(cloud, "scale_1", float("inf"), slice(0, 3)), "not_finite"),
        "all in one place": (ply.encode(Cloud(flat)), "constant"),
        "all on a line": (ply.encode(Cloud(line)), "constant"),
        "a few points again and again": (ply.encode(Cloud(repeated)), "constant"),
        "no rotation": (ply.encode(Cloud(still)), "rotation"),
        "impossible opacity": (changed(cloud, "opacity", 1e6, slice(0, 1)), "opacity"),
        "nothing to be seen": (changed(cloud, "opacity", -12.0), "invisible"),
        "fog": (changed(cloud, "scale_0", 3.0), "scale"),
        "far apart": (changed(cloud, "x", 5e4, slice(0, 1)), "too_large"),
    }


@pytest.mark.parametrize("name", spoilt(make("a red car")).keys())
def test_a000_11_a_result_that_cannot_be_used_is_named_and_refused(good: Cloud, name: str) -> None:
    data, code = spoilt(good)[name]
    judgement = judge(data)
    assert code in {objection.code for objection in judgement.objections}
    assert not judgement.is_usable
    assert judgement.filled == 0.0


def test_too_many_are_refused_before_anything_is_read(good: Cloud) -> None:
    judgement = judge(ply.encode(good), Bounds(most=2_000))
    assert [objection.code for objection in judgement.objections] == ["too_many"]


def test_a_good_result_is_usable(good: Cloud) -> None:
    judgement = judge(ply.encode(good))
    assert judgement.reasons == []
    assert judgement.count == COUNT
    assert judgement.filled > 0.1


def test_a_file_reads_back_as_the_same_bytes(good: Cloud) -> None:
    data = ply.encode(good, comment="made for a test")
    again = ply.decode(data, most=COUNT)
    assert (again.rows == good.rows).all()
    assert ply.encode(again, comment="made for a test") == data


def test_other_orders_and_higher_harmonics_are_read(good: Cloud) -> None:
    names = [*reversed(ATTRIBUTES), "f_rest_0", "f_rest_1"]
    table = np.zeros((COUNT, len(names)), dtype="<f4")
    table[:, : len(ATTRIBUTES)] = good.rows[:, ::-1]
    head = ["ply", "format binary_little_endian 1.0", "comment other", f"element vertex {COUNT}"]
    head += [f"property float32 {name}" for name in names] + ["end_header\n"]
    read = ply.decode("\n".join(head).encode() + table.tobytes(), most=COUNT)
    assert (read.rows == good.rows).all()


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300),
    st.integers(0, 400),
    st.integers(0, 400),
    st.sampled_from([b"", ply.encode(make("a ball"))]),
)
def test_whatever_is_read_is_a_cloud_or_a_ply_error(
    noise: bytes, start: int, length: int, data: bytes
) -> None:
    spoiled = data[:start] + noise + data[start + length :]
    try:
        cloud = ply.decode(spoiled, most=10_000)
    except PlyError:
        return
    assert cloud.rows.shape[1] == len(ATTRIBUTES)


@pytest.mark.parametrize("noun", sorted({*prompts.NOUNS.values()}))
def test_every_noun_is_made_exactly_and_can_be_used(noun: str) -> None:
    assert noun in ASSEMBLIES
    word = next(word for word, name in prompts.NOUNS.items() if name == noun)
    cloud = make(f"a small green wooden {word}", count=2_345)
    judgement = judge(ply.encode(cloud))
    assert (judgement.reasons, judgement.count) == ([], 2_345)
    # Models of the field make objects in a cube of edge 1.
    assert 0.8 < np.ptp(cloud.positions, axis=0).max() < 1.1


@pytest.mark.parametrize(
    "prompt", ["a zorbly quux", "Бочка", "🚀", "on", "and and and", "x" * 1_000, "a the of"]
)
def test_every_prompt_means_something(prompt: str) -> None:
    assert judge(ply.encode(make(prompt))).reasons == []


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_object() -> None:
    first, again, other = (ply.encode(make("an oak tree", seed=seed)) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert parts_of(prompts.read("an oak tree"), 7) != parts_of(prompts.read("an oak tree"), 8)


def test_gaussians_lie_flat_in_their_surface(good: Cloud) -> None:
    w, x, y, z = good.quaternions.T
    # The third column of the rotation matrix is where the thin axis points.
    axis = np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], axis=1)
    assert np.allclose(axis, good.normals, atol=1e-4)
    assert np.allclose(np.linalg.norm(good.quaternions, axis=1), 1.0, atol=1e-5)
    assert (good.log_scales.argmin(axis=1) == 2).all()


def test_words_have_their_effect() -> None:
    def height(prompt: str) -> float:
        low, high = box_of(parts_of(prompts.read(prompt), 3))
        return (high[2] - low[2]) / max(high[0] - low[0], high[1] - low[1])

    assert height("a tall table") > 1.3 * height("a table")
    assert height("a flat table") < 0.8 * height("a table")
    scene = prompts.read("two red balls on a wooden table beside a lamp")
    assert [thing.noun for thing in scene.things] == ["sphere", "table", "lamp"]
    assert scene.relations == ("on", "beside")
    # What is "orange" says how a car looks, and alone it is what is made.
    assert [t.noun for t in prompts.read("an orange car").things] == ["car"]
    assert [t.noun for t in prompts.read("an orange").things] == ["sphere"]


def test_a_picture_of_a_red_ball_is_a_red_disc() -> None:
    picture = render.picture_of(make("a red ball", count=20_000), size=96).astype(float)
    red = (picture[..., 0] > 1.8 * picture[..., 1]) & (picture[..., 0] > 60)
    rows, columns = np.nonzero(red)
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert abs(width - height) <= 3
    # A disc fills pi / 4 of its square.
    assert red.sum() / (width * height) == pytest.approx(np.pi / 4, abs=0.06)


def test_work_stops_where_progress_says_so() -> None:
    made = []

    def progress(count: int) -> None:
        made.append(count)
        if sum(made) > 10_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        procedural.from_prompt("a house", seed=1, count=200_000, progress=progress)
    assert sum(made) < 20_000
