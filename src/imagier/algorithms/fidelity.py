"""How near an image comes to the true one: PSNR and SSIM as papers measure them, and the reduction they begin with."""

from __future__ import annotations

import numpy as np

MOST = 100.0
"""dB. Beyond, nothing is to be seen, and a mean over images would be one image's."""
LEAST = 11
"""Pixels a side that SSIM's window has."""


def psnr(made: np.ndarray, true: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, of arrays of one shape on 0 to 255; at most MOST, which equals have."""
    error = float(np.mean((made.astype(np.float64) - true.astype(np.float64)) ** 2))
    return min(MOST, float(10 * np.log10(255**2 / error))) if error else MOST


def ssim(made: np.ndarray, true: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian window of 1.5 pixels, on 0 to 255; the mean over channels.

    Both (h, w) or (h, w, c), LEAST pixels a side or more.
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            made.astype(np.float64),
            true.astype(np.float64),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=2 if made.ndim == 3 else None,
        )
    )


def luma(image: np.ndarray) -> np.ndarray:
    """Y of BT.601, 16 to 235, of (h, w, 3) uint8 RGB; rounded, as MATLAB's rgb2ycbcr gives it for uint8."""
    weighed = image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255 + 16
    rounded: np.ndarray = np.floor(weighed + 0.5)
    return rounded


def y_psnr(made: np.ndarray, true: np.ndarray, border: int) -> float:
    """PSNR of `luma` of two (h, w, 3) uint8 images, so many pixels cropped on every side, as papers have it."""
    inside = (slice(border, -border), slice(border, -border))
    return psnr(luma(made)[inside], luma(true)[inside])


def reduced(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """MATLAB's imresize(image, [height, width], 'bicubic'): uint8 (H, W) or (H, W, c) to uint8.

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
    made: np.ndarray = np.floor(values.clip(0, 255) + 0.5).astype(np.uint8)
    return made


def _contributions(length: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of `side` pixels, which of `length` it is made of, and with which weights: both (side, taps)."""
    from imagier.algorithms.resampling import bicubic

    scale = side / length
    stretch = min(scale, 1.0)
    support = 4 / stretch
    centre = (np.arange(side) + 1) / scale + 0.5 * (1 - 1 / scale)  # counted from 1, as MATLAB does
    left = np.floor(centre - support / 2)
    places = left[:, None] + np.arange(int(np.ceil(support)) + 2)
    weights = stretch * bicubic(stretch * (centre[:, None] - places))
    weights /= weights.sum(axis=1, keepdims=True)
    mirror = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    return mirror[(places.astype(int) - 1) % (2 * length)], weights
