"""Options of the ISP, classical and task-aware."""

from dataclasses import dataclass, fields, replace

import numpy as np

from isp.raw import RawMetadata
from pipeline.config import Config, option
from pipeline.errors import InputError

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
_CLASSICAL = (
    "white_balance", "wb_gains", "wb_max_gain", "wb_time_constant_ms", "exposure_gain", "curve",
    "gamma", "curve_points",
)  # fmt: skip


@dataclass(frozen=True)
class IspConfig(Config):
    """Options of the ISP. Counts are those of a pixel's significant bits."""

    mode: str = option(
        "classical",
        "classical: fixed steps, one picture for all. task_aware: a small network sets gain, curve "
        "and shrink of noise, for each consumer its own.",
        choices=("classical", "task_aware"),
    )
    model: str = option("", "task_aware: path of the ONNX model; empty is the shipped one.")
    time_constant_ms: float = option(
        300.0, "task_aware: time in which it follows 63 % of a step; 0 is at once.", low=0, high=1e6
    )
    detector_px: int = option(
        416,
        "task_aware: longer side of the detector's view where no detector of this process says.",
        low=32,
        high=4096,
    )
    camera_profile: str = option(
        "",
        "Path of a YAML file with order, bits, justified, black_level and white_level, for those "
        "of these options that are left as they are.",
    )
    order: str = option(
        "auto",
        "Colors of the top-left 2x2 block, row by row; auto takes the encoding's.",
        choices=("auto", "rggb", "bggr", "grbg", "gbrg"),
    )
    bits: int = option(
        0, "Significant bits of a pixel, 8 to 16; 0 takes the encoding's.", low=0, high=16
    )
    justified: str = option(
        "auto",
        "Where they lie in a 16-bit pixel; auto looks whether the other bits are always 0.",
        choices=("auto", "left", "right"),
    )
    black_level: tuple[float, ...] = option(
        (0.0,), "Counts without light, one number or four for R, Gr, Gb, B.", low=0, high=65534
    )
    white_level: float = option(
        0.0, "Counts at saturation; 0 is the highest that the bits can hold.", low=0, high=65535
    )
    defect_threshold: float = option(
        0.0,
        "How far a pixel stands out of its eight same-color neighbors to be limited to them, "
        "as a part of the white level; 0 is off.",
        low=0,
        high=1,
    )
    defect_map: str = option("", "Path of a .npy file with (N, 2) rows and columns to replace.")
    lens_shading_radial: tuple[float, ...] = option(
        (0.0,), "k1, k2, ... of the gain 1 + k1 r^2 + k2 r^4 + ..., r being 1 in the corners."
    )
    lens_shading_table: str = option(
        "", "Path of a .npy file with gains (rows, columns) or (rows, columns, 4)."
    )
    demosaic: str = option(
        "bilinear", "How missing colors are found.", choices=("bilinear", "edge_aware")
    )
    white_balance: str = option(
        "gray_world",
        "How white is found; fixed uses wb_gains.",
        choices=("gray_world", "white_patch", "fixed"),
    )
    wb_gains: tuple[float, ...] = option(
        (1.0, 1.0, 1.0), "Gains of R, G, B where white_balance is fixed.", low=0.01, high=64
    )
    wb_max_gain: float = option(8.0, "Highest gain that the balance may choose.", low=1, high=64)
    wb_time_constant_ms: float = option(
        500.0, "Time in which the balance follows 63 % of a step; 0 is at once.", low=0, high=1e6
    )
    exposure_gain: float = option(1.0, "Linear gain on all colors.", low=0.01, high=256)
    color_matrix: tuple[float, ...] = option(
        IDENTITY,
        "Nine numbers, row by row, from balanced camera RGB to linear RGB; identity is off.",
        low=-16,
        high=16,
    )
    curve: str = option(
        "srgb", "Tone curve from linear light to codes.", choices=("srgb", "gamma", "points")
    )
    gamma: float = option(2.2, "Exponent 1/gamma where curve is gamma.", low=0.2, high=10)
    curve_points: tuple[float, ...] = option(
        (0.0, 1.0),
        "Codes in [0, 1] at evenly spaced light where curve is points; never falling.",
        low=0,
        high=1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, lengths in (
            ("black_level", (1, 4)),
            ("wb_gains", (3,)),
            ("color_matrix", (9,)),
            ("curve_points", range(2, 1025)),
            ("lens_shading_radial", range(0, 9)),
        ):
            if len(getattr(self, name)) not in lengths:
                allowed = " or ".join(str(n) for n in (*lengths[:-1], lengths[-1])[:2])
                raise InputError(
                    f"{name}: {len(getattr(self, name))} numbers are given, allowed is "
                    + (f"{lengths[0]} to {lengths[-1]}" if isinstance(lengths, range) else allowed)
                )
        if 0 < self.bits < 8:
            raise InputError(f"bits: {self.bits} is out of range, allowed is 0 or 8 to 16")
        if 0 < self.white_level < 1:
            raise InputError(f"white_level: {self.white_level:g} is no count; give 0 or at least 1")
        if 0 < self.white_level <= max(self.black_level):
            raise InputError(
                f"white_level: {self.white_level:g} must lie above black_level "
                f"{max(self.black_level):g}"
            )
        if any(np.diff(self.curve_points) < 0):
            raise InputError("curve_points: a later code lies below an earlier one; let them rise")

    @property
    def ignored(self) -> str:
        """A line on options that are given but have no say in this mode; "" where none are."""
        if self.mode == "classical":
            return ""
        usual = {field.name: field.default for field in fields(self)}
        names = [name for name in _CLASSICAL if getattr(self, name) != usual[name]]
        if not names:
            return ""
        return (
            f"{', '.join(f'isp.{name}' for name in names)}: for isp.mode=classical alone, ignored"
        )

    def with_metadata(self, metadata: RawMetadata) -> "IspConfig":
        """The same with a camera file's levels, color matrix and, where fixed, its balance."""
        gains = metadata.as_shot_gains if self.white_balance == "fixed" else None
        return replace(
            self,
            black_level=metadata.black_level,
            white_level=metadata.white_level,
            color_matrix=metadata.color_matrix or self.color_matrix,
            wb_gains=gains or self.wb_gains,
        )
