"""imagier:unet, imagier:unet-small: a U-Net (Ronneberger et al. 2015) whose way down is the built-in encoder's network.

The encoder's blocks give maps at strides 2, 4, 8, 16 and 32; on the way up each is enlarged, joined with the map of the
stride above, and mixed by a depthwise and a pointwise convolution, twice. Little of it is wide, so that two cores train
it. The small one ends at stride 16, and has a third of the weights. Logits come at the image's own size; nothing in it
looks at the whole image at once, so it can be tiled.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from imagier.models.networks.encoder import Encoder

TAPS = ((0, 16), (2, 24), (5, 32), (12, 96), (16, 320))
"""The last block at each stride, 2 to 32, and its channels."""
UP = (96, 64, 40, 24)
"""Channels on the way up, at strides 16, 8, 4 and 2."""
DEPTHS = {"imagier:unet": 5, "imagier:unet-small": 4}
"""Name -> how often the image is halved: 1.9 and 0.5 million weights."""


class UNet(nn.Module):
    """RGB on [-1, 1], (n, 3, h, w) with sides that are multiples of 2 to the depth, to logits (n, classes, h, w)."""

    def __init__(self, classes: int = 1, depth: int = 5) -> None:
        super().__init__()
        encoder, taps = Encoder(), TAPS[:depth]
        self.stem, self.blocks = encoder.stem, encoder.blocks[: taps[-1][0] + 1]
        self.taps = dict(taps)
        ups, below = [], taps[-1][1]
        for (_, beside), wide in zip(taps[-2::-1], UP[-len(taps) + 1 :], strict=True):
            ups.append(Up(below, beside, wide))
            below = wide
        self.ups = nn.ModuleList(ups)
        self.head = nn.Conv2d(below, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        x, maps = self.stem(image), []
        for at, block in enumerate(self.blocks):
            x = block(x)
            if at in self.taps:
                maps.append(x)
        x = maps.pop()
        for up in self.ups:
            x = up(x, maps.pop())
        return functional.interpolate(self.head(x), scale_factor=2.0, mode="bilinear", align_corners=False)

    def begin(self, encoder: Encoder) -> None:
        """Take over an encoder's weights."""
        self.stem.load_state_dict(encoder.stem.state_dict())
        self.blocks.load_state_dict(encoder.blocks[: len(self.blocks)].state_dict())


class Up(nn.Module):
    """A map enlarged twice, joined with the one beside it, and mixed."""

    def __init__(self, below: int, beside: int, wide: int) -> None:
        super().__init__()
        self.narrow = Mix(below, wide)
        self.join = nn.Sequential(Mix(wide + beside, wide, 3), Mix(wide, wide, 3))

    def forward(self, below: Tensor, beside: Tensor) -> Tensor:
        larger = functional.interpolate(self.narrow(below), scale_factor=2.0, mode="nearest")
        joined: Tensor = self.join(torch.cat([larger, beside], 1))
        return joined


class Mix(nn.Sequential):
    """A depthwise convolution, where a kernel is given; a pointwise one; batch norm; ReLU."""

    def __init__(self, given: int, made: int, kernel: int = 0) -> None:
        deep = [nn.Conv2d(given, given, kernel, padding=kernel // 2, groups=given, bias=False)] if kernel else []
        super().__init__(*deep, nn.Conv2d(given, made, 1, bias=False), nn.BatchNorm2d(made), nn.ReLU(inplace=True))
