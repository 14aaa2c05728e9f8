"""Reads and writes splats as binary PLY; what is written reads back as the same bytes.

Reading trusts nothing: a header that promises more or less than the file holds is an error, not a shorter
cloud.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from generation_stack.splats.cloud import ATTRIBUTES, Cloud

_END = b"end_header\n"
_LONGEST_HEADER = 16_384
_FLOATS = ("float", "float32")
#: Coefficients of higher harmonics may follow; they are read over.
_EXTRA = re.compile(r"f_rest_\d{1,3}")


class PlyError(Exception):
    """The bytes are no PLY file of splats; ``code`` is one word for it."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Header(NamedTuple):
    gaussians: int
    names: tuple[str, ...]
    length: int


def encode(cloud: Cloud, *, comment: str = "") -> bytes:
    """Return the cloud as a file."""
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {comment}"] if comment else []
    lines += [f"element vertex {len(cloud)}", *(f"property float {name}" for name in ATTRIBUTES)]
    head = ("\n".join(lines) + "\n").encode("ascii") + _END
    return head + np.ascontiguousarray(cloud.rows, dtype="<f4").tobytes()


def decode(data: bytes, *, most: int) -> Cloud:
    """Return the cloud in ``data``; raises PlyError, also when there are more than ``most`` Gaussians."""
    header = _header(data)
    if header.gaussians > most:
        raise PlyError("too_many", f"{header.gaussians} Gaussians are announced; at most {most} are allowed")
    width = len(header.names)
    held, wanted = len(data) - header.length, header.gaussians * width * 4
    if held != wanted:
        code = "truncated" if held < wanted else "wrong_count"
        text = f"{header.gaussians} Gaussians are announced, which is {wanted} bytes; the file holds {held}"
        raise PlyError(code, text)
    table = np.frombuffer(data, dtype="<f4", offset=header.length).reshape(header.gaussians, width)
    columns = [header.names.index(name) for name in ATTRIBUTES]
    return Cloud(np.ascontiguousarray(table[:, columns], dtype=np.float32))


def _header(data: bytes) -> _Header:
    end = data.find(_END, 0, _LONGEST_HEADER)
    if not data.startswith(b"ply\n") or end < 0:
        raise PlyError("not_a_ply", "the file does not begin with a PLY header")
    try:
        lines = data[:end].decode("ascii").splitlines()[1:]
    except UnicodeDecodeError as error:
        raise PlyError("not_a_ply", "the PLY header is not ASCII") from error
    words = [line.split() for line in lines if line.split()[:1] not in ([], ["comment"], ["obj_info"])]
    if words[:1] != [["format", "binary_little_endian", "1.0"]]:
        raise PlyError("not_a_ply", "only the format binary_little_endian 1.0 is read")
    return _Header(_count(words[1:2]), _names(words[2:]), end + len(_END))


def _count(words: list[list[str]]) -> int:
    match words:
        case [["element", "vertex", count]] if re.fullmatch(r"\d{1,9}", count):
            return int(count)
    raise PlyError("not_splats", "the first element must be 'vertex' with its count")


def _names(words: list[list[str]]) -> tuple[str, ...]:
    names = []
    for word in words:
        if len(word) != 3 or word[0] != "property" or word[1] not in _FLOATS:
            raise PlyError("not_splats", f"'{' '.join(word)[:80]}' is not a float property of a vertex")
        names.append(word[2])
    missing = [name for name in ATTRIBUTES if name not in names]
    odd = [name for name in names if name not in ATTRIBUTES and not _EXTRA.fullmatch(name)]
    if missing or odd or len(set(names)) != len(names):
        raise PlyError("not_splats", f"missing: {missing or 'none'}; unknown: {odd or 'none'}; each once")
    return tuple(names)
