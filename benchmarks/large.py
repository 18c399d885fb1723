"""Large images: what memory `denoise` and `segment` take of one of 6,000 x 4,000 pixels, and whether tiles can be seen.

    python benchmarks/large.py --side 6000 4000             # each in a process of its own
    python benchmarks/large.py --seams --side 1500 1000     # tiles against larger ones, in steps of 255

The image is drawn: slopes, discs and noise. Memory is the peak of the whole process, Python and all. Seams: the largest
difference that other tiles make more than 128 pixels from the border, for `segment` of likelihoods.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import numpy as np


def drawn(width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8."""
    rng = np.random.default_rng(0)
    image = np.empty((height, width, 3), np.uint8)
    across = np.arange(width, dtype=np.float32)
    for top in range(0, height, 250):  # in bands, so that drawing takes no memory to speak of
        down = np.arange(top, min(top + 250, height), dtype=np.float32)[:, None]
        ground = 40 + 20 * np.sin(across / 900) + 20 * np.cos(down / 700)
        cells = (
            (across % 90 - 45) ** 2 + (down % 80 - 40) ** 2 < (18 + 8 * np.sin(across // 90 + down // 80)) ** 2
        ) * 120
        noise = rng.normal(0, 12, (*cells.shape, 3)).astype(np.float32)
        image[top : top + len(down)] = ((ground + cells)[:, :, None] * [0.7, 0.8, 1.0] + noise).clip(0, 255)
    return image


def columns(image: np.ndarray) -> dict[str, list]:
    """As a pass hands them over."""
    height, width = image.shape[:2]
    return {"image": [image], "black": [0.0], "white": [255.0], "width": [width], "height": [height], "box": [None]}


def stage(name: str, **how: object):
    """A stage with the model that ships."""
    from imagier.stages import find_stage

    settings = {"denoise": {}, "segment": {"model": "nuclei", "split": True, "least": 20}}[name]
    return find_stage(name).make(**settings, **how).load()


def alone(name: str, width: int, height: int) -> None:
    """One stage in this process: its peak of memory and its time."""
    apply, given = stage(name), columns(drawn(width, height))
    begun = time.perf_counter()
    made = apply(given)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    more = f", {made['objects'][0]} objects" if name == "segment" else ""
    print(f"{name} {width} x {height}: peak {peak:.0f} MB, {seconds:.0f} s{more}", flush=True)


def seams(width: int, height: int) -> None:
    """Tiles by memory against smaller ones."""
    from imagier.models.segmenting import teller
    from imagier.models.store import find

    image = drawn(width, height)
    inner = (slice(128, -128), slice(128, -128))
    made = [stage("denoise", tile=tile)(columns(image))["image"][0].astype(int) for tile in (2048, 256)]
    print(f"denoise: tiles of 256 differ by {np.abs(made[0] - made[1])[inner].max()} of 255 at most")
    likely = [teller(find("nuclei", "segment"), tile=tile)(image) for tile in (2048, 512)]
    print(f"segment: tiles of 512 differ by {255 * np.abs(likely[0] - likely[1])[inner].max():.2f} of 255 at most")


def main() -> None:
    """Print a line for each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, nargs=2, default=(6000, 4000), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--seams", action="store_true")
    parser.add_argument("--alone", choices=("denoise", "segment"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        alone(given.alone, *given.side)
    elif given.seams:
        seams(*given.side)
    else:
        for name in ("denoise", "segment"):
            subprocess.run([sys.executable, __file__, "--alone", name, "--side", *map(str, given.side)], check=True)


if __name__ == "__main__":
    main()
