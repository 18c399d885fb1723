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

from imagier.algorithms.fidelity import reduced, y_psnr


def pair(path: Path, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """An image as RGB, cropped to a multiple of `scale`, and its reduction."""
    from PIL import Image

    with Image.open(path) as opened:
        whole = np.asarray(opened.convert("RGB"))
    height, width = (side // scale * scale for side in whole.shape[:2])
    whole = whole[:height, :width]
    return whole, reduced(whole, height // scale, width // scale)


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
    return [y_psnr(whole, enlarge(small), scale) for whole, small in pairs]


def seams(folder: Path, model: str, tile: int) -> float:
    """The largest difference, in steps of 8 bits, that tiles make: the folder's images reduced and enlarged again."""
    (whole, scale), (tiles, _) = stage(model, tile=2048), stage(model, tile=tile)
    worst = 0
    for path in sorted(folder.iterdir()):
        if path.suffix == ".png":
            small = pair(path, scale)[1]
            worst = max(worst, int(np.abs(whole(small).astype(int) - tiles(small)).max()))
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
        return reduced(image, image.shape[0] * scale, image.shape[1] * scale)

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
