"""Plain drawings with a known answer: groups that any embedding tells apart, pure noise, and faint 12-bit structure."""

from __future__ import annotations

import numpy as np

from imagier.samples.canvas import Array, Sample, blob, blur, box_of, clouds, cover, grid, stream, to_uint8


def three_groups(n: int, seed: int, *, size: int = 96) -> list[Sample]:
    """n uint8 RGB images of three far-apart kinds in turn: "disc", "stripes", "speckle", each varied."""
    samples = []
    for k in range(n):
        rng = stream("three_groups", str(k), seed)
        label, draw = (("disc", _disc), ("stripes", _stripes), ("speckle", _speckle))[k % 3]
        samples.append(Sample(to_uint8(draw(rng, size), rng, 4.0), label, None, {"group": k % 3}))
    return samples


def _disc(rng: np.random.Generator, size: int) -> Array:
    """One bright disc on a dark ground."""
    xs, ys = grid(size)
    x, y = rng.uniform(0.38, 0.62, 2) * size
    inside = cover(np.hypot(xs - x, ys - y) - rng.uniform(0.22, 0.32) * size)[..., None]
    dark, bright = rng.uniform(20, 45, 3), np.array((225, 160, 70)) + rng.normal(0, 12, 3)
    return (dark + inside * (bright - dark)).astype(np.float32)


def _stripes(rng: np.random.Generator, size: int) -> Array:
    """Blue and white stripes, nearly upright."""
    xs, ys = grid(size)
    turn, pitch = rng.normal(0, 0.12), rng.uniform(0.085, 0.11) * size
    wave = np.sin(2 * np.pi * (xs * np.cos(turn) + ys * np.sin(turn)) / pitch + rng.uniform(0, 6.283))
    share = np.clip(wave * 2 + 0.5, 0, 1)[..., None]
    one, other = np.array((60, 90, 170)) + rng.normal(0, 12, 3), np.array((225, 228, 232)) + rng.normal(0, 6, 3)
    picture: Array = (one + share * (other - one)).astype(np.float32)
    return picture


def _speckle(rng: np.random.Generator, size: int) -> Array:
    """Soft grain in green."""
    grain = 1 + rng.uniform(0.2, 0.3) * clouds(rng, size, 18, 2)
    return (np.maximum(grain, 0.1)[..., None] * (np.array((96, 140, 88)) + rng.normal(0, 8, 3))).astype(np.float32)


def noise(n: int, seed: int, *, size: int = 96) -> list[Sample]:
    """n uint8 RGB images of independent uniform noise: there is nothing in them to find."""
    return [
        Sample(stream("noise", str(k), seed).integers(0, 256, (size, size, 3), dtype=np.uint8), "noise", None, {})
        for k in range(n)
    ]


def faint(n: int, seed: int, *, levels: float = 8, bits: int = 12, size: int = 96) -> list[Sample]:
    """n uint16 grey images of 0 .. 2**bits - 1, in turn "flat" and "structure": patches `levels` above the ground.

    The ground lies anywhere in the middle of the range, drawn alike for both, so that brightness tells nothing; sensor
    noise is 1 to 2 grey levels. Shown in 8 bits over the whole range the structure is less than one level high.
    The mask is the structure (half of its height or more).
    """
    samples = []
    for k in range(n):
        rng = stream("faint", str(k), seed)
        ground, spread = rng.uniform(0.15, 0.8) * 2**bits, rng.uniform(1.0, 2.0)
        covered = np.zeros((size, size), np.float32)
        if k % 2:
            for _ in range(int(rng.integers(3, 7))):
                x, y = rng.uniform(0.15, 0.85, 2) * size
                covered = np.maximum(covered, cover(blob(rng, size, x, y, rng.uniform(0.08, 0.16) * size, 0.2)))
            covered = blur(covered, 0.7)
        values = ground + levels * covered + spread * rng.standard_normal((size, size), dtype=np.float32)
        image = np.clip(np.rint(values), 0, 2**bits - 1).astype(np.uint16)
        mask = covered >= 0.5
        truth = {
            "levels": levels if k % 2 else 0, "bits": bits, "noise": round(float(spread), 3),
            "ground": round(float(ground), 2), "box": box_of(mask),
        }  # fmt: skip
        samples.append(Sample(image, "structure" if k % 2 else "flat", mask, truth))
    return samples
