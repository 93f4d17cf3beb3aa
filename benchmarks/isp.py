"""Milliseconds a frame of the ISP on one core, beside what else a user could take.

    python -m benchmarks.isp [--repeats 41]

Input: 12-bit RGGB of a seeded synthetic scene, right-justified in 16 bits, so that every row works
on the same pixels. All rows of a size are timed in turn within one run, round after round, so that
other load on the machine falls on each alike; the figures are medians, the ratio is to the first
row. Only the last rows are not this project's: OpenCV's demosaic alone; what ROS image_proc does
with a bayer_*16 picture (16-bit demosaic, no levels, balance or curve) and the cut to 8 bits that
a consumer then needs; and rawpy.postprocess of a DNG-like picture where rawpy is installed.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from isp.classical import ClassicalIsp
from isp.config import IspConfig
from isp.raw import mosaic_of
from pipeline.frame import Frame

MATRIX = (1.6, -0.4, -0.2, -0.3, 1.6, -0.3, 0.0, -0.5, 1.5)
SIZES = ((1280, 720), (1920, 1080))


def scene(width: int, height: int) -> npt.NDArray[np.uint16]:
    """Smooth colored shapes with shot-like noise, 12 bits over a black level of 64."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0.02, 0.8, (height // 40 + 2, width // 40 + 2, 3)).astype(np.float32)
    rgb = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    rgb *= np.array([0.5, 1.0, 0.7], np.float32)
    light = np.empty((height, width), np.float32)
    for site, channel in enumerate((0, 1, 1, 2)):
        light[site // 2 :: 2, site % 2 :: 2] = rgb[site // 2 :: 2, site % 2 :: 2, channel]
    light = np.clip(light, 0, 1)
    light += 0.01 * np.sqrt(light) * rng.standard_normal(light.shape, np.float32)
    return np.rint(64 + np.clip(light, 0, 1) * (4095 - 64)).astype(np.uint16)


def pack_12(values: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """MIPI RAW12 rows."""
    out = np.empty((*values.shape[:1], values.shape[1] * 3 // 2), np.uint8)
    out[:, 0::3], out[:, 1::3] = values[:, 0::2] >> 4, values[:, 1::2] >> 4
    out[:, 2::3] = (values[:, 0::2] & 15) | ((values[:, 1::2] & 15) << 4)
    return out


def rivals(mosaic: npt.NDArray[np.uint16], folder: Path) -> dict[str, Callable[[int], object]]:
    """One call a frame each; the argument is the frame's number."""
    eight = (mosaic >> 4).astype(np.uint8)
    packed = Frame(pack_12(mosaic), 0, "bayer_rggb12p", width=mosaic.shape[1])
    left = mosaic << 4

    def ours(
        image: npt.NDArray[np.uint16], encoding: str = "bayer_rggb12", **options: object
    ) -> Callable[[int], object]:
        isp = ClassicalIsp(IspConfig(**{"black_level": (64.0,), **options}))  # type: ignore[arg-type]
        width = mosaic.shape[1] if encoding.endswith("p") else 0
        return lambda i: isp.process(Frame(image, i * 33_000_000, encoding, i, width=width))

    rows: dict[str, Callable[[int], object]] = {
        "leadsight, bilinear": ours(mosaic),
        "leadsight, edge-aware": ours(mosaic, demosaic="edge_aware"),
        "leadsight, 8-bit input": ours(eight, "bayer_rggb8", black_level=(4.0,)),
        "leadsight, 12 bits left-justified in 16": ours(left, "bayer_rggb16", bits=12),
        "leadsight, MIPI-packed 12 bits": ours(packed.image, "bayer_rggb12p"),
        "leadsight, with color matrix": ours(mosaic, color_matrix=MATRIX),
        "leadsight, with outlier removal": ours(mosaic, defect_threshold=0.1),
        "leadsight, with lens shading": ours(mosaic, lens_shading_radial=(0.4,)),
        "unpacking RAW12 alone": lambda i: mosaic_of(packed),
        "cv2.cvtColor bilinear, 8 bits, alone": lambda i: cv2.cvtColor(
            eight, cv2.COLOR_BayerBG2RGB
        ),
        "cv2.cvtColor edge-aware, 8 bits, alone": lambda i: cv2.cvtColor(
            eight, cv2.COLOR_BayerBG2RGB_EA
        ),
        "image_proc-like: 16-bit demosaic": lambda i: cv2.cvtColor(left, cv2.COLOR_BayerBG2RGB),
        "image_proc-like, then 8 bits": lambda i: cv2.convertScaleAbs(
            cv2.cvtColor(left, cv2.COLOR_BayerBG2RGB), alpha=1 / 256
        ),
    }
    try:
        import rawpy
    except ImportError:
        print("rawpy is not installed (pip install '.[raw]'): its rows are left out\n")
        return rows
    path = folder / f"{mosaic.shape[1]}.dng"
    path.write_bytes(dng(mosaic))
    raw = rawpy.imread(str(path))
    np.testing.assert_array_equal(raw.raw_image_visible, mosaic)
    linear = rawpy.DemosaicAlgorithm.LINEAR
    rows["rawpy.postprocess, linear demosaic"] = lambda i: raw.postprocess(
        demosaic_algorithm=linear
    )
    rows["rawpy.postprocess, default (AHD)"] = lambda i: raw.postprocess()
    return rows


def dng(mosaic: npt.NDArray[np.uint16]) -> bytes:
    """The least DNG 1.1 that LibRaw reads: one strip of uint16 RGGB, black 64, white 4095."""
    height, width = mosaic.shape
    short, long, text, byte, srational = 3, 4, 2, 1, 10
    tags: list[tuple[int, int, int, bytes]] = [
        (254, long, 1, (0).to_bytes(4, "little")),
        (256, long, 1, width.to_bytes(4, "little")),
        (257, long, 1, height.to_bytes(4, "little")),
        (258, short, 1, (16).to_bytes(2, "little")),
        (259, short, 1, (1).to_bytes(2, "little")),
        (262, short, 1, (32803).to_bytes(2, "little")),
        (271, text, 5, b"none\0"),
        (272, text, 5, b"none\0"),
        (273, long, 1, b"strip"),
        (277, short, 1, (1).to_bytes(2, "little")),
        (278, long, 1, height.to_bytes(4, "little")),
        (279, long, 1, mosaic.nbytes.to_bytes(4, "little")),
        (33421, short, 2, np.array([2, 2], "<u2").tobytes()),
        (33422, byte, 4, bytes([0, 1, 1, 2])),
        (50706, byte, 4, bytes([1, 1, 0, 0])),
        (50708, text, 5, b"none\0"),
        (50714, short, 1, (64).to_bytes(2, "little")),
        (50717, short, 1, (4095).to_bytes(2, "little")),
        (
            50721,
            srational,
            9,
            np.array([[1, 1], [0, 1], [0, 1], [0, 1]] * 2 + [[1, 1]], "<i4").tobytes(),
        ),
    ]
    extra_at = 8 + 2 + 12 * len(tags) + 4
    strip_at = extra_at + sum(len(v) + len(v) % 2 for *_, v in tags if len(v) > 4 and v != b"strip")
    entries, extra = b"", b""
    for tag, kind, count, value in tags:
        if value == b"strip":
            value = strip_at.to_bytes(4, "little")
        if len(value) > 4:
            place = (extra_at + len(extra)).to_bytes(4, "little")
            extra += value + b"\0" * (len(value) % 2)
            value = place
        entries += np.array([tag, kind], "<u2").tobytes() + count.to_bytes(4, "little")
        entries += value.ljust(4, b"\0")
    head = b"II*\0" + (8).to_bytes(4, "little") + len(tags).to_bytes(2, "little")
    return head + entries + bytes(4) + extra + mosaic.astype("<u2").tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=41)
    repeats = parser.parse_args().repeats
    cv2.setNumThreads(1)
    table: dict[str, list[float]] = {}
    for width, height in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            rows = rivals(scene(width, height), Path(folder))
            times: dict[str, list[int]] = {name: [] for name in rows}
            for i in range(repeats + 1):
                for name, call in rows.items():
                    if name.startswith("rawpy") and i > 5:
                        continue  # slow, and the median of five tells
                    start = time.perf_counter_ns()
                    call(i)
                    times[name].append(time.perf_counter_ns() - start)
            for name, taken in times.items():
                table.setdefault(name, []).append(statistics.median(taken[1:]) / 1e6)
    first = next(iter(table.values()))
    print(f"| ms a frame, one core, OpenCV {cv2.__version__} | 720p | ratio | 1080p | ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, (small, large) in table.items():
        print(
            f"| {name} | {small:.2f} | {small / first[0]:.2f} "
            f"| {large:.2f} | {large / first[1]:.2f} |"
        )


if __name__ == "__main__":
    main()
