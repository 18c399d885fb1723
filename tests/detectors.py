"""A detector whose every box is known: it finds what is bright in each colour, as an ONNX file in a Model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from imagier.models.model import Card, Input, Model, Output, to_write, write_model

LABELS = ("red", "green", "blue")


def detector(folder: Path, *, size: tuple[int, int] = (64, 64), form: str = "yolov10", **card: Any) -> Model:
    """Write a Model folder.

    Of each channel, a class, it gives the smallest box around the pixels above half, scored by the brightest of all:
    "yolov10" (n, 3, 6) in pixels, "detr" logits (n, 3, 3) and relative boxes (n, 3, 4), "yolov8" (n, 7, 3).
    Padding is black, so that it is never found. `card` gives other fields of Card, and of Input (fit, pad_at ...).
    """
    for_input = {name: card.pop(name) for name in ("fit", "pad_at", "resize", "interpolation") if name in card}
    save_network(folder.parent / f"{folder.name}.onnx", size, form)
    tensors = ("logits", "boxes") if form == "detr" else ("found",)
    fields = {
        "name": folder.name,
        "task": "detect",
        "architecture": "onnx",
        "input": Input(size=size, **({"fit": "pad", "pad_value": 0} | for_input)),
        "outputs": {"detections": Output(tensors=tensors, form=form)},
        "labels": LABELS,
        "files": to_write(network="network.onnx"),
    }
    return write_model(folder, Card(**(fields | card)), {"network": folder.parent / f"{folder.name}.onnx"})


def save_network(path: Path, size: tuple[int, int], form: str) -> None:
    """The network alone."""
    height, width = size
    nodes, constants = [], []

    def constant(name: str, values: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(kind: str, inputs: list[str], name: str, **how: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], **how))
        return name

    for axis, (over, side) in enumerate((("x", width), ("y", height))):
        top = node("ReduceMax", ["image"], f"top_{over}", axes=[2 + axis], keepdims=0)
        lit = node("Greater", [top, constant(f"half_{over}", np.float32([0.5]))], f"lit_{over}")
        first, far = (
            constant(f"first_{over}", np.arange(side, dtype=np.float32)),
            constant(f"far_{over}", np.float32([1e4])),
        )
        after, zero = (
            constant(f"after_{over}", np.arange(1, side + 1, dtype=np.float32)),
            constant(f"zero_{over}", np.float32([0])),
        )
        node("ReduceMin", [node("Where", [lit, first, far], f"low_{over}")], f"{over}0", axes=[2], keepdims=1)
        node("ReduceMax", [node("Where", [lit, after, zero], f"high_{over}")], f"{over}1", axes=[2], keepdims=1)
    score = node("ReduceMax", ["top_x"], "score", axes=[2], keepdims=1)
    kind = node("Add", [node("Mul", [score, "zero_x"], "none"), constant("which", np.float32([[0], [1], [2]]))], "kind")
    if form == "yolov10":
        node("Concat", ["x0", "y0", "x1", "y1", score, kind], "found", axis=2)
        outputs = {"found": ["n", 3, 6]}
    else:
        for over in "xy":
            node("Sub", [f"{over}1", f"{over}0"], f"{over}_side")
            node(
                "Div",
                [node("Add", [f"{over}0", f"{over}1"], f"{over}_sum"), constant(f"two_{over}", np.float32([2]))],
                f"{over}_mid",
            )
        node("Concat", ["x_mid", "y_mid", "x_side", "y_side"], "middle", axis=2)
        own = node("Mul", [score, constant("own", np.eye(3, dtype=np.float32))], "own_score")
        if form == "detr":
            node("Div", ["middle", constant("sides", np.float32([width, height, width, height]))], "boxes")
            node(
                "Sub",
                [node("Mul", [own, constant("gain", np.float32([20]))], "raised"), constant("ten", np.float32([10]))],
                "logits",
            )
            outputs = {"logits": ["n", 3, 3], "boxes": ["n", 3, 4]}
        else:
            node("Transpose", [node("Concat", ["middle", own], "rows", axis=2)], "found", perm=[0, 2, 1])
            outputs = {"found": ["n", 7, 3]}
    _write(path, size, nodes, constants, outputs)


def _write(path: Path, size: tuple[int, int], nodes: list, constants: list, outputs: dict[str, list]) -> None:
    graph = helper.make_graph(
        nodes,
        "bright",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, *size])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    save(model, path)
