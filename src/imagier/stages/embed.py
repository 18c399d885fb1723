"""embed: each image becomes a vector, near to those of images like it.

`encoder="classical"` needs no weights: colour, gradient and texture statistics (docs/classical.md). Any ONNX file with
one image input serves as well, by its path.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from imagier.stages._choice import chosen
from imagier.types import Apply, Columns, Image, NameOrFile, SettingError, Stage, Step, nearest

if TYPE_CHECKING:
    from imagier.models.engines import Ports

CLASSICAL = "classical"

RANGES = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "float32": (0.0, 1.0)}

Tone = Literal["auto", "full"]


def make(
    *,
    encoder: NameOrFile = CLASSICAL,
    tone: Tone = "auto",
    size: int | None = None,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    output: str | None = None,
    normalise: bool | None = None,
    engine: Literal["auto", "openvino", "onnxruntime"] | None = None,
) -> Step:
    """`embedding`: a float32 vector per image.

    encoder: "classical", or the path of an ONNX file with one input (n, 3, H, W).
    tone: how images deeper than 8 bits come to 8. "auto": by the item's own recorded `black` and `white`, so that
        faint structure shows; "full": by the whole range of the depth, so that brightness compares between images.

    For ONNX files alone:
    size: the short side in pixels, before the square centre crop; read from the file where it says.
    mean, std: of R, G, B in [0, 1]; ImageNet's unless given.
    output: which one, where there are several; maps are averaged over their area.
    normalise: vectors to length 1. engine: what runs the file.
    """
    given = {"size": size, "mean": mean, "std": std, "output": output, "normalise": normalise, "engine": engine}
    kind = CLASSICAL if encoder == CLASSICAL else "onnx"
    if kind == "onnx" and not encoder.lower().endswith(".onnx"):
        raise SettingError(f"embed.encoder cannot be {encoder!r}: it takes {CLASSICAL!r} or the path of an .onnx file")
    return METHODS[kind](encoder, tone, **chosen(METHODS, kind, given))


def _classical(_: str, tone: Tone) -> Step:
    from imagier.algorithms import classical

    def load() -> Apply:
        def apply(columns: Columns) -> Columns:
            return {"embedding": np.stack([classical.describe(image) for image in _eight_bit(columns, tone)])}

        return apply

    return _step(classical.WIDTH, classical.SIDE, load, ())


def _onnx(
    encoder: str,
    tone: Tone,
    *,
    size: int | None = None,
    mean: list[float] = [0.485, 0.456, 0.406],  # noqa: B006 - read only; a list is what YAML gives
    std: list[float] = [0.229, 0.224, 0.225],  # noqa: B006
    output: str | None = None,
    normalise: bool = True,
    engine: str = "auto",
) -> Step:
    from imagier.images import content_hash
    from imagier.models import engines

    path = Path(encoder)
    if not path.is_file():
        raise SettingError(f"embed.encoder: {path.absolute()} is not there. Name an .onnx file, or {CLASSICAL!r}.")
    if size is not None and not 1 <= size <= 4096:
        raise SettingError(f"embed.size cannot be {size}: it takes 1 to 4096 pixels")
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 3 or not np.isfinite(values).all() or (name == "std" and min(values) <= 0):
            raise SettingError(f"embed.{name} cannot be {values}: it takes three numbers, one for each of R, G, B")
    engine = engines.pick(engine)
    side, name, width = _shape(path, engines.ports(path, engine), size, output)

    def load() -> Apply:
        run = engines.load(path, engine)
        shift, scale = np.array(mean, np.float32), np.array(std, np.float32)

        def apply(columns: Columns) -> Columns:
            pixels = np.stack([_square(image, side) for image in _eight_bit(columns, tone)])
            batch = ((pixels.astype(np.float32) / 255 - shift) / scale).transpose(0, 3, 1, 2)
            vectors = run(batch)[name]
            vectors = vectors.mean(axis=(2, 3)) if vectors.ndim == 4 else vectors.reshape(len(vectors), -1)
            if normalise:
                vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            return {"embedding": vectors.astype(np.float32)}

        return apply

    return _step(width, side, load, (content_hash(path.read_bytes()),))


METHODS: dict[str, Callable[..., Step]] = {CLASSICAL: _classical, "onnx": _onnx}


def _step(width: int, side: int, load: Callable[[], Apply], weights: tuple[str, ...]) -> Step:
    return Step(
        reads=("image", "black", "white"),
        writes=pa.schema([pa.field("embedding", pa.list_(pa.float32(), width))]),
        load=load,
        weights=weights,
        pixels=side,
    )


def _shape(path: Path, ports: Ports, size: int | None, output: str | None) -> tuple[int, str, int]:
    """Side of the square input, name of the output, its width."""
    if len(ports.inputs) != 1:
        raise SettingError(f"{path} takes {len(ports.inputs)} inputs ({', '.join(ports.inputs)}); an encoder takes one")
    (shape,) = ports.inputs.values()
    if len(shape) != 4 or shape[1] not in (3, None) or not ports.floats:
        kind = "float32" if ports.floats else "no float32"
        raise SettingError(f"{path} takes {shape}, {kind}; an encoder takes float32 images as (n, 3, H, W)")
    if shape[2] != shape[3]:
        raise SettingError(f"{path} takes images of {shape[2]} x {shape[3]} pixels; an encoder takes square ones")
    if shape[2] and size and shape[2] != size:
        raise SettingError(f"embed.size cannot be {size}: {path} takes {shape[2]} pixels")
    side = shape[2] or size
    if side is None:
        raise SettingError(f"{path} leaves its input's size open: give it, such as --set embed.size=224")
    if output is None and len(ports.outputs) > 1:
        raise SettingError(f"{path} gives several outputs: choose one by embed.output: {', '.join(ports.outputs)}")
    name = output or next(iter(ports.outputs))
    if name not in ports.outputs:
        raise SettingError("embed.output: " + nearest("output", name, ports.outputs))
    given = ports.outputs[name]
    width = given[1] if len(given) in (2, 4) else None
    if width is None:
        raise SettingError(f"{path}: the output {name} has the shape {given}; an encoder gives (n, width) or maps")
    return side, name, width


def _eight_bit(columns: Columns, tone: Tone) -> list[Image]:
    from imagier import images

    if tone == "full":
        return [images.to_uint8(image, *RANGES[str(image.dtype)]) for image in columns["image"]]
    return [images.to_uint8(*each) for each in zip(columns["image"], columns["black"], columns["white"], strict=True)]


def _square(image: Image, side: int) -> np.ndarray:
    """RGB, the middle square, resized: (side, side, 3) uint8. Cut first: a strip would grow beyond all bounds."""
    from imagier import images

    short = min(image.shape[:2])
    y, x = (image.shape[0] - short) // 2, (image.shape[1] - short) // 2
    image = images.resize(image[y : y + short, x : x + short], size=(side, side))
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


EMBED = Stage(name="embed", version=1, over="rows", make=make)
