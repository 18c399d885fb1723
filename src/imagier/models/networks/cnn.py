"""cnn:WIDTHS/DENSE@SIDE: a plain convolutional classifier, its size in its name.

cnn:32-64-128/256@96     three convolutions of 3 x 3, each with ReLU and max pooling by 2; flattened; a dense layer
                         of 256 units with ReLU; one of a unit a class. Images of 96 pixels a side
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from imagier.types import SettingError

SUCH = "cnn:32-64-128/256@96"


def parse(architecture: str) -> tuple[tuple[int, ...], int, int]:
    """Widths, dense units, side. Raises SettingError."""
    found = re.fullmatch(r"cnn:(\d{1,4}(?:-\d{1,4})*)/(\d{1,4})@(\d{2,4})", architecture)
    if not found or not all(widths := [int(each) for each in found[1].split("-")]) or not int(found[2]):
        raise SettingError(f"there is no architecture {architecture!r}: such are {SUCH}")
    side = int(found[3])
    if side >> len(widths) < 1:
        raise SettingError(f"{architecture}: {side} pixels are less than one after {len(widths)} poolings")
    return tuple(widths), int(found[2]), side


class CNN(nn.Module):
    """RGB, (n, 3, side, side), to logits (n, classes)."""

    def __init__(self, widths: tuple[int, ...], dense: int, side: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        given = 3
        for wide in widths:
            layers += [nn.Conv2d(given, wide, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            given = wide
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Linear(given * (side >> len(widths)) ** 2, dense)
        self.head = nn.Linear(dense, classes)

    def features(self, image: Tensor) -> Tensor:
        """What the last layer sees, (n, dense)."""
        return torch.relu(self.dense(self.convolutions(image).flatten(1)))

    def forward(self, image: Tensor) -> Tensor:
        made: Tensor = self.head(self.features(image))
        return made


def build(architecture: str, classes: int = 2) -> CNN:
    """Untrained. Raises SettingError."""
    return CNN(*parse(architecture), classes)
