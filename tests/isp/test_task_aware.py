"""The task-aware ISP: one light, one picture whatever the sensor sends; and it stays calm."""

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from isp.config import IspConfig
from isp.make import make_isp
from isp.profile import read_profile, with_profile
from isp.raw import ORDERS
from isp.sensor import PROFILES, bayer
from isp.task_aware import CONSUMERS, GLOBALS, TaskAwareIsp
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.images import frame_from_bytes

MS = 1_000_000
SIZE = (160, 120)
PROFILE = PROFILES["small-12"]
TWELVE = {"bits": 12, "black_level": (64.0,)}


def light(seed: int = 0, low: float = 0.03, high: float = 0.6):
    """(120, 160, 3) smooth colors."""
    coarse = np.exp(np.random.default_rng(seed).uniform(np.log(low), np.log(high), (4, 5, 3)))
    return np.clip(cv2.resize(coarse.astype(np.float32), SIZE, interpolation=cv2.INTER_CUBIC), 0, 1)


def counts(of, order: str = "rggb", bits: int = 12, black: int = 64):
    """(H, W) of light without noise."""
    out = np.empty(of.shape[:2], np.float64)
    for site, color in enumerate(order):
        rows, columns = slice(site // 2, None, 2), slice(site % 2, None, 2)
        out[rows, columns] = of[rows, columns, "rgb".index(color)]
    white = (1 << bits) - 1
    return np.rint(black + out * (white - black)).astype(np.uint8 if bits == 8 else np.uint16)


def noisy(of, seed: int = 0, exposure: float = 1.0, gain: float = 1.0):
    return bayer(of, PROFILE, exposure, gain, np.random.default_rng(seed))


STEADY = {"model": ""}


@pytest.fixture(scope="module", autouse=True)
def steady(tmp_path_factory):
    """A network that says the same of every frame: then a view is a matter of light alone."""
    one = [2.0, 1.2, 1.8, 0.45, 0.45, 0.45, 1.1, 0.002, 2.0, 2.0, 2.0]
    path = tmp_path_factory.mktemp("steady") / "model.onnx"
    STEADY["model"] = network(path, chosen=np.array([[one] * len(CONSUMERS)]))


def isp_of(**options) -> TaskAwareIsp:
    return TaskAwareIsp(IspConfig(**{"mode": "task_aware", **TWELVE, **STEADY, **options}))


def views(image, encoding: str = "bayer_rggb16", stamp_ns: int = 0, isp=None, **options):
    isp = isp or isp_of(**options)
    return isp.develop(Frame(image, stamp_ns, encoding, 3, "nose"), CONSUMERS)


def colors(frame: Frame):
    return frame.image.reshape(-1, 3).mean(axis=0)


def test_each_consumer_gets_its_view_of_the_same_moment() -> None:
    isp = TaskAwareIsp(IspConfig(mode="task_aware", **TWELVE), lambda size: (101, 63))
    found = isp.develop(Frame(counts(light()), 77, "bayer_rggb16", 3, "nose"), CONSUMERS)
    assert set(found) == set(CONSUMERS)
    for consumer, frame in found.items():
        assert (frame.stamp_ns, frame.encoding, frame.index, frame.frame_id) == (
            77, "rgb8", 3, "nose",
        )  # fmt: skip
        assert frame.image.dtype == np.uint8
        # No finer than the blocks of the mosaic, and even.
        assert frame.size == ((80, 60) if consumer == "detector" else SIZE)
    whole = isp.process(Frame(counts(light()), 78, "bayer_rggb16"))
    assert whole.size == SIZE and whole.detail is not None and whole.detail.size == (80, 60)
    assert isp_of().process(Frame(counts(light()), 78, "bayer_rggb16")).detail is None
    assert isp.develop(Frame(counts(light()), 79, "bayer_rggb16"), ()) == {}
    assert isp.chosen is not None


def test_the_detectors_view_is_as_large_as_told() -> None:
    image = np.full((600, 1280), 500, np.uint16)
    assert views(image)["detector"].size == (416, 194)
    assert views(image, detector_px=320)["detector"].size == (320, 150)
    assert views(image.T.copy())["detector"].size == (194, 416)


@pytest.mark.parametrize("encoding", ["rgb8", "mono8"])
def test_what_is_a_picture_already_passes_and_tells_nothing(encoding: str) -> None:
    isp, shape = isp_of(), (4, 6, 3) if encoding == "rgb8" else (4, 6)
    frame = Frame(np.zeros(shape, np.uint8), 0, encoding)
    isp.process(Frame(counts(light()), 0, "bayer_rggb16"))
    assert isp.process(frame) is frame
    assert isp.develop(frame, CONSUMERS) == dict.fromkeys(CONSUMERS, frame)
    assert isp.chosen is None


def test_the_same_frames_give_the_same_bits() -> None:
    isp = isp_of(model="")
    shots = [noisy(light(), seed) for seed in range(4)]
    runs = []
    for _ in range(2):
        isp.reset()
        runs.append([views(s, stamp_ns=k * 33 * MS, isp=isp) for k, s in enumerate(shots)])
    runs.append([])
    other = isp_of(model="")
    runs[2] = [views(s, stamp_ns=k * 33 * MS, isp=other) for k, s in enumerate(shots)]
    for run in runs[1:]:
        for a, b in zip(runs[0], run, strict=True):
            for consumer in CONSUMERS:
                assert (a[consumer].image == b[consumer].image).all()


def test_what_is_returned_is_not_written_again() -> None:
    isp = isp_of()
    first = views(noisy(light()), isp=isp)
    kept = {name: frame.image.copy() for name, frame in first.items()}
    views(noisy(light(1)), stamp_ns=MS, isp=isp)
    for name, frame in first.items():
        assert (frame.image == kept[name]).all()


@pytest.mark.parametrize("exposure", [0.2, 0.03])
def test_a_static_noisy_scene_does_not_flicker(exposure: float) -> None:
    isp, means = isp_of(model=""), {name: [] for name in CONSUMERS}
    scene = cv2.resize(light(), (480, 360))
    for k in range(60):
        found = views(noisy(scene, k, exposure, 16.0), stamp_ns=k * 33 * MS, isp=isp)
        for name, frame in found.items():
            means[name].append(colors(frame))
    for name, values in means.items():
        steps = np.abs(np.diff(values, axis=0))
        # Codes of 255: the mean of the picture from frame to frame, of each color.
        assert steps.max() < 1.0, (name, steps.max())


@pytest.mark.parametrize("rate_hz", [5, 15, 30, 90])
def test_a_step_of_light_is_followed_in_time_whatever_the_frame_rate(rate_hz: int) -> None:
    isp, before, after = isp_of(model=""), counts(light() * 0.05), counts(light())

    def exposed(image, stamp_ns):
        isp.develop(Frame(image, stamp_ns, "bayer_rggb16"), ("detector",))
        return np.log([isp.chosen.noise[0] + 1e-9, *isp.chosen.of["human"].gains])

    def settled(image):
        isp.reset()
        return exposed(image, 0)

    end, start = settled(after), settled(before)
    period = 10**9 // rate_hz
    steps = round(0.3 * rate_hz)
    for k in range(1, steps + 1):
        reached = exposed(after, k * period)
    share = (reached[1:] - start[1:]) / np.where(end == start, np.nan, end - start)[1:]
    moved = np.abs(end - start)[1:] > 1e-4
    assert moved.any()
    expected = 1 - np.exp(-steps / rate_hz / 0.3)
    np.testing.assert_allclose(share[moved], expected, atol=0.02)


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_gives_the_same_colors(order: str) -> None:
    wanted = views(counts(light()))
    found = views(counts(light(), order), f"bayer_{order}16")
    overridden = views(counts(light(), order), "bayer_rggb16", order=order)
    for name in CONSUMERS:
        np.testing.assert_allclose(colors(found[name]), colors(wanted[name]), atol=0.7)
        assert (found[name].image == overridden[name].image).all()


def test_a_mislabeled_order_changes_the_colors_and_nothing_else() -> None:
    right, wrong = views(counts(light())), views(counts(light()), "bayer_bggr16")
    for name in CONSUMERS:
        assert wrong[name].image.shape == right[name].image.shape


FORMATS = [
    ("bayer_rggb8", 8, 0, {"bits": 0, "black_level": (4.0,)}),
    ("bayer_rggb10", 10, 0, {"bits": 0, "black_level": (16.0,)}),
    ("bayer_rggb12", 12, 0, {"bits": 0}),
    ("bayer_rggb14", 14, 0, {"bits": 0, "black_level": (256.0,)}),
    ("bayer_rggb16", 16, 0, {"bits": 0, "black_level": (1024.0,)}),
    ("bayer_rggb16", 12, 4, {}),
    ("bayer_rggb16", 12, 4, {"justified": "left"}),
    ("bayer_rggb16", 10, 6, {"bits": 10, "black_level": (16.0,)}),
]


@pytest.mark.parametrize(("encoding", "bits", "shift", "options"), FORMATS)
def test_every_depth_and_justification_gives_the_same_picture(encoding, bits, shift, options):
    wanted = views(counts(light()))
    image = counts(light(), bits=bits, black=1 << (bits - 6)) << shift
    found = views(image, encoding, **options)
    for name in CONSUMERS:
        difference = found[name].image.astype(int) - wanted[name].image
        # 8 and 10 bits have coarser steps in the dark, which count as noise to be shrunk, too.
        assert np.abs(difference).mean() < (0.4 if bits > 10 else 3.0), name


def test_padding_at_the_end_of_rows_is_left_out() -> None:
    image = counts(light())
    padded = np.full((120, 200), 0xEEEE, np.uint16)
    padded[:, :160] = image
    frame = frame_from_bytes(padded.tobytes(), SIZE, 400, "bayer_rggb16", False, 0, 3, "nose")
    wanted = views(image)
    for name, found in isp_of().develop(frame, CONSUMERS).items():
        assert (found.image == wanted[name].image).all()


def test_lens_shading_is_undone_in_every_view() -> None:
    flat = np.full((120, 160, 3), (0.2, 0.4, 0.3), np.float32)
    y, x = np.mgrid[0:120, 0:160]
    r2 = ((x - 79.5) ** 2 + (y - 59.5) ** 2) / (79.5**2 + 59.5**2)
    shaded = flat / (1 + 0.8 * r2[..., None])
    plain = views(counts(shaded))
    for name, frame in views(counts(shaded), lens_shading_radial=(0.8,)).items():
        inner = frame.image[4:-4, 4:-4].astype(int)
        assert np.ptp(inner, axis=(0, 1)).max() <= 4, name
        assert np.ptp(plain[name].image[4:-4, 4:-4].astype(int), axis=(0, 1)).max() > 12
        assert frame.size == plain[name].size


@pytest.mark.parametrize("value", [0, 64, 4095])
def test_black_and_saturated_frames_give_flat_pictures_and_leave_no_trace(value: int) -> None:
    isp, image = isp_of(), np.full((120, 160), value, np.uint16)
    for k in range(3):
        found = views(image, stamp_ns=k * 33 * MS, isp=isp)
        for name, frame in found.items():
            assert np.ptp(frame.image.reshape(-1, 3), axis=0).max() <= 1, name
    fresh = views(counts(light()))
    later = views(counts(light()), stamp_ns=60_000 * MS, isp=isp)
    for name in CONSUMERS:
        assert np.abs(later[name].image.astype(int) - fresh[name].image).max() <= 1


def test_hot_pixels_stay_where_they_are_or_go() -> None:
    image, rng = counts(light()), np.random.default_rng(5)
    clean = views(image)
    rows, columns = rng.integers(2, 118, 40), rng.integers(2, 158, 40)
    image[rows, columns] = 4095
    hot, mended = views(image), views(image, defect_threshold=0.1)
    for name in CONSUMERS:
        reached = np.abs(hot[name].image.astype(int) - clean[name].image).max(axis=2)
        assert np.median(reached) <= 3, name
        rest = np.abs(mended[name].image.astype(int) - clean[name].image)
        assert rest.mean() < 1 and rest.mean() <= reached.mean(), name


BAD = [
    (np.zeros((120, 160), np.uint16), "bayer_xyzw16", "is no Bayer RAW"),
    (np.zeros((120, 160), np.uint8), "bayer_rggb16", "holds uint8"),
    (np.zeros((120, 160, 3), np.uint16), "bayer_rggb16", "give .height, width."),
    (np.zeros((119, 160), np.uint16), "bayer_rggb16", "cannot be: give an even height"),
    (np.zeros((120, 161), np.uint16), "bayer_rggb16", "cannot be: give an even height"),
    (np.zeros((2, 2), np.uint16), "bayer_rggb16", "each 4 to"),
    (np.zeros((120, 160), np.uint8), "rgb8", "give uint8 with 3 channel"),
    (np.full((120, 160), 0xFFFF - 7, np.uint16), "bayer_rggb16", "more than 12 bits"),
]


@pytest.mark.parametrize(("image", "encoding", "reason"), BAD)
def test_a_bad_frame_is_one_clear_line_and_the_next_goes_on(image, encoding, reason) -> None:
    isp = isp_of()
    wanted = views(counts(light()))
    views(counts(light()), isp=isp)
    with pytest.raises(InputError, match=reason) as error:
        isp.process(Frame(image, 33 * MS, encoding))
    assert "\n" not in str(error.value)
    for name, frame in views(counts(light()), stamp_ns=33 * MS, isp=isp).items():
        assert np.abs(frame.image.astype(int) - wanted[name].image).max() <= 1


def test_a_frame_shorter_than_its_header_says_is_one_clear_line() -> None:
    with pytest.raises(InputError, match="it is truncated"):
        frame_from_bytes(bytes(1000), SIZE, 320, "bayer_rggb16", False, 0, 0)


@pytest.mark.parametrize("size", [(4, 4), (6, 4), (34, 18), (1000, 4)])
def test_small_and_long_pictures_are_developed(size) -> None:
    width, height = size
    for name, frame in views(np.full((height, width), 700, np.uint16)).items():
        assert name == "detector" or frame.size == size
        assert frame.image.shape[2] == 3


def network(path, chosen=None, field=None, inputs=None) -> str:
    """A model that answers always the same; ``inputs``: name to shape."""
    chosen = np.ones((1, len(CONSUMERS), GLOBALS)) if chosen is None else chosen
    field = np.zeros((1, 2, 16, 16)) if field is None else field
    inputs = inputs or {"features": [1, 4, 64, 64], "noise": [1, 2]}
    nodes = (("a", "globals"), ("b", "field"))
    graph = helper.make_graph(
        [helper.make_node("Identity", [given], [out]) for given, out in nodes],
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("globals", "field")],
        [
            numpy_helper.from_array(np.asarray(v, np.float32), n)
            for n, v in (("a", chosen), ("b", field))
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, path)
    return str(path)


def test_a_model_of_this_kind_is_taken(tmp_path) -> None:
    isp = isp_of(model=network(tmp_path / "a.onnx"))
    views(counts(light()), isp=isp)
    assert isp.chosen.problem == ""
    assert isp.chosen.of["human"].gains == pytest.approx((1, 1, 1))


BAD_MODELS = {
    "missing": (lambda path: str(path), "cannot be read"),
    "other inputs": (lambda path: network(path, inputs={"x": [1, 3, 8, 8]}), "not features and"),
    "other outputs": (lambda path: network(path, chosen=np.ones((1, 2))), "gives other outputs"),
    "NaN": (
        lambda path: network(path, field=np.full((1, 2, 16, 16), np.nan)),
        "gives other outputs",
    ),
    "a gain of zero": (
        lambda path: network(path, chosen=np.zeros((1, len(CONSUMERS), GLOBALS))),
        "gives other outputs",
    ),
    "no model": (lambda path: (path.write_bytes(b"\0" * 99), str(path))[1], "is no ONNX model"),
}


@pytest.mark.parametrize("kind", BAD_MODELS)
def test_a_bad_model_is_one_clear_line_and_fixed_parameters(kind: str, tmp_path) -> None:
    make, reason = BAD_MODELS[kind]
    config = IspConfig(mode="task_aware", model=make(tmp_path / "bad.onnx"), **TWELVE)
    with pytest.raises(InputError, match=reason) as error:
        make_isp(config)
    assert "\n" not in str(error.value)
    isp = make_isp(config, complain=lambda text: None)
    found = views(counts(light()), isp=isp)
    assert reason.split()[0] in isp.chosen.problem and "\n" not in isp.chosen.problem
    assert 20 < found["human"].image.mean() < 235


def test_answers_that_turn_to_nan_are_said_and_bridged(tmp_path) -> None:
    """A model that takes the root of its brightest feature, which lies below 0 without light."""
    path = tmp_path / "log.onnx"
    network(path)
    made = onnx.load(path)
    nodes = [
        helper.make_node("ReduceMax", ["features"], ["low"], keepdims=0),
        helper.make_node("Sqrt", ["low"], ["root"]),
        helper.make_node("Mul", ["root", "none"], ["zero"]),
        helper.make_node("Add", ["a", "zero"], ["globals"]),
        helper.make_node("Identity", ["b"], ["field"]),
    ]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.append(numpy_helper.from_array(np.float32(0), "none"))
    onnx.save(made, path)
    isp = isp_of(model=str(path))
    views(counts(light()), isp=isp)
    assert isp.chosen.problem == ""
    dark = views(np.full((120, 160), 64, np.uint16), stamp_ns=MS, isp=isp)
    assert "are no parameters" in isp.chosen.problem
    assert dark["human"].image.max() == 0
    views(counts(light()), stamp_ns=2 * MS, isp=isp)
    assert isp.chosen.problem == ""


def profile(tmp_path, text: str) -> str:
    path = tmp_path / "camera.yaml"
    path.write_text(text)
    return str(path)


def test_a_profile_fills_what_is_left_at_its_default(tmp_path) -> None:
    path = profile(
        tmp_path, "order: grbg\nbits: 12\njustified: left\nblack_level: 64\nwhite_level: 4000\n"
    )
    filled = with_profile(IspConfig(camera_profile=path, order="bggr"))
    assert (filled.order, filled.bits, filled.justified) == ("bggr", 12, "left")
    assert (filled.black_level, filled.white_level) == ((64.0,), 4000.0)
    four = profile(tmp_path, "black_level: [60, 61, 62, 63]\n")
    assert with_profile(IspConfig(camera_profile=four)).black_level == (60, 61, 62, 63)
    wanted = views(counts(light()), model="")
    for mode in ("classical", "task_aware"):
        text = "bits: 12\nblack_level: [64]\n"
        config = IspConfig(mode=mode, camera_profile=profile(tmp_path, text))
        frame = Frame(counts(light()), 0, "bayer_rggb16")
        found = make_isp(config).develop(frame, CONSUMERS)
        plain = make_isp(IspConfig(mode=mode, **TWELVE)).develop(frame, CONSUMERS)
        assert all((found[n].image == plain[n].image).all() for n in CONSUMERS)
    assert (found["human"].image == wanted["human"].image).all()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("black_level: .nan\n", "black_level: nan is not finite"),
        ("white_level: .inf\n", "white_level: inf is not finite"),
        ("gamma: 2.2\n", "gamma: no such option; known are order, bits"),
        ("bits: twelve\n", "bits: 'twelve' is no int"),
        ("bits: 3\n", "bits: 3 is out of range"),
        ("order: rgbg\n", "order: 'rgbg' is none of"),
        ("black_level: [1, 2]\n", "black_level: 2 numbers are given"),
        ("black_level: 5000\nwhite_level: 4000\n", "must lie above black_level"),
        ("- 12\n", "is no camera profile"),
        ("bits: [\n", "is no YAML"),
        ("", "is no camera profile"),
    ],
)
def test_a_bad_profile_is_one_clear_line_and_the_options_as_they_are(tmp_path, text, reason):
    config = IspConfig(camera_profile=profile(tmp_path, text), **TWELVE)
    with pytest.raises(InputError, match=reason) as error:
        make_isp(IspConfig(camera_profile=config.camera_profile))
    assert "\n" not in str(error.value)
    assert config.camera_profile in str(error.value)
    told: list[str] = []
    isp = make_isp(config, complain=told.append)
    assert len(told) == 1 and "isp.camera_profile" in told[0]
    assert isp.config.bits == 12


def test_a_profile_that_is_missing_says_so(tmp_path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_profile(tmp_path / "none.yaml")


@pytest.mark.parametrize("mode", ["classical", "task_aware"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_bits_that_nobody_gave_are_found_once_a_frame_tells(mode: str, bits: int) -> None:
    isp = make_isp(IspConfig(mode=mode))
    black = 1 << (bits - 6)
    told = make_isp(IspConfig(mode=mode, bits=bits, black_level=(float(black),)))
    dim, shown = light(), light()
    shown[40:60, 40:60] = 1.0
    shown[80:104, 80:112] = 0.0

    def both(of, stamp_ns):
        frame = Frame(counts(of, bits=bits, black=black), stamp_ns, "bayer_rggb16")
        return [i.develop(frame, ("tracker",))["tracker"].image.astype(int) for i in (isp, told)]

    both(dim, 0)
    assert isp.found == ""  # nothing is cut off: it may be a dark picture of more bits
    found, wanted = both(shown, MS)
    assert f"{bits} bits, right-justified, black about {black}" in isp.found
    told.reset()
    found, wanted = both(shown, 10**12)
    assert np.abs(found - wanted).mean() < 1.5
    both(dim, 10**12 + MS)
    assert str(bits) in isp.found


@pytest.mark.parametrize("options", [{"bits": 16}, {"justified": "left"}, {"white_level": 4095.0}])
def test_what_is_given_is_not_looked_for(options) -> None:
    isp, shown = make_isp(IspConfig(**options)), light()
    shown[40:60, 40:60] = 1.0
    isp.process(Frame(counts(shown), 0, "bayer_rggb16"))
    assert isp.found == ""


def test_sixteen_bits_and_left_justified_ones_are_read_as_they_are() -> None:
    shown = light()
    shown[40:60, 40:60] = 1.0
    for image in (counts(shown, bits=16), counts(shown) << 4):
        isp = make_isp(IspConfig())
        isp.process(Frame(image, 0, "bayer_rggb16"))
        assert isp.found == ""


@pytest.mark.parametrize("first", ["bayer_rggb16", "bayer_rggb12"])
def test_a_bad_frame_first_or_with_a_new_size_does_not_stop_the_stream(first: str) -> None:
    isp = isp_of(bits=0, black_level=(0.0,))
    bad = Frame(np.zeros((120, 160), np.uint8), 0, first)
    good = Frame(counts(light()), MS, "bayer_rggb12")
    larger = Frame(np.zeros((240, 320), np.uint8), 2 * MS, first)
    for frame in (bad, larger):
        with pytest.raises(InputError):
            isp.develop(frame, CONSUMERS)
        assert set(isp.develop(good, CONSUMERS)) == set(CONSUMERS)
    with_16 = Frame(np.zeros((240, 320), np.uint16), 3 * MS, "bayer_rggb16")
    assert isp.develop(with_16, CONSUMERS)["human"].size == (320, 240)


def test_lens_shading_is_not_taken_for_clipped_light() -> None:
    isp = isp_of(lens_shading_radial=(1.5,))
    views(np.full((120, 160), 2000, np.uint16), isp=isp)
    light = isp.chosen.light()
    assert light.clipped == 0 and light.bright < 0.6


def test_options_that_have_no_say_are_named_in_a_line():
    assert IspConfig(curve="gamma", exposure_gain=2.0).ignored == ""
    assert IspConfig(mode="task_aware", black_level=(64.0,), color_matrix=(1.0,) * 9).ignored == ""
    line = IspConfig(mode="task_aware", curve="gamma", wb_gains=(2.0, 1.0, 1.5)).ignored
    assert line == "isp.wb_gains, isp.curve: for isp.mode=classical alone, ignored"
