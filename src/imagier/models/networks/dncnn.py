"""DnCNN without batch norm (Zhang, Zuo, Chen, Meng, Zhang 2017, "Beyond a Gaussian Denoiser", IEEE TIP).

    dncnn:17x64@grey        17 convolutions of 64 channels, for grey images; 20 for a range of noise; @rgb for colour

The names of the weights are those of github.com/cszn/KAIR, models/network_dncnn.py with act_mode "R", into which its
authors merged their batch norms: model.0, model.2, ... What the network finds is the noise, which is taken away.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from imagier.models.networks import bare, check, numbers, split
from imagier.types import SettingError


def build(architecture: str) -> DnCNN:
    """The network of a name, untrained, in evaluation mode. Raises SettingError."""
    given = numbers(architecture, "x")
    if len(given) != 2 or given[0] < 2:
        raise SettingError(f"there is no architecture {architecture!r}: write dncnn:LAYERSxCHANNELS@grey, or @rgb")
    return DnCNN(architecture, *given, 1 if split(architecture)[2] == "grey" else 3).eval()


class DnCNN(nn.Module):
    """Images in [0, 1], (n, channels, h, w), to the same without noise, not clipped."""

    def __init__(self, name: str, depth: int, width: int, channels: int) -> None:
        super().__init__()
        self.name = name
        sides = [channels, *[width] * (depth - 1), channels]
        layers: list[nn.Module] = []
        for given, made in pairwise(sides):
            layers += [nn.Conv2d(given, made, 3, padding=1), nn.ReLU(inplace=True)]
        self.model = nn.Sequential(*layers[:-1])

    def forward(self, image: Tensor) -> Tensor:
        """All that the convolutions find is noise."""
        clean: Tensor = image - self.model(image)
        return clean

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """All weights, whatever `strict` says. Raises ModelError."""
        state = bare(state_dict)
        check(self.name, self.state_dict(), state)
        return super().load_state_dict(state, strict, assign)
