"""Engines: what runs an ONNX file. One function on arrays, whichever engine is behind it.

OpenVINO is the CPU's fastest; ONNX Runtime is there where OpenVINO is not. Both are held to the same numbers by a test.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from imagier.models.model import Model, Role
from imagier.types import SettingError

Run = Callable[[np.ndarray], dict[str, np.ndarray]]
"""(n, ...) float32 in, output name -> (n, ...) float32 out. May be called from several threads at once."""


@dataclass(frozen=True)
class Ports:
    """What a network takes and gives: name -> shape, None where a dimension is free."""

    inputs: dict[str, tuple[int | None, ...]]
    outputs: dict[str, tuple[int | None, ...]]
    dtypes: dict[str, str]
    """Of the inputs: "float32", "uint8", "int64", ..."""


def pick(engine: str = "auto") -> str:
    """The engine to use: the one named, or for "auto" the first that is installed. Raises SettingError for none."""
    if engine == "auto":
        for name in ENGINES:
            if importlib.util.find_spec(name):
                return name
        raise SettingError(f"no engine is installed that runs ONNX files: pip install {' or '.join(ENGINES)}")
    if not importlib.util.find_spec(engine):
        raise SettingError(f"the engine {engine!r} is not installed: pip install {engine}")
    return engine


@dataclass(frozen=True)
class Choice:
    """What runs a model's network, and in which numbers."""

    engine: str
    precision: str
    """"float32", "bfloat16", "float16" or "int8": for `Step.precision`, so that it is in keys and receipts."""


def choose(model: Model, engine: str = "auto", precision: str = "auto") -> Choice:
    """The engine and precision for a model on this machine; cheap. Raises SettingError for what cannot be had."""
    return Choice(pick(engine), model.card.precision)


def network(
    model: Model,
    *,
    role: Role = "network",
    pixels: Literal["uint8", "float32"] = "uint8",
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> Run:
    """A model's network, ready to run; its file's hash is checked.

    role "network": takes (n, H, W, C) pixels on 0 to 255, RGB or grey, of the dtype that `pixels` says: the card's
    channel order, layout, mean and std are done here. role "text": takes (n, length) int64 tokens.
    Gives tensor name -> (n, ...) float32. May be called from several threads at once.
    Raises SettingError for an engine that cannot run it, ModelError for a file that is not the card's.
    """
    chosen = choose(model, engine, precision)
    run = load(model.file(role), chosen.engine, threads)
    if role == "text":
        return run
    spec = model.card.input
    shift, scale = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)

    def on_pixels(batch: np.ndarray) -> dict[str, np.ndarray]:
        if spec.colour == "bgr":
            batch = batch[..., ::-1]
        if spec.dtype == "float32":
            batch = (batch.astype(np.float32) / 255 - shift) / scale
        return run(batch if spec.layout == "nhwc" else batch.transpose(0, 3, 1, 2))

    return on_pixels


def ports(path: Path, engine: str) -> Ports:
    """What the network in an ONNX file takes and gives. Raises SettingError for a file that is none."""
    return ENGINES[engine][0](path)


def load(path: Path, engine: str, threads: int | None = None) -> Run:
    """The network in an ONNX file, ready to run in float32 on its only input.

    `threads`: at most so many for one call; None leaves it to the engine. Raises SettingError for a file that is none.
    """
    return ENGINES[engine][1](path, threads)


def openvino() -> Any:
    """The package openvino, without the one that tells its maker of every import of it, over the network."""
    told = "openvino_telemetry"
    if "openvino" not in sys.modules and told not in sys.modules:
        sys.modules[told] = None  # type: ignore[assignment]  # for an import, this is "not installed"
        try:
            return importlib.import_module("openvino")
        finally:
            del sys.modules[told]
    return importlib.import_module("openvino")


def _openvino_model(path: Path) -> Any:
    try:
        return openvino().Core().read_model(path)
    except RuntimeError as error:
        why = str(error).strip().splitlines()[-1]
        raise SettingError(f"{path} is no ONNX file that OpenVINO reads: {why}") from error


def _openvino_ports(path: Path) -> Ports:
    model = _openvino_model(path)

    def shapes(nodes: list[Any]) -> dict[str, tuple[int | None, ...]]:
        return {
            node.get_any_name(): tuple(d.get_length() if d.is_static else None for d in node.get_partial_shape())
            for node in nodes
        }

    dtypes = {node.get_any_name(): str(np.dtype(node.get_element_type().to_dtype())) for node in model.inputs}
    return Ports(shapes(model.inputs), shapes(model.outputs), dtypes)


def _openvino_load(path: Path, threads: int | None) -> Run:
    model = _openvino_model(path)
    (port,) = model.inputs
    # By place, not by name: a compiled network may call an output after the last of several layers that it joined.
    names = [node.get_any_name() for node in model.outputs]
    fixed = port.get_partial_shape()[0]
    config = {"INFERENCE_PRECISION_HINT": "f32"} | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
    compiled = openvino().Core().compile_model(model, "CPU", config)
    dtype = port.get_element_type().to_dtype()
    local = threading.local()

    def infer(batch: np.ndarray) -> list[np.ndarray]:
        if not hasattr(local, "request"):
            local.request = compiled.create_infer_request()  # a request serves one thread
        result = local.request.infer({0: np.ascontiguousarray(batch, dtype)})
        return [np.array(result[at], np.float32) for at in range(len(names))]

    return _run(infer, names, fixed.get_length() if fixed.is_static else None)


def _run(infer: Callable[[np.ndarray], list[np.ndarray]], names: list[str], fixed: int | None) -> Run:
    """`infer` for any number of images, also where the file was exported for a fixed number of them."""

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        n = len(batch)
        if fixed is None:
            parts = [infer(batch)]
        else:
            short = -n % fixed  # the last part is filled up with its own images, and cut again below
            batch = np.concatenate([batch, np.repeat(batch[-1:], short, axis=0)])
            parts = [infer(batch[at : at + fixed]) for at in range(0, len(batch), fixed)]
        return {name: np.concatenate([part[at] for part in parts])[:n] for at, name in enumerate(names)}

    return run


def _onnxruntime_session(path: Path, threads: int | None = None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or 0
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise SettingError(f"{path} is no ONNX file that ONNX Runtime reads: {error}") from error


def _onnxruntime_ports(path: Path) -> Ports:
    session = _onnxruntime_session(path)

    def shapes(nodes: list[Any]) -> dict[str, tuple[int | None, ...]]:
        return {node.name: tuple(d if isinstance(d, int) else None for d in node.shape) for node in nodes}

    dtypes = {node.name: _dtype(node.type) for node in session.get_inputs()}
    return Ports(shapes(session.get_inputs()), shapes(session.get_outputs()), dtypes)


def _dtype(told: str) -> str:
    """ "tensor(float)" -> "float32"."""
    name = told.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)


def _onnxruntime_load(path: Path, threads: int | None) -> Run:
    session = _onnxruntime_session(path, threads)
    (port,) = session.get_inputs()
    names = [node.name for node in session.get_outputs()]

    def infer(batch: np.ndarray) -> list[np.ndarray]:
        results = session.run(names, {port.name: np.ascontiguousarray(batch, _dtype(port.type))})
        return [np.asarray(result, np.float32) for result in results]

    return _run(infer, names, port.shape[0] if isinstance(port.shape[0], int) else None)


ENGINES: dict[str, tuple[Callable[[Path], Ports], Callable[[Path, int | None], Run]]] = {
    "openvino": (_openvino_ports, _openvino_load),
    "onnxruntime": (_onnxruntime_ports, _onnxruntime_load),
}
