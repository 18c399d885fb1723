"""Surfaces as an inspection camera sees them: cloth, metal, granite, wood; good or with a crack, pits or a stain."""

from __future__ import annotations

from collections.abc import Callable

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

FAULTS = ("good", "crack", "blowhole", "stain")
FILMS = ((0.15, 0.3, 0.5), (0.5, 0.3, 0.12), (0.4, 0.4, 0.42), (0.12, 0.42, 0.4))
"""What a stain takes of red, green and blue, as an exponent."""
Marked = tuple[Array, Array, int]
"""The picture with its fault, the fault's mask, and how many faults there are."""


def textures(seed: int, size: int, label: str, plain: bool) -> Sample:
    """A surface: uint8 RGB (size, size, 3). The mask is the fault. `plain`: the same surface without it."""
    surface, fault = label.split("_")
    scene, defect, noise = (stream("textures", name, seed) for name in (surface, fault, "noise"))
    picture = SURFACES[surface](scene, size)
    mask, count = np.zeros((size, size), bool), 0
    if fault != "good" and not plain:
        picture, mask, count = MARKS[fault](defect, size, picture)
    xs, ys = grid(size)
    turn, depth = scene.uniform(0, 2 * np.pi), scene.uniform(0, 0.35)
    lamp = 1 + depth * ((xs / size - 0.5) * np.cos(turn) + (ys / size - 0.5) * np.sin(turn)).astype(np.float32)
    picture = blur((picture * lamp[..., None]).astype(np.float32), 0.55 * size / 192)
    truth = {"surface": surface, "fault": "good" if plain else fault, "count": count, "box": box_of(mask)}
    return Sample(to_uint8(picture, noise, 2.5), label, mask, truth)


def _turned(size: int, angle: float) -> tuple[Array, Array]:
    """Coordinates along and across a direction, pixels from the centre: two float32 (size, size)."""
    xs, ys = grid(size)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = xs - np.float32(size / 2), ys - np.float32(size / 2)
    return dx * cos + dy * sin, dy * cos - dx * sin


def _colour(rng: np.random.Generator, choices: tuple[tuple[int, int, int], ...], spread: float = 12) -> Array:
    return (np.array(choices[rng.integers(len(choices))]) + rng.normal(0, spread, 3)).astype(np.float32)


def _woven(rng: np.random.Generator, size: int) -> Array:
    """Cloth: warp over weft, plain or twill, every thread of its own width and tone."""
    u, v = _turned(size, rng.uniform(0, np.pi))
    pitch = rng.uniform(6, 13) * size / 192
    u = (u + 0.12 * pitch * clouds(rng, size, 6, 2)) / pitch + 500
    v = (v + 0.12 * pitch * clouds(rng, size, 6, 2)) / pitch + 500
    iu, iv = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    fu, fv = u - iu - np.float32(0.5), v - iv - np.float32(0.5)
    over = ((iu + iv) % 2 == 0) if rng.random() < 0.5 else ((iu + iv) % 3 == 0)
    tones = rng.normal(0, 0.06, (2, 1200)).astype(np.float32)
    warp = np.cos(2.5 * fu) * (0.72 + 0.28 * np.cos(2.9 * fv)) + tones[0][iu]
    weft = np.cos(2.5 * fv) * (0.72 + 0.28 * np.cos(2.9 * fu)) + tones[1][iv]
    first = _colour(rng, ((176, 160, 134), (96, 108, 138), (150, 92, 84), (120, 128, 112), (190, 188, 184)))
    second = first * rng.uniform(0.75, 1.1) if rng.random() < 0.7 else _colour(rng, ((200, 190, 170), (70, 80, 110)))
    fibre = 1 + 0.06 * rng.standard_normal((size, size), dtype=np.float32)
    picture: Array = np.where(over[..., None], warp[..., None] * first, weft[..., None] * second) * fibre[..., None]
    return picture.astype(np.float32)


def _brushed(rng: np.random.Generator, size: int) -> Array:
    """Metal brushed in one direction: streaks of many lengths."""
    import cv2

    side = size * 2
    turn = float(rng.uniform(0, 180))
    across = np.zeros((side, side), np.float32)
    for length, share in ((3, 0.4), (14, 0.7), (60, 1.0)):
        coarse = rng.standard_normal((side, max(2, side // (length * size // 192 + 1))), dtype=np.float32)
        across += share * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
    matrix = np.array(cv2.getRotationMatrix2D((side / 2, side / 2), turn, 1.0), np.float64)
    matrix[:, 2] -= (side - size) / 2
    total = cv2.warpAffine(across, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    _, v = _turned(size, np.deg2rad(turn) + rng.uniform(-0.2, 0.2))
    sheen = rng.uniform(0, 0.25) * np.cos(v / size * rng.uniform(2, 7) + rng.uniform(0, 6.3))
    tone = _colour(rng, ((142, 144, 150), (120, 118, 112), (168, 146, 100), (96, 100, 108)), 6)
    shade = 1 + rng.uniform(0.035, 0.09) * total + sheen + 0.03 * clouds(rng, size, 3, 2)
    picture: Array = (np.maximum(shade, 0.1)[..., None] * tone).astype(np.float32)
    return picture


def _granite(rng: np.random.Generator, size: int) -> Array:
    """Stone of three minerals and dark mica, in grains of one size."""
    grain = rng.uniform(18, 42)
    pale = _colour(rng, ((196, 192, 188), (188, 160, 150), (170, 172, 164)), 4)
    picture = np.broadcast_to(pale, (size, size, 3)).astype(np.float32)
    for tone, level, finer in (
        (_colour(rng, ((150, 146, 142), (164, 118, 104), (128, 132, 120)), 4), rng.uniform(0.0, 0.5), 1.0),
        (_colour(rng, ((104, 102, 100), (120, 92, 84)), 4), rng.uniform(0.5, 1.0), 1.3),
        (_colour(rng, ((38, 36, 38),), 5), rng.uniform(0.9, 1.5), 1.6),
    ):
        field = clouds(rng, size, grain * finer, 2)
        covered = np.clip((field - np.float32(level)) * 6 + 0.5, 0, 1)[..., None]
        picture = picture + covered * (tone - picture)
    return picture * (1 + 0.05 * clouds(rng, size, 80, 1))[..., None]


def _wood(rng: np.random.Generator, size: int) -> Array:
    """A sawn board: year rings far from their centre, fibres and pores along them."""
    turn = rng.uniform(0, np.pi)
    u, v = _turned(size, turn)
    bend = clouds(rng, size, 1.5, 2)
    scale = size / 192
    rings = v + rng.uniform(2, 9) * scale * bend + u**2 / (size * rng.uniform(3, 14))
    rings = rings / (rng.uniform(9, 24) * scale)
    phase = rings - np.floor(rings)
    year = rng.normal(0, 0.06, 400).astype(np.float32)[(np.floor(rings).astype(np.int32) + 200) % 400]
    late = np.where(phase < 0.85, (phase / 0.85) ** 2.2, (1 - phase) / 0.15)
    fibre = np.interp(rings, np.linspace(-40, 40, 3000), rng.normal(0, 1, 3000)).astype(np.float32)
    tone = _colour(rng, ((196, 158, 112), (158, 112, 74), (120, 82, 58), (206, 182, 146)), 5)
    shade = 1 - rng.uniform(0.15, 0.38) * late + year + 0.03 * fibre + 0.03 * clouds(rng, size, 50, 1)
    power = np.array([0.8, 1.0, 1.25], np.float32)
    picture: Array = (np.maximum(shade, 0.1)[..., None] ** power * tone).astype(np.float32)
    return picture


SURFACES: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "woven": _woven,
    "brushed": _brushed,
    "granite": _granite,
    "wood": _wood,
}


def _crack(rng: np.random.Generator, size: int, picture: Array) -> Marked:
    """A crack that wanders, branches, and thins toward its ends."""
    scale = size / 192
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.85) * size
    x, y = rng.uniform(0.3, 0.7, 2) * size - 0.5 * length * np.array([np.cos(angle), np.sin(angle)])
    trunk = wander(rng, (x, y), angle, length / 3, 0.35)
    for _ in range(2):
        trunk = np.concatenate([trunk, wander(rng, tuple(trunk[-1]), angle + rng.normal(0, 0.2), length / 3, 0.35)[1:]])
    width = rng.uniform(1.6, 3.2) * scale
    lines, widths = [], []
    for k in range(len(trunk) - 1):
        lines.append(trunk[k : k + 2])
        widths.append(max(1.0 * scale, width * (1 - abs(2 * k / (len(trunk) - 1) - 1) ** 2) * rng.uniform(0.7, 1.2)))
    for _ in range(int(rng.integers(0, 3))):
        start = tuple(trunk[int(rng.integers(5, len(trunk) - 5))])
        lines.append(wander(rng, start, angle + rng.choice([-1, 1]) * rng.uniform(0.5, 1.1), 0.3 * length, 0.3))
        widths.append(1.1 * scale)
    covered = strokes(size, lines, widths)
    dark = np.float32(rng.uniform(0.72, 0.92))
    return picture * (1 - dark * covered[..., None]), covered >= 0.5, 1


def _blowhole(rng: np.random.Generator, size: int, picture: Array) -> Marked:
    """One to four pits: dark within, their far wall lit."""
    covered, glint = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    count, lamp = int(rng.integers(1, 5)), rng.uniform(0, 2 * np.pi)
    xs, ys = grid(size)
    places = [rng.uniform(0.12, 0.88, 2) * size]
    while len(places) < count:  # apart from each other, so that each is one
        place = rng.uniform(0.12, 0.88, 2) * size
        if min(float(np.hypot(*(place - other))) for other in places) > 0.22 * size:
            places.append(place)
    for x, y in places:
        radius = rng.uniform(0.018, 0.06) * size
        distance = blob(rng, size, x, y, radius, 0.14)
        covered = np.maximum(covered, cover(distance))
        side = (((xs - x) * np.cos(lamp) + (ys - y) * np.sin(lamp)) / radius).astype(np.float32)
        glint = np.maximum(glint, cover(distance) * np.clip(side - 0.25, 0, 0.55))
    pit = np.float32(rng.uniform(0.62, 0.85))
    shade = 1 - covered * (pit - 0.75 * glint)
    return picture * shade[..., None], covered >= 0.5, count


def _stain(rng: np.random.Generator, size: int, picture: Array) -> Marked:
    """One spill: a thin film of colour, darker at its rim."""
    x, y = rng.uniform(0.25, 0.75, 2) * size
    distance = blob(rng, size, x, y, rng.uniform(0.08, 0.22) * size, 0.3) + size / 192 * clouds(rng, size, 14, 2)
    takes = np.array(FILMS[rng.integers(len(FILMS))], np.float32)
    rim = np.exp(-((distance / (2.2 * size / 192) + 1) ** 2))
    film = cover(distance) * (rng.uniform(0.6, 1.1) + rng.uniform(0.2, 0.8) * rim)
    return picture * np.exp(-film[..., None] * takes), distance <= 0, 1


MARKS: dict[str, Callable[[np.random.Generator, int, Array], Marked]] = {
    "crack": _crack,
    "blowhole": _blowhole,
    "stain": _stain,
}

LABELS = tuple(f"{surface}_{fault}" for fault in FAULTS for surface in SURFACES)
