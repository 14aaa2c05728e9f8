"""What the validator asks for: mostly prompts, now and then a picture."""

from __future__ import annotations

import base64
import random
from typing import Any

from generation_stack.splats import png, procedural
from generation_stack.splats.render import picture_of

_COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "white", "black", "teal", "pink", "silver")
_MATERIALS = ("", "", "wooden", "metal", "stone", "glass", "marble", "plastic")
_NOUNS = (
    "sports car", "oak tree", "pine tree", "armchair", "table", "house", "snowman", "mushroom", "coffee mug",
    "desk lamp", "rocket", "castle tower", "robot", "flower", "donut", "crate", "ball", "lighthouse",
)  # fmt: skip
_RELATIONS = ("on", "beside", "and")
#: One request in so many is a picture.
_PICTURE_EVERY = 6
_PICTURE_SIZE = 128


def request(chance: random.Random) -> dict[str, Any]:
    """Return a request for the model; its seed makes every task's result another."""
    asked: dict[str, Any] = {"seed": chance.randrange(2**32)}
    if chance.randrange(_PICTURE_EVERY) == 0:
        asked["image"] = _picture(_thing(chance), chance)
    elif chance.random() < 0.25:
        asked["prompt"] = f"{_thing(chance)} {chance.choice(_RELATIONS)} {_thing(chance)}"
    else:
        asked["prompt"] = _thing(chance)
    return asked


def _thing(chance: random.Random) -> str:
    words = (chance.choice(_COLOURS), chance.choice(_MATERIALS), chance.choice(_NOUNS))
    return "a " + " ".join(word for word in words if word)


def _picture(prompt: str, chance: random.Random) -> str:
    cloud = procedural.from_prompt(prompt, seed=chance.randrange(2**32), count=6_000, progress=lambda _: None)
    picture = picture_of(cloud, size=_PICTURE_SIZE, turn=chance.uniform(-40, 40), tilt=15.0)
    return base64.b64encode(png.encode(picture)).decode("ascii")
