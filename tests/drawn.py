"""Small pictures drawn for the tests: three families that differ, and files of any kind to hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

RED, GREEN, BLUE, GREY = (220, 20, 20), (20, 220, 20), (20, 20, 220), (128, 128, 128)
KINDS = ("disc", "stripes", "checks")


def plain(colour: tuple[int, int, int], side: int = 32) -> np.ndarray:
    """(side, side, 3) uint8 of one colour."""
    return np.full((side, side, 3), colour, np.uint8)


def picture(kind: str, seed: int, side: int = 48) -> np.ndarray:
    """(side, side, 3) uint8; the kinds differ in colour and in texture, the seeds of a kind in place and noise."""
    random = np.random.default_rng([KINDS.index(kind), seed])
    y, x = np.mgrid[:side, :side]
    shift = random.integers(0, 8)
    shape = {
        "disc": (x - side / 2 - shift + 4) ** 2 + (y - side / 2) ** 2 < (side / 3) ** 2,
        "stripes": (x + shift) // 4 % 2 == 0,
        "checks": ((x + shift) // 8 + y // 8) % 2 == 0,
    }[kind]
    colour = {"disc": RED, "stripes": GREEN, "checks": BLUE}[kind]
    image = np.where(shape[..., None], np.array(colour), 60) + random.normal(0, 6, (side, side, 1))
    return image.clip(0, 255).astype(np.uint8)


def save(path: Path, image: np.ndarray) -> Path:
    """Write a picture in the format that the path's suffix names, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def save_pages(path: Path, pages: list[np.ndarray]) -> Path:
    """Write a TIFF of several pages."""
    import tifffile

    with tifffile.TiffWriter(path) as out:
        for page in pages:
            out.write(page, photometric="rgb" if page.ndim == 3 else "minisblack", metadata=None)
    return path


def fill(folder: Path, each: int = 4, side: int = 48) -> Path:
    """`each` pictures of each kind: folder/disc_0.png and so on."""
    for kind in KINDS:
        for seed in range(each):
            save(folder / f"{kind}_{seed}.png", picture(kind, seed, side))
    return folder
