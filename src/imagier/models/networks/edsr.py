"""EDSR (Lim, Son, Kim, Nah, Lee 2017, "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW).

    edsr:16x64@3            the paper's baseline: blocks × channels, residuals added as they are
    edsr:32x256@3           the full network: from 256 channels on, residuals are scaled by 0.1
    edsr:16x64-plain@4      as the package super-image runs it: on [0, 1], no mean, residuals never scaled

The names of the weights are those of the authors' code, and checkpoints by these fit as they are:

- github.com/sanghyun-son/EDSR-PyTorch, src/model/edsr.py at 3dd71ae and common.py at 4f5e2ce: head.0, body.N.body.0 and
  .2, body.BLOCKS, tail.0.N, tail.1, sub_mean, add_mean; pixels on 0 to 255 (or 0 to 1: add_mean's bias tells);
  src/demo.sh there says 0.1 for the full network;
- github.com/XPixelGroup/BasicSR, basicsr/archs/edsr_arch.py at ab4a7a3: conv_first, body.N.conv1 and .conv2,
  conv_after_body, upsample.N, conv_last, under `params`; the mean of DIV2K is in its code, not in its file;
- github.com/eugenesiow/super-image, super_image/models/edsr/modeling_edsr.py at 38b42bf: names as the authors', but its
  `forward` uses neither sub_mean nor add_mean. A file cannot tell that, so it must be said: "-plain".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from imagier.models.networks import MEAN, bare, check, split
from imagier.types import SettingError


def build(architecture: str) -> EDSR:
    """The network of a name, untrained, in evaluation mode. Raises SettingError."""
    _, size, at = split(architecture)
    match = re.fullmatch(r"([1-9]\d{0,2})x([1-9]\d{0,3})(-plain)?", size)
    if not match:
        raise SettingError(f"there is no architecture {architecture!r}: write edsr:BLOCKSxCHANNELS@FACTOR")
    return EDSR(int(match[1]), int(match[2]), int(at), plain=bool(match[3])).eval()


class EDSR(nn.Module):
    """RGB in [0, 1], (n, 3, h, w), to (n, 3, h · scale, w · scale) on the same scale, not clipped."""

    def __init__(self, blocks: int, width: int, scale: int, *, plain: bool = False) -> None:
        super().__init__()
        self.name = f"edsr:{blocks}x{width}{'-plain' * plain}@{scale}"
        self.plain = plain
        self.range = 1.0 if plain else 255.0
        if not plain:
            self.sub_mean, self.add_mean = _shift(-self.range), _shift(self.range)
        share = 0.1 if width >= 256 and not plain else 1.0
        self.head = nn.Sequential(_conv(3, width))
        self.body = nn.Sequential(*(Block(width, share) for _ in range(blocks)), _conv(width, width))
        self.tail = nn.Sequential(_enlarge(width, scale), _conv(width, 3))

    def forward(self, image: Tensor) -> Tensor:
        """What is added to the features is all that the blocks find; the mean is off meanwhile."""
        if self.plain:
            return self._network(image)
        shifted: Tensor = self.add_mean(self._network(self.sub_mean(image * self.range)))
        return shifted / self.range

    def _network(self, image: Tensor) -> Tensor:
        features = self.head(image)
        enlarged: Tensor = self.tail(features + self.body(features))
        return enlarged

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Weights of any convention above, all of them whatever `strict` says. Raises ModelError."""
        state = _as_authors(bare(state_dict))
        own = self.state_dict()
        if self.plain:
            state = {name: value for name, value in state.items() if not name.startswith(("sub_mean.", "add_mean."))}
        elif "sub_mean.bias" not in state:
            state |= {name: value for name, value in own.items() if name.startswith(("sub_mean.", "add_mean."))}
        check(self.name, own, state, _told(state, self.name))
        if not self.plain:
            self.range = 255.0 if float(state["add_mean.bias"].abs().max()) > 1 else 1.0
        return super().load_state_dict(state, strict, assign)


class Block(nn.Module):
    """Two convolutions beside the way straight on; no normalisation."""

    def __init__(self, width: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.body = nn.Sequential(_conv(width, width), nn.ReLU(), _conv(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """(n, width, h, w) to the same."""
        found: Tensor = self.body(features)
        return features + found * self.share


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _enlarge(width: int, scale: int) -> nn.Sequential:
    """Pixel shuffles (Shi et al. 2016): one, or two for ×4."""
    steps = [2, 2] if scale == 4 else [scale]
    return nn.Sequential(*(layer for by in steps for layer in (_conv(width, width * by**2), nn.PixelShuffle(by))))


def _shift(by: float) -> nn.Conv2d:
    """Adds `by` times the mean: a convolution, because checkpoints hold it as one."""
    layer = nn.Conv2d(3, 3, 1).requires_grad_(False)
    layer.weight.copy_(torch.eye(3)[:, :, None, None])
    assert layer.bias is not None
    layer.bias.copy_(torch.tensor(MEAN) * by)
    return layer


def _as_authors(state: dict[str, Any]) -> dict[str, Any]:
    """BasicSR's names to the authors'; others as they are."""
    if "conv_first.weight" not in state:
        return state
    blocks = len({name.split(".")[1] for name in state if name.startswith("body.")})
    rules = [
        (r"conv_first\.", "head.0."),
        (r"body\.(\d+)\.conv1\.", r"body.\1.body.0."),
        (r"body\.(\d+)\.conv2\.", r"body.\1.body.2."),
        (r"conv_after_body\.", f"body.{blocks}."),
        (r"upsample\.", "tail.0."),
        (r"conv_last\.", "tail.1."),
    ]
    renamed = {}
    for name, value in state.items():
        for pattern, by in rules:
            new, found = re.subn(f"^{pattern}", by, name)
            if found:
                name = new
                break
        renamed[name] = value
    return renamed


def _told(state: dict[str, Any], asked: str) -> str:
    """Which EDSR the weights are of, where they are of another one: their names and shapes say."""
    first, last = state.get("head.0.weight"), state.get("tail.0.0.weight")
    if first is None or last is None:
        return ""
    width = int(first.shape[0])
    blocks = len([name for name in state if re.fullmatch(r"body\.\d+\.body\.0\.weight", name)])
    scale = 4 if "tail.0.2.weight" in state else 3 if last.shape[0] == 9 * width else 2
    told = f"edsr:{blocks}x{width}{'-plain' * ('-plain' in asked)}@{scale}"
    return f"They are those of {told}" if told != asked else ""
