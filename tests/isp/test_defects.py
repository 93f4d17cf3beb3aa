import numpy as np
import pytest

from isp.classical import ClassicalIsp
from isp.config import IspConfig
from isp.defects import DefectMap, replace_outliers
from pipeline.errors import InputError
from pipeline.frame import Frame


def scene(dtype=np.uint16):
    """Four colors of unequal level, with a vertical and a diagonal edge and a diagonal line."""
    y, x = np.mgrid[0:80, 0:96]
    site = (y % 2) * 2 + x % 2
    image = np.choose(site, [60, 90, 95, 40]).astype(dtype)
    image[x > 48] += 100
    image[y > x + 30] += 50
    image[np.abs(x + y - 100) <= 1] += 60
    return image


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_outliers_are_removed_and_edges_kept(dtype):
    clean = scene(dtype)
    out = np.empty_like(clean)
    replace_outliers(clean, 20, out)
    np.testing.assert_array_equal(out, clean)
    spoiled = clean.copy()
    rng = np.random.default_rng(0)
    rows, columns = rng.permutation(16)[:12] * 5, rng.permutation(19)[:12] * 5
    spoiled[rows, columns] = np.where(np.arange(12) % 2, 250, 0)
    replace_outliers(spoiled, 20, out)
    for row, column in zip(rows, columns, strict=True):
        around = clean[
            max(row - 2, row % 2) : row + 3 : 2, max(column - 2, column % 2) : column + 3 : 2
        ]
        assert around.min() <= out[row, column] <= around.max()
    others = np.ones(clean.shape, bool)
    others[rows, columns] = False
    np.testing.assert_array_equal(out[others], clean[others])


@pytest.mark.parametrize("row", [0, 1, 40, 63, 64, 78, 79])
@pytest.mark.parametrize("column", [0, 1, 20, 94, 95])
def test_a_hot_pixel_is_found_at_borders_and_band_seams(row, column):
    image = np.full((80, 96), 100, np.uint8)
    image[row, column] = 255
    out = np.empty_like(image)
    replace_outliers(image, 30, out)
    assert (out == 100).all()
    replace_outliers(image, 155, out)
    assert out[row, column] == 255  # not above the threshold


@pytest.mark.parametrize("row", [0, 1, 37, 78, 79])
@pytest.mark.parametrize("column", [0, 48, 50, 95])
def test_listed_pixels_follow_the_edge(row, column):
    x = np.mgrid[0:80, 0:96][1]
    clean = np.where(x > 48, 2000, 500).astype(np.uint16)
    spoiled = clean.copy()
    spoiled[row, column] = 4095
    DefectMap(np.array([[row, column]]), (96, 80)).replace(spoiled)
    np.testing.assert_array_equal(spoiled, clean)


def test_defect_neighbors_are_not_used_for_each_other():
    image = np.full((16, 16), 300, np.uint16)
    pixels = np.array([[6, 6], [6, 8], [8, 6]])
    image[tuple(pixels.T)] = (4095, 4095, 0)
    DefectMap(pixels, (16, 16)).replace(image)
    assert (image == 300).all()


def test_the_isp_applies_both_without_touching_the_camera_s_picture(tmp_path):
    path = tmp_path / "defects.npy"
    np.save(path, np.array([[10, 10], [30, 5]]))
    image = np.full((40, 60), 1000, np.uint16)
    image[10, 10] = 4095
    image[20, 31] = 4000
    kept = image.copy()
    options = {"white_balance": "fixed", "curve": "points"}
    mapped = ClassicalIsp(IspConfig(defect_map=str(path), **options))
    both = ClassicalIsp(IspConfig(defect_map=str(path), defect_threshold=0.1, **options))
    frame = Frame(image, 0, "bayer_rggb12")
    spot = np.argwhere((mapped.process(frame).image != 62).any(axis=-1))
    assert np.abs(spot - [20, 31]).max() <= 1  # only the one that is not listed
    assert (both.process(frame).image == 62).all()
    np.testing.assert_array_equal(image, kept)
    left = Frame(image << 4, 0, "bayer_rggb16")
    both = ClassicalIsp(IspConfig(defect_threshold=0.1, bits=12, **options))
    assert (both.process(left).image == 62).all()


@pytest.mark.parametrize(
    "pixels",
    [
        np.array([[40, 0]]),
        np.array([[0, 60]]),
        np.array([[-1, 0]]),
        np.array([[1.5, 2.0]]),
        np.array([1, 2]),
        np.zeros((2, 3), int),
        np.array([[1 << 40, 0]]),
    ],
)
def test_a_bad_defect_map_is_refused(tmp_path, pixels):
    path = tmp_path / "defects.npy"
    np.save(path, pixels)
    isp = ClassicalIsp(IspConfig(defect_map=str(path)))
    with pytest.raises(InputError, match="defect"):
        isp.process(Frame(np.zeros((40, 60), np.uint8), 0, "bayer_rggb8"))
