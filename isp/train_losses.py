"""How far a detector's answer to a picture is from its answer to the clean one, by layout.

Found and wanted are the detector's own outputs (``perception/layouts.py`` says what they mean).
Each cell counts as much as the clean picture has an object there; 0 is the same answer.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

Outputs = list[torch.Tensor]
_LEAST = 1e-6


def yolox(found: Outputs, wanted: Outputs) -> torch.Tensor:
    """(n, cells, 5 + classes): offset and ln sides in strides, objectness, classes."""
    f, w = found[0], wanted[0]
    there = w[..., 4:5]
    parts = (
        entropy(f[..., 4:5], there).sum()
        + (there * entropy(f[..., 5:], w[..., 5:])).sum()
        + (there * (f[..., :4] - w[..., :4]).abs()).sum()
    )
    return parts / there.sum().clamp(min=1)


def fastestdet(found: Outputs, wanted: Outputs) -> torch.Tensor:
    """(n, 5 + classes, rows, columns): objectness, atanh offset, logit sides, classes."""
    f, w = found[0], wanted[0]
    there = w[:, :1]
    log_f, log_w = (x[:, 5:].clamp(min=_LEAST).log() for x in (f, w))
    offset = (torch.tanh(f[:, 1:3]) - torch.tanh(w[:, 1:3])).abs()
    sides = (torch.sigmoid(f[:, 3:5]) - torch.sigmoid(w[:, 3:5])).abs()
    parts = (
        entropy(f[:, :1], there).sum()
        + (there * w[:, 5:] * (log_w - log_f)).sum()
        + (there * (offset + 4 * sides)).sum()
    )
    return parts / there.sum().clamp(min=1)


def nanodet(found: Outputs, wanted: Outputs) -> torch.Tensor:
    """For each stride (n, cells, classes), then for each (n, cells, 4 · bins) of distances."""
    half = len(found) // 2
    f, w = (torch.cat(x[:half], 1) for x in (found, wanted))
    there = w.amax(2, keepdim=True)
    spread_f, spread_w = (torch.cat(x[half:], 1) for x in (found, wanted))
    bins = spread_w.shape[2] // 4
    log_f, log_w = (
        functional.log_softmax(x.view(*x.shape[:2], 4, bins), 3) for x in (spread_f, spread_w)
    )
    sides = (log_w.exp() * (log_w - log_f)).sum((2, 3))[..., None]
    parts = entropy(f, w).sum() + (there * sides).sum()
    return parts / there.sum().clamp(min=1)


def entropy(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy over that of a perfect answer."""
    f, w = (x.clamp(_LEAST, 1 - _LEAST) for x in (found, wanted))
    return w * (w / f).log() + (1 - w) * ((1 - w) / (1 - f)).log()


LOSSES: dict[str, Callable[[Outputs, Outputs], torch.Tensor]] = {
    "yolox": yolox,
    "fastestdet": fastestdet,
    "nanodet": nanodet,
}
