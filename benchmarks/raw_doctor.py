"""How often ``leadsight raw-doctor`` is right: RAW simulated from pictures, through random sensors.

A picture's linear light goes through a random color matrix, lamp, exposure, mosaic and noise. White
points follow Wien's law: the logarithms of red/green and blue/green are linear in 1/T; their middle
and spread are those of common small sensors (libcamera's tuning files). The doctor was fitted to
other pictures and another simulation. The baseline knows green and calls the brighter one red.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from evaluation.data import find_data
from isp.doctor import examine
from isp.raw import ORDERS, Mosaic
from pipeline.errors import InputError

FloatArray = npt.NDArray[np.float64]

_MATRIX = np.array([[1.7, -0.55, -0.15], [-0.25, 1.5, -0.25], [0.0, -0.6, 1.6]])
_WARM, _COLD = 1e6 / 2800, 1e6 / 6500  # mired
_WHITE = np.log([[0.77, 0.38], [0.45, 0.69]])  # red/green and blue/green, warm and cold


def sensor(light: FloatArray, rng: np.random.Generator) -> tuple[Mosaic, str, int, float]:
    """Mosaic, order, bits and black level of linear sRGB light (H, W, 3)."""
    warmth = (rng.uniform(1e6 / 7500, 1e6 / 2600) - _COLD) / (_WARM - _COLD)
    red, blue = np.exp(warmth * _WHITE[0] + (1 - warmth) * _WHITE[1] + rng.normal(0, (0.3, 0.2)))
    matrix = _MATRIX + rng.normal(0, 0.1, (3, 3))
    matrix /= matrix.sum(axis=1, keepdims=True)
    camera = np.maximum(light @ np.linalg.inv(matrix).T * (red, 1, blue), 0)
    camera *= np.exp(rng.uniform(np.log(0.05), np.log(1.6)))
    order, bits = str(rng.choice(ORDERS)), int(rng.choice([8, 10, 12, 14]))
    mosaic = np.empty(light.shape[:2])
    for site, color in enumerate(order):
        at = slice(site // 2, None, 2), slice(site % 2, None, 2)
        mosaic[at] = camera[(*at, "rgb".index(color))]
    gain = np.exp(rng.uniform(0, np.log(16)))
    sigma = np.sqrt(1.2e-4 * gain * mosaic + (3e-4 * gain) ** 2)
    white = (1 << bits) - 1
    black = white * rng.uniform(0.01, 0.07)
    counts = black + (mosaic + sigma * rng.standard_normal(mosaic.shape)) * (white - black)
    kind = np.uint8 if bits == 8 else np.uint16
    return np.clip(np.rint(counts), 0, white).astype(kind), order, bits, black


def linear(path: Path) -> FloatArray:
    """(H, W, 3) linear sRGB of a picture, H and W even."""
    picture = cv2.imread(str(path))
    if picture is None:
        raise InputError(f"{path}: cannot be decoded; give a folder of pictures")
    code = picture[: len(picture) // 2 * 2, : picture.shape[1] // 2 * 2, ::-1] / 255.0
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="folder; COCO val2017 of LEADSIGHT_DATA else")
    parser.add_argument("--repeats", type=int, default=4, help="sensors a picture")
    parser.add_argument("--limit", type=int, default=1000, help="pictures at most")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder = given.pictures or find_data("data", "isp", "labelled", "images", "val2017")
    if folder is None:
        raise SystemExit("no pictures: give --pictures, or set LEADSIGHT_DATA")
    rng = np.random.default_rng(given.seed)
    rows, refused = [], 0
    paths = sorted(folder.glob("*.jpg"))[: given.limit] * given.repeats
    if not paths:
        raise SystemExit(f"{folder}: holds no .jpg; give a folder of pictures")
    for path in paths:
        mosaic, order, bits, black = sensor(linear(path), rng)
        found = examine(mosaic)
        if found.order is None:
            refused += 1
            continue
        first = found.order.ranked[0]
        red, blue = (float(mosaic[i // 2 :: 2, i % 2 :: 2].mean()) for i in map(order.index, "rb"))
        rows.append(
            (
                red > blue,
                (first[0] == "g") == (order[0] == "g"),
                first == order,
                found.order.red,
                found.bits.bits == bits,
                abs(found.black.level - black) / (1 << bits) if found.black.known else np.nan,
            )
        )
    brighter, green, right, promised, depth, black_error = np.array(rows, np.float64).T
    print(f"{len(rows)} pictures, {refused} refused, seed {given.seed}\n")
    print("| | share | right % | by chance % |\n| --- | ---: | ---: | ---: |")
    print(f"| green diagonal | 1.00 | {100 * green.mean():.1f} | 50 |")
    print(f"| order, green known, red the brighter | 1.00 | {100 * brighter.mean():.1f} | 50 |")
    print(f"| order | 1.00 | {100 * right.mean():.1f} | 25 |")
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 1.0)):
        chosen = (promised >= low) & (promised < high)
        share = 100 * right[chosen].mean() if chosen.any() else float("nan")
        print(f"| order, red promised {low} to {high} | {chosen.mean():.2f} | {share:.1f} | 25 |")
    print(f"| bits | 1.00 | {100 * depth.mean():.1f} | |")
    known = black_error[np.isfinite(black_error)]
    middle, most = (100 * np.quantile(known, [0.5, 0.95])) if known.size else (np.nan, np.nan)
    print(
        f"\nblack level known in {known.size / len(rows):.2f}: error {middle:.2f} % of full scale"
    )
    print(f"in the median, {most:.2f} % at the 95th percentile")


if __name__ == "__main__":
    main()
