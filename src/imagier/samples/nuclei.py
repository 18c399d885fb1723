"""Fields of fluorescent nuclei: sparse, dense, or with dividing cells; 12 bits in uint16, with a label image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imagier.samples.canvas import Array, Sample, blur, boxes, clouds, grid, stream

LABELS = ("cells_sparse", "cells_dense", "cells_mitotic")


@dataclass(frozen=True)
class Nucleus:
    """An ellipse with a wavy edge; lengths in pixels, brightness in camera units above the background."""

    x: float
    y: float
    a: float
    b: float
    angle: float
    waves: tuple[tuple[float, float], ...]
    """Amplitude and phase of the 2nd, 3rd, ... harmonic of the radius."""
    brightness: float
    texture: float
    nucleoli: int
    mitotic: bool = False


def cells(seed: int, size: int, label: str, plain: bool) -> Sample:
    """A field of nuclei: uint16 (size, size) of 0..4095; the mask is an int32 label image. `plain`: the empty field."""
    scene, noise = stream("cells", "scene", seed), stream("cells", "noise", seed)
    scale = size / 192
    xs, ys = grid(size)
    offset = scene.uniform(80, 220)
    tilt = scene.uniform(0, 2 * np.pi)
    slope = ((xs / size - 0.5) * np.cos(tilt) + (ys / size - 0.5) * np.sin(tilt)).astype(np.float32)
    haze = scene.uniform(40, 260) * (1 + 0.25 * clouds(scene, size, 2, 2) + scene.uniform(0, 0.9) * slope)
    lamp = 1 - scene.uniform(0.1, 0.5) * ((xs / size - scene.uniform(0.3, 0.7)) ** 2 + (ys / size - 0.5) ** 2)
    sigma = float(scene.choice([0.8, 1.1, 1.5, 2.2], p=[0.35, 0.3, 0.25, 0.1])) * scale
    gain, read = scene.uniform(0.6, 4.0), scene.uniform(4, 14)
    labels, light = np.zeros((size, size), np.int32), np.zeros((size, size), np.float32)
    drawn: list[Nucleus] = []
    if not plain:
        labels, light, drawn = _place(stream("cells", label, seed), size, scale, label)
    signal = np.maximum(haze + blur(light, sigma), 0) * lamp
    # Shot noise as its normal limit, so that a pixel's noise does not depend on what is drawn elsewhere.
    spread = np.sqrt(gain * signal + read**2)
    values = offset + signal + spread * noise.standard_normal((size, size), dtype=np.float32)
    truth = {
        "count": len(drawn),
        "boxes": boxes(labels, len(drawn)),
        "areas": np.bincount(labels.ravel(), minlength=len(drawn) + 1)[1:].tolist(),
        "mitotic": [number for number, nucleus in enumerate(drawn, 1) if nucleus.mitotic],
        "bits": 12,
        "blur_sigma": round(sigma, 3),
        "gain": round(float(gain), 3),
        "read_noise": round(float(read), 3),
    }
    return Sample(np.clip(np.rint(values), 0, 4095).astype(np.uint16), label, labels, truth)


def _place(rng: np.random.Generator, size: int, scale: float, label: str) -> tuple[Array, Array, list[Nucleus]]:
    """The label image, the light of all nuclei, and the nuclei in the order of their numbers."""
    wanted = {"cells_sparse": (6, 16), "cells_dense": (34, 70), "cells_mitotic": (12, 28)}[label]
    count = int(rng.integers(*wanted))
    zoom = rng.uniform(0.85, 1.2) * scale * {"cells_sparse": 11.5, "cells_dense": 8.5, "cells_mitotic": 9.5}[label]
    exposure = float(np.exp(rng.uniform(np.log(350), np.log(1700))))
    elongated = rng.uniform(0.0, 0.45)
    chromatin = clouds(rng, size, 30, 3)
    labels, light = np.zeros((size, size), np.int32), np.zeros((size, size), np.float32)
    drawn: list[Nucleus] = []
    for _ in range(count * 3):
        if len(drawn) >= count:
            break
        x, y = rng.uniform(0, size), rng.uniform(0, size)
        if drawn and rng.random() < 0.3:  # beside one that is there already, so that they touch
            other, turn = drawn[rng.integers(len(drawn))], rng.uniform(0, 2 * np.pi)
            reach = rng.uniform(1.75, 2.1) * zoom
            x, y = other.x + reach * np.cos(turn), other.y + reach * np.sin(turn)
        dividing = label == "cells_mitotic" and (len(drawn) < 3 or rng.random() < 0.12)
        group = _dividing(rng, x, y, zoom, exposure) if dividing else [_resting(rng, x, y, zoom, exposure, elongated)]
        for nucleus in group:
            if _draw(rng, nucleus, labels, light, chromatin, len(drawn) + 1):
                drawn.append(nucleus)
    return labels, light, drawn


def _waves(rng: np.random.Generator, amount: float) -> tuple[tuple[float, float], ...]:
    return tuple((float(rng.normal(0, amount / k)), float(rng.uniform(0, 2 * np.pi))) for k in range(2, 6))


def _resting(rng: np.random.Generator, x: float, y: float, zoom: float, exposure: float, elongated: float) -> Nucleus:
    radius = zoom * float(np.exp(rng.normal(0, 0.16)))
    root = float(np.sqrt(1 - rng.uniform(0.0, 0.25) - elongated * rng.uniform(0.3, 1)))
    return Nucleus(
        x, y, radius / root, radius * root, rng.uniform(0, np.pi), _waves(rng, 0.09),
        exposure * float(np.exp(rng.normal(0, 0.35))), rng.uniform(0.1, 0.28), int(rng.integers(0, 5)),
    )  # fmt: skip


def _dividing(rng: np.random.Generator, x: float, y: float, zoom: float, exposure: float) -> list[Nucleus]:
    """A dividing cell: condensed and bright; a ragged clump, a plate, or two plates that draw apart (two numbers)."""
    angle, bright, texture = rng.uniform(0, np.pi), exposure * rng.uniform(1.8, 2.8), rng.uniform(0.1, 0.3)
    form = rng.choice(["clump", "plate", "pair"])
    if form == "clump":
        radius = zoom * rng.uniform(0.65, 0.85)
        return [Nucleus(x, y, radius, radius * 0.85, angle, _waves(rng, 0.3), bright, texture, 0, True)]
    long, short = zoom * rng.uniform(0.85, 1.1), zoom * rng.uniform(0.26, 0.36)
    if form == "plate":
        return [Nucleus(x, y, long, short, angle, _waves(rng, 0.1), bright, texture, 0, True)]
    apart = zoom * rng.uniform(0.5, 1.0)
    dx, dy = -np.sin(angle) * apart, np.cos(angle) * apart
    return [
        Nucleus(x + sign * dx, y + sign * dy, long * 0.85, short, angle, _waves(rng, 0.1), bright, texture, 0, True)
        for sign in (-1, 1)
    ]


def _draw(rng: np.random.Generator, one: Nucleus, labels: Array, light: Array, chromatin: Array, number: int) -> bool:
    """Draws a nucleus under those already there; False, and nothing drawn, where too little of it would be seen."""
    size = len(labels)
    reach = int(one.a * 1.4) + 2
    x0, y0 = max(0, int(one.x) - reach), max(0, int(one.y) - reach)
    x1, y1 = min(size, int(one.x) + reach), min(size, int(one.y) + reach)
    if x1 - x0 < 3 or y1 - y0 < 3:
        return False
    at = np.s_[y0:y1, x0:x1]
    dx = (np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - one.x))[None, :]
    dy = (np.arange(y0, y1, dtype=np.float32) + np.float32(0.5 - one.y))[:, None]
    cos, sin = np.float32(np.cos(one.angle)), np.float32(np.sin(one.angle))
    u, v = (dx * cos + dy * sin) / np.float32(one.a), (dy * cos - dx * sin) / np.float32(one.b)
    theta, edge = np.arctan2(v, u), np.ones_like(u)
    for k, (amplitude, phase) in enumerate(one.waves, 2):
        edge = edge + np.float32(amplitude) * np.cos(k * theta + np.float32(phase))
    t = np.hypot(u, v) / np.maximum(edge, 0.4)  # 1 on the outline
    inside = t <= 1
    seen = inside & (labels[at] == 0)
    if seen.sum() < max(0.8 * inside.sum(), 0.35 * np.pi * one.a * one.b, 12):
        return False
    value = one.brightness * (0.45 + 0.55 * np.sqrt(np.clip(1 - t**2, 0, 1))) * (1 + one.texture * chromatin[at])
    for _ in range(one.nucleoli):
        turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.6)
        spot = (u - np.float32(far * np.cos(turn))) ** 2 + (v - np.float32(far * np.sin(turn))) ** 2
        value *= 1 - rng.uniform(0.3, 0.6) * np.exp(-spot / np.float32(2 * rng.uniform(0.1, 0.2) ** 2))
    covered = np.clip((1 - t) * one.b + 0.5, 0, 1) * (labels[at] == 0)
    light[at] = light[at] * (1 - covered) + np.maximum(value, 0) * covered
    labels[at][seen] = number
    return True
