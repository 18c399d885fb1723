"""Networks from images to images, of our own writing: EDSR and CARN-M enlarge, DnCNN and a residual U-Net denoise.

    edsr:16x64@3            EDSR, 16 blocks of 64 channels, ×3 (edsr.py says which public checkpoints fit)
    carn-m@3                CARN-M, ×3 (carn.py)
    dncnn:17x64@grey        DnCNN, 17 convolutions of 64 channels (dncnn.py)
    runet:32-64-96@rgb      a residual U-Net, its channels at strides 2, 4 and 8 (runet.py)

`@2`, `@3` or `@4` is the factor of what enlarges; without it, 3. `@grey` or `@rgb` is what a denoiser takes; without
it, grey. Images are in [0, 1], (n, channels, h, w) of any size, and what comes out is on the same scale, not clipped.
Torch is imported by `build` alone.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from imagier.models.model import Input, Output
from imagier.types import ModelError, SettingError

if TYPE_CHECKING:
    import torch

SCALES = (2, 3, 4)
COLOURS = ("grey", "rgb")
MEAN = (0.4488, 0.4371, 0.4040)
"""Of DIV2K's training images, R, G, B in [0, 1]."""
FAMILIES = {"edsr": "edsr", "carn-m": "carn", "dncnn": "dncnn", "runet": "runet"}
"""What an architecture's name begins with -> the module that builds it."""
SUCH = ("edsr:16x64@3", "carn-m@3", "dncnn:17x64@grey", "runet:32-64-96@rgb")
DENOISERS = ("dncnn", "runet")
WRAPPERS = ("state_dict", "params_ema", "params", "model")
"""Keys under which training programs lay a state dict; BasicSR's are `params` and `params_ema`."""


def describe(architecture: str) -> tuple[Input, dict[str, Output], int | None]:
    """What a card says of such a network: its input, its outputs by meaning, its factor. Raises SettingError."""
    family, _, at = split(architecture)
    outputs = {"image": Output(tensors=("image",), form="image")}
    if family not in DENOISERS:
        return Input(size=None, fit="none"), outputs, int(at)
    multiple = 1
    if family == "runet":
        multiple = 2 ** len(numbers(architecture, "-"))
    if at == "rgb":
        return Input(size=None, fit="none", multiple=multiple), outputs, None
    return Input(size=None, fit="none", multiple=multiple, colour="grey", mean=(0.0,), std=(1.0,)), outputs, None


def build(architecture: str) -> torch.nn.Module:
    """The network in torch, untrained, in evaluation mode.

    Its `load_state_dict` takes every convention of names that its module's docstring lists, and raises ModelError for
    what does not fit. Raises SettingError for a name that is none, ModelError without torch.
    """
    family, _, _ = split(architecture)
    try:
        importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise ModelError(f"the architecture {architecture!r} needs torch: pip install 'imagier[train]'") from error
    made: torch.nn.Module = importlib.import_module(f"{__name__}.{FAMILIES[family]}").build(architecture)
    return made


def split(architecture: str) -> tuple[str, str, str]:
    """ "edsr:16x64@3" -> ("edsr", "16x64", "3"). Raises SettingError."""
    name, given, at = architecture.partition("@")
    family, _, size = name.partition(":")
    known = COLOURS if family in DENOISERS else tuple(map(str, SCALES))
    if family not in FAMILIES or (given and at not in known):
        raise SettingError(
            f"there is no architecture {architecture!r}: such are {', '.join(SUCH)}; after the @ comes the "
            "factor, 2, 3 or 4, or of denoisers grey or rgb"
        )
    return family, size, at if given else ("grey" if family in DENOISERS else "3")


def numbers(architecture: str, between: str) -> tuple[int, ...]:
    """The numbers of a name, 1 to 999 each: "dncnn:17x64@grey" -> (17, 64). Raises SettingError."""
    size = split(architecture)[1]
    if not re.fullmatch(rf"[1-9]\d{{0,2}}({between}[1-9]\d{{0,2}})+", size):
        raise SettingError(f"there is no architecture {architecture!r}: such are {', '.join(SUCH)}")
    return tuple(int(each) for each in size.split(between))


def bare(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict without what it is wrapped in: `params` and the like around it, `module.` before its names."""
    for wrapper in WRAPPERS:
        if isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
            break
    return {name.removeprefix("module."): value for name, value in state.items()}


def check(architecture: str, own: Mapping[str, Any], given: Mapping[str, Any], hint: str = "") -> None:
    """Raise ModelError unless two state dicts have the same names and shapes; `hint` says whose weights they are."""
    if missing := [name for name in own if name not in given]:
        what = f"{missing[0]!r} is missing ({len(missing)} of {len(own)})"
    elif more := [name for name in given if name not in own]:
        what = f"{more[0]!r} is too much"
    elif other := [name for name in own if own[name].shape != given[name].shape]:
        name = other[0]
        what = f"{name!r} is {tuple(given[name].shape)}, not {tuple(own[name].shape)}"
    else:
        return
    raise ModelError(f"the weights are not those of {architecture}: {what}{hint and '. ' + hint}")
