"""The operators of ``isp/operators.py`` for training, in torch, over a batch; and their network."""

import math

import torch
from torch import nn
from torch.nn import functional

from isp.config import IDENTITY
from isp.operators import (
    COLORS,
    FINE_WINDOW,
    LUMA,
    SITES,
    TINY,
    WINDOW,
    color_mix,
    matrix_share,
)


def develop(
    planes: torch.Tensor,
    noise: torch.Tensor,
    given: torch.Tensor,
    field: torch.Tensor,
    mix: torch.Tensor,
) -> torch.Tensor:
    """RGB in [0, 1], (n, 3, h, w).

    planes: (n, 3, h, w) levels. noise: (n, 2) slope and floor of G's variance. given: (n, GLOBALS).
    field: (n, 2, 16, 16). mix: (n, 3, 2) as ``isp.operators.color_mix`` gives it.
    """
    gains, exponents = given[:, 0:3], given[:, 3:6]
    saturation, toe, strengths = given[:, 6], given[:, 7], given[:, 8:11]
    x = shrink(planes * _up(gains), noise, gains, strengths, mix, saturation)
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
) -> torch.Tensor:
    """Noise-aware shrink of balanced levels (n, 3, h, w)."""
    luma = x.new_tensor(LUMA)
    y = (x * luma[:, None, None]).sum(1, keepdim=True)
    halves = functional.avg_pool2d(torch.cat([y, x[:, ::2]], 1), 2)
    y2, color = halves[:, :1], halves[:, 1:] - halves[:, :1]
    fine = y - _double(y2)

    slope, floor = _mixed(noise, gains, luma[None])
    mean = blur(y2)
    detail = y2 - mean
    n = (mean.clamp(min=0) * slope + floor) / 4
    y2 = mean + detail * _weight(blur(detail * detail), n, strengths[:, 1])
    n = y2.clamp(min=0) * slope + floor
    variance = blur(functional.avg_pool2d(fine * fine, 2), FINE_WINDOW)
    fine = fine * _double(_weight(variance, n, strengths[:, 0]))

    slope, floor = _mixed(noise, gains, x.new_tensor(COLORS))
    n = (y2.clamp(min=0) * slope + floor) / 4
    mean = blur(color)
    detail = color - mean
    variance = blur((detail * detail).sum(1, keepdim=True))
    color = mean + detail * _weight(variance, n, strengths[:, 2])
    share = matrix_share(y2.mean((2, 3), keepdim=True), *_mixed(noise, gains, luma[None]))
    plain = torch.from_numpy(color_mix(IDENTITY))
    mix = (plain + (mix - plain) * share[:, 0]) * saturation[:, None, None]
    return fine + _double(y2 + torch.einsum("nchw,nrc->nrhw", color, mix))


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


def _weight(variance: torch.Tensor, noise: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    square = variance * variance
    return square / (square + (_up(strength[:, None]) * noise) ** 2 + TINY)


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
