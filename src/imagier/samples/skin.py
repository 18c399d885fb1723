"""Dermoscopic views of pigmented lesions: skin of every tone, hairs, a dark rim, and a lesion of irregular border.

Colour is made as skin makes it: every pigment takes away a share of the light, by wavelength (Beer and Lambert). A
lesion is plain, or bears a pigment network or dots; these come from streams of their own, so that the plain lesion of
the same seed is the same picture without them.
"""

from __future__ import annotations

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
)

LABELS = ("lesion_plain", "lesion_net", "lesion_dots")

PALE = (242, 214, 196)  # skin without pigment
MELANIN = (0.50, 0.84, 1.25)  # what one unit takes, for red, green and blue, as an exponent
BLOOD = (0.10, 0.75, 0.62)
DEEP = (0.95, 0.72, 0.52)  # melanin deep in the skin looks blue and grey


def lesions(seed: int, size: int, label: str, plain: bool) -> Sample:
    """A lesion: uint8 RGB (size, size, 3). The mask is the lesion; masks hold "net" and "dots". `plain`: neither.

    "net" is the area that bears the network, lines and the pale holes between them; "dots" are the dots themselves.
    """
    scene, noise = stream("lesions", "scene", seed), stream("lesions", "noise", seed)
    distance = _border(scene, size)
    soft = float(np.exp(scene.uniform(np.log(1.2), np.log(6)))) * size / 192
    amount = 1 / (1 + np.exp(np.clip(distance / soft, -30, 30)))  # one half on the border
    lesion = distance <= 0
    melanin, blood, deep = _pigments(scene, size, amount)
    melanin_skin, blood_skin = _skin(scene, size)
    net, dots = np.zeros_like(lesion), np.zeros_like(lesion)
    spots: list[list[float]] = []
    if label == "lesion_net" and not plain:
        extra, net = _network(stream("lesions", "net", seed), size, distance)
        melanin = melanin * (1 + extra) + 0.45 * np.maximum(extra, 0)
    elif label == "lesion_dots" and not plain:
        extra, dots, spots = _dots(stream("lesions", "dots", seed), size, distance)
        melanin = melanin + extra
    picture = np.array(PALE, np.float32) * np.exp(
        -(melanin + melanin_skin)[..., None] * np.array(MELANIN, np.float32)
        - (blood + blood_skin)[..., None] * np.array(BLOOD, np.float32)
        - deep[..., None] * np.array(DEEP, np.float32)
    )
    picture = blur(picture, scene.uniform(0.5, 0.9) * size / 192)
    picture = _before(scene, size, picture)
    truth = {
        "box": box_of(lesion),
        "area": int(lesion.sum()),
        "net_area": int(net.sum()),
        "dots": spots,
        "count": len(spots),
        "border_softness": round(soft, 3),
    }
    return Sample(to_uint8(picture, noise, 2.0), label, lesion, truth, {"net": net, "dots": dots})


def _border(rng: np.random.Generator, size: int) -> Array:
    """About the signed distance to the lesion's border, pixels, float32 (size, size): an ellipse, lobed and ragged."""
    xs, ys = grid(size)
    radius, flat, turn = rng.uniform(0.17, 0.34) * size, rng.uniform(0.62, 1.0), rng.uniform(0, np.pi)
    x, y = (0.5 + rng.uniform(-0.09, 0.09, 2)) * size
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    dx, dy = xs - np.float32(x), ys - np.float32(y)
    u, v = (dx * cos + dy * sin) * np.float32(np.sqrt(flat)), (dy * cos - dx * sin) / np.float32(np.sqrt(flat))
    theta, lobes = np.arctan2(v, u), float(rng.uniform(0.04, 0.26))
    reach = np.ones_like(theta)
    for k in range(1, 8):
        reach += np.float32(lobes * rng.normal() / k**0.8) * np.cos(k * theta + np.float32(rng.uniform(0, 6.283)))
    ragged = rng.uniform(0.2, 1.8) * size / 192 * clouds(rng, size, 22, 2)
    return (np.hypot(u, v) - radius * np.clip(reach, 0.45, 1.6) + ragged).astype(np.float32)


def _pigments(rng: np.random.Generator, size: int, amount: Array) -> tuple[Array, Array, Array]:
    """Melanin, blood and deep melanin of the lesion: uneven, darker to one side, sometimes with a second colour."""
    xs, ys = grid(size)
    turn, lean = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1.4)
    side = ((xs / size - 0.5) * np.cos(turn) + (ys / size - 0.5) * np.sin(turn)).astype(np.float32)
    uneven = np.maximum(1 + rng.uniform(0.08, 0.32) * clouds(rng, size, 7, 3) + lean * side, 0.25)
    reddish = rng.random() < 0.25
    melanin = amount * uneven * (rng.uniform(0.25, 0.6) if reddish else rng.uniform(0.7, 1.6))
    blood = amount * (rng.uniform(0.4, 0.9) if reddish else rng.uniform(0.0, 0.25))
    blood = blood * (1 + 0.2 * clouds(rng, size, 5, 3))
    veil = np.clip(clouds(rng, size, 3, 2) - 0.4, 0, 1)
    return melanin, np.maximum(blood, 0), amount * veil * (rng.uniform(0.5, 1.1) if rng.random() < 0.3 else 0.0)


def _skin(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    """Melanin and blood of the skin around: a tone between pale and dark, mottled, with fine furrows and freckles."""
    xs, ys = grid(size)
    tone = float(rng.choice([rng.uniform(0.02, 0.3), rng.uniform(0.3, 0.7), rng.uniform(0.7, 1.3)], p=[0.5, 0.3, 0.2]))
    furrows = np.zeros((size, size), np.float32)
    turn, pitch = rng.uniform(0, np.pi), rng.uniform(7, 13) * size / 192
    for angle in (turn, turn + rng.uniform(0.9, 1.4)):
        wave = (xs * np.float32(np.cos(angle)) + ys * np.float32(np.sin(angle))) / pitch
        wave = wave + 0.35 * clouds(rng, size, 8, 2)
        furrows += np.exp(-((np.sin(np.pi * wave) / 0.3) ** 2))
    melanin = tone + 0.05 * tone * clouds(rng, size, 5, 3) + rng.uniform(0.015, 0.06) * furrows
    freckles = np.clip(clouds(rng, size, 16, 1) - rng.uniform(2.0, 3.2), 0, 1) * 0.25
    blood = rng.uniform(0.05, 0.3) + 0.04 * clouds(rng, size, 4, 3)
    return melanin + freckles, np.maximum(blood, 0)


def _network(rng: np.random.Generator, size: int, distance: Array) -> tuple[Array, Array]:
    """A pigment network: what it adds to the melanin (a share: lines above 0, holes below), and the area that bears it.

    The lines are the edges of a honeycomb whose corners were moved at random; its area ends at half of its strength.
    """
    scale = size / 192
    pitch, turn = rng.uniform(6.5, 9.5) * scale, rng.uniform(0, np.pi)
    ((y, x),) = _inside(rng, distance, 0.4, 1)
    area = np.maximum(blob(rng, size, x, y, rng.uniform(0.14, 0.3) * size, 0.2), distance + 1.5 * scale)
    if area.min() > -3 * scale:
        area = distance + 1.5 * scale
    edges = _honeycomb(rng, int(1.4 * size / pitch) + 2, pitch)
    cos, sin = np.cos(turn), np.sin(turn)
    edges = (edges - edges.mean((0, 1))) @ np.array([[cos, sin], [-sin, cos]]) + size / 2
    column, row = np.clip(edges.mean(1).astype(int), 0, size - 1).T
    edges = edges[area[row, column] < pitch]
    lines = strokes(size, list(edges), list(rng.uniform(0.9, 2.4, len(edges)) * scale))
    lines, strength = blur(lines, 0.5 * scale), np.float32(rng.uniform(0.4, 0.75))
    extra = cover(area / (5 * scale)) * (strength * lines - np.float32(0.3) * (1 - lines))  # it fades out over 5 pixels
    return extra, area <= 0


def _honeycomb(rng: np.random.Generator, n: int, pitch: float) -> Array:
    """The edges of about 2 n by 2 n cells: (m, 2, 2) x, y of both ends; corners are moved by a seventh of the pitch."""
    rows, columns = np.mgrid[0 : 2 * n, 0 : 2 * n]
    side = pitch / np.sqrt(3)
    xs = (columns * np.sqrt(3) / 2 * side) + rng.normal(0, 0.15 * pitch, rows.shape)
    zigzag = np.where((rows + columns) % 2, 0.25, -0.25)
    ys = (rows * 1.5 + zigzag) * side + rng.normal(0, 0.15 * pitch, rows.shape)
    corners = np.stack([xs, ys], -1)
    beside = np.stack([corners[:, :-1], corners[:, 1:]], 2).reshape(-1, 2, 2)
    below = np.stack([corners[:-1], corners[1:]], 2)[(rows + columns)[:-1] % 2 == 1]
    return np.concatenate([beside, below])


def _inside(rng: np.random.Generator, distance: Array, share: float, count: int) -> list[list[float]]:
    """Random pixels [y, x] of the lesion, each deeper than `share` of its greatest depth."""
    deep = np.argwhere(distance <= share * distance.min())
    places: list[list[float]] = (deep[rng.integers(len(deep), size=count)] + 0.5).tolist()
    return places


def _dots(rng: np.random.Generator, size: int, distance: Array) -> tuple[Array, Array, list[list[float]]]:
    """Dots and globules: the melanin they add, their mask, and x, y, radius of each (pixels)."""
    scale = size / 192
    xs, ys = grid(size)
    coverage = np.zeros((size, size), np.float32)
    spots: list[list[float]] = []
    large = rng.uniform(1.6, 3.4) * scale
    for y, x in _inside(rng, distance, rng.uniform(0.1, 0.4), int(rng.integers(20, 80))):
        radius = float(large * np.exp(rng.normal(0, 0.2)))
        near = [1 for ox, oy, other in spots if np.hypot(x - ox, y - oy) < radius + other + 1.2 * scale]
        reach = int(radius) + 3
        x0, y0 = int(x) - reach, int(y) - reach
        if near or min(x0, y0) < 0 or max(x0, y0) + 2 * reach > size:
            continue
        at = np.s_[y0 : y0 + 2 * reach, x0 : x0 + 2 * reach]
        coverage[at] = np.maximum(coverage[at], cover(np.hypot(xs[:, at[1]] - x, ys[at[0]] - y) - radius))
        spots.append([round(x, 2), round(y, 2), round(radius, 2)])
    return coverage * np.float32(rng.uniform(0.8, 1.5)), (coverage >= 0.5) & (distance <= 0), spots


def _before(rng: np.random.Generator, size: int, picture: Array) -> Array:
    """What lies between skin and camera: hairs, the fall of light, the dark rim of the dermatoscope."""
    xs, ys = grid(size)
    scale = size / 192
    count = int(rng.choice([0, int(rng.integers(2, 8)), int(rng.integers(10, 24))], p=[0.4, 0.4, 0.2]))
    if count:
        angle, hairs = rng.uniform(0, 2 * np.pi), []
        for _ in range(count):
            start = (rng.uniform(-0.1, 1.0) * size, rng.uniform(-0.1, 1.0) * size)
            turns = angle + rng.normal(0, 0.7) + rng.normal(0, 0.6) * np.linspace(-1, 1, 16)
            moves = np.stack([np.cos(turns), np.sin(turns)], 1) * (rng.uniform(0.3, 1.1) * size / 16)
            hairs.append(np.asarray(start) + np.cumsum(moves, 0))
        hair = strokes(size, hairs, list(rng.uniform(0.5, 1.5, count) * scale))[..., None]
        tone = np.array((46, 34, 28) if rng.random() < 0.8 else (186, 160, 120), np.float32)
        picture = picture + 0.85 * hair * (tone - picture)
    far = np.hypot(xs - size / 2, ys - size / 2) / (size / 2)
    light = rng.uniform(0.85, 1.12) * (1 - rng.uniform(0.05, 0.3) * far**2)
    if rng.random() < 0.45:
        light = light * (0.12 + 0.88 / (1 + np.exp((far - rng.uniform(1.0, 1.18)) / rng.uniform(0.01, 0.05))))
    warmth = np.array([1 + rng.normal(0, 0.03), 1.0, 1 + rng.normal(0, 0.05)], np.float32)
    picture = (picture * light[..., None] * warmth).astype(np.float32)
    return picture
