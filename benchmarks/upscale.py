"""How well images are enlarged: Y-PSNR on Set5 and Set14 as papers measure it, and tiles against the whole.

    python benchmarks/upscale.py SET5 SET14 --model edsr-x3     # folders of images; any model that `upscale` takes

Each image is cropped to a multiple of the factor, reduced as MATLAB's imresize does it (bicubic, antialiased, rounded
to 8 bits), and enlarged by the stage `upscale`. PSNR is of the Y of BT.601 (16 to 235), as many pixels of border
cropped as the factor is. Grey images count as RGB. Bicubic and Lanczos stand beside.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np


def imresize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """MATLAB's imresize(image, [height, width], 'bicubic'): uint8 (H, W[, C]) to uint8.

    Keys' kernel with a = -0.5, widened by the factor when shrinking; edges mirrored; the axis that shrinks more first;
    rounded once, at the end, half away from zero.
    """
    values = image.astype(np.float64)
    sides = {0: height, 1: width}
    for axis in sorted(sides, key=lambda axis: sides[axis] / image.shape[axis]):
        places, weights = _contributions(image.shape[axis], sides[axis])
        gathered = np.take(values, places, axis=axis)  # the axis becomes two: (side, taps)
        shape = [1] * gathered.ndim
        shape[axis], shape[axis + 1] = weights.shape
        values = (gathered * weights.reshape(shape)).sum(axis=axis + 1)
    return np.floor(values.clip(0, 255) + 0.5).astype(np.uint8)


def _contributions(length: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `side` pixels, which of `length` it is made of, and with which weights: both (side, taps)."""
    scale = side / length
    stretch = min(scale, 1.0)
    support = 4 / stretch
    centre = (np.arange(side) + 1) / scale + 0.5 * (1 - 1 / scale)  # counted from 1, as MATLAB does
    left = np.floor(centre - support / 2)
    places = left[:, None] + np.arange(int(np.ceil(support)) + 2)
    weights = stretch * _keys(stretch * (centre[:, None] - places))
    weights /= weights.sum(axis=1, keepdims=True)
    mirror = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    return mirror[(places.astype(int) - 1) % (2 * length)], weights


def _keys(x: np.ndarray) -> np.ndarray:
    """The cubic convolution kernel (Keys 1981), a = -0.5."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x**2 + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, inner, np.where(x <= 2, outer, 0))


def luma(image: np.ndarray) -> np.ndarray:
    """Y of BT.601 in 16 to 235 of uint8 RGB, rounded as MATLAB's rgb2ycbcr gives it for uint8."""
    weighed = image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255 + 16
    return np.floor(weighed + 0.5)


def psnr(one: np.ndarray, other: np.ndarray, border: int) -> float:
    """Y-PSNR in dB of two uint8 RGB images, `border` pixels cropped on every side."""
    inside = (slice(border, -border), slice(border, -border))
    error = luma(one)[inside] - luma(other)[inside]
    return float(10 * np.log10(255**2 / np.mean(error**2)))


def pair(path: Path, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """An image as RGB, cropped to a multiple of `scale`, and its reduction."""
    from PIL import Image

    with Image.open(path) as opened:
        whole = np.asarray(opened.convert("RGB"))
    height, width = (side // scale * scale for side in whole.shape[:2])
    whole = whole[:height, :width]
    return whole, imresize(whole, height // scale, width // scale)


def stage(model: str, **settings: object) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """The stage `upscale`, whatever the size, as a function of one uint8 RGB image; and its factor."""
    from imagier.stages.upscale import UPSCALE

    apply = UPSCALE.make(model=model, below=100_000, **settings).load()

    def enlarge(image: np.ndarray) -> np.ndarray:
        sides = {"width": [image.shape[1]], "height": [image.shape[0]]}
        return apply({"image": [image], "black": [0.0], "white": [255.0], **sides})["image"][0]

    return enlarge, enlarge(np.zeros((16, 16, 3), np.uint8)).shape[0] // 16


def measure(folder: Path, enlarge: Callable[[np.ndarray], np.ndarray], scale: int) -> list[float]:
    """Y-PSNR in dB of each image in a folder, reduced and enlarged again."""
    pairs = [pair(path, scale) for path in sorted(folder.iterdir()) if path.suffix == ".png"]
    return [psnr(whole, enlarge(reduced), scale) for whole, reduced in pairs]


def seams(folder: Path, model: str, tile: int) -> float:
    """The largest difference, in steps of 8 bits, that tiles make: the folder's images reduced and enlarged again."""
    (whole, scale), (tiles, _) = stage(model, tile=2048), stage(model, tile=tile)
    worst = 0
    for path in sorted(folder.iterdir()):
        if path.suffix == ".png":
            reduced = pair(path, scale)[1]
            worst = max(worst, int(np.abs(whole(reduced).astype(int) - tiles(reduced)).max()))
    return worst


def main() -> None:
    """Print a line for each folder and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--model", required=True)
    parser.add_argument("--tile", type=int, default=96, help="of the comparison with the whole")
    given = parser.parse_args()
    network, scale = stage(given.model)

    def bicubic(image: np.ndarray) -> np.ndarray:
        return imresize(image, image.shape[0] * scale, image.shape[1] * scale)

    methods = {"bicubic": bicubic, "lanczos": stage("lanczos")[0], given.model: network}
    if scale != 3:
        del methods["lanczos"]  # it has one factor
    for folder in given.folders:
        for name, enlarge in methods.items():
            found = measure(folder, enlarge, scale)
            each = " ".join(f"{value:.2f}" for value in found)
            print(f"{folder.name} ×{scale} {name}: {np.mean(found):.3f} dB ({each})", flush=True)
        worst = seams(folder, given.model, given.tile)
        print(
            f"{folder.name} ×{scale} {given.model}: tiles of {given.tile} differ by {worst} of 255 at most", flush=True
        )


if __name__ == "__main__":
    main()
