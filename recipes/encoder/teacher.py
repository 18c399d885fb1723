"""MobileNetV2 as its TFLite file holds it: what the student begins with, and what it learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from imagier.models import _tflite
from imagier.models._openvino import package
from imagier.models.networks.encoder import Convolution, Encoder

SIDE = 224
CONVOLUTIONS = (3, 4)
"""BuiltinOperator: CONV_2D, DEPTHWISE_CONV_2D."""
TYPES = {2: np.int32, 3: np.uint8}
"""TensorType of weights, of biases."""


class Teacher:
    """The network in int8, by OpenVINO, at 224 pixels."""

    def __init__(self, file: Path, threads: int) -> None:
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
        model = _tflite.openvino_model(file, tensors)
        model.reshape({model.inputs[0]: [-1, SIDE, SIDE, 3]})
        how = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        self.network = package().Core().compile_model(model, "CPU", how)

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """(n, 224, 224, 3) uint8 to features (n, 1280), logits (n, 1001), map8 (n, 28, 28, 32), map16."""
        made = self.network(images)
        features, logits, map8, map16 = (np.array(made[at], np.float32) for at in range(4))
        n = len(images)
        return {"features": features.reshape(n, -1), "logits": logits.reshape(n, -1), "map8": map8, "map16": map16}


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
