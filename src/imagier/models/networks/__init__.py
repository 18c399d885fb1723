"""Networks of our own writing that public weights fit: EDSR and CARN-M, which enlarge images.

    edsr:16x64@3        EDSR, 16 blocks of 64 channels, ×3 (edsr.py says which checkpoints)
    carn-m@3            CARN-M, ×3 (carn.py)

`@2`, `@3` or `@4` is the factor; without it, 3. What a network takes is RGB in [0, 1], (n, 3, h, w) of any size, and
what it gives is on the same scale, at `factor` times the size, not clipped. Torch is imported by `build` alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from imagier.models.model import Input, Output
from imagier.types import ModelError, SettingError

if TYPE_CHECKING:
    import torch

SCALES = (2, 3, 4)
MEAN = (0.4488, 0.4371, 0.4040)
"""Of DIV2K's training images, R, G, B in [0, 1]."""
FAMILIES = {"edsr": "edsr", "carn-m": "carn"}
"""What an architecture's name begins with -> the module that builds it."""
WRAPPERS = ("state_dict", "params_ema", "params", "model")
"""Keys under which training programs lay a state dict; BasicSR's are `params` and `params_ema`."""


def describe(architecture: str) -> tuple[Input, dict[str, Output], int]:
    """What a card says of such a network: its input, its outputs by meaning, its factor. Raises SettingError."""
    scale = split(architecture)[2]
    return Input(size=None, fit="none"), {"image": Output(tensors=("image",), form="image")}, scale


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


def split(architecture: str) -> tuple[str, str, int]:
    """ "edsr:16x64@3" -> ("edsr", "16x64", 3). Raises SettingError."""
    name, at, factor = architecture.partition("@")
    family, _, size = name.partition(":")
    if family not in FAMILIES or (at and factor not in map(str, SCALES)):
        raise SettingError(
            f"there is no architecture {architecture!r}: such are edsr:16x64@3, edsr:32x256@4, carn-m@3; "
            "after the @ comes the factor: 2, 3 or 4"
        )
    return family, size, int(factor) if at else 3


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
