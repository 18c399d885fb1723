"""embed: each image becomes a vector, near to those of images like it.

`encoder="builtin"` ships with imagier (docs/encoder.md); "classical" is no network: colour, gradient and texture
statistics (docs/classical.md). Any model whose task is to embed serves as well, by its name or path (docs/models.md),
and any network file with one image input.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from imagier.stages._choice import chosen
from imagier.stages._pixels import Tone, eight_bit
from imagier.types import BUILTIN, Apply, Columns, NameOrFile, Stage, Step

if TYPE_CHECKING:
    from imagier.models.model import Model

CLASSICAL = "classical"

Storage = Literal["float32", "float16"]


def make(
    *,
    encoder: NameOrFile = BUILTIN,
    tone: Tone = "auto",
    storage: Storage = "float32",
    normalise: bool | None = None,
    engine: Literal["auto", "openvino", "onnxruntime", "torch"] | None = None,
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
    size: int | None = None,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    output: str | None = None,
) -> Step:
    """`embedding`: a vector per image.

    encoder: "builtin", "classical", a model's name, or the path of a Model folder or of an .onnx or .tflite file.
    tone: how images deeper than 8 bits come to 8. "auto": by the item's own recorded `black` and `white`, so that
        faint structure shows; "full": by the whole range of the depth, so that brightness compares between images.
    storage: the numbers that are kept; float16 takes half the room.

    For networks alone:
    normalise: vectors to length 1. engine: what runs the network. precision: "auto" is bfloat16 where the processor
        has it, float32 elsewhere.

    For a bare network file, where a Model folder's card says it:
    size: the short side in pixels, before the square centre crop; read from the file where it says.
    mean, std: of R, G, B in [0, 1]; ImageNet's unless given. output: which one, where there are several.
    """
    given: dict[str, object] = {"normalise": normalise, "engine": engine, "precision": precision}
    given |= {"size": size, "mean": mean, "std": std, "output": output}
    return METHODS[kind := _kind(encoder)](encoder, tone, storage, **chosen(METHODS, kind, given))


def _kind(encoder: str) -> str:
    from imagier.models.store import is_network_file

    if encoder == CLASSICAL:
        return CLASSICAL
    return "file" if is_network_file(encoder) else "model"


def _classical(_: str, tone: Tone, storage: Storage) -> Step:
    from imagier.algorithms import classical

    def load() -> Apply:
        def apply(columns: Columns) -> Columns:
            return {"embedding": np.stack([classical.describe(image) for image in eight_bit(columns, tone)])}

        return apply

    return _step(classical.WIDTH, storage, load, pixels=classical.SIDE)


def _file(
    encoder: str,
    tone: Tone,
    storage: Storage,
    *,
    normalise: bool = True,
    engine: str = "auto",
    precision: str = "auto",
    size: int | None = None,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    output: str | None = None,
) -> Step:
    from imagier.models.importing import bare

    model = bare(Path(encoder), task="embed", size=size, mean=mean, std=std, output=output)
    return _by_network(model, tone, storage, normalise, engine, precision)


def _model(
    encoder: str,
    tone: Tone,
    storage: Storage,
    *,
    normalise: bool = True,
    engine: str = "auto",
    precision: str = "auto",
) -> Step:
    from imagier.models.store import find

    return _by_network(find(encoder, "embed", besides=(CLASSICAL,)), tone, storage, normalise, engine, precision)


METHODS: dict[str, Callable[..., Step]] = {CLASSICAL: _classical, "model": _model, "file": _file}


def _by_network(model: Model, tone: Tone, storage: Storage, normalise: bool, engine: str, precision: str) -> Step:
    from imagier.models import engines
    from imagier.models.preprocess import prepare, short_side

    spec, output = model.card.input, model.output("embedding")
    choice = engines.choose(model, engine, precision)
    assert output.width is not None

    def load() -> Apply:
        run = engines.network(model, engine=choice.engine, precision=choice.precision, wanted=output.tensors)
        prepare([np.zeros((8, 8, 3), np.uint8)], spec)  # what it compiles is compiled here, and not by every worker

        def apply(columns: Columns) -> Columns:
            batch, _ = prepare(eight_bit(columns, tone), spec)
            vectors = engines.pooled(run(batch)[output.tensors[0]], output.form, spec.layout)
            if normalise:
                vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            return {"embedding": vectors}

        return apply

    return _step(output.width, storage, load, model.keys, choice.precision, short_side(spec))


def _step(
    width: int,
    storage: Storage,
    load: Callable[[], Apply],
    weights: tuple[str, ...] = (),
    precision: str = "float32",
    pixels: int | None = None,
) -> Step:
    def load_and_round() -> Apply:
        apply = load()
        return lambda columns: {"embedding": apply(columns)["embedding"].astype(storage)}

    number = {"float32": pa.float32(), "float16": pa.float16()}[storage]
    return Step(
        reads=("image", "black", "white"),
        writes=pa.schema([pa.field("embedding", pa.list_(number, width))]),
        load=load_and_round,
        weights=weights,
        precision=precision,
        pixels=pixels,
    )


EMBED = Stage(name="embed", version=2, over="rows", make=make)
