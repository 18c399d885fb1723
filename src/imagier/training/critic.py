"""The critic of an adversarial training: it learns to tell, patch by patch, what was made from what is true.

A PatchGAN (Isola, Zhu, Zhou, Efros 2017, "Image-to-Image Translation with Conditional Adversarial Networks"), which
sees what the network was shown beside it, with the least-squares loss of Mao et al. (2017); instances are normalised,
not batches, so that what is made and what is true can be judged together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (48, 96, 192)


class Critic(nn.Module):
    """(n, channels, h, w), what is shown beside what is made of it, to (n, 1, h / 8, w / 8): 1 for true, 0 for made."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        given = channels
        for width in WIDTHS:
            layers.append(nn.Conv2d(given, width, 4, stride=2, padding=1))
            layers += [nn.InstanceNorm2d(width, affine=True)] if given != channels else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            given = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(given, 1, 3, padding=1))

    def forward(self, pair: Tensor) -> Tensor:
        """How true each patch is."""
        told: Tensor = self.layers(pair)
        return told

    def fooled(self, shown: Tensor, made: Tensor) -> Tensor:
        """The loss of the network that made it, small where the critic takes it for true: no lesson to the critic."""
        held = {name: value.detach() for name, value in self.named_parameters()}
        told = torch.func.functional_call(self, held, (torch.cat([shown, made], 1),))
        return functional.mse_loss(told, torch.ones_like(told))

    def mistaken(self, shown: Tensor, made: Tensor, wanted: Tensor) -> Tensor:
        """The critic's own loss: no lesson to the network."""
        false, true = self(torch.cat([shown, made.detach()], 1)), self(torch.cat([shown, wanted], 1))
        loss: Tensor = 0.5 * (false.square().mean() + (true - 1).square().mean())
        return loss
