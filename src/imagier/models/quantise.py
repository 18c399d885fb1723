"""A model's network in int8, by post-training quantisation on one's own images.

NNCF (Intel, Apache-2.0) puts the rounding into the ONNX graph as QuantizeLinear and DequantizeLinear, which OpenVINO
and ONNX Runtime both run in int8. What the rounding costs is measured here on images that were kept aside, and where
it costs too much the ends stay in float32: the noise of the first layers goes through all that follow, and that of
the last is mended by none.

Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only inference, CVPR 2018.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from imagier.models import _openvino, engines
from imagier.models._onnxruntime import as_taken
from imagier.models.model import Card, Model, Role, to_write, write_model
from imagier.models.preprocess import prepare
from imagier.models.store import folder_of
from imagier.types import Image, ModelError, SettingError

LIMIT = 300
"""Images that are looked at, at most: more change the ranges little and cost minutes."""
FEWEST = 20
ASIDE = 5
"""Every so manieth image is kept aside to measure with."""
LEAST = 0.97
"""Least cosine, per image, of what the int8 network gives with what the float32 one gives; centred over the images."""
FLOATING = (0.0, 0.125, 0.25, 0.5)
"""Shares of the convolutions and products that are tried to be left in float32: so many of the first, and half as many
of the last."""
TASKS = ("embed", "classify", "segment")


def quantise(model: Model, images: Iterable[Image], *, name: str, least: float = LEAST, replace: bool = False) -> Model:
    """A Model folder called `name` with the same network in int8; `model` stays as it is.

    images: uint8, RGB or grey, of any size, as the model will meet them; the first 300 are used. Four in five set the
    ranges, the others measure. least: see LEAST; the card's notes hold what was reached.
    Raises SettingError for a model that is not to be quantised, for too few images, and where NNCF is not installed;
    ModelError where int8 does not come up to `least`, or the folder is there already and `replace` is false.
    """
    _able(model)
    if folder_of(name).exists() and not replace:
        raise ModelError(f"{folder_of(name)} is there already: choose another name, or replace it")
    taken = [prepare([image], model.card.input)[0] for image in itertools.islice(images, LIMIT)]
    if len(taken) < FEWEST:
        raise SettingError(f"{len(taken)} images are too few to quantise {model.card.name} on: give {FEWEST} or more")
    batch = np.concatenate(taken)
    aside = np.arange(len(batch)) % ASIDE == ASIDE - 1
    wanted = answers(model, batch[aside])
    best = -1.0
    with tempfile.TemporaryDirectory(prefix="imagier-int8-") as scratch:
        for at, floating in enumerate(FLOATING):
            network = rounded(model, batch[~aside], floating)
            tried = write_model(Path(scratch) / str(at), _card(model, name, ["network"]), {"network": network})
            reached = fidelity(wanted, answers(tried, batch[aside]))
            best = max(best, reached)
            if reached >= least:
                return _keep(model, network, name, replace, _told(reached, floating, aside))
    raise ModelError(
        f"int8 changes what {model.card.name} gives too much: on {aside.sum()} images kept aside the least cosine with "
        f"float32, centred, is {best:.3f}, and {least:g} is asked for. Give more images, ask for less, or keep float32."
    )


def rounded(model: Model, batch: np.ndarray, floating: float = 0.0) -> bytes:
    """The network's ONNX file in int8. batch: pixels as `preprocess.prepare` gives them; floating: see FLOATING."""
    nncf, onnx = _packages()
    graph = onnx.load(model.file("network"))
    _made_whole(onnx, graph.graph)
    for at, node in enumerate(graph.graph.node):
        node.name = node.name or f"{node.op_type}_{at}"
    heavy = [node.name for node in graph.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    first, last = (max(1, round(len(heavy) * share)) if share else 0 for share in (floating, floating / 2))
    left = [name for at, name in enumerate(heavy) if at < first or at >= len(heavy) - last]
    (port,) = [each for each in graph.graph.input if each.name not in {made.name for made in graph.graph.initializer}]
    step = port.type.tensor_type.shape.dim[0].dim_value or 1  # a file for a fixed number of images
    places = range(0, len(batch) - step + 1, step)
    if not places:
        raise SettingError(f"{model.card.name} takes {step} images at once: give {2 * step} or more to quantise it on")

    def fed(at: int) -> dict[str, np.ndarray]:
        return {port.name: np.ascontiguousarray(as_taken(batch[at : at + step], model.card.input))}

    try:
        with contextlib.redirect_stdout(sys.stderr):  # its progress
            made = nncf.quantize(
                graph,
                nncf.Dataset(places, fed),
                subset_size=len(places),
                ignored_scope=nncf.IgnoredScope(names=left) if left else None,
                **_settings(nncf, {node.op_type for node in graph.graph.node}),
            )
    except (nncf.ValidationError, nncf.InternalError, nncf.UnsupportedModelError, RuntimeError, ValueError) as error:
        raise ModelError(f"NNCF cannot quantise the network of {model.card.name}: {error}") from error
    content: bytes = made.SerializeToString()
    return content


def _made_whole(onnx: Any, graph: Any) -> None:
    """Constants kept as float16 and cast when loaded, as float32: NNCF looks for weights beside their layer."""
    constants = {each.name: each for each in graph.initializer}
    for node in [each for each in graph.node if each.op_type == "Cast" and each.input[0] in constants]:
        constant = constants[node.input[0]]
        values = onnx.numpy_helper.to_array(constant)
        if values.dtype == np.float16:
            constant.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), node.output[0]))
            graph.node.remove(node)


def _settings(nncf: Any, kinds: set[str]) -> dict[str, Any]:
    """How NNCF is asked to do it; what other settings gave stands in LOG.md."""
    advanced = importlib.import_module("nncf.quantization.advanced_parameters")
    ranges = importlib.import_module("nncf.quantization.range_estimator").RangeEstimatorParametersSet
    # Weights of 7 bits: without VNNI two products of 8 bits overflow their 16-bit sum, and the folder goes anywhere.
    seven = nncf.OverflowFix.ENABLE
    if "Softmax" in kinds and "MatMul" in kinds:
        return {
            "model_type": nncf.ModelType.TRANSFORMER,
            "advanced_parameters": advanced.AdvancedQuantizationParameters(overflow_fix=seven),
        }
    return {
        # Lowest and highest of all images: the mean of theirs, NNCF's own choice, cuts off the ones that stand out.
        "preset": nncf.QuantizationPreset.MIXED,
        "advanced_parameters": advanced.AdvancedQuantizationParameters(
            overflow_fix=seven, activations_range_estimator_params=ranges.MINMAX
        ),
    }


def _able(model: Model) -> None:
    """Raises SettingError for a model that is not to be quantised."""
    card = model.card
    if card.task not in TASKS:
        raise SettingError(
            f"{card.name} is there to {card.task}: int8 serves models that {' or '.join(TASKS)}, not those whose "
            "numbers are pixels or places"
        )
    if card.input.fit == "none":
        raise SettingError(f"{card.name} takes images of any size: give its card one, to quantise it")
    if card.precision == "int8":
        raise SettingError(f"{card.name} is int8 already")
    if "network" not in card.files or not card.files["network"].path.lower().endswith(".onnx"):
        raise SettingError(f"{card.name} has no ONNX network, and only those are quantised here")


def _packages() -> tuple[Any, Any]:
    """NNCF, without what reports its use over the network, and onnx."""
    try:
        onnx = importlib.import_module("onnx")
        before = os.environ.get("NNCF_CI")
        os.environ["NNCF_CI"] = "1"  # its word for: report nothing
        try:
            nncf = _openvino.quietly("nncf")
        finally:
            if before is None:
                del os.environ["NNCF_CI"]
            else:
                os.environ["NNCF_CI"] = before
    except ModuleNotFoundError as error:
        raise SettingError(f"quantising needs {error.name}: pip install 'imagier[quantise]'") from error
    nncf.set_log_level(logging.ERROR)
    return nncf, onnx


def answers(model: Model, batch: np.ndarray) -> np.ndarray:
    """What a model gives for pixels, a row of float64 per image: pooled for an embedding, else all of it."""
    run = engines.network(model, engine=engines.pick(), threads=os.cpu_count())
    output = model.output("embedding" if model.card.task == "embed" else "logits")
    parts = [run(batch[at : at + 8])[output.tensors[0]] for at in range(0, len(batch), 8)]
    values = np.concatenate(parts).astype(np.float64)
    return engines.pooled(values, output.form, model.card.input.layout)


def fidelity(wanted: np.ndarray, got: np.ndarray) -> float:
    """The least cosine of an image's values with what they should be, each set centred on its own mean.

    Centred, because all images' features lie close together: a plain cosine is near 1 whatever was lost.
    """
    one, other = wanted - wanted.mean(axis=0), got - got.mean(axis=0)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    alike = (one * other).sum(axis=1)
    return float(np.divide(alike, lengths, out=np.zeros_like(alike), where=lengths > 0).min())


def _card(model: Model, name: str, roles: Sequence[Role], notes: str = "") -> Card:
    """The card of the quantised model. It has no weights: torch would compute in others than the network's."""
    card = model.card
    return msgspec.structs.replace(
        card,
        name=name,
        precision="int8",
        files=to_write(**{role: card.files[role].path for role in roles}),
        source=f"{card.name} in int8 (of the network with sha256 {card.files['network'].sha256}); {card.source}",
        notes="; ".join(filter(None, [card.notes, notes])),
    )


def _keep(model: Model, network: bytes, name: str, replace: bool, notes: str) -> Model:
    others: list[Role] = [role for role in model.card.files if role not in ("network", "weights")]
    files: dict[Role, Path | bytes] = {role: model.file(role) for role in others}
    card = _card(model, name, ["network", *others], notes)
    return write_model(folder_of(name), card, files | {"network": network}, replace=replace)


def _told(reached: float, floating: float, aside: np.ndarray) -> str:
    left = f"the first {floating:.1%} and last {floating / 2:.1%} of its layers in float32, " if floating else ""
    return (
        f"int8 by NNCF {version('nncf')} on {(~aside).sum()} images, {left}least cosine with float32 on {aside.sum()} "
        f"others, centred: {reached:.4f}"
    )
