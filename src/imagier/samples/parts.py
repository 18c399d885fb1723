"""Turned and pressed parts under a ring light, at any angle: washers and hexagon nuts, good and with a fault.

The straight part is drawn in its own coordinates, in which its outer radius is 1. A fault is drawn over it from a
stream of its own, so that the good part of the same seed is the same picture without the fault.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imagier.samples.canvas import (
    Array,
    Sample,
    blob,
    blur,
    box_of,
    clouds,
    cover,
    grid,
    stream,
    strokes,
    to_uint8,
    wander,
)

FAULTS = ("good", "scratch", "bent", "color")
WASHERS = tuple(f"washer_{fault}" for fault in FAULTS)
NUTS = tuple(f"nut_{fault}" for fault in FAULTS)

METALS = {  # RGB, 0..255, of a face in middling light
    "steel": (150, 154, 160),
    "zinc": (158, 156, 132),
    "brass": (176, 148, 82),
    "oxide": (92, 92, 98),
    "copper": (170, 112, 84),
}
PAINTS = ((170, 40, 40), (45, 70, 160), (40, 110, 60), (100, 55, 25), (60, 40, 90), (205, 200, 195), (35, 30, 32))


@dataclass(frozen=True)
class Pose:
    """Where and how a part lies: centre and outer radius in pixels, angle in radians, and flattening by the view."""

    x: float
    y: float
    radius: float
    angle: float
    flat: float
    hole: float
    """Radius of the bore, as a share of the outer radius."""


def washers(seed: int, size: int, label: str, plain: bool) -> Sample:
    """A washer: uint8 RGB (size, size, 3). The mask is the fault; masks["part"] the part. `plain`: no fault."""
    return _part("washers", seed, size, label, plain)


def nuts(seed: int, size: int, label: str, plain: bool) -> Sample:
    """A hexagon nut: uint8 RGB (size, size, 3). The mask is the fault; masks["part"] the part. `plain`: no fault."""
    return _part("nuts", seed, size, label, plain)


def _part(kind: str, seed: int, size: int, label: str, plain: bool) -> Sample:
    scene, defect, noise = (stream(kind, name, seed) for name in ("scene", "defect", "noise"))
    fault = "good" if plain else label.split("_")[1]
    radius = scene.uniform(0.31, 0.42) * size
    slack = size / 2 - radius * 1.04
    pose = Pose(
        size / 2 + scene.uniform(-1, 1) * slack, size / 2 + scene.uniform(-1, 1) * slack, radius,
        scene.uniform(0, 2 * np.pi), scene.uniform(0.9, 1.0),
        scene.uniform(0.38, 0.62) if kind == "washers" else scene.uniform(0.46, 0.56),
    )  # fmt: skip
    metal = str(scene.choice(list(METALS), p=[0.35, 0.25, 0.15, 0.15, 0.1]))
    u, v = _own(pose, size)
    draw = _washer if kind == "washers" else _nut
    straight = cover(_outline(kind, pose, u, v) * pose.radius)
    bend = _bend(defect, pose, u, v) if fault == "bent" else None
    shade = draw(scene, size, pose, *((u, v) if bend is None else bend[:2]))
    covered = straight if bend is None else cover(_outline(kind, pose, *bend[:2]) * pose.radius)
    mask = np.zeros((size, size), bool)
    if bend is not None:
        mask = bend[2] & ((straight >= 0.5) | (covered >= 0.5))
        shade = np.where(bend[2], shade * bend[3], shade)
    face = shade[..., None] * np.array(METALS[metal], np.float32)
    if fault == "color":
        face, mask = _paint(defect, size, pose, face, straight >= 0.5)
    elif fault == "scratch":
        face, mask = _scratch(defect, size, pose, face, straight >= 0.5)
    picture = _table(scene, size, covered)
    picture += covered[..., None] * (face - picture)
    picture = blur(picture, size / 192 * 0.6)
    truth = {
        "fault": fault, "box": box_of(mask), "part_box": box_of(covered >= 0.5), "metal": metal,
        "centre": [round(float(pose.x), 2), round(float(pose.y), 2)], "radius": round(float(pose.radius), 2),
        "angle": round(float(pose.angle), 4), "hole": round(float(pose.hole), 4),
    }  # fmt: skip
    return Sample(to_uint8(picture, noise, 2.0), label, mask, truth, {"part": covered >= 0.5})


def _own(pose: Pose, size: int) -> tuple[Array, Array]:
    """The part's own coordinates of every pixel: two float32 (size, size), the outer radius being 1."""
    xs, ys = grid(size)
    dx, dy = (xs - np.float32(pose.x)) / np.float32(pose.radius), (ys - np.float32(pose.y)) / np.float32(pose.radius)
    dy = dy / np.float32(pose.flat)
    cos, sin = np.float32(np.cos(pose.angle)), np.float32(np.sin(pose.angle))
    return dx * cos + dy * sin, dy * cos - dx * sin


def _outline(kind: str, pose: Pose, u: Array, v: Array) -> Array:
    """Signed distance to the part, bore excluded, in outer radii."""
    rho = np.hypot(u, v)
    outside = rho - 1 if kind == "washers" else np.maximum(_hexagon(u, v), rho - 0.985)
    distance: Array = np.maximum(outside, _bore(kind, pose) - rho)
    return distance


def _hexagon(u: Array, v: Array) -> Array:
    half, root = np.float32(0.5), np.float32(np.sqrt(3) / 2)
    distance: Array = np.maximum(np.maximum(np.abs(v), np.abs(root * u + half * v)), np.abs(root * u - half * v)) - root
    return distance


def _bore(kind: str, pose: Pose) -> float:
    """Radius of the open bore: a nut's thread stands in from the radius that is seen on its face."""
    return pose.hole if kind == "washers" else pose.hole - 0.11


def _turned(rng: np.random.Generator, rho: Array, rings: int, depth: float) -> Array:
    """Fine turning marks: noise that depends on the radius alone, about 1."""
    marks = rng.normal(0, depth, rings)
    shade: Array = 1 + np.interp(rho, np.linspace(0, 1.3, rings), marks).astype(np.float32)
    return shade


def _washer(rng: np.random.Generator, size: int, pose: Pose, u: Array, v: Array) -> Array:
    """Light on a washer: float32 (size, size), about 1 on the face."""
    rho, theta = np.hypot(u, v), np.arctan2(v, u) + np.float32(pose.angle)
    lamp = np.float32(rng.uniform(0, 2 * np.pi))
    shade = 0.92 + rng.uniform(0.12, 0.38) * np.cos(2 * (theta - lamp))
    shade += rng.uniform(0, 0.12) * np.cos(theta - 2 * lamp)
    shade *= _turned(rng, rho, int(rng.integers(40, 110)), rng.uniform(0.02, 0.09))
    width, lift = rng.uniform(0.025, 0.06), rng.uniform(0.25, 0.5)
    rim, lip = np.clip((rho - 1) / width + 1, 0, 1), np.clip((pose.hole - rho) / width + 1, 0, 1)
    shade += lift * (rim * np.cos(theta - lamp) - lip * np.cos(theta - lamp)) - 0.25 * (rim**3 + lip**3)
    shade += 0.04 * clouds(rng, size, 24, 2)
    lit: Array = np.maximum(shade, 0.06)
    return lit


def _nut(rng: np.random.Generator, size: int, pose: Pose, u: Array, v: Array) -> Array:
    """Light on a nut: face, chamfered corners, and the thread in its bore: float32 (size, size), about 1."""
    rho, theta = np.hypot(u, v), np.arctan2(v, u)
    seen = theta + np.float32(pose.angle)
    lamp = np.float32(rng.uniform(0, 2 * np.pi))
    shade = 0.95 + rng.uniform(0.05, 0.2) * np.cos(2 * (seen - lamp))
    shade *= _turned(rng, rho, int(rng.integers(40, 90)), rng.uniform(0.02, 0.08))
    shade += 0.05 * clouds(rng, size, 30, 2)
    start = rng.uniform(0.83, 0.865)
    slope = 0.62 + rng.uniform(0.2, 0.42) * np.cos(seen - lamp) - 0.9 * (rho - start)
    shade += np.clip((rho - start) * pose.radius + 0.5, 0, 1) * (slope - shade)
    shade += 0.35 * np.exp(-(((rho - start) * pose.radius / 0.9) ** 2))  # the bright edge of the chamfer
    sink = np.clip((pose.hole + 0.055 - rho) * pose.radius + 0.5, 0, 1)
    shade += sink * (0.7 - rng.uniform(0.2, 0.5) * np.cos(seen - lamp) - shade)
    turns = rng.uniform(1.6, 2.6) / 0.11
    thread = 0.34 + 0.26 * np.cos(2 * np.pi * turns * (rho - pose.hole) + theta) * (0.6 + 0.4 * np.cos(seen - lamp))
    shade += np.clip((pose.hole - rho) * pose.radius + 0.5, 0, 1) * (thread - shade)
    lit: Array = np.maximum(shade, 0.06)
    return lit


def _table(rng: np.random.Generator, size: int, covered: Array) -> Array:
    """What the part lies on, with its shadow: float32 (size, size, 3), 0..255."""
    tone = rng.uniform(14, 50) if rng.random() < 0.6 else rng.uniform(60, 135)
    tint = 1 + rng.normal(0, 0.05, 3)
    rough = 1 + rng.uniform(0.02, 0.1) * clouds(rng, size, 60, 1) + rng.uniform(0.03, 0.15) * clouds(rng, size, 2, 2)
    shift = [round(float(s) * size) for s in rng.uniform(-0.03, 0.03, 2)]
    shadow = blur(np.roll(covered, shift, (0, 1)), rng.uniform(0.015, 0.035) * size)
    light = np.float32(tone) * rough * (1 - rng.uniform(0.3, 0.6) * shadow)
    return (light[..., None] * tint.astype(np.float32)).astype(np.float32)


def _bend(rng: np.random.Generator, pose: Pose, u: Array, v: Array) -> tuple[Array, Array, Array, Array]:
    """A flap of the rim, beyond a fold, that is tilted: where each pixel's metal came from (u, v), the flap, its light.

    Beyond the fold the view shortens the part along the fold's normal, and slides it sideways.
    """
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    out, along = u * cos + v * sin, v * cos - u * sin
    fold = np.float32(pose.hole + 0.06 + rng.uniform(0.1, 0.4) * (0.87 - pose.hole))
    beyond = np.maximum(out - fold + np.float32(rng.uniform(-0.15, 0.15)) * along**2, 0)
    stretched = out + beyond * np.float32(1 / rng.uniform(0.5, 0.72) - 1)
    slid = along + beyond * np.float32(rng.uniform(-0.35, 0.35))
    light = np.float32(rng.choice([rng.uniform(0.25, 0.5), rng.uniform(1.4, 1.7)]))
    glint = np.float32(0.5) * np.exp(-((beyond * pose.radius / 1.5) ** 2))
    return stretched * cos - slid * sin, stretched * sin + slid * cos, beyond > 0, light * (1 + glint)


def _spot(rng: np.random.Generator, pose: Pose, bore: float) -> tuple[float, float]:
    """A place on the face, in pixels."""
    rho, theta = rng.uniform(bore + 0.25 * (0.9 - bore), bore + 0.8 * (0.9 - bore)) * pose.radius, rng.uniform(0, 6.283)
    return pose.x + float(rho * np.cos(theta)), pose.y + float(rho * np.sin(theta)) * pose.flat


def _paint(rng: np.random.Generator, size: int, pose: Pose, face: Array, part: Array) -> tuple[Array, Array]:
    """A patch of another colour on the part: paint, rust or heat. Gives the face and the patch."""
    x, y = _spot(rng, pose, pose.hole)
    distance = blob(rng, size, x, y, rng.uniform(0.12, 0.27) * pose.radius, 0.25)
    distance = distance + size / 192 * 1.2 * clouds(rng, size, 20, 2)
    colour = np.array(PAINTS[rng.integers(len(PAINTS))], np.float32)
    covered = cover(distance)
    light = np.clip(face.mean(2, keepdims=True) / 150, 0.35, 1.4)
    strength = np.float32(rng.uniform(0.55, 0.85)) * covered[..., None]
    return face + strength * (colour * light - face), (covered >= 0.5) & part


def _scratch(rng: np.random.Generator, size: int, pose: Pose, face: Array, part: Array) -> tuple[Array, Array]:
    """One to three scratches, dark with a bright burr beside them or bright. Gives the face and the scratches."""
    scale = size / 192
    grooves, burrs, widths = [], [], []
    angle = rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))):
        x, y = _spot(rng, pose, pose.hole)
        angle, length = angle + rng.normal(0, 0.15), rng.uniform(0.35, 0.9) * pose.radius
        start = (x - np.cos(angle) * length / 2, y - np.sin(angle) * length / 2)
        groove = wander(rng, start, angle, length, 0.06)
        width = rng.uniform(1.2, 2.8) * scale
        grooves.append(groove)
        burrs.append(groove + (width * 0.5 + 0.4 * scale) * np.array([-np.sin(angle), np.cos(angle)]))
        widths.append(width)
    groove, burr = strokes(size, grooves, widths), strokes(size, burrs, [max(1.0, 0.9 * scale)] * len(burrs))
    bare = rng.random() < 0.4
    depth, shine = (np.float32(245), np.float32(60)) if bare else (np.float32(28), np.float32(230))
    if bare and face[part].mean() > 165:  # bright on bright would not show
        depth, shine = shine, depth
    face = face + 0.6 * burr[..., None] * (shine - face)
    face = face + 0.85 * groove[..., None] * (depth - face)
    return face, (groove >= 0.5) & part
