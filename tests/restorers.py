"""Tiny denoisers and segmenters, as Model folders: what they give can be said to the digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from imagier.models.model import Card, Input, Model, Output, to_write, write_model


def denoiser(folder: Path, share: float = 0.5, *, channels: int = 3, sigma: float | None = None) -> Model:
    """Between a pixel and the mean of the 3 x 3 about it (black outside), a `share` of the way."""
    kernel = np.zeros((channels, 1, 3, 3), np.float32)
    kernel[:] = share / 9
    kernel[:, :, 1, 1] += 1 - share
    shape = ["n", channels, "h", "w"]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], group=channels, pads=[1, 1, 1, 1])],
        "smooth",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(kernel, "w")],
    )
    grey = {"colour": "grey", "mean": (0.0,), "std": (1.0,)} if channels == 1 else {}
    output = Output(tensors=("y",), form="image")
    return _written(folder, graph, "denoise", Input(fit="none", **grey), "image", output, sigma=sigma)


def segmenter(folder: Path, *, gain: float = 10.0, labels: tuple[str, ...] = (), classes: int = 1) -> Model:
    """Inside is what is bright: logits are gain * (mean of the colours on [0, 1] - 0.5); of further classes, the same
    of red, then green, then blue alone."""
    weights = np.zeros((classes, 3, 1, 1), np.float32)
    weights[0] = gain / 3
    for at in range(1, classes):
        weights[at, at - 1] = gain
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"])],
        "bright",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes, "h", "w"])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.full(classes, -gain / 2, np.float32), "b")],
    )
    output = Output(tensors=("y",), form="logits", width=classes)
    return _written(folder, graph, "segment", Input(fit="none"), "logits", output, labels)


def _written(folder: Path, graph, task: str, spec: Input, meaning: str, output: Output, labels=(), sigma=None) -> Model:
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    card = Card(
        name=folder.name,
        task=task,
        architecture="onnx",
        input=spec,
        outputs={meaning: output},
        labels=labels,
        sigma=sigma,
        files=to_write(network="network.onnx"),
    )
    return write_model(folder, card, {"network": made.SerializeToString()})
