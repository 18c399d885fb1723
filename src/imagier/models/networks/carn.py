"""CARN-M (Ahn, Kang, Sohn 2018, "Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network").

    carn-m@3            64 channels, 4 groups; one set of weights for ×2, ×3 and ×4, of which this takes the way for ×3

The names of the weights are those of the authors' code, github.com/nmhkahn/CARN-pytorch, carn/model/carn_m.py at
05858bc and ops.py at a1d62d0 (MIT), with its options `--group 4` and `--scale 0` (its README's for CARN-M).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from imagier.models.networks import MEAN, SCALES, bare, check, split
from imagier.types import SettingError

WIDTH, GROUPS = 64, 4


def build(architecture: str) -> CARNM:
    """The network of a name, untrained, in evaluation mode. Raises SettingError."""
    _, size, at = split(architecture)
    if size:
        raise SettingError(f"there is no architecture {architecture!r}: write carn-m@FACTOR")
    return CARNM(int(at)).eval()


class CARNM(nn.Module):
    """RGB in [0, 1], (n, 3, h, w), to (n, 3, h · scale, w · scale) on the same scale, not clipped."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.name, self.scale = f"carn-m@{scale}", scale
        self.sub_mean, self.add_mean = Shift(-1.0), Shift(1.0)
        self.entry = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.b1, self.b2, self.b3 = Cascade(), Cascade(), Cascade()
        self.c1, self.c2, self.c3 = Merge(2), Merge(3), Merge(4)
        self.upsample = nn.ModuleDict({f"up{by}": Enlarge(by) for by in SCALES})
        self.exit = nn.Conv2d(WIDTH, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """A cascade of cascades."""
        features = self.entry(self.sub_mean(image))
        together = features
        for block, merge in ((self.b1, self.c1), (self.b2, self.c2), (self.b3, self.c3)):
            together = torch.cat([together, block(features)], 1)
            features = merge(together)
        enlarged: Tensor = self.add_mean(self.exit(self.upsample[f"up{self.scale}"](features)))
        return enlarged

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """The authors' multi-scale weights, all of them whatever `strict` says. Raises ModelError."""
        state = bare(state_dict)
        check(self.name, self.state_dict(), state)
        return super().load_state_dict(state, strict, assign)


class Cascade(nn.Module):
    """Three times the same residual block (one set of weights), each time seeing all that was before."""

    def __init__(self) -> None:
        super().__init__()
        self.b1 = Residual()
        self.c1, self.c2, self.c3 = Merge(2), Merge(3), Merge(4)

    def forward(self, features: Tensor) -> Tensor:
        """(n, 64, h, w) to the same."""
        together = features
        for merge in (self.c1, self.c2, self.c3):
            together = torch.cat([together, self.b1(features)], 1)
            features = merge(together)
        return features


class Residual(nn.Module):
    """The paper's efficient residual block: two group convolutions and a pointwise one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=GROUPS),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=GROUPS),
            nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """(n, 64, h, w) to the same."""
        return torch.relu(self.body(features) + features)


class Merge(nn.Module):
    """`count` maps of features to one: (n, 64 · count, h, w) to (n, 64, h, w)."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(WIDTH * count, WIDTH, 1), nn.ReLU())

    def forward(self, together: Tensor) -> Tensor:
        """A pointwise convolution."""
        merged: Tensor = self.body(together)
        return merged


class Enlarge(nn.Module):
    """(n, 64, h, w) to (n, 64, h · by, w · by): pixel shuffles, two for ×4."""

    def __init__(self, by: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for step in [2, 2] if by == 4 else [by]:
            layers += [nn.Conv2d(WIDTH, WIDTH * step**2, 3, padding=1, groups=GROUPS), nn.ReLU(), nn.PixelShuffle(step)]
        self.body = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """The layers in order."""
        enlarged: Tensor = self.body(features)
        return enlarged


class Shift(nn.Module):
    """Adds `sign` times the mean: a convolution, because checkpoints hold it as one."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.shifter = nn.Conv2d(3, 3, 1).requires_grad_(False)
        self.shifter.weight.copy_(torch.eye(3)[:, :, None, None])
        assert self.shifter.bias is not None
        self.shifter.bias.copy_(torch.tensor(MEAN) * sign)

    def forward(self, image: Tensor) -> Tensor:
        """(n, 3, h, w) to the same."""
        shifted: Tensor = self.shifter(image)
        return shifted
