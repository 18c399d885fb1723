"""Tiny networks as ONNX files, their weights known, so that a test can say to the digit what they give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from imagier.models.model import Card, Input, Model, Output, to_write, write_model

WEIGHTS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [2, -1, 0.5]], np.float32)
"""(5, 3): what `vector` gives is WEIGHTS @ (mean of each channel)."""


def network(
    path: Path,
    kind: str = "vector",
    *,
    batch: int | str = "n",
    height: int | str = 8,
    width: int | str = 8,
    channels: int | str = 3,
    inputs: int = 1,
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """Write a network.

    kind: "vector" gives `v` (n, 5); "map" gives `m` (n, 5, H, W), whose mean over the area is that vector; "both"
    gives both; "tokens" gives (n, 5, 1); "log" gives log(vector - 0.2), which is no number for dark images; "fixed"
    gives the vector by a reshape to (1, 5), as files exported for one image often do.
    """
    kernel = numpy_helper.from_array(WEIGHTS[:, :, None, None].copy(), "w")
    shape_of = {"flat": [0, 5], "fixed": [1, 5], "tokens": [0, 5, 1]}
    constants = [kernel, *(numpy_helper.from_array(np.array(v, np.int64), k) for k, v in shape_of.items())]
    constants.append(numpy_helper.from_array(np.float32([0.2]), "shift"))
    nodes = []
    first = "x0"
    if dtype != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", ["x0"], ["x"], to=TensorProto.FLOAT))
        first = "x"
    if inputs == 2:
        nodes.append(helper.make_node("Add", [first, "x1"], ["sum"]))
        first = "sum"
    nodes.append(helper.make_node("Conv", [first, "w"], ["m"]))
    nodes.append(helper.make_node("GlobalAveragePool", ["m"], ["g"]))
    outputs = {"map": ["m"], "both": ["m", "v"]}.get(kind, ["v"])
    if kind in ("vector", "both"):
        nodes.append(helper.make_node("Reshape", ["g", "flat"], ["v"]))
    elif kind in ("fixed", "tokens"):
        nodes.append(helper.make_node("Reshape", ["g", kind], ["v"]))
    elif kind == "log":
        nodes.append(helper.make_node("Reshape", ["g", "flat"], ["f"]))
        nodes.append(helper.make_node("Sub", ["f", "shift"], ["s"]))
        nodes.append(helper.make_node("Log", ["s"], ["v"]))
    shapes = {"m": [batch, 5, height, width], "v": {"tokens": [batch, 5, 1], "fixed": [1, 5]}.get(kind, [batch, 5])}
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(f"x{at}", dtype, [batch, channels, height, width]) for at in range(inputs)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in outputs],
        [each for each in constants if each.name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    save(model, path)
    return path


def encoder(folder: Path, scratch: Path) -> Model:
    """The network "vector" as a Model folder that is called tiny."""
    card = Card(
        name="tiny",
        task="embed",
        architecture="onnx",
        input=Input(size=(8, 8)),
        outputs={"embedding": Output(tensors=("v",), form="vector", width=5)},
        licence="mit",
        files=to_write(network="network.onnx"),
    )
    return write_model(folder, card, {"network": network(scratch / "net.onnx")})
