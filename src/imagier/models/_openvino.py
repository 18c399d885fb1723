"""OpenVINO: the fastest on CPUs. Reads ONNX and TFLite.

Pixels become what the network takes inside the network's own graph: channel order, mean, std and layout cost next to
nothing there, and no array of floats is made in Python.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from imagier.models import _tflite
from imagier.models._running import Job, Ports, Run, asked_for, fits, in_parts, only, whole
from imagier.types import SettingError

MOST = 8
"""Images at a time and thread: no slower than 16, and half the memory that each thread must first be given."""


def package() -> Any:
    """The package openvino, without the one that tells its maker of every import of it, over the network."""
    return quietly("openvino")


def quietly(name: str) -> Any:
    """A package of Intel's, imported as if openvino_telemetry were not installed."""
    told = "openvino_telemetry"
    if name not in sys.modules and told not in sys.modules:
        sys.modules[told] = None  # type: ignore[assignment]  # for an import, this is "not installed"
        try:
            return importlib.import_module(name)
        finally:
            del sys.modules[told]
    return importlib.import_module(name)


@cache
def capabilities() -> tuple[str, ...]:
    """What the processor computes in, as OpenVINO tells it: FP32, BF16, INT8, ..."""
    return tuple(package().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def refusal(precision: str) -> str:
    """Why the processor cannot compute in a precision; empty where it can.

    A hint that cannot be followed is dropped in silence by OpenVINO: bfloat16 is then float32 (seen with AVX2).
    """
    if precision == "bfloat16" and "BF16" not in capabilities():
        return f"OpenVINO computes in {', '.join(capabilities())} on this processor"
    return ""


def ports(path: Path) -> Ports:
    """What the network in a file takes and gives."""
    model = _read(path)
    dtypes = {node.get_any_name(): _dtype(node) for node in model.inputs}
    return Ports(
        {node.get_any_name(): _shape(node) for node in model.inputs},
        {node.get_any_name(): _shape(node) for node in model.outputs},
        dtypes,
    )


def load(job: Job) -> Run:
    """The network, ready to run."""
    model = _read(job.path, _tensors(job))
    only(job.path, [node.get_any_name() for node in model.inputs])
    # By place, not by name: a compiled network may call an output after the last of several layers that it joined.
    names = asked_for([node.get_any_name() for node in model.outputs], job)
    if len(names) < len(model.outputs):
        model = package().Model([model.output(name).get_node() for name in names], model.get_parameters())
    fits(job, _shape(model.inputs[0]), _dtype(model.inputs[0]))
    fixed = next(iter(_shape(model.inputs[0])), None)
    if job.spec is not None:
        model = _from_pixels(model, job)
    compiled = package().Core().compile_model(model, "CPU", _config(job))
    dtype = model.inputs[0].get_element_type().to_dtype()
    local = threading.local()

    def infer(batch: np.ndarray) -> list[np.ndarray]:
        if not hasattr(local, "request"):
            local.request = compiled.create_infer_request()  # a request serves one thread
        batch = whole(batch) if dtype == np.uint8 else batch
        # Copied in, not shared: a network that shared an array was seen to write to it after it was gone.
        result = local.request.infer({0: np.ascontiguousarray(batch, dtype)})
        made = [np.array(result[at], np.float32) for at in range(len(names))]
        if any(each.shape[:1] == (0,) for each in made):  # seen where memory is short: no exception, and no row at all
            raise MemoryError(f"OpenVINO found no memory for {' x '.join(map(str, batch.shape))} pixels")
        return made

    return in_parts(infer, names, fixed, MOST)


def _config(job: Job) -> dict[str, Any]:
    """As many streams as calls that come at once, each with its own threads: none waits for another's.

    benchmarks/engines.py measures it. Not pinned to cores, because those who call decode on the same ones.
    """
    cores = os.cpu_count() or 1
    each = min(job.threads or 1, cores)
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if job.precision == "bfloat16" else "f32",
        "NUM_STREAMS": max(1, cores // each),
        "INFERENCE_NUM_THREADS": max(1, cores // each) * each,
        "ENABLE_CPU_PINNING": False,
    }


def _from_pixels(model: Any, job: Job) -> Any:
    """The model with what its card says of pixels as its first layers: it takes (n, H, W, C), RGB or grey."""
    ov = package()
    from openvino.preprocess import PrePostProcessor

    spec = job.spec
    assert spec is not None
    shape = model.inputs[0].get_partial_shape()
    at = (1, 2, 3) if spec.layout == "nhwc" else (2, 3, 1)
    for place, side in zip(at, (*(spec.size or (-1, -1)), len(spec.mean)), strict=True):
        shape[place] = side if shape[place].is_dynamic else shape[place]
    model.reshape({model.inputs[0]: shape})
    made = PrePostProcessor(model)
    kind = ov.Type.u8 if job.pixels == "uint8" or spec.dtype == "uint8" else ov.Type.f32
    made.input(0).tensor().set_element_type(kind).set_layout(ov.Layout("NHWC"))
    made.input(0).model().set_layout(ov.Layout(spec.layout.upper()))
    steps = made.input(0).preprocess()
    if spec.colour == "bgr":
        steps.reverse_channels()
    steps.convert_layout(ov.Layout(spec.layout.upper()))  # while they are bytes, not floats
    if spec.dtype == "float32":
        steps.convert_element_type(ov.Type.f32)
        steps.mean([255 * value for value in spec.mean]).scale([255 * value for value in spec.std])
    return made.build()


def _read(path: Path, tensors: tuple[str, ...] = ()) -> Any:
    """`tensors`: what a TFLite network is to give, which may be inner ones; its own outputs unless named."""
    if path.suffix.lower() == ".tflite":
        return _tflite.openvino_model(path, tensors)
    try:
        return package().Core().read_model(path)
    except RuntimeError as error:
        why = str(error).strip().splitlines()[-1]
        raise SettingError(f"{path} is no {path.suffix} network that OpenVINO reads: {why}") from error


def _tensors(job: Job) -> tuple[str, ...]:
    """What the card names, of the image network."""
    outputs = {} if job.card is None else job.card.outputs
    return tuple(name for key, each in outputs.items() if key != "text_embedding" for name in each.tensors)


def _shape(node: Any) -> tuple[int | None, ...]:
    """Of a port; none at all where even the number of dimensions is free."""
    shape = node.get_partial_shape()
    return () if shape.rank.is_dynamic else tuple(each.get_length() if each.is_static else None for each in shape)


def _dtype(node: Any) -> str:
    return str(np.dtype(node.get_element_type().to_dtype()))
