"""Reads what a request asks for; everything that is wrong with it is said at once, field by field."""

from __future__ import annotations

import base64
import binascii
from typing import Any, NamedTuple

from generation_stack.model.port import Backend, Wish
from generation_stack.program.fields import Fields
from generation_stack.splats import png

KNOWN = ("prompt", "image", "seed", "num_gaussians", "deadline_s")
LONGEST_PROMPT = 1_000
#: A picture of 1024 x 1024 is what models of the field are given at most.
MOST_PIXELS = 1_100_000
#: Such a picture without any compression, as base64, and the rest of the request.
MOST_BODY_BYTES = 8_000_000
COUNTS = (1_000, 500_000)
SEEDS = (0, 2**32 - 1)


class Request(NamedTuple):
    """A request that can be worked on."""

    wish: Wish
    timeout_s: float


def read(body: Any, backend: Backend, *, timeout_s: float) -> Request:
    """Return the request in ``body``; raises BadFieldsError. ``timeout_s`` is the most that it may have."""
    fields = Fields(body, KNOWN)
    seed = fields.whole("seed", *SEEDS, default=0)
    wanted_s = fields.seconds("deadline_s", 0.05, 3_600.0, default=timeout_s)
    count = fields.whole("num_gaussians", *COUNTS) if fields.has("num_gaussians") else None
    if count is not None and not backend.takes_count:
        fields.wrong("num_gaussians", f"cannot be chosen: the {backend.name} model decides it")
    picture, prompt = None, ""
    if fields.has("image") == fields.has("prompt"):
        fields.wrong("prompt", "or image must be there, and not both")
    elif fields.has("image"):
        picture = _picture(fields, body["image"], backend)
    else:
        prompt = fields.text("prompt", longest=LONGEST_PROMPT)
        if "prompt" not in backend.takes:
            fields.wrong("prompt", f"is not what the {backend.name} model takes; it takes an image")
    fields.finish()
    return Request(Wish(seed, prompt, picture, count), min(wanted_s, timeout_s))


def _picture(fields: Fields, value: Any, backend: Backend) -> png.Bytes | None:
    if "image" not in backend.takes:
        fields.wrong("image", f"is not what the {backend.name} model takes; it takes a prompt")
        return None
    if not isinstance(value, str):
        fields.wrong("image", "must be a PNG file as base64 text")
        return None
    try:
        return png.decode(base64.b64decode(value, validate=True), most_pixels=MOST_PIXELS)
    except binascii.Error as error:
        fields.wrong("image", f"is not base64: {error}")
    except png.PngError as error:
        fields.wrong("image", f"cannot be read as PNG: {error}")
    return None
