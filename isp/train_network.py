"""The operators of ``isp/operators.py`` for training, in torch, over a batch; and their network."""

import math

import torch
from torch import nn
from torch.nn import functional

from isp.config import IDENTITY
from isp.operators import (
    COLORS,
    FINE_WINDOW,
    LEAST_ENERGY,
    LUMA,
    SEEN,
    SITES,
    TINY,
    WINDOW,
    color_mix,
    loudness,
    matrix_share,
)


def develop(
    planes: torch.Tensor,
    noise: torch.Tensor,
    given: torch.Tensor,
    field: torch.Tensor,
    mix: torch.Tensor,
    denoiser: nn.Module | None = None,
) -> torch.Tensor:
    """RGB in [0, 1], (n, 3, h, w).

    planes: (n, 3, h, w) levels. noise: (n, 2) slope and floor of G's variance. given: (n, GLOBALS).
    field: (n, 2, 16, 16). mix: (n, 3, 2) as ``isp.operators.color_mix`` gives it. denoiser: gives
    what a ``DenoiserNet`` gives; None is the shrink alone.
    """
    gains, exponents = given[:, 0:3], given[:, 3:6]
    saturation, toe, strengths = given[:, 6], given[:, 7], given[:, 8:11]
    x = shrink(planes * _up(gains), noise, gains, strengths, mix, saturation, denoiser)
    field = torch.cat([math.log(2) * field[:, :1], torch.exp2(field[:, 1:])], 1)
    size = list(planes.shape[2:])
    field = functional.interpolate(field, size, mode="bilinear", align_corners=False)
    z = torch.log(x.clamp(min=0) + _up(toe[:, None])) + field[:, :1]
    y = torch.exp(z * _up(exponents) * field[:, 1:])
    black = _up(toe[:, None] ** exponents)
    return (torch.maximum(y, black) - black).clamp(max=1)


def tone(planes: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """As whole pictures are developed, with gain and curve only; (n, 3, h, w) in [0, 1]."""
    gains, exponents, toe = _up(given[:, 0:3]), _up(given[:, 3:6]), _up(given[:, 7:8])
    code = ((planes * gains).clamp(min=0) + toe) ** exponents - toe**exponents
    return code.clamp(max=1)


def shrink(
    x: torch.Tensor,
    noise: torch.Tensor,
    gains: torch.Tensor,
    strengths: torch.Tensor,
    mix: torch.Tensor,
    saturation: torch.Tensor,
    denoiser: nn.Module | None = None,
) -> torch.Tensor:
    """Noise-aware shrink of balanced levels (n, 3, h, w), and what the denoiser makes of it."""
    luma = x.new_tensor(LUMA)
    y = (x * luma[:, None, None]).sum(1, keepdim=True)
    apart = functional.avg_pool2d(torch.cat([y, x[:, ::2]], 1), 2)
    apart = torch.cat([apart[:, :1], apart[:, 1:] - apart[:, :1]], 1)
    fine = y - _double(apart[:, :1])
    energy = functional.avg_pool2d(fine * fine, 2)
    means = blur(apart)
    apart = apart - means

    noise_of = _mixed(noise, gains, luma[None])
    n = _noise(means[:, :1], noise_of) / 4
    kept = apart[:, :1] / _divisor(blur(apart[:, :1] ** 2), n, strengths[:, 1])
    y2 = means[:, :1] + kept
    n = _noise(y2, noise_of)
    divisor = _divisor(blur(energy, FINE_WINDOW), n, strengths[:, 0])
    noise_of_colors = _mixed(noise, gains, x.new_tensor(COLORS))
    variance = blur((apart[:, 1:] ** 2).sum(1, keepdim=True))
    of_colors = _divisor(variance, _noise(y2, noise_of_colors) / 4, strengths[:, 2])
    kept = torch.cat([kept, apart[:, 1:] / of_colors], 1)
    coarse = means + kept

    level = y2.mean((2, 3), keepdim=True)
    if denoiser is not None:
        unit = n.sqrt()
        louder = loudness(level, noise_of, noise_of_colors)
        scales = torch.cat([torch.ones_like(louder), louder, louder], 1) * unit
        energy = (energy / n + LEAST_ENERGY).log()
        rows, columns = energy.shape[2:]
        seen = torch.cat([apart / scales, kept / scales, energy], 1)
        seen = functional.pad(seen, (0, columns % 2, 0, rows % 2))
        lacking, factor = (o[:, :, :rows, :columns] for o in denoiser(seen))
        coarse = coarse + lacking * scales
        divisor = 1 + (divisor - 1) * factor
    share = matrix_share(level, *noise_of)
    plain = torch.from_numpy(color_mix(IDENTITY))
    mix = (plain + (mix - plain) * share[:, 0]) * saturation[:, None, None]
    colored = torch.einsum("nchw,nrc->nrhw", coarse[:, 1:], mix)
    return fine * _double(1 / divisor) + _double(coarse[:, :1] + colored)


def blur(x: torch.Tensor, side: int = WINDOW) -> torch.Tensor:
    """Mean over the window, as ``cv2.blur`` takes it at the border."""
    padded = functional.pad(x, [side // 2] * 4, mode="reflect")
    return functional.avg_pool2d(padded, side, stride=1)


def _double(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def _mixed(
    noise: torch.Tensor, gains: torch.Tensor, mixes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    shares = (mixes**2).sum(0) * gains.new_tensor(SITES) * gains
    return (
        _up(noise[:, :1] * shares.sum(1, True)),
        _up(noise[:, 1:] * (shares * gains).sum(1, True)),
    )


def _noise(level: torch.Tensor, noise_of: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    slope, floor = noise_of
    return level.clamp(min=0) * slope + floor + math.sqrt(TINY)


def _divisor(variance: torch.Tensor, noise: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    return 1 + (_up(strength[:, None]) * noise) ** 2 / (variance * variance + TINY)


def _up(x: torch.Tensor) -> torch.Tensor:
    return x[:, :, None, None]


class ParameterNet(nn.Module):
    """Thumbnails to every consumer's parameters.

    It begins at the classical defaults (``isp.operators.default_parameters``): most of gray world,
    exponent 1/2.2, a shrink by the noise that was measured, no field.
    """

    def __init__(self, consumers: int = 3, width: int = 12) -> None:
        super().__init__()
        self.consumers = consumers
        self.convolutions = nn.Sequential(
            nn.Conv2d(4, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1), nn.ReLU()
        )
        self.field = nn.Conv2d(width, 2, 3, 1, 1)
        self.hidden = nn.Linear(width + 7, 32)
        self.globals = nn.Linear(32, consumers * HEADS)
        for last in (self.field, self.globals):
            nn.init.zeros_(last.weight)
            assert last.bias is not None
            nn.init.zeros_(last.bias)

    def forward(
        self, features: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 4, 64, 64) features, (n, 2) noise → (n, consumers, GLOBALS), (n, 2, 16, 16)."""
        x = self.convolutions(features)
        field = 2 * torch.tanh(self.field(x))
        field = field - field.mean((2, 3), keepdim=True)  # the rest is for the globals
        levels = features.mean((2, 3))
        scale = (torch.log2(noise + 1e-10) + 16) / 8
        green = features[:, 1].flatten(1)
        deviation = ((green - levels[:, 1:2]) ** 2).mean(1, keepdim=True)
        seen = torch.cat([x.mean((2, 3)), levels, scale, deviation], 1)
        raw = self.globals(functional.relu(self.hidden(seen)))
        raw = raw.view(-1, self.consumers, HEADS)
        return settings(raw, levels[:, :3]), field


HEADS = 13
"""Numbers that the network says of a consumer before they are made parameters."""
_BRIGHTEN = 0.25
_MAX_GAIN_LN = math.log(64.0)
_DEFAULTS = (1.0,) * 3 + (1 / 2.2,) * 3 + (1.0, 0.002) + (2.0,) * 3
"""Gains, exponents, saturation, toe, strengths; times e to the power of at most"""
_REACH = (_MAX_GAIN_LN,) * 3 + (0.8,) * 3 + (1.0, 2.5) + (2.5,) * 3


def settings(raw: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """(n, consumers, HEADS) → (n, consumers, GLOBALS); zeros are the classical defaults.

    levels: (n, 3) mean logarithmic levels of R, G, B as ``isp.grid.features`` scales them.
    """
    light = (levels - 1) * 4 * math.log(2)
    balance = (light.amax(1, keepdim=True) - light)[:, None]
    share = torch.sigmoid(raw[..., 0:1] + 1.4)
    brighten = _BRIGHTEN * torch.tanh(raw[..., 1:2]) * (math.log(0.1) - light[:, 1:2, None])
    ln_gain = share * balance + brighten + raw[..., 2:5]
    turned = torch.tanh(torch.cat([ln_gain / _MAX_GAIN_LN, raw[..., 5:]], -1))
    return raw.new_tensor(_DEFAULTS) * torch.exp(raw.new_tensor(_REACH) * turned)


class DenoiserNet(nn.Module):
    """What ``isp.operators.Denoiser`` says, over a batch.

    It works on a quarter of the grid, where channels cost little, by depth-wise and point-wise
    convolutions in turn (Howard et al. 2017, "MobileNets", arXiv 1704.04861), each added to what
    came in. It begins as the shrink alone.
    """

    def __init__(self, width: int = 32, blocks: int = 3) -> None:
        super().__init__()
        self.down = nn.Conv2d(SEEN, width, 2, 2)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, 1, 1, groups=width), nn.Conv2d(width, width, 1)
            )
            for _ in range(blocks)
        )
        self.up = nn.ConvTranspose2d(width, 4, 2, 2)
        nn.init.zeros_(self.up.weight)
        assert self.up.bias is not None
        nn.init.zeros_(self.up.bias)

    def forward(self, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, SEEN, h, w), both even → (n, 3, h, w), (n, 1, h, w)."""
        x = functional.relu(self.down(seen.clamp(-_FAR, _FAR)))
        for block in self.blocks:
            x = functional.relu(x + block(x))
        found = self.up(x).clamp(-_FAR, _FAR)
        return found[:, :3], found[:, 3:].exp()


_FAR = 6.0
"""So many units of noise from the mean is no noise, whatever is beyond."""
