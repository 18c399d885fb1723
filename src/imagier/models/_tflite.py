"""What a TFLite file states, read from its bytes; and its network in OpenVINO, with outputs in real numbers.

The format is FlatBuffers: a table is a row of optional fields, each at an offset that its vtable holds. The fields'
places are those of TensorFlow's schema.fbs (version 3c) and tflite-support's metadata_schema.fbs.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imagier.types import SettingError

TEXT_LIMIT = 10_000_000
DTYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8"}
"""TensorType -> numpy's name."""
OPERATORS = {
    0: "add", 1: "pool", 3: "convolution", 6: "pass", 9: "connected", 14: "softmax", 18: "multiply", 19: "activation",
    21: "activation", 22: "shape", 25: "softmax", 39: "shape", 40: "pool", 41: "subtract", 42: "multiply", 43: "shape",
    50: "softmax", 53: "pass", 70: "shape", 114: "pass", 126: "connected",
}  # fmt: skip
"""BuiltinOperator -> what it is to a search from the output backwards (_graphs.py)."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of the main graph."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    constant: bool
    scale: float | None
    """real = scale * (stored - zero), where the tensor is quantised as a whole."""
    zero: int


@dataclass(frozen=True)
class Stated:
    """What tflite-support's metadata says; empty where there is none."""

    mean: tuple[float, ...] = ()
    """On 0 to 255, as written there."""
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    licence: str = ""


@dataclass(frozen=True)
class Network:
    """The main graph: tensors by their place; operators as (kind, inputs, outputs), in the order that they run in."""

    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    stated: Stated = field(default_factory=Stated)


def read(path: Path) -> Network:
    """Raises SettingError for a file that is no TFLite network."""
    data = path.read_bytes()
    try:
        if data[4:8] != b"TFL3":
            raise ValueError("its bytes 4 to 8 are not TFL3")
        return _network(data)
    except (struct.error, ValueError, IndexError, KeyError) as error:
        raise SettingError(f"{path} is no TFLite file: {error}") from error


def openvino_model(path: Path, tensors: Sequence[str] = ()) -> Any:
    """The network as an OpenVINO model; its outputs are `tensors`, which may be inner ones, or the file's own.

    Quantised outputs are given as the real numbers they stand for, float32. An input of int8 becomes one of uint8:
    pixels as they are, from which 128 is taken (what tflite-support says of such networks). Raises SettingError.
    """
    from imagier.models._openvino import package

    network = read(path)
    by_name = {tensor.name: tensor for tensor in network.tensors}
    own = [network.tensors[at].name for at in network.outputs]
    ov = package()
    frontend = ov.frontend.FrontEndManager().load_by_framework("tflite")
    try:
        graph = frontend.load(str(path))
        names = list(tensors) or own
        if names != own:
            graph.override_all_outputs([_place(graph, path, name) for name in names])
        model = frontend.convert(graph)
    except RuntimeError as error:
        why = str(error).strip().splitlines()[-1]
        raise SettingError(f"{path} is no TFLite file that OpenVINO reads: {why}") from error
    results = [_real(ov, model.output(name), by_name[name]) for name in names]
    made = ov.Model(results, [_pixels(ov, each) for each in model.get_parameters()], path.stem)
    made.validate_nodes_and_infer_types()
    return made


def _pixels(ov: Any, parameter: Any) -> Any:
    """An input of int8 as one of uint8."""
    if parameter.get_element_type() != ov.Type.i8:
        return parameter
    ops, output = ov.opset13, parameter.output(0)
    names = set(output.get_names())
    made = ops.parameter(parameter.get_partial_shape(), ov.Type.u8)
    shifted = ops.subtract(ops.convert(made, "f32"), ops.constant(np.array(128, np.float32)))
    output.replace(ops.convert(shifted, "i8").output(0))
    made.output(0).get_tensor().set_names(names)
    return made


def _place(graph: Any, path: Path, name: str) -> Any:
    place = graph.get_place_by_tensor_name(name)
    if place is None:
        raise SettingError(f"{path} has no tensor {name!r}")
    return place


def _real(ov: Any, output: Any, tensor: Tensor) -> Any:
    """An output as a result of real numbers, by the name that it had.

    A quantised one is made by rounding to codes and a conversion to integers. Rounding to the numbers that the codes
    stand for instead needs no integers, of which the CPU plug-in was seen to refuse some (an average pool of int8).
    """
    ops, source = ov.opset13, output.get_node().input_value(0)
    if tensor.dtype == "float32":
        return ops.result(source)
    names, node = set(output.get_names()), source.get_node()
    while node.get_type_name() in ("Transpose", "Reshape", "Squeeze", "Unsqueeze"):
        node = node.input_value(0).get_node()
    rounds = node.input_value(0).get_node() if node.get_type_name() == "Convert" else node
    output.get_tensor().set_names(set())
    if rounds.get_type_name() == "FakeQuantize":
        given, low, high = (rounds.input_value(at) for at in range(3))
        real = ops.fake_quantize(given, low, high, low, high, rounds.get_attributes()["levels"])
        if node.output(0) == source:
            source = real.output(0)
        node.output(0).replace(real.output(0))
    else:
        source = ops.convert(source, "f32").output(0)
        if tensor.scale is not None:
            shifted = ops.subtract(source, ops.constant(np.array(tensor.zero, np.float32)))
            source = ops.multiply(shifted, ops.constant(np.array(tensor.scale, np.float32))).output(0)
    source.get_tensor().set_names(names)
    return ops.result(source)


def _network(data: bytes) -> Network:
    model = _Table(data, _at(data, 0, "I"))
    codes = [max(each.number(0, "b"), each.number(3, "i")) for each in model.tables(1)]
    main = model.tables(2)[0]
    buffers = model.tables(4)
    tensors = tuple(_tensor(each, buffers) for each in main.tables(0))
    operators = tuple(
        (OPERATORS.get(codes[each.number(0, "I")], "other"), each.numbers(1, "i"), each.numbers(2, "i"))
        for each in main.tables(3)
    )
    inputs, outputs = main.numbers(1, "i"), main.numbers(2, "i")
    for at in (*inputs, *outputs):
        tensors[at]  # an input or output that is no tensor: IndexError
    stated = Stated()
    for each in model.tables(6):
        if each.text(0) == "TFLITE_METADATA":
            stated = _stated(bytes(buffers[each.number(1, "I")].numbers(0, "B")), data)
    return Network(tensors, inputs, outputs, operators, stated)


def _tensor(table: _Table, buffers: list[_Table]) -> Tensor:
    shape = table.numbers(7, "i") or table.numbers(0, "i")
    buffer = buffers[table.number(2, "I")]
    scales: tuple[float, ...] = ()
    zeros: tuple[int, ...] = ()
    if quantised := table.table(4):
        scales, zeros = quantised.numbers(2, "f"), quantised.numbers(3, "q")
    return Tensor(
        name=table.text(3),
        shape=tuple(None if side < 0 else side for side in shape),
        dtype=DTYPES.get(table.number(1, "b"), "other"),
        constant=buffer.has(0) or buffer.number(1, "Q") > 1,
        scale=scales[0] if len(scales) == 1 else None,
        zero=zeros[0] if zeros else 0,
    )


def _stated(metadata: bytes, data: bytes) -> Stated:
    """The fields of ModelMetadata that matter here; `data`: the whole file, whose end is a zip of associated files."""
    model = _Table(metadata, _at(metadata, 0, "I"))
    graph = next(iter(model.tables(3)), None)
    if graph is None:
        return Stated(licence=model.text(5))
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    for tensor in graph.tables(2)[:1]:
        for unit in tensor.tables(4):
            if unit.number(0, "B") == 1 and (options := unit.table(1)):  # NormalizationOptions
                mean, std = options.numbers(0, "f"), options.numbers(1, "f")
    labels: tuple[str, ...] = ()
    for tensor in graph.tables(3):
        for file in tensor.tables(6):
            if file.number(2, "b") in (2, 3) and not labels and not file.text(3):  # labels, of no language
                labels = _lines(data, file.text(0))
    return Stated(mean, std, labels, model.text(5))


def _lines(data: bytes, name: str) -> tuple[str, ...]:
    """Of a text file in the zip that the file ends with. Raises ValueError for what is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            if packed.getinfo(name).file_size > TEXT_LIMIT:
                raise ValueError(f"{name} in it is larger than {TEXT_LIMIT} bytes")
            return tuple(packed.read(name).decode().splitlines())
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{name} in it cannot be read: {error}") from error


def _at(data: bytes, place: int, kind: str) -> Any:
    if place < 0:
        raise ValueError(f"an offset of {place}")
    return struct.unpack_from("<" + kind, data, place)[0]


class _Table:
    """A FlatBuffers table: its fields by their number in the schema; what is absent is 0, "" or empty."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.vtable = at - _at(data, at, "i")
        self.size = _at(data, self.vtable, "H")

    def has(self, number: int) -> bool:
        return self._field(number) is not None

    def number(self, number: int, kind: str) -> int:
        place = self._field(number)
        return 0 if place is None else int(_at(self.data, place, kind))

    def text(self, number: int) -> str:
        return bytes(self.numbers(number, "B")).decode()

    def numbers(self, number: int, kind: str) -> tuple[Any, ...]:
        """A vector of numbers."""
        place = self._followed(number)
        return () if place is None else struct.unpack_from(f"<{_at(self.data, place, 'I')}{kind}", self.data, place + 4)

    def table(self, number: int) -> _Table | None:
        place = self._followed(number)
        return None if place is None else _Table(self.data, place)

    def tables(self, number: int) -> list[_Table]:
        """A vector of tables."""
        place = self._followed(number)
        if place is None:
            return []
        count = _at(self.data, place, "I")
        if place + 4 + 4 * count > len(self.data):
            raise ValueError(f"a vector of {count} tables")
        places = [place + 4 + 4 * at for at in range(count)]
        return [_Table(self.data, each + _at(self.data, each, "I")) for each in places]

    def _field(self, number: int) -> int | None:
        entry = 4 + 2 * number
        offset = _at(self.data, self.vtable + entry, "H") if entry < self.size else 0
        return self.at + offset if offset else None

    def _followed(self, number: int) -> int | None:
        """Where a field that is an offset points to."""
        place = self._field(number)
        return None if place is None else place + _at(self.data, place, "I")
