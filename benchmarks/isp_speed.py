"""Milliseconds a frame of both ISPs on one core, beside what else a user could take.

    python -m benchmarks.isp_speed [--repeats 41] [--published FILE] [--warm]

Input: 12-bit RGGB of a seeded synthetic scene, right-justified in 16 bits, so that every row works
on the same pixels. All rows of a size are timed in turn within one run, round after round, so that
other load on the machine falls on each alike, and each row finds its data out of the nearer caches.
Ratios are of medians, to the first row: the least that makes a picture of a RAW frame with OpenCV,
which is the cut to 8 bits, the bilinear demosaic and a table of 256 codes for each color. With
``--warm`` each row is timed frame after frame, as a node runs it that has its core to itself.

``--published`` is a model of TA-ISP's operators, made by ``python -m isp.train --operators
published``; they are timed alone, on the detector's grid.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from isp.classical import ClassicalIsp
from isp.config import IspConfig
from isp.grid import GridSampler, features, measured_noise, thumbnail
from isp.levels import toned_tables
from isp.operators import Operators
from isp.raw import mosaic_of
from isp.task_aware import ParameterModel, TaskAwareIsp
from pipeline.frame import Frame
from pipeline.resources import share_path

MATRIX = (1.6, -0.4, -0.2, -0.3, 1.6, -0.3, 0.0, -0.5, 1.5)
SIZES = ((1280, 720), (1920, 1080))
GRID = (416, 234)
PERIOD_NS = 33_000_000
Row = Callable[[int], object]
"""One call a frame; the argument is the frame's number."""


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


def opencv(mosaic: npt.NDArray[np.uint16]) -> dict[str, Row]:
    """What OpenCV alone makes of a frame, and the copy that no ISP can undercut."""
    eight = (mosaic >> 4).astype(np.uint8)
    left = mosaic << 4
    codes = np.random.default_rng(1).integers(0, 256, (1, 256, 3)).astype(np.uint8)
    held, rgb = np.empty_like(mosaic), np.empty((*mosaic.shape, 3), np.uint8)
    other = rgb.copy()

    def picture(way: int) -> object:
        return cv2.LUT(cv2.cvtColor(cv2.convertScaleAbs(mosaic, alpha=1 / 16), way), codes)

    def copy(i: int) -> None:
        np.copyto(held, mosaic)
        np.copyto(rgb, other)

    bilinear, edges = cv2.COLOR_BayerBG2RGB, cv2.COLOR_BayerBG2RGB_EA
    return {
        "OpenCV: 8 bits, bilinear, tables": lambda i: picture(bilinear),
        "OpenCV: 8 bits, edge-aware, tables": lambda i: picture(edges),
        "OpenCV: bilinear alone": lambda i: cv2.cvtColor(eight, bilinear),
        "OpenCV: edge-aware alone": lambda i: cv2.cvtColor(eight, edges),
        "a copy of as many bytes in and out": copy,
        "image_proc-like: 16-bit demosaic": lambda i: cv2.cvtColor(left, bilinear),
        "image_proc-like, then 8 bits": lambda i: cv2.convertScaleAbs(
            cv2.cvtColor(left, bilinear), alpha=1 / 256
        ),
    }


def task_aware(mosaic: npt.NDArray[np.uint16]) -> dict[str, Row]:
    """The task-aware ISP's views, and the parts of the detector's."""
    config = IspConfig(mode="task_aware", black_level=(64.0,))
    size = mosaic.shape[::-1]

    def view(consumers: tuple[str, ...], every_ns: int) -> Row:
        isp = TaskAwareIsp(config)
        return lambda i: isp.develop(Frame(mosaic, i * every_ns, "bayer_rggb12", i), consumers)

    isp = TaskAwareIsp(config)
    isp.develop(Frame(mosaic, 0, "bayer_rggb12"), ("detector",))
    assert isp.chosen is not None
    given = isp.chosen.of["detector"]
    sampler = GridSampler(size, GRID, "rggb", [64.0] * 4, 4095.0)
    linear, operators = sampler(mosaic), Operators(GRID)
    model = ParameterModel(share_path("models", "task-aware.onnx"))

    def statistics_and_network(i: int) -> object:
        small = thumbnail(linear)
        return model(features(small), measured_noise(small))

    sites = (0, 1, 1, 2)
    gains, exponents = ([of[c] for c in sites] for of in (given.gains, given.exponents))
    levels = 12, 0, [64.0] * 4, 4095.0, gains, exponents, given.toe
    tables = toned_tables(*levels)
    return {
        "task-aware: detector's view": view(("detector",), PERIOD_NS),
        "of it, average to the grid": lambda i: sampler(mosaic),
        "of it, statistics and network": statistics_and_network,
        "of it, operators": lambda i: operators(linear, given),
        "task-aware: whole view, frame not measured": view(("human",), 0),
        "task-aware: whole view, frame measured": view(("human",), 1_000_000_000),
        "to that where parameters move, new tables": lambda i: toned_tables(*levels, tables),
        "task-aware: whole and detector's view": view(("human", "detector"), PERIOD_NS),
    }


def classical(mosaic: npt.NDArray[np.uint16]) -> dict[str, Row]:
    """The classical ISP with its options."""
    eight = (mosaic >> 4).astype(np.uint8)
    packed = Frame(pack_12(mosaic), 0, "bayer_rggb12p", width=mosaic.shape[1])

    def ours(
        image: npt.NDArray[np.uint16] | npt.NDArray[np.uint8],
        encoding: str = "bayer_rggb12",
        **options: object,
    ) -> Row:
        isp = ClassicalIsp(IspConfig(**{"black_level": (64.0,), **options}))  # type: ignore[arg-type]
        width = mosaic.shape[1] if encoding.endswith("p") else 0
        return lambda i: isp.process(Frame(image, i * PERIOD_NS, encoding, i, width=width))

    return {
        "classical, bilinear": ours(mosaic),
        "classical, edge-aware": ours(mosaic, demosaic="edge_aware"),
        "classical, 8-bit input": ours(eight, "bayer_rggb8", black_level=(4.0,)),
        "classical, 12 bits left-justified in 16": ours(mosaic << 4, "bayer_rggb16", bits=12),
        "classical, MIPI-packed 12 bits": ours(packed.image, "bayer_rggb12p"),
        "classical, with color matrix": ours(mosaic, color_matrix=MATRIX),
        "classical, with outlier removal": ours(mosaic, defect_threshold=0.1),
        "classical, with lens shading": ours(mosaic, lens_shading_radial=(0.4,)),
        "unpacking RAW12 alone": lambda i: mosaic_of(packed),
    }


def published(path: Path) -> dict[str, Row]:
    """TA-ISP's operators, under onnxruntime on one core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    wanted = {i.name: i.shape for i in session.get_inputs()}
    height, width = (
        n if isinstance(n, int) else usual
        for n, usual in zip(wanted["image"][2:], GRID[::-1], strict=True)
    )
    image = np.random.default_rng(2).random((1, 3, height, width), np.float32)
    still = np.zeros((1, wanted["gumbel"][1], height, width), np.float32)
    run = partial(session.run, None, {"image": image, "gumbel": still})
    return {f"published operators alone, {width}×{height}": lambda i: run()}


def rawpy_rows(mosaic: npt.NDArray[np.uint16], folder: Path) -> dict[str, Row]:
    """LibRaw on the same pixels; none where rawpy is not installed."""
    try:
        import rawpy
    except ImportError:
        return {}
    path = folder / f"{mosaic.shape[1]}.dng"
    path.write_bytes(dng(mosaic))
    raw = rawpy.imread(str(path))
    np.testing.assert_array_equal(raw.raw_image_visible, mosaic)
    linear = rawpy.DemosaicAlgorithm.LINEAR
    return {
        "rawpy.postprocess, linear demosaic": lambda i: raw.postprocess(demosaic_algorithm=linear),
        "rawpy.postprocess, default (AHD)": lambda i: raw.postprocess(),
    }


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


def timed(rows: dict[str, Row], repeats: int, warm: bool) -> dict[str, list[float]]:
    """Milliseconds of every row, the first round left out."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    rounds = range(repeats + 1)
    order = (
        [(i, n) for n in rows for i in rounds] if warm else [(i, n) for i in rounds for n in rows]
    )
    for i, name in order:
        if name.startswith("rawpy") and i > 5:
            continue  # slow, and the median of five tells
        start = time.process_time_ns()
        rows[name](i)
        times[name].append((time.process_time_ns() - start) / 1e6)
    return {name: taken[1:] for name, taken in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=41)
    parser.add_argument("--published", type=Path, metavar="FILE")
    parser.add_argument("--warm", action="store_true", help="each row frame after frame")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    table: dict[str, list[list[float]]] = {}
    for width, height in SIZES:
        mosaic = scene(width, height)
        with tempfile.TemporaryDirectory() as folder:
            rows = opencv(mosaic) | task_aware(mosaic) | classical(mosaic)
            if args.published:
                rows |= published(args.published)
            rows |= rawpy_rows(mosaic, Path(folder))
            for name, taken in timed(rows, args.repeats, args.warm).items():
                table.setdefault(name, []).append(taken)
    if not args.published:
        print("no --published model: its row is left out\n")
    if not any(name.startswith("rawpy") for name in table):
        print("rawpy is not installed (pip install '.[raw]'): its rows are left out\n")
    reference = [statistics.median(taken) for taken in next(iter(table.values()))]
    print(f"| ms a frame, one core, OpenCV {cv2.__version__} ", end="")
    print("| 720p least | median | ratio | 1080p least | median | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, sizes in table.items():
        cells = [
            f"{min(taken):.2f} | {statistics.median(taken):.2f} "
            f"| {statistics.median(taken) / whole:.2f}"
            for taken, whole in zip(sizes, reference, strict=True)
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
