"""Electrophoresis gels and blots: lanes with bands, ladders and smears, on an uneven ground; 8 or 16 bits grey."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from imagier.samples.canvas import Array, Sample, blur, box_of, clouds, grid, stream

LABELS = ("gel_bands", "gel_smear", "gel_blot")

LADDER = (10.0, 8.0, 6.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.0, 0.75, 0.5)  # fragment lengths in kb


@dataclass(frozen=True)
class Lane:
    """One lane: its middle and width in pixels, and what runs in it."""

    x: float
    width: float
    ladder: bool
    bands: list[tuple[float, float, float]] = field(default_factory=list)
    """y of the middle and spread (pixels), strength (0 to about 2) of each band."""
    smear: tuple[float, float, float] | None = None
    """y of its middle, spread, strength."""


def gels(seed: int, size: int, label: str, plain: bool) -> Sample:
    """A gel or blot: uint8 or uint16 grey (size, size). The mask is the bands. `plain`: the same gel, nothing run."""
    scene, noise = stream("gels", "scene", seed), stream("gels", "noise", seed)
    wide = bool(scene.random() < 0.5)
    bright = bool(scene.random() < 0.45) and label != "gel_blot"
    ground = 1 + scene.uniform(0.02, 0.07) * clouds(scene, size, 2, 3)
    ground += scene.uniform(0.005, 0.02) * clouds(scene, size, 70, 1)
    level, reach, grain = scene.uniform(0.08, 0.2), scene.uniform(0.45, 0.75), scene.uniform(0.006, 0.02)
    smile, lean = scene.uniform(-0.03, 0.05), scene.uniform(-0.03, 0.03)
    lanes = [] if plain else _lanes(stream("gels", label, seed), size, label)
    dye, mask, bands = _run(lanes, size, smile, lean, 0.02 if label == "gel_blot" else 0.0)
    dye = blur(dye, 0.5 * size / 192)
    picture = level * ground + reach * dye if bright else (1 - level) * ground * np.exp(-1.3 * dye)
    if label != "gel_blot":
        picture = _wells(picture, stream("gels", "wells", seed), lanes, size, smile, lean)
    picture = picture + grain * noise.standard_normal((size, size), dtype=np.float32)
    top = 65535 if wide else 255
    image = np.clip(np.rint(picture * top), 0, top).astype(np.uint16 if wide else np.uint8)
    known = [_known(lane) for lane in lanes]
    truth = {"count": len(bands), "bands": bands, "bright_bands": bright, "lanes": known}
    return Sample(image, label, mask, truth)


def _known(lane: Lane) -> dict[str, object]:
    smear = lane.smear is not None
    return {"x": round(lane.x, 2), "width": round(lane.width, 2), "ladder": lane.ladder, "smear": smear}


def _lanes(rng: np.random.Generator, size: int, label: str) -> list[Lane]:
    count = int(rng.integers(4, 9)) if label == "gel_blot" else int(rng.integers(6, 13))
    margin = rng.uniform(0.03, 0.09) * size
    pitch = (size - 2 * margin) / count
    width = pitch * rng.uniform(0.68, 0.86)
    xs = [margin + (k + 0.5) * pitch for k in range(count)]
    if label == "gel_blot":
        rows = np.sort(_apart(rng, 0.15, 0.85, int(rng.integers(1, 4)), 0.16)) * size
        return [Lane(x, width, False, _blotted(rng, rows, size)) for x in xs]
    front, back = rng.uniform(0.85, 0.97), rng.uniform(0.12, 0.2)
    shared = _apart(rng, back + 0.05, front, int(rng.integers(2, 6)), 0.06) * size
    ladders = {0, count - 1} if rng.random() < 0.35 else {int(rng.choice([0, count - 1]))}
    lanes = []
    for k, x in enumerate(xs):
        if k in ladders:
            rungs = back + (front - back) * (np.log(10.0) - np.log(LADDER)) / np.log(20.0)
            strengths = [0.9 if kb in (3.0, 1.0) else 0.5 for kb in LADDER]
            bands = [(float(y * size), 0.0065 * size, strong) for y, strong in zip(rungs, strengths, strict=True)]
            lanes.append(Lane(x, width, True, bands))
            continue
        smeared = label == "gel_smear" and (k % 2 == 0 or rng.random() < 0.5)
        smear = None
        if smeared:
            smear = (rng.uniform(0.3, 0.75) * size, rng.uniform(0.08, 0.22) * size, rng.uniform(0.35, 0.9))
        loaded = float(np.exp(rng.normal(-0.1, 0.45)))
        own = list(_apart(rng, back + 0.05, front, int(rng.integers(0, 3)), 0.06) * size)
        ys = [y + rng.normal(0, 0.002) * size for y in shared if rng.random() < (0.35 if smeared else 0.75)]
        ys += [y for y in own if all(abs(y - other) > 0.05 * size for other in ys)]
        lanes.append(Lane(x, width, False, [_band(rng, y, size, loaded) for y in ys], smear))
    return lanes


def _apart(rng: np.random.Generator, low: float, high: float, count: int, gap: float) -> Array:
    """Up to `count` places between low and high, no two nearer than `gap`."""
    places: list[float] = []
    for place in rng.uniform(low, high, count * 4):
        if len(places) < count and all(abs(place - other) >= gap for other in places):
            places.append(float(place))
    return np.array(places)


def _band(rng: np.random.Generator, y: float, size: int, loaded: float) -> tuple[float, float, float]:
    strength = float(np.clip(loaded * np.exp(rng.normal(0, 0.4)), 0.22, 2.2))
    return float(y), size * (0.0065 + 0.004 * strength * rng.uniform(0.6, 1.3)), strength


def _blotted(rng: np.random.Generator, rows: Array, size: int) -> list[tuple[float, float, float]]:
    """The bands of a blot's lane: the same few in all lanes, now strong, now weak, now missing."""
    bands = []
    for k, row in enumerate(rows):
        strength = float(np.clip(np.exp(rng.normal(0.3, 0.25 if k == 0 else 0.8)), 0.25, 3.0))
        if k == 0 or rng.random() < 0.8:
            bands.append((float(row + rng.normal(0, 0.004) * size), size * rng.uniform(0.017, 0.028), strength))
    return bands


def _run(
    lanes: list[Lane], size: int, smile: float, lean: float, dip: float
) -> tuple[Array, Array, list[dict[str, object]]]:
    """The dye in every pixel, the mask of the bands (half of a band's peak or more), and the bands' truth.

    A band is flat across its lane and Gaussian along it, sharper at its front; `smile` and `lean` bend all of them
    alike, as shares of the size, and `dip` makes the ends of a band hang.
    """
    xs, ys = grid(size)
    dye, mask, bands = np.zeros((size, size), np.float32), np.zeros((size, size), bool), []
    for number, lane in enumerate(lanes):
        x0, x1 = max(0, int(lane.x - lane.width * 0.7)), min(size, int(lane.x + lane.width * 0.7) + 2)
        x = xs[:, x0:x1]
        across = np.abs(x - lane.x) / (lane.width / 2)
        flat = 1 / (1 + across**12)  # one half at the edge of the lane
        off = size * (smile * (x / size * 2 - 1) ** 2 + lean * (x / size - 0.5) + dip * np.minimum(across, 1.2) ** 4)
        y = ys - off.astype(np.float32)
        part = np.zeros(y.shape, np.float32)
        if lane.smear is not None:
            middle, spread, strength = lane.smear
            part += strength * np.exp(-(((y - middle) / (spread * np.where(y > middle, 0.6, 1.0))) ** 2) / 2)
        for middle, spread, strength in lane.bands:
            shape = np.exp(-(((y - middle) / np.where(y > middle, 0.8 * spread, spread)) ** 2) / 2) * flat
            own = shape >= 0.5
            box = box_of(own)
            if box is None:
                continue
            part += strength * shape
            mask[:, x0:x1] |= own
            placed = [box[0] + x0, box[1], box[2] + x0, box[3]]
            centre = middle + float(np.interp(lane.x, x[0], off[0]))
            known = {"x": round(lane.x, 2), "y": round(centre, 2), "strength": round(strength, 3)}
            bands.append({"lane": number, **known, "box": placed})
        dye[:, x0:x1] += part * (flat if lane.smear is not None else 1)
    return dye, mask, bands


def _wells(picture: Array, rng: np.random.Generator, lanes: list[Lane], size: int, smile: float, lean: float) -> Array:
    """The slots that the lanes were loaded into, faint, along the top."""
    xs, ys = grid(size)
    top, tall, faint = rng.uniform(0.03, 0.06) * size, rng.uniform(0.008, 0.014) * size, rng.uniform(0.1, 0.3)
    for lane in lanes:
        off = size * (smile * (lane.x / size * 2 - 1) ** 2 + lean * (lane.x / size - 0.5)) * 0.4
        edge = np.maximum(np.abs(xs - lane.x) - lane.width / 2, np.abs(ys - top - off) - tall)
        picture = picture * (1 - faint * np.clip(1 - np.abs(edge), 0, 1))
    return picture
