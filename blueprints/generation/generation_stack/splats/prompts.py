"""Reads a prompt: what to make, in which colours, of what, how large, and where the things stand.

The grammar is small and total: every prompt means something, and the same words always mean the same.
``[words] [noun] [relation [words] [noun]]``; a word that is not known decides by its hash.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from generation_stack.splats.solids import Vector

COLOURS: dict[str, Vector] = {
    "red": (0.82, 0.11, 0.09), "crimson": (0.70, 0.06, 0.14), "orange": (0.95, 0.50, 0.08),
    "yellow": (0.96, 0.83, 0.14), "golden": (0.86, 0.66, 0.19), "green": (0.15, 0.60, 0.20),
    "olive": (0.45, 0.47, 0.13), "teal": (0.08, 0.52, 0.52), "turquoise": (0.20, 0.76, 0.74),
    "blue": (0.11, 0.30, 0.83), "navy": (0.07, 0.12, 0.40), "purple": (0.49, 0.15, 0.66),
    "violet": (0.56, 0.27, 0.83), "pink": (0.95, 0.51, 0.69), "magenta": (0.82, 0.10, 0.62),
    "brown": (0.43, 0.27, 0.14), "beige": (0.86, 0.78, 0.62), "black": (0.07, 0.07, 0.08),
    "white": (0.95, 0.95, 0.94), "grey": (0.50, 0.50, 0.51), "gray": (0.50, 0.50, 0.51),
    "silver": (0.75, 0.76, 0.79),
}  # fmt: skip


class Material(NamedTuple):
    """How a material looks; without a colour of its own it takes any."""

    colour: Vector | None
    grain: float
    shine: float
    opacity: float = 0.97


MATERIALS = {
    "wooden": Material((0.55, 0.35, 0.17), 0.14, 0.0),
    "wood": Material((0.55, 0.35, 0.17), 0.14, 0.0),
    "metal": Material((0.62, 0.64, 0.67), 0.02, 0.6),
    "steel": Material((0.62, 0.64, 0.67), 0.02, 0.6),
    "gold": Material((0.86, 0.66, 0.19), 0.02, 0.6),
    "stone": Material((0.52, 0.50, 0.47), 0.16, 0.0),
    "marble": Material((0.88, 0.87, 0.84), 0.06, 0.3),
    "glass": Material((0.70, 0.85, 0.90), 0.01, 0.6, 0.35),
    "plastic": Material(None, 0.01, 0.35),
    "velvet": Material(None, 0.10, 0.0),
}

#: Factors along x, y and z.
SIZES: dict[str, Vector] = {
    "tall": (1.0, 1.0, 1.5), "short": (1.0, 1.0, 0.65), "wide": (1.45, 1.0, 1.0), "long": (1.6, 1.0, 1.0),
    "thin": (0.65, 0.65, 1.0), "flat": (1.0, 1.0, 0.5), "thick": (1.3, 1.3, 1.0),
    "big": (1.5, 1.5, 1.5), "large": (1.5, 1.5, 1.5), "huge": (2.2, 2.2, 2.2),
    "small": (0.6, 0.6, 0.6), "little": (0.6, 0.6, 0.6), "tiny": (0.4, 0.4, 0.4),
}  # fmt: skip

NOUNS = {
    "sphere": "sphere", "ball": "sphere", "marble": "sphere", "planet": "sphere", "orange": "sphere",
    "box": "box", "cube": "box", "crate": "box", "brick": "box", "block": "box",
    "torus": "torus", "ring": "torus", "donut": "torus", "doughnut": "torus", "tyre": "torus",
    "cylinder": "cylinder", "pillar": "cylinder", "column": "cylinder", "can": "cylinder",
    "cone": "cone", "pyramid": "cone",
    "tree": "tree", "pine": "tree", "oak": "tree",
    "chair": "chair", "stool": "chair", "armchair": "chair", "throne": "chair",
    "table": "table", "desk": "table", "bench": "table",
    "house": "house", "cottage": "house", "hut": "house", "barn": "house",
    "car": "car", "taxi": "car", "truck": "car",
    "snowman": "snowman", "mushroom": "mushroom", "toadstool": "mushroom",
    "mug": "mug", "cup": "mug", "lamp": "lamp", "lantern": "lamp",
    "rocket": "rocket", "spaceship": "rocket", "tower": "tower", "castle": "tower", "lighthouse": "tower",
    "robot": "robot", "flower": "flower", "tulip": "flower",
}  # fmt: skip

RELATIONS = {
    "on": "on", "upon": "on", "above": "on", "under": "under", "below": "under", "beneath": "under",
    "beside": "beside", "near": "beside", "by": "beside", "and": "beside", "with": "beside",
}  # fmt: skip
_FILLERS = {"a", "an", "the", "of", "in", "some", "its", "very", "made", "from", "top", "to", "next"}
#: More things than this in one prompt would each be too small to be recognised.
_MOST_THINGS = 4


class Thing(NamedTuple):
    """One object of a prompt. ``noun`` names an assembly, or is empty for words that nobody knows."""

    noun: str
    words: tuple[str, ...]
    colours: tuple[Vector, ...] = ()
    material: Material | None = None
    size: Vector = (1.0, 1.0, 1.0)


class Scene(NamedTuple):
    """All things of a prompt; ``relations[k]`` says where thing k stands to thing k + 1."""

    things: tuple[Thing, ...]
    relations: tuple[str, ...] = ()


def read(prompt: str) -> Scene:
    """Return what a prompt means; never empty."""
    groups: list[list[str]] = [[]]
    relations: list[str] = []
    for word in re.findall(r"[a-z]+", prompt.lower()):
        if word in RELATIONS and groups[-1] and len(groups) < _MOST_THINGS:
            relations.append(RELATIONS[word])
            groups.append([])
        elif word not in _FILLERS and word not in RELATIONS:
            groups[-1].append(word)
    if len(groups) > 1 and not groups[-1]:
        groups.pop()
        relations.pop()
    # A prompt without a single Latin letter still has a hash.
    return Scene(tuple(_thing(words or [prompt]) for words in groups), tuple(relations))


def _thing(words: list[str]) -> Thing:
    # The last noun is what it is ("orange car"); the words before it say how it looks.
    at = max((index for index, word in enumerate(words) if _singular(word) in NOUNS), default=-1)
    noun = NOUNS[_singular(words[at])] if at >= 0 else ""
    others = [word for index, word in enumerate(words) if index != at]
    size = (1.0, 1.0, 1.0)
    for factors in (SIZES[word] for word in others if word in SIZES):
        size = (size[0] * factors[0], size[1] * factors[1], size[2] * factors[2])
    return Thing(
        noun,
        tuple(words),
        tuple(COLOURS[word] for word in others if word in COLOURS),
        next((MATERIALS[word] for word in others if word in MATERIALS), None),
        size,
    )


def _singular(word: str) -> str:
    return word[:-1] if word.endswith("s") and word[:-1] in NOUNS else word


def number_of(*words: str | int) -> int:
    """Return a number of 64 bits that depends on the words only, and on all of them."""
    text = "\x1f".join(str(word) for word in words)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
