"""The operators of TA-ISP as its authors describe them, re-implemented as a baseline.

"Task-aware image signal processor", arXiv 2509.13762, CVPR 2026: global gains, a spatial attention
and regional curves, in that order, 3,297 parameters, on a demosaiced linear picture. The regions
are drawn by Gumbel-softmax, by the authors also at inference; here ``gumbel`` is an input, so that
0 gives the same picture twice.
"""

import torch
from torch import nn
from torch.nn import functional

REGIONS = 16
TEMPERATURE = 0.1
POWERS = (2.0, 6.0)
"""Least and greatest w of the exponent 1/w; the authors set 2 to 4 or 5 to 9 by data set."""
_LEAST = 1e-6


class PublishedNet(nn.Module):
    """Linear pictures (n, 3, h, w) in (0, 1], gumbel (n, 16, h, w) → pictures in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.gains = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3))
        self.near = nn.Conv2d(2, 1, 3, padding=1)
        self.far = nn.Conv2d(2, 1, 5, padding=2)
        self.mix = nn.Conv2d(3, 2, 1)
        self.regions = nn.Conv2d(3, REGIONS, 3, padding=1)
        self.powers = nn.Sequential(
            nn.Linear(REGIONS, 64), nn.ReLU(), nn.Linear(64, REGIONS), nn.Sigmoid()
        )

    def forward(self, image: torch.Tensor, gumbel: torch.Tensor) -> torch.Tensor:
        x = image.clamp(_LEAST, 1)
        mean = x.mean((2, 3))
        variance = (x - mean[:, :, None, None]).square().mean((2, 3))
        gain = 1 + functional.softplus(self.gains(torch.cat([mean, variance], 1)))
        x = (x * gain[:, :, None, None]).clamp(_LEAST, 1)
        maps = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        share = torch.softmax(self.mix(x.mean((2, 3), keepdim=True)), 1)
        x = x * (
            share[:, :1] * torch.sigmoid(self.near(maps))
            + share[:, 1:] * torch.sigmoid(self.far(maps))
        )
        x = x.clamp(_LEAST, 1)
        logits = self.regions(x)
        masks = torch.softmax((logits + gumbel) / TEMPERATURE, 1)
        low, high = POWERS
        w = low + (high - low) * self.powers(logits.mean((2, 3)))
        log = x.log()
        out = torch.zeros_like(x)
        for k in range(REGIONS):
            out = out + masks[:, k : k + 1] * torch.exp(log / w[:, k, None, None, None])
        return out.clamp(max=1)


def gumbel_like(image: torch.Tensor) -> torch.Tensor:
    """A draw for ``PublishedNet``."""
    n, _, h, w = image.shape
    uniform = torch.rand(n, REGIONS, h, w).clamp(1e-9, 1 - 1e-7)
    return -torch.log(-torch.log(uniform))
