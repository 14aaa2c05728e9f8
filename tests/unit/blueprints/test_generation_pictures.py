"""PNG of the generation blueprint, beside Pillow; and splats that are made from pictures."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from generation_stack.splats import ply, png, procedural, render
from generation_stack.splats.judge import judge
from generation_stack.splats.png import PngError

Image = pytest.importorskip("PIL.Image")

MOST = 100_000


def drawn(width: int = 37, height: int = 23) -> np.ndarray:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([x * 5 % 256, y * 9 % 256, (x + y) * 3 % 256, 255 - x], axis=-1)
    return np.clip(smooth + rng.integers(-9, 9, smooth.shape), 0, 255).astype(np.uint8)


def as_png(mode: str, **options: object) -> tuple[bytes, np.ndarray]:
    image = Image.fromarray(drawn(), "RGBA").convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue(), np.array(image.convert("RGBA"))


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "L", "LA", "P", "1"])
@pytest.mark.parametrize("level", [0, 9])
def test_all_kinds_are_read_as_pillow_reads_them(mode: str, level: int) -> None:
    data, wanted = as_png(mode, compress_level=level)
    assert (png.decode(data, most_pixels=MOST) == wanted).all()


@pytest.mark.parametrize("kind", range(5))
def test_every_row_filter_is_undone(kind: int) -> None:
    image = drawn()
    height, width, step = image.shape
    done = np.zeros((height + 1, (width + 1) * step), dtype=np.int64)
    done[1:, step:] = image.reshape(height, -1)
    rows = []
    for y in range(1, height + 1):
        left, up, corner = done[y, :-step], done[y - 1, step:], done[y - 1, :-step]
        distances = np.stack([abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)])
        paeth = np.choose(distances.argmin(axis=0), [left, up, corner])
        guess = [0 * left, left, up, (left + up) // 2, paeth][kind]
        rows.append(bytes([kind]) + ((done[y, step:] - guess) % 256).astype(np.uint8).tobytes())
    assert (png.decode(packed(width, height, b"".join(rows)), most_pixels=MOST) == image).all()


def packed(width: int, height: int, rows: bytes, *, kind: int = 6, interlace: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, interlace)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return png.SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


def test_sixteen_bits_keep_their_upper_eight() -> None:
    values = (np.arange(64, dtype=np.uint16) * 1_000).reshape(8, 8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    read = png.decode(file.getvalue(), most_pixels=MOST)
    assert (read[..., 0] == values >> 8).all()


def test_what_was_written_is_read_by_both() -> None:
    data = png.encode(drawn())
    assert (png.decode(data, most_pixels=MOST) == drawn()).all()
    assert (np.array(Image.open(io.BytesIO(data))) == drawn()).all()


def broken() -> dict[str, tuple[bytes, str]]:
    data = png.encode(drawn())
    flipped = bytearray(data)
    flipped[60] ^= 0xFF
    rows = b"".join(bytes(1 + 4 * 4) for _ in range(4))
    return {
        "a jpeg": (b"\xff\xd8\xff\xe0" + bytes(100), "does not begin"),
        "cut off": (data[:100], "cut off"),
        "a bit flipped": (bytes(flipped), "checksum"),
        "no header": (png.SIGNATURE + packed(4, 4, rows)[33:], "no header"),
        "interlaced": (packed(4, 4, rows, interlace=1), "interlaced"),
        "unknown kind": (packed(4, 4, rows, kind=5), "not PNG"),
        "too large": (packed(4_000, 4_000, b""), "at most"),
        "no pixels": (packed(0, 4, b""), "at most"),
        "less data than announced": (packed(4, 5, rows), "less than it announces"),
        "more data than announced": (packed(4, 3, rows), "more than it announces"),
        "a bomb": (packed(4, 4, bytes(4_000_000)), "more than it announces"),
        "unknown filter": (packed(4, 4, b"\x07" + rows[1:]), "filter 7"),
        "no palette": (packed(16, 4, rows, kind=3), "palette"),
    }


@pytest.mark.parametrize("name", broken().keys())
def test_what_cannot_be_read_is_said(name: str) -> None:
    data, words = broken()[name]
    with pytest.raises(PngError, match=words):
        png.decode(data, most_pixels=MOST)


def test_a_picture_becomes_a_body_that_looks_like_it() -> None:
    source = procedural.from_prompt("a green snowman", seed=2, count=20_000, progress=lambda _: None)
    picture = render.picture_of(source, size=128, turn=0.0, tilt=0.0)
    cloud = procedural.from_picture(picture, seed=1, count=12_000, progress=lambda _: None)
    assert (judge(ply.encode(cloud)).reasons, len(cloud)) == ([], 12_000)
    # It has a front, a back, and is flatter than wide.
    edges = np.ptp(cloud.positions, axis=0)
    assert 0.02 < edges[2] < 0.5 * edges[1]
    front = render.picture_of(cloud, size=64, turn=0.0, tilt=0.0).astype(int)
    shown, meant = front[..., :3].min(axis=-1) < 200, picture[::2, ::2, :3].min(axis=-1) < 200
    # Both fill the same share of their frame, each being scaled to it.
    assert (shown & meant).sum() > 0.6 * meant.sum()


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_a_picture_without_anything_is_a_plate(colour: int) -> None:
    plain = np.full((16, 16, 4), 255, dtype=np.uint8)
    plain[..., :3] = colour
    cloud = procedural.from_picture(plain, seed=1, count=2_000, progress=lambda _: None)
    assert judge(ply.encode(cloud)).reasons == []


def test_transparency_is_the_background() -> None:
    picture = np.full((32, 32, 4), 200, dtype=np.uint8)
    picture[..., 3] = 0
    picture[8:24, 12:20, 3] = 255
    cloud = procedural.from_picture(picture, seed=1, count=2_000, progress=lambda _: None)
    edges = np.ptp(cloud.positions, axis=0)
    assert edges[0] == pytest.approx(8 / 32, abs=0.01)
    assert edges[1] == pytest.approx(16 / 32, abs=0.01)
