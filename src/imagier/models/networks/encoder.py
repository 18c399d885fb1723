"""imagier's own encoder: MobileNetV2 (Sandler et al. 2018) for images of 176 pixels, with an embedding and two maps.

Convolutions hold what their batch norms were, and pad as TensorFlow does: an even side loses its half pixel on the
left and above. So the weights of TensorFlow's own MobileNetV2 fit, which recipes/encoder begins with.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SIDE = 176
WIDTH = 512
"""Numbers of the embedding."""
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Growth, channels, how many, stride of the first: table 2 of the paper."""
LAST = 1280
MAP8, MAP16 = 5, 12
"""The last blocks at an eighth and at a sixteenth of the image's side: 32 and 96 channels."""
INNER = 0.5
"""What the inner map's mean counts beside the last one's, before both are projected."""


class Encoder(nn.Module):
    """RGB on [-1, 1], (n, 3, 176, 176), to an embedding (n, 512) and the maps (n, 32, 22, 22) and (n, 96, 11, 11).

    The embedding is no longer than it comes: who wants length 1 divides. Any side that is a multiple of 16 does.
    """

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.stem = Convolution(3, 32, 3, stride=2)
        blocks, channels = [], 32
        for growth, wide, count, stride in BLOCKS:
            for at in range(count):
                blocks.append(Block(channels, wide, stride if at == 0 else 1, growth))
                channels = wide
        self.blocks = nn.ModuleList(blocks)
        self.last = Convolution(channels, LAST, 1)
        self.inner = nn.Linear(96, 96, bias=True)
        self.project = nn.Linear(LAST + 96, width)

    def features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The last map's mean (n, 1280), and the two inner maps."""
        x = self.stem(image)
        kept = {}
        for at, block in enumerate(self.blocks):
            x = block(x)
            if at in (MAP8, MAP16):
                kept[at] = x
        return self.last(x).mean((2, 3)), kept[MAP8], kept[MAP16]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled, map8, map16 = self.features(image)
        return self.project(self.together(pooled, map16.mean((2, 3)))), map8, map16

    def together(self, pooled: Tensor, inner: Tensor) -> Tensor:
        """Of the last map's mean (n, 1280) and of the inner one's (n, 96), what is projected (n, 1376).

        Roots, so that a few strong features do not say all (Perronnin et al. 2010).
        """
        inner = functional.normalize(self.inner(inner), dim=1)
        return torch.cat([functional.normalize(pooled.sqrt(), dim=1), INNER * inner], 1)


class Convolution(nn.Module):
    """With a bias, and ReLU6 after it unless `straight`."""

    def __init__(self, given: int, made: int, kernel: int, stride: int = 1, groups: int = 1, straight: bool = False):
        super().__init__()
        padding = 0 if stride == 2 else kernel // 2
        self.conv = nn.Conv2d(given, made, kernel, stride, padding, groups=groups)
        self.straight = straight

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.stride[0] == 2:
            x = functional.pad(x, (0, 1, 0, 1))
        x = self.conv(x)
        return x if self.straight else functional.relu6(x)


class Block(nn.Module):
    """An inverted residual: wide, each channel by itself, narrow."""

    def __init__(self, given: int, made: int, stride: int, growth: int) -> None:
        super().__init__()
        wide = given * growth
        self.expand = Convolution(given, wide, 1) if growth > 1 else nn.Identity()
        self.deep = Convolution(wide, wide, 3, stride, wide)
        self.narrow = Convolution(wide, made, 1, straight=True)
        self.residual = stride == 1 and given == made

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.narrow(self.deep(self.expand(x)))
        return x + y if self.residual else y


class Classifier(nn.Module):
    """The encoder, and one layer upon its embedding."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(WIDTH, classes)

    def features(self, image: Tensor) -> Tensor:
        """What the last layer sees, (n, 512)."""
        made: Tensor = self.encoder(image)[0]
        return made

    def forward(self, image: Tensor) -> Tensor:
        made: Tensor = self.head(self.features(image))
        return made

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Parameters by how early they are, as timm's networks tell it."""
        return {
            "stem": r"^encoder\.stem",
            "blocks": [(r"^encoder\.blocks\.(\d+)", None), (r"^encoder\.(last|inner|project)", (999,))],
        }
