"""ONNX Runtime: where OpenVINO is not, and where one of its providers serves a graphics card. Reads ONNX."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from imagier.models._running import Job, Ports, Run, asked_for, fits, in_parts, only, whole
from imagier.models.model import Input
from imagier.types import SettingError

PROVIDERS: dict[str, dict[str, str]] = {
    "CUDAExecutionProvider": {"use_tf32": "0"},  # TF32 keeps 10 bits of a float32's 23
    "CoreMLExecutionProvider": {"ModelFormat": "MLProgram", "MLComputeUnits": "CPUAndGPU"},  # others halve the floats
    "DmlExecutionProvider": {},
    "CPUExecutionProvider": {},
}
"""Best first, each with the options under which it computes in float32."""
CPU = "CPUExecutionProvider"


@cache
def providers() -> tuple[str, ...]:
    """Those of PROVIDERS that the installed ONNX Runtime brings, best first."""
    here = _package().get_available_providers()
    return tuple(name for name in PROVIDERS if name in here)


def ports(path: Path) -> Ports:
    """What the network in a file takes and gives."""
    session = _session(path, [CPU], 1)
    dtypes = {node.name: _dtype(node) for node in session.get_inputs()}
    return Ports(
        {node.name: _shape(node) for node in session.get_inputs()},
        {node.name: _shape(node) for node in session.get_outputs()},
        dtypes,
    )


def load(job: Job) -> Run:
    """The network, ready to run, on the best provider."""
    # A call runs on the thread that makes it; the pass makes as many at once as there are cores.
    session = _session(job.path, list(providers()), job.threads or 1)
    only(job.path, [node.name for node in session.get_inputs()])
    (port,) = session.get_inputs()
    fits(job, _shape(port), _dtype(port))
    names = asked_for([node.name for node in session.get_outputs()], job)
    dtype = np.dtype(_dtype(port))
    # DirectML's sessions serve one call at a time.
    turn = threading.Lock() if "DmlExecutionProvider" in session.get_providers() else nullcontext()

    def infer(batch: np.ndarray) -> list[np.ndarray]:
        if job.spec is not None:
            batch = as_taken(batch, job.spec)
        with turn:
            results = session.run(names, {port.name: np.ascontiguousarray(batch, dtype)})
        return [np.asarray(result, np.float32) for result in results]

    return in_parts(infer, names, next(iter(_shape(port)), None))


def as_taken(batch: np.ndarray, spec: Input) -> np.ndarray:
    """Pixels (n, H, W, C) on 0 to 255 as a card says that its network takes them; a channel of all images at a time.

    Each is cast, scaled and shifted where it comes to lie: a tenth of the time of (x / 255 - mean) / std written out.
    """
    source = batch[..., ::-1] if spec.colour == "bgr" else batch
    if spec.dtype == "uint8":
        source = whole(source)
        return source if spec.layout == "nhwc" else source.transpose(0, 3, 1, 2)
    n, height, width, channels = batch.shape
    nchw = spec.layout == "nchw"
    made = np.empty((n, channels, height, width) if nchw else batch.shape, np.float32)
    for at, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        channel = made[:, at] if nchw else made[..., at]
        channel[...] = source[..., at]
        channel *= np.float32(1 / (255 * std))
        channel -= np.float32(mean / std)
    return made


def _package() -> Any:
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # Microsoft's builds for Windows have them
    return onnxruntime


def _session(path: Path, wanted: list[str], threads: int) -> Any:
    package = _package()
    options = package.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    if "DmlExecutionProvider" in wanted:
        options.enable_mem_pattern = False
    try:
        return package.InferenceSession(str(path), options, providers=[(name, PROVIDERS[name]) for name in wanted])
    except Exception as error:
        raise SettingError(f"{path} is no {path.suffix} network that ONNX Runtime reads: {error}") from error


def _shape(node: Any) -> tuple[int | None, ...]:
    return tuple(each if isinstance(each, int) else None for each in node.shape or ())


def _dtype(node: Any) -> str:
    """ "tensor(float)" -> "float32"."""
    name: str = node.type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
