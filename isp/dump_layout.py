"""How a headerless RAW file is laid out: width, height, step and what a pixel is in memory.

Rows of a picture resemble their neighbors, so bytes that lie two rows apart (same color) differ
least at the true step. What a pixel is shows in which bytes of a row are smooth and which are not.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isp.raw import BayerEncoding, Mosaic, mosaic_of
from pipeline.errors import InputError
from pipeline.images import MAX_SIDE_PX, frame_from_bytes

Bytes = npt.NDArray[np.uint8]

LEAST_SIDE_PX = 32
LEAST_BYTES = LEAST_SIDE_PX**2
_STEPS = (LEAST_SIDE_PX, 4 * MAX_SIDE_PX)
_SAMPLES = 60_000
_LOOKED_AT = 12  # steps, the likeliest
_UNLIKE = 0.75  # of what bytes anywhere differ by: more, and these are no rows
_KNOWN = {
    (640, 480), (752, 480), (768, 512), (800, 600), (1024, 768), (1280, 720), (1280, 800),
    (1280, 960), (1280, 1024), (1440, 1080), (1456, 1088), (1536, 1024), (1600, 1200),
    (1640, 1232), (1920, 1080), (1920, 1200), (1936, 1096), (1936, 1216), (2028, 1520),
    (2048, 1080), (2048, 1536), (2048, 2048), (2064, 1544), (2304, 1296), (2432, 2048),
    (2448, 2048), (2592, 1520), (2592, 1536), (2592, 1944), (2688, 1520), (3072, 2048),
    (3088, 2064), (3280, 2464), (3840, 2160), (4000, 3000), (4032, 3024), (4056, 3040),
    (4096, 2160), (4096, 3000), (4608, 2592), (4608, 3456), (5472, 3648), (6000, 4000),
}  # fmt: skip
"""Sizes that sensors have."""
_RATIOS = (1.0, 5 / 4, 4 / 3, 1.5, 1.6, 16 / 9, 1.9)


@dataclass(frozen=True)
class DumpLayout:
    """size: (width, height). pixel: 8, 16, 10p or 12p, the end of an encoding's name. step: bytes
    from row to row. unlike: how much bytes two rows apart differ, as a part of what bytes anywhere
    do; 1 is no picture."""

    size: tuple[int, int]
    pixel: str
    step: int
    big_endian: bool
    unlike: float

    def read(self, data: bytes) -> Mosaic:
        """(H, W) values.

        Raises:
            InputError: the data are too short for it.
        """
        encoding = f"bayer_rggb{self.pixel}"
        frame = frame_from_bytes(data, self.size, self.step, encoding, self.big_endian, 0, 0)
        return mosaic_of(frame)

    def __str__(self) -> str:
        kind = {"8": "8-bit pixels", "16": "16-bit pixels"}.get(self.pixel, f"RAW{self.pixel[:2]}")
        order = "" if self.pixel != "16" else ", big-endian" if self.big_endian else ""
        packed = ", MIPI-packed" if self.pixel.endswith("p") else ""
        return f"{self.size[0]}x{self.size[1]}, {kind}{order}{packed}, step {self.step}"


def guess_layouts(
    data: bytes, size: tuple[int, int] | None = None, step: int = 0, pixel: str = ""
) -> list[DumpLayout]:
    """Layouts that the whole file fits, the likeliest first, at most five.

    size, step, pixel: what is known already ("" or 0 where not).

    Raises:
        InputError: no layout fits; the line says what is near.
    """
    flat = np.frombuffer(data, np.uint8)
    if len(flat) < LEAST_BYTES:
        raise InputError(f"{len(flat)} bytes are no picture: give a file of at least {LEAST_BYTES}")
    if _is_text(flat):
        raise InputError("it holds text, no RAW: give a RAW file")
    steps = _candidate_steps(len(flat), size, step)
    unlike = _unlikeness(flat, steps)
    found = []
    for differs, candidate in sorted(zip(unlike, steps, strict=True))[:_LOOKED_AT]:
        layout = _layout(flat, candidate, differs, size, pixel)
        if layout is not None:
            found.append((_badness(layout), layout))
    found.sort(key=lambda pair: pair[0])
    known = size is not None or step
    if not found or (not known and not _convinces(found[0][1])):
        raise InputError(_complaint(flat, size, step))
    return [layout for _, layout in found[:5]]


def _candidate_steps(count: int, size: tuple[int, int] | None, step: int) -> list[int]:
    if step:
        return [step]
    if size is not None:
        return [count // size[1]] if size[1] and count % size[1] == 0 else []
    low, high = _STEPS
    return [s for s in range(low, min(high, count // LEAST_SIDE_PX) + 1) if count % s == 0]


def _unlikeness(flat: Bytes, steps: list[int]) -> list[float]:
    """How much bytes two steps apart differ, as a part of what bytes of the same kind differ.

    Even and odd bytes count apart, the smoother ones decide: the low bytes of 16-bit pixels wrap.
    """
    rng = np.random.default_rng(0)
    results = []
    kinds = []
    for kind in (0, 1):
        at = rng.integers(0, len(flat) // 2, (2, _SAMPLES)) * 2 + kind
        at = np.minimum(at, len(flat) - 2 + kind)
        kinds.append(_difference(flat[at[0]], flat[at[1]]))
    for step in steps:
        ratios = []
        for kind in (0, 1):
            end = len(flat) - 2 * step
            at = rng.integers(0, max(1, end // 2), _SAMPLES) * 2 + kind
            at = at[at < end]
            if kinds[kind] > 0 and len(at):
                ratios.append(_difference(flat[at], flat[at + 2 * step]) / kinds[kind])
        results.append(min(ratios, default=1.0))
    return results


def _difference(a: Bytes, b: Bytes) -> float:
    return float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())


def _layout(
    flat: Bytes, step: int, unlike: float, size: tuple[int, int] | None, pixel: str
) -> DumpLayout | None:
    """What the rows of this step hold; None where that is no picture."""
    height = len(flat) // step if size is None else size[1]
    if not LEAST_SIDE_PX <= height <= MAX_SIDE_PX or height % 2 or height * step > len(flat):
        return None
    rows = flat[: height * step].reshape(height, step)
    used = step - _constant_end(rows)
    if used < LEAST_SIDE_PX:
        return None
    rows = rows[:: max(1, height // 64) | 1]  # odd, so that both kinds of row are there
    kind = pixel or _pixel_of(rows[:, :used])
    width = int(used / {"8": 1, "16": 2, "10p": 1.25, "12p": 1.5}[kind])
    group = 4 if kind == "10p" else 2
    if size is not None:
        width = size[0]
    elif used != step:  # the last columns of the picture may be constant, too
        width = -(-width // group) * group
    try:
        encoding = BayerEncoding.parse(f"bayer_rggb{kind}")
        encoding.check_size(width, height)
    except InputError:
        return None
    if encoding.row_bytes(width) > step:
        return None
    return DumpLayout((width, height), kind, step, kind == "16" and _is_big_endian(rows), unlike)


def _constant_end(rows: Bytes) -> int:
    """Bytes at the rows' end that are the same in all rows."""
    constant = (rows == rows[:1]).all(axis=0)[::-1]
    return int(np.argmin(constant)) if not constant.all() else 0


def _pixel_of(rows: Bytes) -> str:
    """8, 16, 10p or 12p, by which bytes of a row are smooth."""
    step = rows.shape[1]
    for period, kind in ((5, "10p"), (3, "12p")):
        rough = _roughness(rows, period)
        if step % period == 0 and rough[:-1].max() < 0.6 * rough[-1] and rough[-1] > 0.6:
            return kind
    rough = _roughness(rows, 2)
    spread = [int(rows[:, kind::2].max()) for kind in (0, 1)]
    few = min(spread) < 64 and max(spread) > 3 * min(spread)
    return "16" if few or rough.min() < 0.6 * rough.max() or 0.0 in rough else "8"


def _is_big_endian(rows: Bytes) -> bool:
    """Whether the first byte of a pair is the smoother one, or uses fewer values."""
    spread = [int(rows[:, kind::2].max()) for kind in (0, 1)]
    if min(spread) < 64 and max(spread) > 3 * min(spread):
        return spread[0] < spread[1]
    rough = _roughness(rows, 2)
    return bool(rough[0] < rough[1])


def _roughness(rows: Bytes, period: int) -> npt.NDArray[np.float64]:
    """(period,) how much bytes differ from those two pixels on in their row, as a part of what
    they differ from any other."""
    rng = np.random.default_rng(0)
    result = []
    columns = rows.shape[1] // (2 * period) * (2 * period)
    for kind in range(period):
        values = rows[:, kind:columns:period]
        lag = {2: 2, 3: 1, 5: 1}[period]  # packed groups hold whole Bayer pairs
        anywhere = _difference(values.ravel(), rng.permutation(values.ravel()))
        near = _difference(values[:, lag:], values[:, :-lag])
        result.append(near / anywhere if anywhere > 0 else 0.0)
    return np.array(result)


def _badness(layout: DumpLayout) -> float:
    """Lower is likelier: unlike rows, and sizes that no sensor has."""
    width, height = layout.size
    ratio = width / height
    known = (width, height) in _KNOWN
    off = min(abs(np.log(ratio / r)) for r in _RATIOS)
    shape = 0.0 if known else 0.15 + min(0.5, off) + (0.5 if not 0.95 < ratio < 2.1 else 0.0)
    return float(np.log(max(layout.unlike, 1e-3)) + shape)


def _convinces(layout: DumpLayout) -> bool:
    width, height = layout.size
    return layout.unlike < (_UNLIKE if 0.5 < width / height < 3 else _UNLIKE / 2)


def _complaint(flat: Bytes, size: tuple[int, int] | None, step: int) -> str:
    """What to say of a file that no layout fits."""
    count = len(flat)
    if size is not None or step:
        told = " ".join(
            text
            for text in (
                f"a size of {size[0]}x{size[1]}" if size else "",
                f"a step of {step}" if step else "",
            )
            if text
        )
        return f"{count} bytes do not hold {told}: it is cut short, or these are wrong"
    lags = list(range(LEAST_SIDE_PX * 2, min(24_000, count // 8), 2))
    coarse = _unlikeness(flat[: 1 << 22], lags) if len(lags) < 200 else _scan(flat, lags)
    best = int(np.argmin(coarse)) if coarse else 0
    if coarse and coarse[best] < _UNLIKE:
        rows, rest = divmod(count, lags[best])
        return (
            f"rows of {lags[best]} bytes repeat, but {count} bytes are {rows} of them and {rest} "
            "bytes more: it is cut short or has a header; give --size and --step"
        )
    return (
        f"no width makes a picture of these {count} bytes: it is compressed, encrypted or no RAW; "
        "give --size, --step and --bits"
    )


def _is_text(flat: Bytes) -> bool:
    head = flat[: 1 << 16]
    printable = ((head >= 32) & (head < 127)) | ((head >= 9) & (head <= 13))
    return bool(printable.mean() > 0.97 and ((head == 10) | (head == 32)).mean() > 0.005)


def _scan(flat: Bytes, lags: list[int]) -> list[float]:
    """``_unlikeness`` of many steps, on fewer samples."""
    rng = np.random.default_rng(0)
    reach = len(flat) - 2 * lags[-1]
    at = rng.integers(0, reach // 2, 4000) * 2
    result = np.ones(len(lags))
    for kind in (0, 1):
        values = flat[at + kind].astype(np.int16)
        anywhere = float(np.abs(values - rng.permutation(values)).mean())
        if anywhere > 0:
            near = [np.abs(flat[at + kind + 2 * lag] - values).mean() for lag in lags]
            result = np.minimum(result, np.array(near) / anywhere)
    return [float(v) for v in result]
