"""A small network, written byte by byte, with which `imagier doctor` tries an engine out. Needs neither onnx nor torch.

It is of the kind that encoders are made of: 3 x 3 convolutions with ReLU at 56 x 56 and a mean over the area. What an
engine does with it a second tells machines and engines apart, not how fast a particular model will be.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from imagier.models import engines
from imagier.models.model import Card, Input, Model, Output, to_write, write_model

SIDE, WIDTH, LAYERS = 56, 64, 6
GFLOP = 2 * SIDE * SIDE * 9 * (3 * WIDTH + (LAYERS - 1) * WIDTH * WIDTH) / 1e9
"""Arithmetic of one image: multiplications and additions."""


def model(folder: Path) -> Model:
    """The network as a Model folder."""
    card = Card(
        name="probe",
        task="embed",
        architecture="onnx",
        input=Input(size=(SIDE, SIDE), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        outputs={"embedding": Output(tensors=("v",), form="maps", width=WIDTH)},
        source="imagier doctor",
        files=to_write(network="network.onnx"),
    )
    return write_model(folder, card, {"network": network()})


def rate(model: Model, engine: str, callers: int, seconds: float = 0.5) -> float:
    """Images a second, when so many threads call at once with 8 images each."""
    run = engines.network(model, engine=engine)
    batch = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3), np.uint8)

    def work(_: int) -> int:
        done = 0
        while time.perf_counter() < end:
            run(batch)
            done += len(batch)
        return done

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(run, [batch] * callers))  # what is slow the first time
        begun = time.perf_counter()
        end = begun + seconds
        return sum(pool.map(work, range(callers))) / (time.perf_counter() - begun)


def network() -> bytes:
    """The ONNX file. Its fields are numbered as in onnx.proto (github.com/onnx/onnx)."""
    rng = np.random.default_rng(0)
    nodes, kernels, last = [], [], "x"
    for at in range(LAYERS):
        shape = (WIDTH, 3 if at == 0 else WIDTH, 3, 3)
        kernel = (rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)  # He: keeps the variance
        kernels.append(_tensor(f"w{at}", kernel))
        nodes.append(_node("Conv", [last, f"w{at}"], f"c{at}", pads=[1, 1, 1, 1]))
        nodes.append(_node("Relu", [f"c{at}"], last := f"r{at}"))
    nodes.append(_node("GlobalAveragePool", [last], "v"))
    graph = b"".join(
        [
            *(_field(1, node) for node in nodes),
            _field(2, b"probe"),
            *(_field(5, kernel) for kernel in kernels),
            _field(11, _port("x", ["n", 3, SIDE, SIDE])),
            _field(12, _port("v", ["n", WIDTH, 1, 1])),
        ]
    )
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))  # format 8, operators 13


def _field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer: a varint, or bytes with their length before them."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def _node(kind: str, takes: Sequence[str], gives: str, **lists: Sequence[int]) -> bytes:
    attributes = b"".join(
        _field(5, _field(1, name.encode()) + b"".join(_field(8, each) for each in values) + _field(20, 7))
        for name, values in lists.items()
    )
    named = b"".join(_field(1, name.encode()) for name in takes)
    return named + _field(2, gives.encode()) + _field(4, kind.encode()) + attributes


def _tensor(name: str, values: np.ndarray) -> bytes:
    """float32."""
    sides = b"".join(_field(1, side) for side in values.shape)
    return sides + _field(2, 1) + _field(8, name.encode()) + _field(9, values.astype("<f4").tobytes())


def _port(name: str, shape: Sequence[int | str]) -> bytes:
    """float32; a side with a name is free."""
    sides = (_field(2, each.encode()) if isinstance(each, str) else _field(1, each) for each in shape)
    kind = _field(1, 1) + _field(2, b"".join(_field(1, side) for side in sides))
    return _field(1, name.encode()) + _field(2, _field(1, kind))
