"""What a network file states of itself: its ports, its numbers, its metadata, and where its classifier begins.

ONNX files are read by OpenVINO, TFLite files by _tflite.py; what the rest asks is the same for both.
"""

from __future__ import annotations

import ast
import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from imagier.models import _tflite
from imagier.models._openvino import package
from imagier.models.model import apart
from imagier.types import ModelError, SettingError

Shape = tuple[int | None, ...]

KINDS = {
    "MatMul": "connected", "Convolution": "convolution", "Add": "add", "Subtract": "subtract", "Multiply": "multiply",
    "Divide": "multiply", "Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "softmax", "Reshape": "shape",
    "Squeeze": "shape", "Unsqueeze": "shape", "Transpose": "shape", "FakeQuantize": "pass", "Convert": "pass",
    "Relu": "activation", "Clamp": "activation", "ReduceMean": "pool", "AvgPool": "pool",
}  # fmt: skip
"""OpenVINO's operation -> what it is to the search for the classifier."""


@dataclass(frozen=True)
class Node:
    """What makes a tensor: the kind of operation, and the tensors that are no constants which it takes."""

    kind: str
    inputs: tuple[Any, ...]
    names: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True)
class Facts:
    """A network file with images in and tensors out."""

    path: Path
    kind: Literal["onnx", "tflite"]
    inputs: dict[str, Shape]
    dtype: str
    """Of its first input."""
    outputs: dict[str, Shape]
    precision: Literal["float32", "float16", "int8"]
    graph: dict[Any, Node] = field(repr=False)
    ends: dict[str, Any] = field(repr=False)
    """Output -> its place in `graph`."""
    stated: _tflite.Stated = field(repr=False)
    properties: dict[str, str] = field(repr=False)
    """An ONNX file's metadata_props."""

    def towards(self, name: str) -> list[Node]:
        """What makes the tensor of this name, from the image on, itself last."""
        places = {each: at for at, node in self.graph.items() for each in node.names} | self.ends
        waiting, there = [places[name]], set()
        while waiting:
            at = waiting.pop()
            if at in self.graph and at not in there:
                there.add(at)
                waiting += self.graph[at].inputs
        return [node for at, node in self.graph.items() if at in there]

    @property
    def inner(self) -> dict[str, Shape]:
        """The names of all tensors that depend on the image."""
        return {name: node.shape for node in self.graph.values() for name in node.names}

    @property
    def labels(self) -> tuple[str, ...]:
        """Of its classes, in order: TFLite's metadata, or the property "names" that exporters of detectors write."""
        names = _literal(self.properties.get("names", ""))
        if isinstance(names, dict) and list(names) == list(range(len(names))):
            names = list(names.values())
        return tuple(map(str, names)) if isinstance(names, list) else self.stated.labels

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width, by the property "imgsz"; for a file that leaves them open."""
        sides = _literal(self.properties.get("imgsz", ""))
        sides = [sides, sides] if isinstance(sides, int) else sides
        if isinstance(sides, list) and len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides):
            return sides[0], sides[1]
        return None

    @property
    def licence(self) -> str:
        """As the file names it; "" where it does not."""
        return self.properties.get("license", "") or self.stated.licence

    def normalised(self, channels: int) -> dict[str, tuple[float, ...]]:
        """Mean and std that TFLite's metadata states, on 0 to 1."""
        told = {"mean": self.stated.mean, "std": self.stated.std}
        if not all(len(values) in (1, channels) for values in told.values()):
            return {}
        return {name: tuple(value / 255 for value in values) for name, values in told.items()}


def read(path: Path, shape: tuple[int, ...] | None = None) -> Facts:
    """The facts of an .onnx or .tflite file. `shape`: of its input, where the file leaves that open.

    Raises SettingError for a file that is no network.
    """
    return (_read_tflite if path.suffix.lower() == ".tflite" else _read_onnx)(path, shape)


@dataclass(frozen=True)
class Head:
    """The classifier at a network's end."""

    features: str
    """The tensor that its last layer takes."""
    shape: Shape
    logits: str | None
    """What softmax takes, where there is a softmax."""
    logits_shape: Shape


def head(facts: Facts, output: str) -> Head | None:
    """The classifier that makes an output: the last fully connected layer, or 1 x 1 convolution of a pooled tensor.

    A convolution whose maps are pooled after it is one where softmax follows. None where the output is no such thing.
    """
    at, layer, pooled, soft = facts.ends[output], None, False, None
    while layer is None:
        node = facts.graph.get(at)
        if node is None or len(node.inputs) != 1:
            return None
        if node.kind == "connected" or (node.kind == "convolution" and (_is_point(facts, node) or (pooled and soft))):
            layer = node
        elif node.kind == "softmax" and soft is None:
            soft = node.inputs[0]
        elif node.kind == "pool":
            pooled = True
        elif node.kind not in ("shape", "pass", "activation", "add", "subtract", "multiply"):
            return None
        at = node.inputs[0]
    if pooled and soft is None:
        return None
    features = _named(facts, at)
    if features is None:
        return None
    logits = None if soft is None else _named(facts, soft)
    return Head(
        features.names[0],
        features.shape,
        logits.names[0] if logits else None,
        logits.shape if logits else (),
    )


def _is_point(facts: Facts, node: Node) -> bool:
    """Whether it gives one pixel: both sides 1, wherever the channels stand."""
    return len(node.shape) == 4 and sum(side == 1 for side in node.shape[1:]) >= 2


def _named(facts: Facts, at: Any) -> Node | None:
    """The tensor, or the same before it was reshaped, under a name that the file knows."""
    node = facts.graph.get(at)
    while node is not None and not node.names and node.kind in ("shape", "pass") and len(node.inputs) == 1:
        node = facts.graph.get(node.inputs[0])
    return node if node is not None and node.names else None


def cut(path: Path, tensor: str, shape: Shape, flat: bool = False, besides: Mapping[str, Shape] | None = None) -> bytes:
    """The ONNX file's network up to a tensor, which becomes its output; `flat`: as (n, the rest).

    besides: tensors on the way there that become outputs too.

    Raises ModelError without the package onnx, and for a tensor that no layer of the file gives.
    """
    onnx = _onnx(f"{path} is cut at its tensor {tensor!r}, which")
    model = onnx.load(path)
    graph = model.graph
    needed: set[str] = {tensor}
    nodes: list[Any] = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            nodes.insert(0, node)
            needed |= set(_taken(node))
    if not any(tensor in node.output for node in nodes):
        raise ModelError(f"{path} has no tensor {tensor!r} that a layer gives")
    if flat:
        nodes.append(onnx.helper.make_node("Flatten", [tensor], [flat_name(tensor)], axis=1))
        tensor, shape = flat_name(tensor), (None, math.prod(side or 1 for side in shape[1:]))
    parts: dict[str, list[Any]] = {"node": nodes}
    for at in ("initializer", "value_info", "input", "sparse_initializer", "quantization_annotation"):
        parts[at] = [each for each in getattr(graph, at) if _name_of(each) in needed]
    first = graph.input[0].type.tensor_type.shape.dim[0]
    count = first.dim_value or first.dim_param or "n"
    parts["output"] = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [count, *sides[1:]])
        for name, sides in {tensor: shape, **(besides or {})}.items()
    ]
    for at, kept in parts.items():
        del getattr(graph, at)[:]
        getattr(graph, at).extend(kept)
    left: bytes = model.SerializeToString()
    return left


def _name_of(part: Any) -> str:
    """Of an initialiser, a port, or what is said of a tensor."""
    name: str = getattr(part, "name", "") or getattr(part, "tensor_name", "") or part.values.name
    return name


def whole(path: Path) -> bytes | Path:
    """An ONNX file with its weights in it: itself, or one made of it and the file that it keeps them in."""
    if not apart(path):
        return path
    model: bytes = _onnx(f"{path} keeps its weights in another file; to join them").load(path).SerializeToString()
    return model


def flat_name(tensor: str) -> str:
    """What `cut` calls a tensor whose area of 1 x 1 it drops."""
    return f"{tensor}_flat"


def _literal(text: str) -> Any:
    """What a property written as a Python literal holds; None for other text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def _taken(node: Any) -> list[str]:
    """The tensors that an ONNX node takes, and those that the graphs inside it take from around it."""
    names = list(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names += _taken(inner)
    return names


def _onnx(why: str) -> Any:
    try:
        return importlib.import_module("onnx")
    except ModuleNotFoundError as error:
        raise ModelError(f"{why} needs the package onnx: pip install onnx") from error


def _read_onnx(path: Path, shape: tuple[int, ...] | None) -> Facts:
    try:
        model = package().Core().read_model(path)
        if shape is not None:
            model.reshape({model.inputs[0]: list(shape)})
    except RuntimeError as error:
        why = str(error).strip().splitlines()[-1]
        raise SettingError(f"{path} is no ONNX file that OpenVINO reads: {why}") from error
    graph, precision = _nodes(model)
    framework: Any = dict(model.get_rt_info().items()).get("framework")
    told = getattr(framework, "value", framework)
    return Facts(
        path=path,
        kind="onnx",
        inputs={port.get_any_name(): _shape(port) for port in model.inputs},
        dtype=str(np.dtype(model.inputs[0].get_element_type().to_dtype())),
        outputs={port.get_any_name(): _shape(port) for port in model.outputs},
        precision=precision,
        graph=graph,
        ends={port.get_any_name(): _place(port.get_node().input(0).get_source_output()) for port in model.outputs},
        stated=_tflite.Stated(),
        properties={str(key): _text(value) for key, value in (told or {}).items()},
    )


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))


def _shape(port: Any) -> Shape:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return ()
    return tuple(side.get_length() if side.is_static else None for side in shape)


def _place(port: Any) -> tuple[str, int]:
    return port.get_node().get_name(), port.get_index()


def _nodes(model: Any) -> tuple[dict[Any, Node], Literal["float32", "float16", "int8"]]:
    """Each tensor that depends on the image, and the numbers that most weights are in."""
    graph: dict[Any, Node] = {}
    held = {"float32": 0, "float16": 0, "int8": 0}
    for operation in model.get_ordered_ops():
        kind = operation.get_type_name()
        if kind == "Constant":
            numbers = operation.get_element_type().get_type_name()
            size = math.prod(int(side) for side in operation.output(0).get_shape())
            held[{"f16": "float16", "i8": "int8", "u8": "int8"}.get(numbers, "float32")] += size
            continue
        taken = [_place(port.get_source_output()) for port in operation.inputs()]
        inputs = tuple(place for place in taken if place in graph)
        if kind != "Parameter" and (not inputs or kind == "ShapeOf"):
            continue  # made of constants, or of shapes alone
        for port in operation.outputs():
            names = tuple(sorted(port.get_names()))
            graph[_place(port)] = Node(KINDS.get(kind, "other"), inputs, names, _shape(port))
    most: Any = max(held, key=lambda name: held[name])
    return graph, most


def _read_tflite(path: Path, shape: tuple[int, ...] | None) -> Facts:
    network = _tflite.read(path)
    tensors = network.tensors
    graph: dict[Any, Node] = {at: Node("other", (), (tensors[at].name,), tensors[at].shape) for at in network.inputs}
    for kind, inputs, outputs in network.operators:
        data = tuple(at for at in inputs if at >= 0 and not tensors[at].constant)
        for at in outputs:
            graph[at] = Node(kind, data, (tensors[at].name,), tensors[at].shape)
    quantised = any(each.scale is not None and each.dtype in ("uint8", "int8") for each in tensors if not each.constant)
    first = tensors[network.inputs[0]]
    return Facts(
        path=path,
        kind="tflite",
        inputs={tensors[at].name: shape or tensors[at].shape for at in network.inputs},
        dtype="uint8" if first.dtype == "int8" else first.dtype,  # _tflite.openvino_model takes pixels for both
        outputs={tensors[at].name: tensors[at].shape for at in network.outputs},
        precision="int8" if quantised else "float32",
        graph=graph,
        ends={tensors[at].name: at for at in network.outputs},
        stated=network.stated,
        properties={},
    )
