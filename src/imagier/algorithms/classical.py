"""The hand-made image embedding: what an image looks like in 430 numbers, without any weights.

Four blocks, each scaled to length 1, times its weight, put one after the other; the whole is scaled to length 1 again:

    colour      what colours there are, and which of them lie in the middle and which at the rim
    shape       which way the edges run in each cell of a 4 by 4 grid
    texture     local binary patterns at three radii
    covariance  how place, colour and derivatives vary together over the image

Nothing is fitted: every constant is stated here, so a vector depends on its image alone, and vectors made on different
days, from different collections, can be compared. `docs/classical.md` says how well it does and on what.

Square roots of histograms make Euclidean distance the Hellinger distance, which does not let the fullest bin decide.
"""

from __future__ import annotations

from typing import Final

import numpy as np

SIDE: Final = 128
"""The short side, in pixels, that everything is measured at."""

LONGEST: Final = 2
"""The long side, in short sides, up to which the aspect ratio is kept; what is longer is squeezed to it."""

BLOCKS: Final = (
    # name, length, weight
    ("colour", 70, 1.0),
    ("shape", 128, 1.0),
    ("texture", 177, 1.0),
    ("covariance", 55, 1.0),
)
"""The blocks in their order. The weights are equal: no set of images is there that could justify others for all."""

WIDTH: Final = 430
"""The length of the embedding."""

_RING_EDGES = (0.2, 0.35, 0.5)  # radii, in sides of the image, that part the four rings
_RING_GRID = 32  # the rings are drawn on a grid of this many cells a side
_CELLS = 4  # the shape block's grid
_ORIENTATIONS = 8  # over half a turn: an edge and its negative are one
_LAB_SCALE = np.array([50.0, 25.0, 25.0])  # brings lightness (0..100) and the two colour axes to about -1..1
_RIDGE = 0.1  # squared lightness steps, added to each variance: below it lies the rounding to 8 bits


def describe(image: np.ndarray) -> np.ndarray:
    """The embedding of one image.

    Args:
        image: (H, W) grey or (H, W, 3) RGB uint8, at least 1 by 1. A grey image and its copy in three equal channels
            give the same vector.

    Returns:
        (WIDTH,) float32, finite, of Euclidean length 1: the dot product of two is their cosine similarity.

    Raises:
        ValueError: another dtype or shape, or no pixels.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"the image is {image.dtype} {image.shape}; it must be uint8 (H, W) or (H, W, 3)")
    if image.size == 0:
        raise ValueError(f"the image has no pixels: {image.shape}")
    lab = _lab(image)
    lightness = np.ascontiguousarray(lab[..., 0])
    levels = _pyramid(lightness)
    slopes = (_derivative(lightness, 1, 0), _derivative(lightness, 0, 1))
    parts = (
        _colour(lab, slopes),
        _shape(levels[1]),
        _texture(lightness),
        _covariance(lab, lightness, slopes, levels[3]),
    )
    vector = np.concatenate([_unit(part) * weight for part, (_, _, weight) in zip(parts, BLOCKS, strict=True)])
    return _unit(vector).astype(np.float32)


def block(name: str) -> slice:
    """Where a block of `BLOCKS` stands in the embedding. Raises KeyError for a name that is none."""
    start = 0
    for known, length, _ in BLOCKS:
        if known == name:
            return slice(start, start + length)
        start += length
    raise KeyError(name)


def binary_patterns(grey: np.ndarray, step: int = 1) -> np.ndarray:
    """Local binary patterns of 8 neighbours at a radius of `step` pixels, the diagonal ones interpolated.

    With step 1 equal to `skimage.feature.local_binary_pattern(grey, 8, 1)` without its border, save for ties:
    differences to the centre are taken before they are interpolated, so that on a flat area all are exactly 0 and all
    bits set, where interpolating first leaves the bits to rounding. Some ten times as fast. With step n equal to the
    patterns of grey[::n, ::n], and of its n * n - 1 shifted sisters, each at its place.

    Args:
        grey: (H, W) float32, H and W more than 2 steps, whole numbers.
        step: at least 1.

    Returns:
        (H - 2 step, W - 2 step) uint8; bit p is set where the neighbour at the angle of p eighths of a turn, counted
        from the right over the top, is no darker than the centre.

    Ojala, Pietikäinen, Mäenpää: Multiresolution gray-scale and rotation invariant texture classification with local
    binary patterns, IEEE TPAMI 24(7), 2002.
    """
    height, width = grey.shape
    centre = grey[step:-step, step:-step]
    # right, up-right, up, up-left, left, down-left, down, down-right
    ways = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))
    neighbours = [
        grey[step * (1 + y) : height - step * (1 - y), step * (1 + x) : width - step * (1 - x)] for y, x in ways
    ]
    share = np.float32(0.70711)  # of the way to the diagonal pixel, rounded as skimage rounds it
    weight = share / (1 - share)  # of the diagonal pixel, where its two straight neighbours have 1: signs suffice
    twice = centre + centre
    codes = np.zeros(centre.shape, np.uint8)
    far, near = np.empty_like(centre), np.empty_like(centre)  # reused: fresh memory costs more than the arithmetic
    for p, neighbour in enumerate(neighbours):
        if p % 2:
            np.subtract(neighbour, centre, out=far)
            far *= weight
            np.add(neighbours[p - 1], neighbours[(p + 1) % 8], out=near)
            near -= twice
            far += near
            kept = far >= 0
        else:
            kept = neighbour >= centre
        codes |= kept.view(np.uint8) << np.uint8(p)
    return codes


def _lab(image: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of the image at its working size: (H, W, 3) float32, the shorter side SIDE, the longer <= 2 SIDE.

    Small images are enlarged, so that every scale and grid cell below has pixels.
    """
    import cv2

    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)  # before resizing: one and three channels round differently
    image = np.ascontiguousarray(image)
    height, width = image.shape[:2]
    scale = SIDE / min(height, width)
    new_height, new_width = (min(max(round(side * scale), SIDE), LONGEST * SIDE) for side in (height, width))
    # Areas are averaged only where both sides shrink: a strip needs one side averaged, then the other enlarged.
    less_height, less_width = min(height, new_height), min(width, new_width)
    if (less_height, less_width) != (height, width):
        image = cv2.resize(image, (less_width, less_height), interpolation=cv2.INTER_AREA)
    if (less_height, less_width) != (new_height, new_width):
        image = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    lab: np.ndarray = cv2.cvtColor(np.divide(image, np.float32(255), dtype=np.float32), cv2.COLOR_RGB2Lab)
    return lab


def _pyramid(grey: np.ndarray) -> list[np.ndarray]:
    """The image at full, half, quarter and eighth size, smoothed before each halving."""
    import cv2

    levels = [grey]
    for _ in range(3):
        levels.append(cv2.pyrDown(levels[-1]))
    return levels


def _derivative(grey: np.ndarray, x: int, y: int) -> np.ndarray:
    """Sobel derivative of order (x, y): lightness steps per pixel (first), per squared pixel (second)."""
    import cv2

    scale = 1 / 8 if x + y == 1 else 1 / 4
    slope: np.ndarray = cv2.Sobel(grey, cv2.CV_32F, x, y, ksize=3, scale=scale, borderType=cv2.BORDER_REPLICATE)
    return slope


def _magnitude(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # not cv2.magnitude: its last bit depends on where the array lies in memory, so two calls could differ
    length: np.ndarray = np.sqrt(x * x + y * y)
    return length


def _unit(vector: np.ndarray) -> np.ndarray:
    """The vector at length 1; a vector of zeros stays one."""
    length = float(np.sqrt(np.sum(vector * vector)))
    return vector / length if length > 1e-12 else vector


def _soft_bins(bins: int) -> np.ndarray:
    """(256, bins): how 256 fine levels are shared out to bins, each to its two nearest."""
    position = np.arange(256)[:, None] * ((bins - 1) / 255)
    shared: np.ndarray = np.maximum(1 - np.abs(position - np.arange(bins)), 0)
    return shared


def _rings() -> np.ndarray:
    """(4, cells): each ring's mean as weights on the ring grid, from the middle out."""
    side = (np.arange(_RING_GRID) + 0.5) / _RING_GRID - 0.5
    radius = np.hypot(side[:, None], side[None, :]).ravel()
    member = np.digitize(radius, _RING_EDGES)[None, :] == np.arange(len(_RING_EDGES) + 1)[:, None]
    weights: np.ndarray = member / member.sum(axis=1, keepdims=True)
    return weights


def _pattern_classes() -> np.ndarray:
    """(256,): the 58 uniform patterns, those with at most two changes around the circle, numbered; all others 58."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    uniform = (bits != np.roll(bits, 1, axis=1)).sum(axis=1) <= 2
    classes = np.full(256, 58)
    classes[uniform] = np.arange(58)
    return classes


_SHARES = (_soft_bins(16), _soft_bins(13), _soft_bins(13))  # L*, a*, b*
_RINGS = _rings()
_PATTERN_CLASSES = _pattern_classes()


def _counts(codes: np.ndarray, channel: int = 0) -> np.ndarray:
    """How often each value of 0..255 stands in a channel of uint8 codes: (256,) float64."""
    import cv2

    counts: np.ndarray = cv2.calcHist([codes], [channel], None, [256], [0, 256]).ravel().astype(np.float64)
    return counts


# The two blocks below work in place and share what they can: while several threads embed, what costs most is that each
# fresh array of a hundred kilobytes or more is mapped into memory, which the threads do one after the other.


def _colour(lab: np.ndarray, slopes: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """(70,): root histograms of L*, a*, b* (16 + 13 + 13), then mean, spread and edges in each of four rings (28)."""
    import cv2

    lows, highs = np.array([0, -48, -48], np.float32), np.array([100, 48, 48], np.float32)
    levels = lab - lows
    levels *= np.float32(255) / (highs - lows)
    levels += np.float32(0.5)
    fine = np.clip(levels, 0, 255, out=levels).astype(np.uint8)
    pixels = lab.shape[0] * lab.shape[1]
    histograms = [np.sqrt(_counts(fine, channel) @ _SHARES[channel] / pixels) for channel in range(3)]
    edges = _magnitude(*slopes)

    def per_ring(values: np.ndarray) -> np.ndarray:
        grid = cv2.resize(values, (_RING_GRID, _RING_GRID), interpolation=cv2.INTER_AREA)
        return _RINGS @ grid.reshape(_RING_GRID**2, -1).astype(np.float64)

    mean = per_ring(lab)
    spread = np.sqrt(np.maximum(per_ring(lab * lab) - mean * mean, 0))
    rings = [mean / _LAB_SCALE - [1, 0, 0], 2 * spread / _LAB_SCALE, np.log(per_ring(edges) + 0.05) / 1.5]
    return np.concatenate([*histograms, np.concatenate(rings, axis=1).ravel()])


def _shape(grey: np.ndarray) -> np.ndarray:
    """(128,): root of the gradient's share by grid cell and orientation.

    As in histograms of oriented gradients (Dalal, Triggs, CVPR 2005), but scaled over the whole image, not by
    neighbouring cells: where an image has edges at all is part of its shape.
    """
    height, width = grey.shape
    x, y = _derivative(grey, 1, 0), _derivative(grey, 0, 1)
    strength = _magnitude(x, y).astype(np.float64)
    turn = np.mod(np.arctan2(y, x), np.float32(np.pi)) * (_ORIENTATIONS / np.pi)
    lower = turn.astype(np.int64)
    upper_share = strength * (turn - lower)
    rows, columns = np.arange(height) * _CELLS // height, np.arange(width) * _CELLS // width
    first = (rows[:, None] * _CELLS + columns) * _ORIENTATIONS
    bins = _CELLS * _CELLS * _ORIENTATIONS
    sums = np.bincount((first + lower % _ORIENTATIONS).ravel(), (strength - upper_share).ravel(), bins)
    sums += np.bincount((first + (lower + 1) % _ORIENTATIONS).ravel(), upper_share.ravel(), bins)
    cell_means = sums * (_CELLS * _CELLS / grey.size)
    roots: np.ndarray = np.sqrt(cell_means / (cell_means.sum() + 0.01))
    return roots


def _texture(grey: np.ndarray) -> np.ndarray:
    """(177,): root histograms of the 58 uniform binary patterns and the rest, at radius 1, 2 and 4.

    The wider radii see the image smoothed as for halving it, but at every pixel: patterns of a halved image change
    when a regular texture moves by one pixel of the whole.
    """
    import cv2

    histograms = []
    for step, width, sigma in ((1, 1, 0.0), (2, 7, 1.0), (4, 13, 5**0.5)):
        smooth = cv2.GaussianBlur(grey, (width, width), sigma) if sigma else grey
        # whole numbers: without rounding, patterns in flat areas would come from the last bits of the arithmetic
        codes = binary_patterns(np.round(smooth * np.float32(2.55)), step)
        histograms.append(np.sqrt(np.bincount(_PATTERN_CLASSES, _counts(codes), 59) / codes.size))
    return np.concatenate(histograms)


def _covariance(
    lab: np.ndarray, lightness: np.ndarray, slopes: tuple[np.ndarray, np.ndarray], eighth: np.ndarray
) -> np.ndarray:
    """(55,): upper triangle of the matrix logarithm of the covariance of ten values per pixel.

    Region covariance (Tuzel, Porikli, Meer, ECCV 2006) of x, y, L*, a*, b*, the sizes of four derivatives, and L* as
    it is at an eighth of the size: how much of the lightness is coarse is what tells a faint structure from noise.
    The logarithm makes distances between covariances Euclidean (Arsigny et al., Log-Euclidean metrics, Magnetic
    Resonance in Medicine 56, 2006). Off the diagonal times sqrt(2): the vector is as long as the matrix's Frobenius
    norm.
    """
    import cv2

    height, width = lab.shape[:2]
    values = np.empty((10, height, width), np.float32)
    values[0] = (np.arange(width) / width - 0.5) * 40  # place spans 40: about what lightness does
    values[1] = ((np.arange(height) / height - 0.5) * 40)[:, None]
    values[2:5] = lab.transpose(2, 0, 1)
    curves = (_derivative(lightness, 2, 0), _derivative(lightness, 0, 2))
    for row, derivative in zip(values[5:9], (*slopes, *curves), strict=True):
        np.abs(derivative, out=row)
    values[9] = cv2.resize(eighth, (width, height), interpolation=cv2.INTER_LINEAR)
    pixels = values.reshape(len(values), -1)
    pixels -= pixels.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    covariance = (pixels @ pixels.T).astype(np.float64) / pixels.shape[1] + _RIDGE * np.eye(len(values))
    variances, axes = np.linalg.eigh(covariance)
    logarithm = (axes * np.log(np.maximum(variances, _RIDGE / 2))) @ axes.T
    rows, columns = np.triu_indices(len(values))
    triangle: np.ndarray = logarithm[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))
    return triangle
