"""doctor: what is installed, what is missing, and what this machine can do."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import imagier

OPTIONAL = {
    "onnxruntime": "a second engine for ONNX encoders: pip install 'imagier[onnxruntime]'",
    "torch": "the engine for graphics cards, and what models are exported with: pip install 'imagier[train]'",
    "pillow_heif": "HEIC and HEIF images: pip install 'imagier[heic]'",
}

PARTS = (
    "numpy",
    "pyarrow",
    "pylance",
    "pillow",
    "opencv-python-headless",
    "scikit-learn",
    "numba",
    "openTSNE",
    "openvino",
)


def examine() -> Iterator[str]:
    """Lines to read: versions, the processor, engines, optional parts, stages, and what was tried out just now."""
    yield f"imagier {imagier.__version__}, Python {platform.python_version()} ({sys.executable})"
    yield f"{platform.platform()}, {os.cpu_count()} cores"
    for name in PARTS:
        try:
            yield f"  {name} {version(name)}"
        except PackageNotFoundError:
            yield f"  {name} is missing: pip install --force-reinstall imagier"
    yield from _engines()
    for module, what in OPTIONAL.items():
        if importlib.util.find_spec(module):
            yield f"  {module}: installed"
        else:
            yield f"  {module}: not installed ({what})"
    from imagier.images import SUFFIXES
    from imagier.stages import stage_names

    yield f"image suffixes: {' '.join(sorted(SUFFIXES))}"
    yield f"stages: {', '.join(stage_names())}"
    yield _decoding()
    yield _storing()


def _engines() -> Iterator[str]:
    from imagier.models import _onnxruntime, _torch, engines

    if engines.installed("openvino"):
        core = engines.openvino().Core()
        for device in core.available_devices:
            can = ", ".join(core.get_property(device, "OPTIMIZATION_CAPABILITIES"))
            yield f"  openvino {device}: {core.get_property(device, 'FULL_DEVICE_NAME')} ({can})"
    if engines.installed("onnxruntime"):
        why = _onnxruntime.device().why
        yield f"  onnxruntime providers: {', '.join(_onnxruntime.providers())}" + (f" ({why})" if why else "")
    if _torch.installed():
        yield f"  torch devices: {', '.join(_torch.devices())}"
    yield from _inference()


def _inference() -> Iterator[str]:
    """Which engine a model gets, in which numbers, and how fast each is with a small one."""
    from imagier.models import _onnxruntime, _probe, _torch, engines
    from imagier.types import SettingError

    with tempfile.TemporaryDirectory() as folder:
        model = _probe.model(Path(folder) / "probe")
        try:
            chosen = engines.choose(model)
            yield f"a model's network runs on {chosen.engine} in {chosen.precision} ({chosen.why})"
        except SettingError as error:
            yield str(error)
        if _torch.device() != "cpu":
            yield from _on_card()
        for engine in engines.READERS:
            if engines.installed(engine):
                rate = _probe.rate(model, engine, os.cpu_count() or 1)
                speed = f"{rate:.0f} images a second, {rate * _probe.GFLOP:.0f} GFLOP/s"
                where = "" if engine == "openvino" else f" by {_onnxruntime.device().provider}"
                yield f"  {engine}: {speed}{where} (a network of six convolutions, {os.cpu_count()} at a time)"


def _on_card() -> Iterator[str]:
    """What a model gets that has weights, where torch sees a graphics card, and how fast: the encoder that ships."""
    import numpy as np

    from imagier.models import _torch, engines, store
    from imagier.types import BUILTIN, SettingError

    encoder = store.find(BUILTIN, "embed")
    assert encoder.card.input.size is not None
    height, width = encoder.card.input.size
    batch = np.random.default_rng(0).integers(0, 256, (32, height, width, 3), np.uint8)
    try:
        chosen = engines.choose(encoder)
        yield f"  one that has weights, on {chosen.engine} in {chosen.precision} ({chosen.why})"
        run = engines.network(encoder, engine=chosen.engine, precision=chosen.precision)
        run(batch)  # what is slow the first time
        begun, n = time.perf_counter(), 0
        while time.perf_counter() - begun < 0.5:
            n += len(run(batch)["embedding"])
        speed = f"{n / (time.perf_counter() - begun):.0f} images a second"
        yield f"  {chosen.engine}: {speed} on {_torch.device()} (the builtin encoder, {len(batch)} at a time)"
    except (SettingError, RuntimeError) as error:  # RuntimeError: what a card or its driver cannot do
        told = str(error).strip().split("\n")[0]
        yield f"  torch on {_torch.device()} fails: {told}"


def _decoding() -> str:
    import numpy as np

    from imagier import images
    from imagier.pipeline import Pipeline

    pixels = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    data = images.encode(pixels, "jpeg")
    (bound,) = Pipeline.of([{"embed": {}}]).bind()
    apply = bound.step.load()
    begun, n = time.perf_counter(), 0
    while time.perf_counter() - begun < 0.5:
        read = [images.decode(data, short_side=bound.step.pixels) for _ in range(8)]
        apply({name: [getattr(each, name) for each in read] for name in ("image", "black", "white")})
        n += len(read)
    return f"one core reads and embeds {n / (time.perf_counter() - begun):.0f} JPEGs of 640 x 480 a second (builtin)"


def _storing() -> str:
    from imagier.collection import Collection

    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with Collection.create(Path(folder) / "collection").writing():
            took = time.perf_counter() - begun
    return f"a collection can be made and locked under {tempfile.gettempdir()} ({took * 1000:.0f} ms)"
