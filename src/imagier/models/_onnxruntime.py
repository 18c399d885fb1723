"""ONNX Runtime: where OpenVINO is not, and where one of its providers serves a graphics card. Reads ONNX."""

from __future__ import annotations

import logging
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from imagier.models import _torch
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

_say = logging.getLogger("imagier.onnxruntime")


@dataclass(frozen=True)
class Device:
    """Where ONNX Runtime computes on this machine."""

    provider: str
    """One of PROVIDERS."""
    why: str = ""
    """Why it is the processor, where a graphics card was tried."""


@cache
def providers() -> tuple[str, ...]:
    """Those of PROVIDERS that the installed ONNX Runtime brings, best first."""
    here = _package().get_available_providers()
    return tuple(name for name in PROVIDERS if name in here)


@cache
def device() -> Device:
    """The best provider that computes. Where no graphics card can be, ONNX Runtime is not even imported.

    Each is tried out with a small network, once: CUDA's is listed on machines where its libraries cannot be loaded.
    """
    failures = []
    for provider in providers() if _torch.likely() else ():
        if provider != CPU:
            if not (failure := _failure(provider)):
                return Device(provider)
            failures.append(failure)
    return Device(CPU, "; ".join(failures))


def ports(path: Path) -> Ports:
    """What the network in a file takes and gives."""
    session = _on_processor(path, 1)
    dtypes = {node.name: _dtype(node) for node in session.get_inputs()}
    return Ports(
        {node.name: _shape(node) for node in session.get_inputs()},
        {node.name: _shape(node) for node in session.get_outputs()},
        dtypes,
    )


def load(job: Job) -> Run:
    """The network, ready to run, on the best provider that loads it; the log says where that is not the device's."""
    session = _ready(job)
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


def _ready(job: Job) -> Any:
    # A call runs on the thread that makes it; the pass makes as many at once as there are cores.
    threads = job.threads or 1
    found = Device(CPU) if job.precision == "int8" else device()  # providers for cards lack most kernels of 8 bits
    why = found.why
    if found.provider != CPU:
        try:
            return _on_card(str(job.path), found.provider, threads)
        except SettingError as error:
            why = str(error)
    session = _on_processor(job.path, threads)
    if why:
        _say.warning("ONNX Runtime runs %s on the processor: %s", job.path, why)
    return session


def _failure(provider: str) -> str:
    """Why a provider computes nothing here; empty where it does."""
    from imagier.models import _probe  # which imports this file

    try:
        session = _on_card(_probe.network(), provider, 1)
        session.run(None, {"x": np.zeros((1, 3, _probe.SIDE, _probe.SIDE), np.float32)})
    except SettingError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - of foreign code, drivers and all; told by `Device.why`
        return f"{provider} fails: {_first_line(error)}"
    return ""


def _on_card(network: str | bytes, provider: str, threads: int) -> Any:
    """A network, or the path of one, on a provider for graphics cards. Raises SettingError where that fails."""
    try:
        session = _session(network, [provider, CPU], threads)
    except Exception as error:
        raise SettingError(f"{provider} fails: {_first_line(error)}") from error
    if provider not in session.get_providers():
        raise SettingError(
            f"{provider} is listed but does not load: its libraries or the driver are missing, or of another version"
        )
    return session


def _on_processor(path: Path, threads: int) -> Any:
    try:
        return _session(str(path), [CPU], threads)
    except Exception as error:
        raise SettingError(f"{path} is no {path.suffix} network that ONNX Runtime reads: {error}") from error


def _session(network: str | bytes, wanted: list[str], threads: int) -> Any:
    package = _package()
    options = package.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    if "DmlExecutionProvider" in wanted:
        options.enable_mem_pattern = False
    asked = [(name, PROVIDERS[name]) for name in wanted]
    # enable_fallback: it would print that a provider failed, and go on without it.
    return package.InferenceSession(network, options, providers=asked, enable_fallback=0)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _shape(node: Any) -> tuple[int | None, ...]:
    return tuple(each if isinstance(each, int) else None for each in node.shape or ())


def _dtype(node: Any) -> str:
    """ "tensor(float)" -> "float32"."""
    name: str = node.type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
