"""The embedded world: determinism, exact truth, and a sensor that behaves like one."""

import dataclasses

import numpy as np
import pytest

from bridges.scene import LABELS
from bridges.sensor import ENCODINGS, BayerSensor
from bridges.world import AerialWorld, WorldConfig
from perception.gyro import product, rotations
from pipeline.config import from_mapping
from pipeline.errors import InputError

SMALL = {"width": 640, "height": 360, "seed": 5}


@pytest.fixture(scope="module")
def world() -> AerialWorld:
    return AerialWorld(WorldConfig(**SMALL))


@pytest.fixture(scope="module")
def quiet() -> AerialWorld:
    """No noise and no exposure smear to speak of."""
    return AerialWorld(WorldConfig(**SMALL, noise=0.0, rate_hz=1000.0))


def test_same_seed_gives_the_same_bytes_in_any_order(world):
    again = AerialWorld(WorldConfig(**SMALL))
    forward = [world.render(k) for k in (3, 4, 40)]
    backward = [again.render(k) for k in (40, 4, 3)][::-1]
    for a, b in zip(forward, backward, strict=True):
        assert a.frame.image.tobytes() == b.frame.image.tobytes()
        for field in ("boxes", "visibility", "camera_pose", "homography"):
            assert getattr(a, field).tobytes() == getattr(b, field).tobytes()
    assert forward[0].frame.image.tobytes() != forward[1].frame.image.tobytes()


def test_another_seed_gives_another_town(world):
    other = AerialWorld(WorldConfig(**{**SMALL, "seed": 6}))
    assert not np.array_equal(other.scene.texture, world.scene.texture)


def test_frames_returned_earlier_are_not_overwritten(world):
    first = world.render(0, clean=True)
    raw, clean = first.frame.image.copy(), first.bgr.copy()
    world.render(1, clean=True)
    assert np.array_equal(first.frame.image, raw) and np.array_equal(first.bgr, clean)


def test_truth_without_drawing_equals_the_rendered_truth(world):
    frame, truth = world.render(17), world.truth(17)
    for field in dataclasses.fields(truth):
        a, b = getattr(frame, field.name), getattr(truth, field.name)
        assert np.array_equal(a, b, equal_nan=field.name == "boxes")


def test_frame_is_raw_with_the_stamp_of_mid_exposure():
    world = AerialWorld(WorldConfig(**SMALL, rate_hz=20.0, start_ns=7_000))
    frame = world.render(3).frame
    assert frame.stamp_ns == 7_000 + 3 * 50_000_000
    assert (frame.encoding, frame.index, frame.size) == ("bayer_rggb12", 3, (640, 360))
    assert frame.image.dtype == np.uint16 and 500 < frame.image.max() <= 4095


def test_boxes_cover_exactly_the_pixels_that_an_actor_changes(quiet, monkeypatch):
    """Drawn with and without each actor, shadows off: what differs spans its box."""
    monkeypatch.setattr(quiet, "_shadows", lambda *_: None)
    checked = 0
    for index in (0, 2_500, 5_000, 9_000):
        shown = quiet.render(index, clean=True)
        for actor in np.flatnonzero(shown.visibility == 1):
            box = shown.boxes[actor]
            without = quiet.render(index, clean=True, hide=(int(actor),)).bgr
            rows, columns = np.nonzero(np.abs(shown.bgr.astype(int) - without).max(-1) > 12)
            bounds = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            expected = np.array([*box[:2], *(box[:2] + box[2:])])
            assert np.abs(bounds - expected).max() < 2.5, (index, actor, bounds, expected)
            checked += 1
    assert checked >= 8


def test_homography_moves_ground_points_as_the_poses_say(world):
    for index in (1, 30, 77):
        before, now = world.truth(index - 1), world.truth(index)
        forward = now.camera_pose[:3, 2]
        spot = now.camera_pose[:3, 3] - forward * now.camera_pose[2, 3] / forward[2]
        ground = spot + np.array([[0, 0, 0], [9, 2, 0], [-7, 11, 0], [3, -12, 0]])
        old, new = (_project(world.camera_matrix, t.camera_pose, ground) for t in (before, now))
        mapped = np.c_[old, np.ones(4)] @ now.homography.T
        assert np.allclose(mapped[:, :2] / mapped[:, 2:], new, atol=1e-6)
        assert np.hypot(*(new - old).T).max() > 0.5


def test_homography_aligns_the_pictures(world):
    import cv2

    a, b = world.render(50, clean=True), world.render(51, clean=True)
    moved = cv2.warpPerspective(a.bgr, b.homography, world.size)
    inner = (slice(40, -40), slice(40, -40))
    still = np.abs(b.bgr[inner].astype(int) - a.bgr[inner]).mean()
    aligned = np.abs(b.bgr[inner].astype(int) - moved[inner]).mean()
    assert aligned < 0.6 * still


def test_the_gyroscope_turns_as_the_poses_do():
    """Unequal axes; a noise-free gyroscope, its samples joined, gives the camera's own turn."""
    world = AerialWorld(
        WorldConfig(**SMALL, shake_px=9.0, gyro_noise=0.0, gyro_bias=(0.01, -0.02, 0.04))
    )
    begin, end = world.stamp_ns(3), world.stamp_ns(9)
    samples = world.gyro(begin, end)
    assert samples.stamps_ns[0] >= begin and samples.stamps_ns[-1] < end
    period_s = 1 / world.config.gyro_hz
    np.testing.assert_allclose(np.diff(samples.stamps_ns), period_s * 1e9, atol=1)
    turns = rotations((samples.rates - [0.01, -0.02, 0.04]) * period_s)
    _, gyro = world.calibration
    turned = gyro.camera_from_imu @ product(turns) @ gyro.camera_from_imu.T
    poses = [world.truth(k).camera_pose[:3, :3] for k in (3, 9)]
    np.testing.assert_allclose(turned, poses[0].T @ poses[1], atol=2e-3)
    assert np.abs(turned - np.eye(3)).max() > 0.02


def test_samples_of_the_gyroscope_depend_on_nothing_but_their_moment(world):
    whole = world.gyro(0, 300_000_000)
    parts = [world.gyro(a, a + 100_000_000) for a in (200_000_000, 0, 100_000_000)]
    rates = np.concatenate([parts[1].rates, parts[2].rates, parts[0].rates])
    assert rates.tobytes() == whole.rates.tobytes()
    assert len(world.gyro(5, 5)) == 0
    late = AerialWorld(WorldConfig(**SMALL, gyro_offset_ms=12.0, start_ns=7 * 10**9))
    samples = late.gyro(7 * 10**9 + 12_000_000, 7 * 10**9 + 312_000_000)
    np.testing.assert_array_equal(samples.stamps_ns - 7_012_000_000, whole.stamps_ns)
    np.testing.assert_allclose(samples.rates, whole.rates, atol=1e-12)
    assert late.calibration[1].offset_ns == 12_000_000


def test_the_gyroscopes_noise_is_as_dense_as_it_says():
    noisy, quiet = (
        AerialWorld(WorldConfig(**SMALL, gyro_hz=1000.0, gyro_noise=n)).gyro(0, 10**9)
        for n in (2e-3, 0.0)
    )
    spread = (noisy.rates - quiet.rates).std(axis=0)
    np.testing.assert_allclose(spread, 2e-3 * np.sqrt(1000), rtol=0.1)


def test_target_stays_in_view_moves_and_is_hidden_at_times(world):
    truths = [world.truth(k) for k in range(0, 1500, 2)]
    boxes = np.array([t.boxes[world.target_id] for t in truths])
    seen = np.isfinite(boxes[:, 0])
    assert LABELS[truths[0].labels[world.target_id]] == "car"
    assert 0.85 < seen.mean() < 1.0
    centers = boxes[:, :2] + boxes[:, 2:] / 2
    width, height = world.size
    assert np.nanmin(centers) > 20
    assert np.nanmax(centers[:, 0]) < width - 20 and np.nanmax(centers[:, 1]) < height - 20
    # Pixels a frame at 640 wide: 1.5 to 4 there are 3 to 8 at 1280.
    speed = np.hypot(*np.diff(centers, axis=0).T) / 2
    assert 1.5 < np.nanpercentile(speed, 90) < 6
    hidden = min(t.visibility[world.target_id] for t in truths)
    assert hidden == 0.0


def test_without_occlusions_the_target_is_always_seen():
    world = AerialWorld(WorldConfig(**SMALL, occlusions=False))
    assert min(world.truth(k).visibility[0] for k in range(0, 1200, 10)) > 0.5


def test_vehicles_never_drive_through_each_other(world):
    roaming = np.flatnonzero(
        (world.scene.actors.route >= 0) & (world.scene.actors.label != LABELS.index("person"))
    )
    for seconds in np.arange(0, 60, 0.5):
        xy = world.scene.poses(seconds)[roaming, :2]
        gap = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)) + 100 * np.eye(len(xy))
        assert gap.min() > 3.0


def test_night_is_darker_and_noisier():
    measured = {}
    for night in (False, True):
        noisy = AerialWorld(WorldConfig(**SMALL, night=night))
        perfect = AerialWorld(WorldConfig(**SMALL, night=night, noise=0.0))
        raw, ideal = (w.render(9).frame.image.astype(float) for w in (noisy, perfect))
        signal = ideal.mean() - noisy.sensor.black_level
        measured[night] = signal, (raw - ideal).std()
    assert measured[True][0] < 0.5 * measured[False][0]
    assert measured[True][1] > 1.2 * measured[False][1]
    snr = {night: signal / noise for night, (signal, noise) in measured.items()}
    assert snr[True] < 0.3 * snr[False]


def test_noise_grows_with_the_square_root_of_the_light():
    sensor = BayerSensor("bayer_rggb12", (512, 512), 1)
    spread = []
    for level in (90, 180):
        raw = sensor.expose(np.full((512, 512, 3), level, np.uint8), 0)[0::2, 1::2]
        spread.append((raw.mean() - sensor.black_level, raw.std()))
    (dark, dark_std), (bright, bright_std) = spread
    assert bright_std / dark_std == pytest.approx(np.sqrt(bright / dark), rel=0.05)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_bayer_order_puts_each_color_on_its_site(encoding):
    sensor = BayerSensor(encoding, (64, 64), 1, noise=0.0)
    for channel, letter in enumerate("bgr"):
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[..., channel] = 220
        raw = sensor.expose(picture, 0)
        for site, color in enumerate(encoding[6:10]):
            lit = raw[site // 2 :: 2, site % 2 :: 2]
            assert (lit > sensor.black_level).all() == (color == letter)
            assert lit.max() <= sensor.white_level
    assert raw.dtype == (np.uint8 if encoding.endswith("8") else np.uint16)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 641),
        ("height", 0),
        ("rate_hz", float("nan")),
        ("rate_hz", 0.0),
        ("encoding", "bayer_rggb9"),
        ("vehicles", 0),
        ("noise", -1.0),
        ("pitch_deg", 31.0),
        ("gyro_bias", [0.1, 0.2]),
        ("gyro_hz", 0.0),
        ("seed", "five"),
    ],
)
def test_bad_configuration_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=name):
        from_mapping(WorldConfig, {name: value})


@pytest.mark.parametrize("index", [-1, 1 << 40])
def test_absurd_index_is_refused(world, index):
    with pytest.raises(InputError, match="index"):
        world.truth(index)


def _project(matrix, pose, points):
    seen = (points - pose[:3, 3]) @ pose[:3, :3] @ matrix.T
    return seen[:, :2] / seen[:, 2:]
