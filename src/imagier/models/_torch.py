"""torch: for graphics cards. Builds the architecture that a card names, and reads its weights from safetensors.

On CUDA in bfloat16 (autocast: what must be float32 stays so), with channels last, and compiled once a run has shown
that it is long; on Apple's MPS and on the CPU in float32. Pixels cross to the device as bytes and are normalised there.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from imagier.models._running import Job, Run, asked_for
from imagier.models.model import Card, Role
from imagier.types import ModelError

if TYPE_CHECKING:
    import torch

COMPILE_AFTER = 20_000
"""Images after which a network is compiled on CUDA. Compiling takes as long as thousands of images do, and no run says
beforehand how long it is: one that has come so far is likely to be long enough to win that back."""
ALIKE = 0.999
"""Least cosine of what the compiled network gives with what it gave before: else it is not used."""

_say = logging.getLogger("imagier.torch")


@cache
def device() -> str:
    """ "cuda" or "mps" where torch sees one, else "cpu". Where no such device can be, torch is not even imported."""
    if not installed() or not likely():
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def devices() -> list[str]:
    """What torch sees, for a person to read: "cuda:0 NVIDIA H100", "mps", "cpu"."""
    import torch

    cards = [f"cuda:{at} {torch.cuda.get_device_name(at)}" for at in range(torch.cuda.device_count())]
    return [*cards, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def installed() -> bool:
    """Whether torch is there."""
    return importlib.util.find_spec("torch") is not None


def likely() -> bool:
    """Whether this machine may have a graphics card that an engine serves: asking an engine itself costs seconds."""
    if sys.platform in ("darwin", "win32"):
        return True
    return any(map(os.path.exists, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")))


def refusal(precision: str, on: str | None = None) -> str:
    """Why torch cannot compute in a precision; empty where it can."""
    on = on or device()
    if precision != "bfloat16":
        return ""
    if on != "cuda":
        return f"torch sees no CUDA device, and computes in float32 on {on.upper()}"
    import torch

    return "" if torch.cuda.is_bf16_supported(including_emulation=False) else "this CUDA device computes in no bfloat16"


def load(job: Job) -> Run:
    """The network, built and ready on the best device. Raises ModelError for weights of another architecture."""
    from imagier.models.exporting import module

    assert job.card is not None
    return runner(module(job.card, job.path, job.role), job, device())


def names_of(card: Card, role: Role) -> list[str]:
    """What a network gives, by the names that the card has for it."""
    return [
        name
        for key, each in card.outputs.items()
        if (key == "text_embedding") == (role == "text")
        for name in each.tensors
    ]


def runner(module: torch.nn.Module, job: Job, on: str) -> Run:
    """A torch network as a function on arrays."""
    import torch

    network = _Network(module.eval(), on, job.precision)
    names = names_of(job.card, job.role) if job.card else []
    enter = _entrance(job, on)

    usual = torch.get_num_threads()

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        if (
            on == "cpu"
        ):  # a call computes on the thread that makes it: the pass makes as many at once as there are cores
            torch.set_num_threads(job.threads or 1)
        try:
            with torch.inference_mode():
                source = torch.from_numpy(np.require(batch, requirements=["C", "W"]))
                if on == "cuda":
                    source = source.pin_memory()
                given = network(enter(source.to(on, non_blocking=True)))
                made = named(given, names)
                return {name: np.array(made[name].float().cpu().numpy()) for name in asked_for(names, job)}
        finally:
            if on == "cpu":
                torch.set_num_threads(usual)

    return run


def named(given: Any, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """What a network returned, a tensor or several, by the names that the card has for them."""
    if isinstance(given, Mapping) and set(names) <= set(given):
        return {name: given[name] for name in names}
    if isinstance(given, Mapping):
        values = list(given.values())
    else:
        values = list(given) if isinstance(given, tuple | list) else [given]
    if len(values) != len(names):
        raise ModelError(
            f"the network gives {len(values)} outputs, but its card names {len(names)}: {', '.join(names)}"
        )
    return dict(zip(names, values, strict=True))


class _Network:
    """A network on a device, at the speed that it can have there. May be called from several threads at once."""

    def __init__(self, module: torch.nn.Module, on: str, precision: str) -> None:
        import torch

        self.on, self.precision = on, precision
        if on == "cuda":
            no_tf32()
        kept = torch.channels_last if on != "mps" else torch.preserve_format
        self.eager: Callable[[torch.Tensor], Any] = module.to(on, memory_format=kept)  # type: ignore[call-overload]
        self.compiled: Callable[[torch.Tensor], Any] | None = None
        self.shape: tuple[int, ...] = ()
        """Of the batches that the compiled network is for: the last of a run is shorter, and not worth compiling."""
        self.seen = 0
        self.tried = not can_compile(on)
        self.turn = threading.Lock() if on != "cpu" else nullcontext()
        """A device does one thing after the other. What a thread waits for is its own result, after its turn."""

    def __call__(self, batch: torch.Tensor) -> Any:
        with self.turn, self.context():
            self.seen += len(batch)
            if not self.tried and self.seen > COMPILE_AFTER:
                self.tried, self.shape = True, tuple(batch.shape)
                self.compiled = self.faster(batch)
            if self.compiled is not None and tuple(batch.shape) == self.shape:
                return self.compiled(batch)
            return self.eager(batch)

    def context(self) -> AbstractContextManager[Any]:
        """bfloat16 by autocast; else float32."""
        import torch

        return torch.autocast(self.on, torch.bfloat16) if self.precision == "bfloat16" else nullcontext()

    def faster(self, batch: torch.Tensor) -> Callable[[torch.Tensor], Any] | None:
        """The network compiled, where that gives the same and sooner; the log says what was found."""
        import torch

        try:
            compiled: Callable[[torch.Tensor], Any] = torch.compile(self.eager)
            alike = cosine(compiled(batch), self.eager(batch))
            before, after = self.seconds(self.eager, batch), self.seconds(compiled, batch)
        except Exception as error:  # noqa: BLE001 - a compiler is much foreign code; the network runs without it
            _say.warning("torch.compile failed, the network runs as it is: %s", str(error).split("\n")[0])
            return None
        _say.info("torch.compile: %.1f to %.1f ms a batch, cosine %.5f", before * 1000, after * 1000, alike)
        return compiled if after < before and alike >= ALIKE else None

    def seconds(self, call: Callable[[torch.Tensor], Any], batch: torch.Tensor) -> float:
        """Of one batch, the median of five."""
        import torch

        taken = []
        for _ in range(5):
            begun = time.perf_counter()
            call(batch)
            if self.on == "cuda":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken)


def no_tf32() -> None:
    """Have CUDA compute float32 in float32 from now on: TF32 keeps 10 bits of its 23, and cuDNN's convolutions take it.

    For the whole process and for good. torch has these switches once for all threads: a context that sets them back
    (torch.backends.cudnn.flags, which besides turns cuDNN off unless told otherwise) sets them back for other networks.
    """
    import torch

    cudnn: Any = torch.backends.cudnn  # its stubs lack half of this
    cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    # By that alone, cuDNN would follow torch.backends.fp32_precision. All of them, as torch refuses to tell a mixture.
    cudnn.conv.fp32_precision = cudnn.rnn.fp32_precision = "ieee"


def cosine(one: Any, other: Any) -> float:
    """Of all that a network gave with all that another gave."""
    import torch

    pairs = [_flat(each) for each in (one, other)]
    return float(torch.nn.functional.cosine_similarity(pairs[0], pairs[1], dim=0))


def _flat(given: Any) -> torch.Tensor:
    import torch

    values = list(given.values()) if isinstance(given, Mapping) else given
    values = list(values) if isinstance(values, tuple | list) else [values]
    return torch.cat([each.float().flatten() for each in values])


def can_compile(on: str) -> bool:
    """Whether torch.compile can serve: on CUDA, with triton and a C compiler, which it calls."""
    compilers = [os.environ.get("CC", "cc"), "gcc", "clang", "cl"]
    return on == "cuda" and bool(importlib.util.find_spec("triton")) and any(map(shutil.which, compilers))


def _entrance(job: Job, on: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """What makes pixels (n, H, W, C) on the device what the network takes."""
    import torch

    spec = job.spec
    if spec is None:
        return lambda batch: batch
    shape = (1, 1, 1, -1)
    scale = torch.tensor([1 / (255 * std) for std in spec.std], device=on).view(shape)
    shift = torch.tensor([-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)], device=on).view(shape)

    def enter(batch: torch.Tensor) -> torch.Tensor:
        if spec.colour == "bgr":
            batch = batch.flip(-1)
        if spec.dtype == "float32":
            batch = torch.addcmul(shift, batch.float(), scale)
        elif batch.dtype != torch.uint8:
            batch = batch.round().clamp(0, 255).to(torch.uint8)
        # Rows of pixels with their channels together are what torch calls channels last.
        return batch if spec.layout == "nhwc" else batch.permute(0, 3, 1, 2)

    return enter
