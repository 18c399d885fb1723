"""A residual U-Net that denoises: small, and at home at half the size, where two cores get far.

    runet:32-64-96@grey     channels at strides 2, 4 and 8; @rgb for colour

As DRUNet (Zhang, Li, Zuo, Zhang, Van Gool, Timofte 2021, "Plug-and-Play Image Restoration with Deep Denoiser Prior"):
no normalisation, residual blocks at every stride, ways beside added, not joined. As FFDNet (Zhang, Zuo, Zhang 2018),
pixels first come together in fours, so that no convolution runs at full size. What it finds is the noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from imagier.models.networks import bare, check, numbers, split
from imagier.models.networks.edsr import Block

BLOCKS, DEEPEST = 2, 3
"""Residual blocks at each stride on the way down, and on the way up; and at the last."""


def build(architecture: str) -> RUNet:
    """The network of a name, untrained, in evaluation mode. Raises SettingError."""
    return RUNet(architecture, numbers(architecture, "-"), 1 if split(architecture)[2] == "grey" else 3).eval()


class RUNet(nn.Module):
    """Images in [0, 1], (n, channels, h, w), to the same without noise, not clipped.

    Both sides are multiples of 2 to the number of widths.
    """

    def __init__(self, name: str, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.name = name
        *above, last = widths
        steps = list(pairwise(widths))
        self.head = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(blocks(width, BLOCKS) for width in above)
        self.narrow = nn.ModuleList(nn.Conv2d(one, other, 2, stride=2) for one, other in steps)
        self.deepest = blocks(last, DEEPEST)
        self.widen = nn.ModuleList(nn.ConvTranspose2d(other, one, 2, stride=2) for one, other in reversed(steps))
        self.up = nn.ModuleList(blocks(width, BLOCKS) for width in reversed(above))
        self.tail = nn.Conv2d(widths[0], 4 * channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """All that it finds is noise."""
        x = first = self.head(functional.pixel_unshuffle(image, 2))
        beside = []
        for down, narrow in zip(self.down, self.narrow, strict=True):
            x = down(x)
            beside.append(x)
            x = narrow(x)
        x = self.deepest(x)
        for widen, up in zip(self.widen, self.up, strict=True):
            x = up(widen(x) + beside.pop())
        clean: Tensor = image - functional.pixel_shuffle(self.tail(x + first), 2)
        return clean

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """All weights, whatever `strict` says. Raises ModelError."""
        state = bare(state_dict)
        check(self.name, self.state_dict(), state)
        return super().load_state_dict(state, strict, assign)


def blocks(width: int, count: int) -> nn.Sequential:
    """Residual blocks, one after another."""
    return nn.Sequential(*(Block(width, 1.0) for _ in range(count)))
