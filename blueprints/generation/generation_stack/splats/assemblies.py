"""The objects that can be made: each a few parts, standing on z = 0, about one unit high.

An assembly takes what the prompt says about it and a source of chance, so that two seeds give two chairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from generation_stack.splats.prompts import COLOURS, Scene, Thing, number_of
from generation_stack.splats.solids import Part, Vector, box_of, fitted, moved

Chance: TypeAlias = np.random.Generator
Assembly: TypeAlias = Callable[[Thing, Chance], list[Part]]

_BARK, _LEAF, _GLASS = (0.40, 0.26, 0.13), (0.16, 0.48, 0.16), (0.30, 0.42, 0.52)


def parts_of(scene: Scene, seed: int) -> list[Part]:
    """Return the whole scene in a cube of edge 1; the same scene and seed give the same parts."""
    placed = _build(scene.things[-1], seed)
    # From the last thing to the first: "a mug on a table" needs the table before the mug.
    for thing, relation in zip(reversed(scene.things[:-1]), reversed(scene.relations), strict=True):
        placed += _beside(_build(thing, seed), placed, relation)
    return fitted(placed)


def _build(thing: Thing, seed: int) -> list[Part]:
    chance = np.random.default_rng([seed, number_of(*thing.words)])
    parts = ASSEMBLIES.get(thing.noun, _unknown)(thing, chance)
    x, y, z = thing.size
    stretched = [
        replace(part, stretch=thing.size, at=(part.at[0] * x, part.at[1] * y, part.at[2] * z))
        for part in parts
    ]
    return _standing(stretched)


def _standing(parts: list[Part]) -> list[Part]:
    low, high = box_of(parts)
    return moved(parts, by=(-(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2, -low[2]))


def _beside(parts: list[Part], others: list[Part], relation: str) -> list[Part]:
    low, high = box_of(others)
    own_low, own_high = box_of(parts)
    if relation == "on":
        return moved(parts, by=(0.0, 0.0, high[2]))
    if relation == "under":
        return moved(parts, by=(0.0, 0.0, low[2] - own_high[2]))
    return moved(parts, by=(high[0] - own_low[0] + 0.15, 0.0, 0.0))


def _about(chance: Chance, value: float, share: float = 0.12) -> float:
    """Return ``value``, a little smaller or larger."""
    return float(value * (1.0 + share * (2.0 * chance.random() - 1.0)))


def _colour(thing: Thing, default: Vector, *, nth: int = 0) -> Vector:
    """Return the colour that the prompt gives its ``nth`` place, else the material's, else the usual one."""
    if len(thing.colours) > nth:
        return thing.colours[nth]
    if nth == 0 and thing.material is not None and thing.material.colour is not None:
        return thing.material.colour
    return default


def _part(thing: Thing, body: str, size: Vector, at: Vector, colour: Vector) -> Part:
    part = Part(body, size, at, colour=colour)
    if thing.material is None:
        return part
    material = thing.material
    return replace(part, grain=material.grain, shine=material.shine, opacity=material.opacity)


def _sphere(thing: Thing, chance: Chance) -> list[Part]:
    return [_part(thing, "sphere", (1.0, 1.0, 1.0), (0, 0, 0.5), _colour(thing, (0.7, 0.7, 0.7)))]


def _box(thing: Thing, chance: Chance) -> list[Part]:
    part = _part(thing, "box", (1.0, 1.0, 1.0), (0, 0, 0.5), _colour(thing, COLOURS["beige"]))
    return [replace(part, turn=(0.0, 0.0, 40.0 * float(chance.random())))]


def _torus(thing: Thing, chance: Chance) -> list[Part]:
    part = _part(thing, "torus", (1.0, 1.0, 1.0), (0, 0, 0.0), _colour(thing, (0.75, 0.5, 0.3)))
    return [replace(part, shape=_about(chance, 0.32), turn=(_about(chance, 60.0), 0.0, 0.0))]


def _cylinder(thing: Thing, chance: Chance) -> list[Part]:
    wide = _about(chance, 0.5)
    return [_part(thing, "cylinder", (wide, wide, 1.0), (0, 0, 0.5), _colour(thing, (0.7, 0.7, 0.72)))]


def _cone(thing: Thing, chance: Chance) -> list[Part]:
    wide = _about(chance, 0.8)
    part = _part(thing, "cylinder", (wide, wide, 1.0), (0, 0, 0.5), _colour(thing, COLOURS["orange"]))
    return [replace(part, shape=0.0)]


def _tree(thing: Thing, chance: Chance) -> list[Part]:
    leaf = _colour(thing, _LEAF)
    trunk = replace(Part("cylinder", (0.14, 0.14, 0.4), (0, 0, 0.2), colour=_BARK, grain=0.2), shape=0.8)
    if "pine" in thing.words or ("oak" not in thing.words and chance.random() < 0.5):
        tiers = [(0.34, 0.62), (0.56, 0.48), (0.78, 0.32)]
        crown = [
            Part("cylinder", (_about(chance, w), _about(chance, w), 0.36), (0, 0, z), colour=leaf, shape=0.05)
            for z, w in tiers
        ]
        return [trunk, *(replace(part, grain=0.2) for part in crown)]
    crown = [Part("sphere", (0.62, 0.62, 0.55), (0, 0, 0.68), colour=leaf)]
    for number in range(6):
        angle = number * math.pi / 3 + chance.random()
        at = (0.24 * math.cos(angle), 0.24 * math.sin(angle), _about(chance, 0.62))
        wide = _about(chance, 0.34, 0.2)
        crown.append(Part("sphere", (wide, wide, wide), at, colour=leaf))
    return [trunk, *(replace(part, grain=0.22) for part in crown)]


def _legs(thing: Thing, colour: Vector, *, wide: float, deep: float, high: float) -> list[Part]:
    places = [(x * wide / 2, y * deep / 2) for x in (-1, 1) for y in (-1, 1)]
    return [_part(thing, "cylinder", (0.07, 0.07, high), (x, y, high / 2), colour) for x, y in places]


def _chair(thing: Thing, chance: Chance) -> list[Part]:
    colour = _colour(thing, COLOURS["brown"])
    seat_at, back = _about(chance, 0.45), _about(chance, 0.5)
    parts = _legs(thing, colour, wide=0.42, deep=0.42, high=seat_at)
    parts.append(_part(thing, "box", (0.52, 0.52, 0.07), (0, 0, seat_at), colour))
    if "stool" in thing.words:
        return parts
    lean = _part(thing, "box", (0.52, 0.06, back), (0, 0.24, seat_at + back / 2), colour)
    parts.append(replace(lean, turn=(-6.0, 0.0, 0.0)))
    if thing.words[-1] in ("armchair", "throne"):
        for x in (-0.24, 0.24):
            parts.append(_part(thing, "box", (0.06, 0.48, 0.05), (x, 0, seat_at + 0.22), colour))
            parts.append(_part(thing, "box", (0.06, 0.06, 0.22), (x, -0.21, seat_at + 0.11), colour))
    return parts


def _table(thing: Thing, chance: Chance) -> list[Part]:
    colour, high = _colour(thing, COLOURS["brown"]), _about(chance, 0.55)
    parts = _legs(thing, colour, wide=0.9, deep=0.5, high=high)
    return [*parts, _part(thing, "box", (1.1, 0.68, 0.07), (0, 0, high + 0.03), colour)]


def _house(thing: Thing, chance: Chance) -> list[Part]:
    wall, roof = _colour(thing, COLOURS["beige"]), _colour(thing, (0.62, 0.22, 0.15), nth=1)
    wide, high = _about(chance, 0.8), _about(chance, 0.48)
    parts = [_part(thing, "box", (wide, 0.62, high), (0, 0, high / 2), wall)]
    for side in (-1, 1):
        slope = Part("box", (wide + 0.1, 0.52, 0.05), (0, side * 0.19, high + 0.15), colour=roof, grain=0.15)
        parts.append(replace(slope, turn=(-side * 38.0, 0.0, 0.0)))
    parts.append(Part("box", (0.14, 0.03, 0.26), (0, -0.32, 0.13), colour=_BARK))
    for x in (-0.25, 0.25):
        parts.append(Part("box", (0.14, 0.03, 0.13), (x, -0.32, high * 0.62), colour=_GLASS, shine=0.5))
    parts.append(Part("box", (0.1, 0.1, 0.24), (wide * 0.28, 0.1, high + 0.3), colour=(0.5, 0.25, 0.2)))
    return parts


def _car(thing: Thing, chance: Chance) -> list[Part]:
    colour, long = _colour(thing, COLOURS["red"]), _about(chance, 1.1)
    body = replace(_part(thing, "box", (long, 0.46, 0.2), (0, 0, 0.24), colour), shine=0.4)
    cabin = Part(
        "cylinder", (long * 0.62, 0.44, 0.22), (-0.03, 0, 0.43), colour=_GLASS, shape=0.62, shine=0.4
    )
    roof = replace(_part(thing, "box", (long * 0.36, 0.3, 0.03), (-0.03, 0, 0.545), colour), shine=0.4)
    parts = [body, cabin, roof]
    for x in (-0.32 * long, 0.32 * long):
        for y in (-0.22, 0.22):
            wheel = Part("torus", (0.26, 0.26, 0.26), (x, y, 0.13), colour=(0.08, 0.08, 0.09), shape=0.4)
            hub = Part("cylinder", (0.14, 0.14, 0.06), (x, y, 0.13), colour=COLOURS["silver"], shine=0.5)
            parts += [replace(part, turn=(90.0, 0.0, 0.0)) for part in (wheel, hub)]
    lights = [(x, y, c) for x, c in ((0.5, (1.0, 0.95, 0.7)), (-0.5, (0.9, 0.1, 0.1))) for y in (-0.15, 0.15)]
    parts += [Part("sphere", (0.06, 0.09, 0.07), (long * x, y, 0.27), colour=c) for x, y, c in lights]
    return parts


def _snowman(thing: Thing, chance: Chance) -> list[Part]:
    white = _colour(thing, COLOURS["white"])
    balls, at = [], 0.0
    for wide in (_about(chance, 0.52), _about(chance, 0.38), _about(chance, 0.27)):
        balls.append(Part("sphere", (wide, wide, wide), (0, 0, at + wide * 0.45), colour=white, grain=0.03))
        at += wide * 0.82
    head, dark = balls[-1], COLOURS["black"]
    radius, z = head.size[0] / 2, head.at[2]
    nose = Part("cylinder", (0.05, 0.05, 0.2), (0, -radius - 0.07, z), colour=COLOURS["orange"], shape=0.1)
    eyes = [Part("sphere", (0.04,) * 3, (x, -radius * 0.9, z + 0.05), colour=dark) for x in (-0.06, 0.06)]
    brim = Part("cylinder", (0.34, 0.34, 0.03), (0, 0, z + radius * 0.8), colour=dark)
    hat = Part("cylinder", (0.22, 0.22, 0.2), (0, 0, z + radius * 0.8 + 0.1), colour=dark)
    return [*balls, replace(nose, turn=(90.0, 0.0, 0.0)), *eyes, brim, hat]


def _mushroom(thing: Thing, chance: Chance) -> list[Part]:
    cap_colour, wide = _colour(thing, COLOURS["red"]), _about(chance, 0.85)
    stem = Part("cylinder", (0.3, 0.3, 0.55), (0, 0, 0.27), colour=(0.93, 0.90, 0.82), shape=0.75)
    cap = _part(thing, "dome", (wide, wide, 0.42), (0, 0, 0.7), cap_colour)
    spots = []
    for number in range(9):
        angle, tilt = 2.4 * number, 0.35 + 0.8 * (number / 9)
        out, up = 0.5 * wide * math.sin(tilt), 0.42 * math.cos(tilt)
        at = (out * math.cos(angle), out * math.sin(angle), 0.49 + up)
        spots.append(Part("sphere", (0.12, 0.12, 0.06), at, colour=COLOURS["white"]))
    return [stem, cap, *spots]


def _mug(thing: Thing, chance: Chance) -> list[Part]:
    colour, wide = _colour(thing, COLOURS["blue"]), _about(chance, 0.6)
    wall = replace(_part(thing, "cylinder", (wide, wide, 0.75), (0, 0, 0.375), colour), shine=0.3)
    drink = Part("cylinder", (wide * 0.86, wide * 0.86, 0.02), (0, 0, 0.752), colour=(0.25, 0.14, 0.07))
    handle = _part(thing, "torus", (0.42, 0.5, 0.42), (wide * 0.55, 0, 0.4), colour)
    rim = _part(thing, "torus", (wide, wide, wide), (0, 0, 0.755), colour)
    return [wall, drink, replace(handle, shape=0.2, turn=(90.0, 0.0, 0.0)), replace(rim, shape=0.08)]


def _lamp(thing: Thing, chance: Chance) -> list[Part]:
    colour, metal = _colour(thing, COLOURS["yellow"]), (0.3, 0.3, 0.32)
    wide = _about(chance, 0.55)
    foot = Part("cylinder", (0.36, 0.36, 0.05), (0, 0, 0.025), colour=metal, shine=0.5)
    pole = Part("cylinder", (0.05, 0.05, 0.62), (0, 0, 0.33), colour=metal, shine=0.5)
    shade = _part(thing, "cylinder", (wide, wide, 0.34), (0, 0, 0.8), colour)
    return [foot, pole, replace(shade, shape=0.55)]


def _rocket(thing: Thing, chance: Chance) -> list[Part]:
    hull, mark = _colour(thing, COLOURS["white"]), _colour(thing, COLOURS["red"], nth=1)
    high = _about(chance, 0.62)
    body = replace(_part(thing, "cylinder", (0.3, 0.3, high), (0, 0, 0.16 + high / 2), hull), shine=0.3)
    nose = Part("cylinder", (0.3, 0.3, 0.28), (0, 0, 0.3 + high), colour=mark, shape=0.06)
    nozzle = Part("cylinder", (0.24, 0.24, 0.12), (0, 0, 0.12), colour=(0.25, 0.25, 0.27), shape=0.7)
    window = Part("sphere", (0.13, 0.06, 0.13), (0, -0.14, 0.16 + high * 0.7), colour=_GLASS, shine=0.5)
    fins = []
    for angle in (0.0, 120.0, 240.0):
        x, y = 0.2 * math.cos(math.radians(angle)), 0.2 * math.sin(math.radians(angle))
        fin = Part("box", (0.2, 0.03, 0.26), (x, y, 0.2), colour=mark)
        fins.append(replace(fin, turn=(0.0, 12.0, angle)))
    return [body, nose, nozzle, window, *fins]


def _tower(thing: Thing, chance: Chance) -> list[Part]:
    stone, roof = _colour(thing, (0.60, 0.58, 0.54)), _colour(thing, (0.35, 0.20, 0.45), nth=1)
    wide = _about(chance, 0.4)
    base = _part(thing, "cylinder", (wide, wide, 0.85), (0, 0, 0.425), stone)
    parts = [replace(base, shape=0.82, grain=0.14)]
    parts.append(Part("cylinder", (wide * 1.1, wide * 1.1, 0.1), (0, 0, 0.88), colour=stone, grain=0.14))
    for number in range(8):
        angle = number * math.pi / 4
        at = (wide * 0.5 * math.cos(angle), wide * 0.5 * math.sin(angle), 0.96)
        merlon = Part("box", (0.07, 0.07, 0.09), at, colour=stone, grain=0.14)
        parts.append(replace(merlon, turn=(0.0, 0.0, math.degrees(angle))))
    parts.append(Part("cylinder", (wide * 0.9, wide * 0.9, 0.36), (0, 0, 1.1), colour=roof, shape=0.02))
    parts.append(Part("box", (0.12, 0.1, 0.22), (0, -wide * 0.46, 0.11), colour=_BARK))
    return parts


def _robot(thing: Thing, chance: Chance) -> list[Part]:
    colour, dark, glow = _colour(thing, COLOURS["silver"]), (0.2, 0.2, 0.22), (0.2, 0.9, 0.95)
    parts = [_part(thing, "box", (0.42, 0.28, 0.42), (0, 0, 0.52), colour)]
    parts.append(_part(thing, "box", (0.28, 0.24, 0.22), (0, 0, 0.88), colour))
    parts.append(Part("cylinder", (0.1, 0.1, 0.08), (0, 0, 0.76), colour=dark))
    for x in (-1, 1):
        parts.append(Part("sphere", (0.06, 0.06, 0.06), (x * 0.07, -0.12, 0.91), colour=glow))
        parts.append(_part(thing, "cylinder", (0.1, 0.1, 0.4), (x * 0.28, 0, 0.5), colour))
        parts.append(Part("sphere", (0.13, 0.13, 0.13), (x * 0.28, 0, 0.3), colour=dark))
        parts.append(_part(thing, "cylinder", (0.13, 0.13, 0.3), (x * 0.11, 0, 0.16), colour))
        parts.append(Part("box", (0.17, 0.24, 0.07), (x * 0.11, -0.03, 0.035), colour=dark))
    antenna = Part("cylinder", (0.02, 0.02, 0.16), (0, 0, 1.06), colour=dark)
    return [*parts, antenna, Part("sphere", (0.06, 0.06, 0.06), (0, 0, 1.15), colour=(0.9, 0.15, 0.1))]


def _flower(thing: Thing, chance: Chance) -> list[Part]:
    petal, count = _colour(thing, COLOURS["pink"]), 7 + int(chance.integers(3))
    parts = [Part("cylinder", (0.05, 0.05, 0.75), (0, 0, 0.375), colour=(0.2, 0.5, 0.18))]
    parts.append(Part("sphere", (0.2, 0.2, 0.12), (0, 0, 0.8), colour=(0.95, 0.75, 0.15), grain=0.15))
    for number in range(count):
        angle = 360.0 * number / count
        x, y = 0.22 * math.cos(math.radians(angle)), 0.22 * math.sin(math.radians(angle))
        leaf = Part("sphere", (0.32, 0.17, 0.05), (x, y, 0.82), colour=petal)
        parts.append(replace(leaf, turn=(0.0, -22.0, angle)))
    leaf = Part("sphere", (0.34, 0.12, 0.03), (0.16, 0, 0.3), colour=(0.2, 0.5, 0.18))
    return [*parts, replace(leaf, turn=(0.0, -30.0, 0.0))]


def _unknown(thing: Thing, chance: Chance) -> list[Part]:
    """Stack a few bodies that the words alone decide: unknown words too give the same thing every time."""
    fixed = np.random.default_rng(number_of(*thing.words))
    names, palette = ("sphere", "box", "cylinder", "torus", "dome"), sorted(COLOURS)
    parts, at = [], 0.0
    for nth in range(3 + int(fixed.integers(3))):
        wide, high = 0.25 + 0.45 * fixed.random(), 0.18 + 0.22 * fixed.random()
        body, colour = names[fixed.integers(len(names))], COLOURS[palette[fixed.integers(len(palette))]]
        depth = wide if body == "torus" else high
        size = (_about(chance, wide), _about(chance, wide), depth)
        shape = 0.45 if body == "torus" else 1.0
        tall = wide * shape if body == "torus" else high
        made = _part(thing, body, size, (0, 0, at + tall / 2), _colour(thing, colour, nth=nth))
        parts.append(replace(made, shape=shape))
        at += tall * 0.94
    return parts


ASSEMBLIES: dict[str, Assembly] = {
    "sphere": _sphere, "box": _box, "torus": _torus, "cylinder": _cylinder, "cone": _cone, "tree": _tree,
    "chair": _chair, "table": _table, "house": _house, "car": _car, "snowman": _snowman,
    "mushroom": _mushroom, "mug": _mug, "lamp": _lamp, "rocket": _rocket, "tower": _tower, "robot": _robot,
    "flower": _flower,
}  # fmt: skip
