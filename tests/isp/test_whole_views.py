import cv2
import numpy as np
import pytest

from isp.classical import ClassicalIsp
from isp.config import IDENTITY, IspConfig
from isp.levels import apply_tables, toned_tables
from isp.task_aware import TaskAwareIsp
from pipeline.frame import Frame

SIZE = (96, 128)
STEP_NS = 10_000_000


def mosaic(brightness, seed=0):
    rng = np.random.default_rng(seed)
    light = brightness * cv2.resize(rng.random((6, 8), np.float32), SIZE[::-1])
    light += 0.01 * rng.standard_normal(SIZE, np.float32)
    return np.rint(64 + np.clip(light, 0, 1) * (4095 - 64)).astype(np.uint16)


def isp(time_constant_ms=80.0):
    return TaskAwareIsp(
        IspConfig(mode="task_aware", black_level=(64.0,), time_constant_ms=time_constant_ms)
    )


def frame(image, index):
    return Frame(image, index * STEP_NS, "bayer_rggb12", index)


def test_whole_views_alone_are_measured_four_times_a_time_constant():
    view, seen = isp(), []
    for k in range(9):
        view.develop(frame(mosaic(0.1 + 0.05 * k), k), ("human",))
        seen.append(view.chosen)
    anew = [k for k in range(1, 9) if seen[k] is not seen[k - 1]]
    assert anew == [2, 4, 6, 8]


@pytest.mark.parametrize(
    ("time_constant_ms", "consumers"), [(0.0, ("human",)), (80.0, ("detector",))]
)
def test_a_detector_s_frame_and_one_without_smoothing_are_measured(time_constant_ms, consumers):
    view = isp(time_constant_ms)
    chosen = []
    for k in range(3):
        view.develop(frame(mosaic(0.1 + 0.2 * k), k), consumers)
        chosen.append(view.chosen)
    assert chosen[0] is not chosen[1] is not chosen[2]


def test_whole_views_alone_follow_a_step_within_the_time_constant():
    """Beside a stream that is measured at each frame: as far or at most a quarter behind."""
    alone, each = isp(), isp()
    neutral = mosaic(0.9)
    blue = neutral.copy()
    blue[0::2, 0::2] = 64 + (neutral[0::2, 0::2] - 64.0).clip(0) * 0.2  # red sites
    gains = []
    for k in range(30):
        image = neutral if k < 5 else blue
        alone.develop(frame(image, k), ("human",))
        each.develop(frame(image, k), ("human", "detector"))
        gains.append([v.chosen.of["human"].gains[0] for v in (alone, each)])
    first, last = np.log(gains[4]), np.log(gains[-1])
    moved = (np.log(gains) - first) / (last - first)
    assert moved[5 + 10, 0] > 1 - np.exp(-1)  # a time constant and a quarter after
    np.testing.assert_allclose(gains[-1][0], gains[-1][1], rtol=0.02)


def test_a_stamp_that_goes_back_is_measured_anew():
    view = isp()
    view.develop(frame(mosaic(0.5), 9), ("human",))
    before = view.chosen
    view.develop(frame(mosaic(0.5), 3), ("human",))
    assert view.chosen is not before


def test_the_same_stream_gives_the_same_whole_views():
    def run():
        view = isp()
        return [
            view.develop(frame(mosaic(0.05 * (k + 1), k), k), ("tracker",))["tracker"].image
            for k in range(8)
        ]

    for one, two in zip(run(), run(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_table_that_is_kept_or_written_anew_is_within_a_code_of_a_fresh_one():
    view = isp()
    for k in range(40):
        image = mosaic(0.9 if k < 10 else 0.3)
        found = view.develop(frame(image, k), ("human", "detector"))["human"].image
        given = view.chosen.of["human"]
        sites = (0, 1, 1, 2)
        tables = toned_tables(
            12, 0, [64.0] * 4, 4095.0,
            [given.gains[c] for c in sites], [given.exponents[c] for c in sites], given.toe,
        )  # fmt: skip
        coded = np.empty(SIZE, np.uint8)
        apply_tables(image, tables, coded)
        fresh = cv2.cvtColor(coded, cv2.COLOR_BayerBG2RGB)
        assert np.abs(found.astype(int) - fresh).max() <= 1


@pytest.mark.parametrize(("bits", "shift"), [(8, 0), (10, 6), (12, 0), (12, 4), (16, 0)])
def test_tables_written_over_others_are_those_made_anew(bits, shift):
    black, white = [16.0, 12.0, 20.0, 16.0], float((1 << bits) - 1)
    dim = toned_tables(bits, shift, black, white, [0.3] * 4, [1.0] * 4, 1e-3)
    given = bits, shift, black, white, [1.5, 1.0, 1.1, 2.0], [0.45, 0.4, 0.5, 0.6], 2e-3
    for over, fresh in zip(toned_tables(*given, dim), toned_tables(*given), strict=True):
        np.testing.assert_array_equal(over, fresh)


def test_noise_without_a_slope_leaves_the_parameters_finite():
    view = isp()
    for k in range(4):
        dark = np.full(SIZE, 64, np.uint16)
        view.develop(frame(dark if k % 2 else mosaic(0.5), k), ("human", "detector"))
        given = view.chosen.of["detector"]
        assert np.isfinite([given.slope, given.floor, *given.gains]).all()
        assert given.slope > 0


@pytest.mark.parametrize("mode", ["classical", "task_aware"])
@pytest.mark.parametrize("matrix", [IDENTITY, (1.5, -0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)])
def test_a_whole_picture_is_made_in_the_array_given_for_it_where_that_fits(mode, matrix):
    config = IspConfig(mode=mode, black_level=(64.0,), color_matrix=matrix)
    image = mosaic(0.5)
    kinds = {"classical": ClassicalIsp, "task_aware": TaskAwareIsp}
    expected = kinds[mode](config).develop(frame(image, 0), ("human",))["human"].image
    for shape, fits in ((*SIZE, 3), True), ((*SIZE[::-1], 3), False):
        room = np.zeros(shape, np.uint8)
        found = kinds[mode](config).develop(frame(image, 0), ("human",), {"human": room})
        np.testing.assert_array_equal(found["human"].image, expected)
        assert np.shares_memory(found["human"].image, room) == fits


@pytest.mark.parametrize("mode", ["classical", "task_aware"])
def test_views_are_what_develop_gives_in_the_order_asked_for(mode):
    config = IspConfig(mode=mode, black_level=(64.0,))
    kinds = {"classical": ClassicalIsp, "task_aware": TaskAwareIsp}
    for consumers in ("detector", "human"), ("human", "detector", "tracker"):
        expected = kinds[mode](config).develop(frame(mosaic(0.5), 0), consumers)
        found = list(kinds[mode](config).views(frame(mosaic(0.5), 0), consumers))
        assert tuple(name for name, _ in found) == consumers
        for name, view in found:
            np.testing.assert_array_equal(view.image, expected[name].image)


def test_the_detectors_view_does_not_wait_for_the_whole_one():
    room = np.zeros((*SIZE, 3), np.uint8)
    views = isp().views(frame(mosaic(0.5), 0), ("detector", "human"), {"human": room})
    assert next(views)[0] == "detector" and not room.any()
    assert next(views)[0] == "human" and room.any()


def test_the_classical_picture_is_made_in_the_first_array_that_is_given():
    room = np.zeros((*SIZE, 3), np.uint8)
    view = ClassicalIsp(IspConfig(black_level=(64.0,)))
    found = view.develop(frame(mosaic(0.5), 0), ("detector", "human"), {"human": room})
    assert all(np.shares_memory(f.image, room) for f in found.values())
