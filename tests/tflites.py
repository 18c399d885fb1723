"""A tiny classifier as a TFLite file, its numbers known: mean of each channel, then a layer, then softmax."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

WEIGHTS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, -0.5]], np.float32)
"""(4, 3): the classes' logits are WEIGHTS @ (mean of each channel)."""
TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int8": 9}
ZERO = {"uint8": 0, "int8": -128}
INPUT, POOLED, WIDE, LOGITS, CHANCES = "pixels", "head/pool", "head/conv", "head/logits", "chances"


def classifier(
    path: Path,
    dtype: str = "float32",
    *,
    side: int = 8,
    softmax: bool = True,
    labels: Sequence[str] = (),
    norm: tuple[float, float] | None = None,
    licence: str = "",
) -> Path:
    """Write it. A quantised one stands for pixels on 0 to 1; `labels`, `norm` (mean, std on 0 to 255) and `licence` go
    into the metadata of tflite-support."""
    data = _Builder().network(dtype, side, softmax, labels, norm, licence)
    if labels:
        packed = io.BytesIO(data)
        with zipfile.ZipFile(packed, "a") as archive:
            archive.writestr("labels.txt", "\n".join(labels) + "\n")
        data = packed.getvalue()
    path.write_bytes(data)
    return path


class _Builder:
    def __init__(self) -> None:
        import flatbuffers

        self.b = flatbuffers.Builder(4096)

    def network(self, dtype, side, softmax, labels, norm, licence) -> bytes:
        quantised = dtype != "float32"
        kernel = WEIGHTS.reshape(4, 1, 1, 3)
        if quantised:  # symmetric int8 weights; their bias of int32 is zero
            kernel = np.rint(kernel * 64).astype(np.int8)
        bias = np.zeros(4, np.int32 if quantised else np.float32)
        shape = np.array([1, 4], np.int32)
        metadata = self.metadata(labels, norm, licence) if labels or norm or licence else None
        buffers = [b"", kernel.tobytes(), bias.tobytes(), shape.tobytes(), *([metadata] if metadata else [])]

        zero = ZERO.get(dtype, 0)
        pixel = (1 / 255, zero) if quantised else None
        logit = (1 / 64, zero) if quantised else None
        chance = (1 / 256, zero) if quantised else None
        tensors = [
            self.tensor(INPUT, (1, side, side, 3), dtype, 0, pixel),
            self.tensor(POOLED, (1, 1, 1, 3), dtype, 0, pixel),
            self.tensor("kernel", kernel.shape, "int8" if quantised else dtype, 1, (1 / 64, 0) if quantised else None),
            self.tensor("bias", (4,), "int32" if quantised else dtype, 2, (1 / 255 / 64, 0) if quantised else None),
            self.tensor(WIDE, (1, 1, 1, 4), dtype, 0, logit),
            self.tensor("shape", (2,), "int32", 3, None),
            self.tensor(LOGITS, (1, 4), dtype, 0, logit),
            self.tensor(CHANCES, (1, 4), dtype, 0, chance),
        ]
        pool = self.table((0, "i8", 1), (1, "i32", side), (2, "i32", side), (3, "i32", side), (4, "i32", side))
        conv = self.table((0, "i8", 1), (1, "i32", 1), (2, "i32", 1))
        operators = [
            self.operator(0, [0], [1], 5, pool),
            self.operator(1, [1, 2, 3], [4], 1, conv),
            self.operator(2, [4, 5], [6], 17, self.table((0, "off", self.ints([1, 4])))),
        ]
        if softmax:
            operators.append(self.operator(3, [6], [7], 9, self.table((0, "f32", 1.0))))
        main = self.table(
            (0, "off", self.offsets(tensors)),
            (1, "off", self.ints([0])),
            (2, "off", self.ints([7 if softmax else 6])),
            (3, "off", self.offsets(operators)),
        )
        codes = [self.table((0, "i8", code), (2, "i32", 1), (3, "i32", code)) for code in (1, 3, 22, 25)]
        filled = [self.table(*([(0, "off", self.b.CreateByteVector(each))] if each else [])) for each in buffers]
        fields = [
            (0, "u32", 3),
            (1, "off", self.offsets(codes)),
            (2, "off", self.offsets([main])),
            (4, "off", self.offsets(filled)),
        ]
        if metadata:
            named = self.table((0, "off", self.b.CreateString("TFLITE_METADATA")), (1, "u32", 4))
            fields.append((6, "off", self.offsets([named])))
        self.b.Finish(self.table(*fields), b"TFL3")
        return bytes(self.b.Output())

    def metadata(self, labels, norm, licence) -> bytes:
        own = _Builder()
        units = []
        if norm:
            options = own.table((0, "off", own.floats([norm[0]])), (1, "off", own.floats([norm[1]])))
            units = [own.table((0, "u8", 1), (1, "off", options))]
        files = []
        if labels:
            files = [own.table((0, "off", own.b.CreateString("labels.txt")), (2, "i8", 2))]
        taken = own.table((4, "off", own.offsets(units)))
        given = own.table((6, "off", own.offsets(files)))
        graph = own.table((2, "off", own.offsets([taken])), (3, "off", own.offsets([given])))
        fields = [(3, "off", own.offsets([graph]))]
        if licence:
            fields.append((5, "off", own.b.CreateString(licence)))
        own.b.Finish(own.table(*fields), b"M001")
        return bytes(own.b.Output())

    def tensor(self, name, shape, dtype, buffer, quantised) -> int:
        fields: list[Any] = [
            (0, "off", self.ints(shape)),
            (1, "i8", TYPES[dtype]),
            (2, "u32", buffer),
            (3, "off", self.b.CreateString(name)),
        ]
        if quantised:
            scale, zero = self.floats([quantised[0]]), self.longs([quantised[1]])
            fields.append((4, "off", self.table((2, "off", scale), (3, "off", zero))))
        return self.table(*fields)

    def operator(self, code, inputs, outputs, kind, options) -> int:
        taken, given = self.ints(inputs), self.ints(outputs)
        return self.table((0, "u32", code), (1, "off", taken), (2, "off", given), (3, "u8", kind), (4, "off", options))

    def table(self, *fields) -> int:
        prepend = {
            "off": lambda at, value: self.b.PrependUOffsetTRelativeSlot(at, value, 0),
            "u32": lambda at, value: self.b.PrependUint32Slot(at, value, 0),
            "i32": lambda at, value: self.b.PrependInt32Slot(at, value, 0),
            "i8": lambda at, value: self.b.PrependInt8Slot(at, value, 0),
            "u8": lambda at, value: self.b.PrependUint8Slot(at, value, 0),
            "f32": lambda at, value: self.b.PrependFloat32Slot(at, value, 0.0),
        }
        self.b.StartObject(16)
        for at, kind, value in fields:
            prepend[kind](at, value)
        return self.b.EndObject()

    def offsets(self, values) -> int:
        self.b.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.b.PrependUOffsetTRelative(value)
        return self.b.EndVector()

    def ints(self, values) -> int:
        return self.b.CreateNumpyVector(np.array(values, np.int32))

    def longs(self, values) -> int:
        return self.b.CreateNumpyVector(np.array(values, np.int64))

    def floats(self, values) -> int:
        return self.b.CreateNumpyVector(np.array(values, np.float32))
