"""MobileNetV2 as its TFLite file holds it: what the student begins with, and what it learns from."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imagier.models import _tflite
from imagier.models._openvino import package
from imagier.models.networks.encoder import Convolution, Encoder

SIDE = 224
DIGEST = 16
SAID = {"features": (1280,), "logits": (1001,), "map8": (28, 28, 32), "map16": (14, 14, 96)}
RECORD = np.dtype([("view", np.uint8, DIGEST), *((name, np.uint8, shape) for name, shape in SAID.items())])
CONVOLUTIONS = (3, 4)
"""BuiltinOperator: CONV_2D, DEPTHWISE_CONV_2D."""
TYPES = {2: np.int32, 3: np.uint8}
"""TensorType of weights, of biases."""


class Teacher:
    """The network in int8, by OpenVINO, at 224 pixels.

    What it said of a view is kept in `cache`, by the view's hash, as the bytes that the network itself rounds to: 46 KB
    a view. So another run with the same views, with other losses say, asks only what was never asked.
    """

    def __init__(self, file: Path, cache: Path, threads: int) -> None:
        told = _tflite.read(file).tensors

        def name(shape: tuple[int, ...], block: str) -> str:
            found = [t.name for t in told if t.shape == shape and not t.constant and block in t.name.split(";")[0]]
            return found[-1]

        # The sums at the end of the blocks that are the student's maps; the pooled map; the logits.
        tensors = [
            name((1, 1, 1, 1280), "AvgPool"),
            name((1, 1, 1, 1001), "Conv2d_1c_1x1"),
            name((1, 28, 28, 32), "expanded_conv_5/add"),
            name((1, 14, 14, 96), "expanded_conv_12/add"),
        ]
        by_name = {t.name: t for t in told}
        self.codes = [(by_name[each].scale, by_name[each].zero) for each in tensors]
        model = _tflite.openvino_model(file, tensors)
        model.reshape({model.inputs[0]: [-1, SIDE, SIDE, 3]})
        how = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        self.network = package().Core().compile_model(model, "CPU", how)
        self.key = hashlib.blake2b(file.read_bytes(), digest_size=32).digest()  # another teacher says other things
        self.cache = cache
        cache.touch()
        whole = cache.stat().st_size // RECORD.itemsize
        os.truncate(cache, whole * RECORD.itemsize)  # a record that was being written when a run was stopped
        kept = np.memmap(cache, RECORD, "r") if whole else np.empty(0, RECORD)
        self.places = {digest.tobytes(): at for at, digest in enumerate(kept["view"])}

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """(n, 224, 224, 3) uint8 to features (n, 1280), logits (n, 1001), map8 (n, 28, 28, 32), map16."""
        views = [hashlib.blake2b(image.tobytes(), digest_size=DIGEST, key=self.key).digest() for image in images]
        new = [at for at, view in enumerate(views) if view not in self.places]
        if new:
            made = self.network(images[new])
            records = np.zeros(len(new), RECORD)
            records["view"] = np.frombuffer(b"".join(views[at] for at in new), np.uint8).reshape(-1, DIGEST)
            for at, (name, (scale, zero)) in enumerate(zip(SAID, self.codes, strict=True)):
                records[name] = (np.rint(made[at] / scale) + zero).reshape(records[name].shape)
            with open(self.cache, "ab") as file:
                file.write(records.tobytes())
            for at in new:
                self.places.setdefault(views[at], len(self.places))
        kept = np.memmap(self.cache, RECORD, "r")[[self.places[view] for view in views]]
        return {
            name: np.float32(scale) * (kept[name].astype(np.float32) - zero)
            for name, (scale, zero) in zip(SAID, self.codes, strict=True)
        }


def begin(file: Path) -> tuple[Encoder, torch.nn.Linear]:
    """The student with the teacher's weights, as real numbers; and the teacher's last layer, 1,001 classes."""
    layers = _layers(file.read_bytes())
    student, head = Encoder(), torch.nn.Linear(1280, 1001)
    convolutions = [each for each in student.modules() if isinstance(each, Convolution)]
    if len(layers) != len(convolutions) + 1:
        raise SystemExit(f"{file} has {len(layers)} convolutions, not {len(convolutions) + 1}: is it MobileNetV2 1.0?")
    with torch.no_grad():
        for mine, (weights, bias, code) in zip(convolutions, layers, strict=False):
            # TFLite: (made, high, wide, given), and (1, high, wide, channels) where each goes by itself.
            turned = weights.transpose(3, 0, 1, 2) if code == CONVOLUTIONS[1] else weights.transpose(0, 3, 1, 2)
            mine.conv.weight.copy_(torch.from_numpy(np.ascontiguousarray(turned)))
            mine.conv.bias.copy_(torch.from_numpy(bias))
        weights, bias, _ = layers[-1]
        head.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights[:, 0, 0])))
        head.bias.copy_(torch.from_numpy(bias))
    return student, head.requires_grad_(False)


def _layers(data: bytes) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Weights, bias and kind of each convolution, in the order that they run in; real = scale * (stored - zero)."""
    model = _tflite._Table(data, _tflite._at(data, 0, "I"))
    main, buffers = model.tables(2)[0], model.tables(4)
    tensors = main.tables(0)
    codes = [max(each.number(0, "b"), each.number(3, "i")) for each in model.tables(1)]

    def real(at: int) -> np.ndarray:
        tensor: Any = tensors[at]
        stored = bytes(buffers[tensor.number(2, "I")].numbers(0, "B"))
        values = np.frombuffer(stored, TYPES[tensor.number(1, "b")]).reshape(tensor.numbers(0, "i"))
        scale, zero = (np.array(tensor.table(4).numbers(*field)) for field in ((2, "f"), (3, "q")))
        return (scale * (values.astype(np.float64) - (zero if zero.size else 0))).astype(np.float32)

    found = []
    for operator in main.tables(3):
        code, inputs = codes[operator.number(0, "I")], operator.numbers(1, "i")
        if code in CONVOLUTIONS:
            found.append((real(inputs[1]), real(inputs[2]), code))
    return found
