"""Pairs: what a restorer is shown of an image, and what it is to make of that. Training and judging both ask here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imagier import images
from imagier.algorithms.fidelity import reduced
from imagier.algorithms.noise import Noise, parse
from imagier.models.preprocess import in_colour
from imagier.types import Image, ImageError, SettingError


@dataclass(frozen=True)
class Way:
    """How one comes from a file to what a network is shown and what it is to make of that."""

    colour: str = "rgb"
    """What the network takes: grey or rgb."""
    factor: int = 1
    """Above 1, what is shown is so much smaller: MATLAB's bicubic reduction."""
    noise: Noise | None = None
    """Added to what is shown, each time anew."""
    sigma: float | None = None
    """Both are brought to noise of this deviation, which is known as it is drawn."""
    noisy: Mapping[Path, Path] | None = None
    """Of clean images, the noisy ones."""

    def whole(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """What is shown, still without noise, and what is wanted: (h, w, c), (h · factor, w · factor, c), uint8, or
        float32 on 0 to 255 where the file is deeper. Raises ImageError, which names the file."""
        decoded = images.read(path)
        if self.noisy is not None:
            noisy = images.read(self.noisy[path])
            if noisy.image.shape[:2] != decoded.image.shape[:2]:
                (h, w), (y, x) = noisy.image.shape[:2], decoded.image.shape[:2]
                raise ImageError(f"{self.noisy[path]} has {w} x {h} pixels, and its clean image {path} {x} x {y}")
            black, white = noisy.black, noisy.white  # all that will be known where nothing is clean
            return self.made(noisy.image, black, white), self.made(decoded.image, black, white)
        true = self.made(decoded.image, decoded.black, decoded.white)
        if self.factor == 1:
            return true, true
        height, width = (side // self.factor for side in true.shape[:2])
        if not height or not width:
            raise ImageError(f"{path} is too small to be reduced {self.factor} times")
        true = true[: height * self.factor, : width * self.factor]
        eight = true if true.dtype == np.uint8 else np.rint(true).clip(0, 255).astype(np.uint8)
        return reduced(eight, height, width), true

    def made(self, image: Image, black: float, white: float) -> np.ndarray:
        """(h, w, c) in the network's colours, black at 0, white at 255."""
        if image.dtype == np.uint8 and (black, white) == (0, 255):
            return in_colour(image, self.colour)
        values = (image.astype(np.float32) - np.float32(black)) * np.float32(255 / (white - black))
        return in_colour(values, self.colour)


def noised(image: Image, noise: Noise, seed: tuple[int, ...]) -> Image:
    """(h, w) or (h, w, c) uint8 with noise, rounded and clipped as a file would be."""
    made = noise.add(np.atleast_3d(image).astype(np.float32), np.random.default_rng(seed))
    rounded: Image = np.rint(made).clip(0, 255).astype(np.uint8).reshape(image.shape)
    return rounded


def noise_of(text: str) -> Noise:
    """ "gaussian:0-50" and the like. Raises SettingError."""
    try:
        return parse(text)
    except ValueError as error:
        raise SettingError(str(error)) from error
