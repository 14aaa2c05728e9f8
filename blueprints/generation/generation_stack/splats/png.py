"""Reads and writes PNG with zlib and numpy alone, so that a small install can take images.

Read are all colour types and depths without interlacing; checksums are checked, and nothing larger than
asked for is ever unpacked.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_DEPTHS = {_GREY: (1, 2, 4, 8, 16), _PALETTE: (1, 2, 4, 8)}
_MOST_FILTER = 4


class PngError(Exception):
    """The bytes are no PNG image that can be read here; the text says why."""


class _Image(NamedTuple):
    width: int
    height: int
    depth: int
    kind: int

    @property
    def step(self) -> int:
        """Bytes from a byte to its left neighbour."""
        return max(1, _CHANNELS[self.kind] * self.depth // 8)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row without its filter byte."""
        return (self.width * _CHANNELS[self.kind] * self.depth + 7) // 8


def encode(rgba: Bytes) -> bytes:
    """Return an image of shape (height, width, 4) as a PNG file."""
    height, width, _ = rgba.shape
    rows = np.zeros((height, width * 4 + 1), dtype=np.uint8)
    rows[:, 1:] = rgba.reshape(height, width * 4)
    head = struct.pack(">IIBBBBB", width, height, 8, _RGBA, 0, 0, 0)
    data = zlib.compress(rows.tobytes(), 6)
    return SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def decode(data: bytes, *, most_pixels: int) -> Bytes:
    """Return the image as (height, width, 4) bytes of red, green, blue and alpha; raises PngError."""
    chunks: dict[bytes, bytes] = {}
    for name, body in _chunks(data):
        chunks[name] = chunks.get(name, b"") + body
    image = _image(chunks.get(b"IHDR", b""), most_pixels)
    samples = _samples(image, _rows(image, chunks.get(b"IDAT", b"")))
    return _rgba(image, samples, chunks.get(b"PLTE", b""), chunks.get(b"tRNS", b""))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not data.startswith(SIGNATURE):
        raise PngError("it does not begin as a PNG file does")
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        end = at + 12 + length
        if end > len(data):
            raise PngError("it is cut off")
        if zlib.crc32(name + body) != struct.unpack_from(">I", data, end - 4)[0]:
            raise PngError(f"the checksum of its {name!r} chunk is wrong")
        if name == b"IEND":
            return
        yield name, body
        at = end
    raise PngError("it is cut off")


def _image(head: bytes, most_pixels: int) -> _Image:
    if len(head) != 13:
        raise PngError("it has no header")
    width, height, depth, kind, compression, filtering, interlace = struct.unpack(">IIBBBBB", head)
    if kind not in _CHANNELS or depth not in _DEPTHS.get(kind, (8, 16)) or compression or filtering:
        raise PngError(f"colour type {kind} with depth {depth} is not PNG")
    if interlace:
        raise PngError("it is interlaced: write it without")
    if not 0 < width * height <= most_pixels:
        raise PngError(f"it has {width} x {height} pixels; at most {most_pixels} are read")
    return _Image(width, height, depth, kind)


def _rows(image: _Image, packed: bytes) -> Bytes:
    """Unpack the rows and undo their filters; return (height, row_bytes)."""
    wanted = image.height * (image.row_bytes + 1)
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(packed, wanted + 1)
    except zlib.error as error:
        raise PngError(f"its data does not unpack: {error}") from error
    if len(plain) != wanted:
        raise PngError(f"its data unpacks to {'more' if len(plain) > wanted else 'less'} than it announces")
    table = np.frombuffer(plain, dtype=np.uint8).reshape(image.height, image.row_bytes + 1)
    filters, rows = table[:, 0], table[:, 1:]
    if int(filters.max()) > _MOST_FILTER:
        raise PngError(f"row filter {int(filters.max())} is not PNG")
    if not filters.any():
        return rows
    return _unfiltered(filters, rows.reshape(image.height, -1, image.step)).reshape(rows.shape)


def _unfiltered(filters: Bytes, rows: Bytes) -> Bytes:
    """Undo the filters of (height, columns, step).

    A value needs its left, upper and upper left neighbours, so all values of one antidiagonal can be had at
    once; that is what makes it quick without a loop over pixels.
    """
    height, columns, _ = rows.shape
    # One row above and one column left of the image, both zero, as the format wants it.
    done = np.zeros((height + 1, columns + 1, rows.shape[2]), dtype=np.int16)
    for diagonal in range(height + columns - 1):
        y = np.arange(max(0, diagonal - columns + 1), min(height, diagonal + 1))
        x = diagonal - y
        left, up, corner = done[y + 1, x], done[y, x + 1], done[y, x]
        kind = filters[y][:, None]
        guess = np.where(kind == 1, left, 0)
        guess = np.where(kind == 2, up, guess)
        guess = np.where(kind == 3, (left + up) >> 1, guess)
        guess = np.where(kind == 4, _paeth(left, up, corner), guess)
        done[y + 1, x + 1] = (rows[y, x] + guess) & 0xFF
    return done[1:, 1:].astype(np.uint8)


def _paeth(left: NDArray[np.int16], up: NDArray[np.int16], corner: NDArray[np.int16]) -> NDArray[np.int16]:
    sum_ = left + up - corner
    to_left, to_up, to_corner = abs(sum_ - left), abs(sum_ - up), abs(sum_ - corner)
    nearer = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, nearer)


def _samples(image: _Image, rows: Bytes) -> Bytes:
    """Return (height, width, channels); 16 bits are cut to the upper 8, palette entries stay indices."""
    channels = _CHANNELS[image.kind]
    if image.depth == 16:
        return rows.reshape(image.height, image.width, channels, 2)[..., 0]
    if image.depth == 8:
        return rows.reshape(image.height, image.width, channels)
    bits = np.unpackbits(rows, axis=1)[:, : image.width * image.depth]
    places = (1 << np.arange(image.depth)[::-1]).astype(np.uint8)
    values = bits.reshape(image.height, image.width, image.depth) @ places
    if image.kind == _GREY:
        values = values * np.uint8(255 // (2**image.depth - 1))
    return np.asarray(values, dtype=np.uint8)[..., None]


def _rgba(image: _Image, samples: Bytes, palette: bytes, transparency: bytes) -> Bytes:
    out = np.full((image.height, image.width, 4), 255, dtype=np.uint8)
    if image.kind == _PALETTE:
        colours = np.frombuffer(palette[: len(palette) // 3 * 3], dtype=np.uint8).reshape(-1, 3)
        if not len(colours) or int(samples.max()) >= len(colours):
            raise PngError("its palette is too short")
        alphas = np.full(len(colours), 255, dtype=np.uint8)
        alphas[: len(transparency)] = np.frombuffer(transparency[: len(colours)], dtype=np.uint8)
        out[..., :3], out[..., 3] = colours[samples[..., 0]], alphas[samples[..., 0]]
        return out
    out[..., :3] = samples[..., :3] if image.kind in (_RGB, _RGBA) else samples[..., :1]
    if image.kind in (_GREY_ALPHA, _RGBA):
        out[..., 3] = samples[..., -1]
    return out
