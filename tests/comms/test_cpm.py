"""CPMs: ours against asn1tools and ETSI's grammar, round trips, golden and hostile bytes."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comms import codec, cpm, cpm_grammar
from comms.envelope import Content
from comms.geodesy import Origin
from comms.reasons import Reason, Rejected
from pipeline.errors import InputError
from pipeline.objects import ObjectClass, Objects
from pipeline.pose import Pose
from tests.comms.made import MS, NOW, S, envelope, filtered_covariances, objects, pose

GOLDEN = Path(__file__).parent / "golden"
ORIGIN = Origin(44.494, 11.343, 54.0)


@pytest.fixture(scope="module")
def asn1tools():
    return pytest.importorskip("asn1tools", reason="asn1tools is not installed (the cpm extra)")


def made(n, seed=1, reach_m=150.0):
    """n objects round a pose, some without a velocity that a CPM can say."""
    rng = np.random.default_rng(seed)
    at = pose(rng)
    some = objects(rng, n, at.position, reach_m=reach_m)
    scale = np.where(rng.random(n) < 0.5, 0.1, 3.0)
    return at, replace(some, covariances=some.covariances * scale[:, None, None] ** 2)


def trip(at, sent, origin=None):
    rng = np.random.default_rng(0)
    payload = codec.encode(sent, at, NOW, Content.CPM, 9, origin)
    return codec.decode(payload, envelope(rng, station=9, pose=at, content=Content.CPM))


def refused(data, at):
    with pytest.raises(Rejected) as caught:
        cpm.decode(data, at)
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("n", [0, 1, 2, 5, 20, 40, 80, 128])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_bytes_are_those_of_the_grammar(asn1tools, n, seed):
    at, sent = made(n, seed)
    data = cpm.encode(sent, at, NOW, 9, ORIGIN if seed == 1 else None)
    message = cpm_grammar.read(data)
    assert cpm_grammar.write(message) == data
    header, management = message["header"], message["payload"]["managementContainer"]
    assert header == {"protocolVersion": 2, "messageId": 14, "stationId": 9}
    assert management["referenceTime"] == (NOW // S - 1_072_915_200 + 5) * 1000
    vehicle, perceived = message["payload"]["cpmContainers"]
    assert (vehicle["containerId"], perceived["containerId"]) == (1, 5)
    found = perceived["containerData"]
    assert found["numberOfPerceivedObjects"] == len(found["perceivedObjects"]) == n
    for k, one in enumerate(found["perceivedObjects"]):
        assert one["objectId"] == sent.ids[k] % 65536
        assert one["measurementDeltaTime"] == (sent.measured_ns[k] - NOW) // MS
        for axis, name in enumerate(("xCoordinate", "yCoordinate", "zCoordinate")):
            meters = sent.positions[k, axis] - at.position[axis]
            assert one["position"][name]["value"] == pytest.approx(100 * meters, abs=1.1)
            sigma = math.sqrt(sent.covariances[k, axis, axis])
            assert one["position"][name]["confidence"] >= min(196 * sigma - 1e-6, 4095)
        if "velocity" in one:
            kind, velocity = one["velocity"]
            assert kind == "cartesianVelocity"
            assert velocity["yVelocity"]["value"] == pytest.approx(
                100 * sent.velocities[k, 1], abs=1
            )
        assert ("angles" in one) == np.isfinite(sent.yaws[k])
        assert ("objectDimensionX" in one) == (sent.sizes[k, 0] > 0)
        assert one["objectPerceptionQuality"] == math.floor(15 * sent.quality[k])
        expected = {
            ObjectClass.CAR: ("vehicleSubClass", 5),
            ObjectClass.PERSON: ("vruSubClass", ("pedestrian", 1)),
            ObjectClass.CYCLIST: ("vruSubClass", ("bicyclistAndLightVruVehicle", 1)),
            ObjectClass.UNKNOWN: ("otherSubClass", 0),
        }.get(ObjectClass(sent.classes[k]))
        assert expected is None or one["classification"][0]["objectClass"] == expected


def test_the_reference_position_and_heading_are_on_the_earth(asn1tools):
    at = Pose(
        NOW,
        np.array([1000.0, 2000.0, 30.0]),
        math.radians(60),
        covariance=np.diag([0.04, 0.25, 1.0, math.radians(2) ** 2]),
    )
    message = cpm_grammar.read(cpm.encode(Objects.none(NOW), at, NOW, 9, ORIGIN))
    place = message["payload"]["managementContainer"]["referencePosition"]
    there = ORIGIN.to_wgs84(at.position)
    assert place["latitude"] == pytest.approx(there[0] * 1e7, abs=1)
    assert place["longitude"] == pytest.approx(there[1] * 1e7, abs=1)
    assert place["altitude"]["altitudeValue"] == pytest.approx(100 * there[2], abs=1)
    assert place["altitude"]["altitudeConfidence"] == "alt-002-00"
    ellipse = place["positionConfidenceEllipse"]
    assert ellipse["semiMajorConfidence"] == math.ceil(50 * 2.4478)
    assert ellipse["semiMinorConfidence"] == math.ceil(20 * 2.4478)
    assert ellipse["semiMajorOrientation"] in (0, 1800)
    angle = message["payload"]["cpmContainers"][0]["containerData"]["orientationAngle"]
    assert angle == {"value": 300, "confidence": 40}  # 60° from east is 30° from north


@pytest.mark.parametrize("seed", range(20))
def test_round_trip_is_within_quantization_and_never_more_certain(seed):
    at, sent = made(40, seed)
    got = trip(at, sent, ORIGIN)
    assert got.stamp_ns == NOW and (got.stations == 9).all() and (got.ids == sent.ids).all()
    assert np.abs(got.positions - sent.positions).max() <= 0.00551
    moving = np.diagonal(got.covariances, axis1=1, axis2=2)[:, 3] < cpm.MISSING_SIGMA**2 - 1e-6
    assert 5 < moving.sum() < 40
    assert np.abs(got.velocities - sent.velocities)[moving].max() <= 0.00501
    assert (got.velocities[~moving] == 0).all()
    assert (np.isnan(got.yaws) == np.isnan(sent.yaws)).all()
    turned = [math.remainder(a, math.tau) for a in got.yaws - sent.yaws if np.isfinite(a)]
    assert np.abs(turned).max() <= math.radians(0.0501)
    assert np.abs(got.sizes - sent.sizes).max() <= 0.0501
    assert ((got.quality <= sent.quality + 1e-9) & (got.quality > sent.quality - 1 / 14)).all()
    late = sent.measured_ns - got.measured_ns
    assert ((late >= 0) & (late < MS)).all()
    uav = sent.classes == ObjectClass.UAV
    assert (got.classes[~uav] == sent.classes[~uav]).all()
    assert (got.classes[uav] == ObjectClass.OBSTACLE).all()
    # Beyond half of what a missing velocity is read as, the scale ends.
    within = np.diagonal(sent.covariances, axis1=1, axis2=2)[:, 3:].max(axis=1) < 25**2
    assert within.sum() >= 35
    lowest = np.linalg.eigvalsh(got.covariances - sent.covariances)[:, 0]
    assert lowest[within].min() >= -1e-6


def test_a_filters_covariance_grows_little_in_the_plane():
    at, sent = made(60)
    sent = replace(sent, covariances=filtered_covariances(np.random.default_rng(6), 60))
    got = trip(at, sent)
    grown = np.sqrt(np.diagonal(got.covariances, axis1=1, axis2=2))
    grown /= np.sqrt(np.diagonal(sent.covariances, axis1=1, axis2=2))
    assert np.median(grown[:, [0, 1, 3, 4]]) < 1.05 and (grown[:, [2, 5]] < 1.5).all()


def test_correlations_travel():
    at, sent = made(1)
    axes = np.array([[0.09, 0.05], [0.05, 0.16]])
    p = np.kron(np.array([[1.0, 0.3], [0.3, 0.5]]), np.diag([0, 0, 0.01]))
    p[np.ix_([0, 1], [0, 1])] += axes
    p[np.ix_([3, 4], [3, 4])] += axes / 4
    p[np.ix_([0, 1], [3, 4])] += axes / 3
    p[np.ix_([3, 4], [0, 1])] += axes / 3
    got = trip(at, replace(sent, covariances=p[None])).covariances[0]
    for i, j in ((0, 1), (0, 3), (1, 4), (3, 4)):
        true, found = (m[i, j] / math.sqrt(m[i, i] * m[j, j]) for m in (p, got))
        assert found == pytest.approx(true, abs=0.02)


def test_extremes_saturate_and_never_wrap():
    at, sent = made(3)
    sent = replace(
        sent,
        ids=np.array([-1, 65536, 70000], np.int32),
        velocities=np.array([[400.0, 0, 0], [163.7, -163.7, 0], [0, 0, 0]]),
        sizes=np.array([[1000.0, 25.4, 0.01]] * 3),
        yaws=np.array([-1e-12, math.tau, -math.pi]),
        measured_ns=np.array([NOW - 10**12, NOW + 10**12, NOW]),
        covariances=np.tile(np.eye(6), (3, 1, 1)) * np.array([1e-30, 0.01, 1e30])[:, None, None],
    )
    got = trip(at, sent)
    assert (got.ids == [65535, 0, 4464]).all()
    assert np.allclose(got.velocities, [[0, 0, 0], [163.7, -163.7, 0], [0, 0, 0]], atol=0.006)
    assert np.allclose(got.sizes, [25.45, 25.35, 0.05])
    assert (got.measured_ns == NOW + np.array([-2048, 2047, 0]) * MS).all()
    assert np.abs([math.remainder(a, math.tau) for a in got.yaws[:2]]).max() < 0.001
    assert np.allclose(got.covariances[0, 3, 3], cpm.MISSING_SIGMA**2)
    assert np.allclose(got.covariances[2, 0, 0], cpm.FAR_SIGMA**2)


def test_what_a_cpm_cannot_say_is_refused_by_name():
    at, sent = made(2)
    with pytest.raises(InputError, match="1310"):
        cpm.encode(replace(sent, positions=sent.positions + 1400), at, NOW)
    with pytest.raises(InputError, match="at most 255"):
        cpm.encode(made(256)[1], at, NOW)
    with pytest.raises(InputError, match="32 bits"):
        cpm.encode(sent, at, NOW, station=2**32)
    assert len(cpm.encode(made(255)[1], at, NOW)) > 8000
    cpm.encode(Objects.none(0), replace(at, stamp_ns=0), 0)  # simulated time begins at 0


def test_capacity_is_what_surely_fits():
    for room in (0, 40, 100, 500, 1157):
        n = codec.capacity(Content.CPM, room)
        for seed in range(5):
            at, sent = made(n, seed)
            assert n == 0 or len(cpm.encode(sent, at, NOW)) <= room
    assert codec.capacity(Content.CPM, 1157) == 24


def test_another_stations_cpm_is_refused():
    rng = np.random.default_rng(0)
    at, sent = made(2)
    refused(cpm.encode(sent, at, NOW, 8), envelope(rng, station=9, pose=at))


GIVEN = {
    "header": {"protocolVersion": 2, "messageId": 14, "stationId": 0},
    "payload": {
        "managementContainer": {
            "referenceTime": 700_000_000_000,
            "referencePosition": {
                "latitude": 444940000,
                "longitude": 113430000,
                "positionConfidenceEllipse": {
                    "semiMajorConfidence": 50,
                    "semiMinorConfidence": 40,
                    "semiMajorOrientation": 900,
                },
                "altitude": {"altitudeValue": 5400, "altitudeConfidence": "alt-001-00"},
            },
            "segmentationInfo": {"totalMsgNo": 2, "thisMsgNo": 1},
            "messageRateRange": {
                "messageRateMin": {"mantissa": 1, "exponent": 0},
                "messageRateMax": {"mantissa": 1, "exponent": 1},
            },
        },
        "cpmContainers": [
            {"containerId": 2, "containerData": {}},
            {
                "containerId": 3,
                "containerData": [
                    {
                        "sensorId": 1,
                        "sensorType": 3,
                        "perceptionRegionShape": ("circular", {"radius": 900}),
                        "shadowingApplies": True,
                    }
                ],
            },
            {
                "containerId": 5,
                "containerData": {
                    "numberOfPerceivedObjects": 2,
                    "perceivedObjects": [
                        {
                            "objectId": 77,
                            "measurementDeltaTime": -120,
                            "position": {
                                "xCoordinate": {"value": 1234, "confidence": 50},
                                "yCoordinate": {"value": -567, "confidence": 4096},
                            },
                            "velocity": (
                                "polarVelocity",
                                {
                                    "velocityMagnitude": {
                                        "speedValue": 1000, "speedConfidence": 98,
                                    },
                                    "velocityDirection": {"value": 901, "confidence": 10},
                                },
                            ),
                            "acceleration": (
                                "polarAcceleration",
                                {
                                    "accelerationMagnitude": {
                                        "accelerationMagnitudeValue": 9,
                                        "accelerationConfidence": 5,
                                    },
                                    "accelerationDirection": {"value": 5, "confidence": 127},
                                },
                            ),
                            "angles": {
                                "zAngle": {"value": 901, "confidence": 20},
                                "yAngle": {"value": 0, "confidence": 127},
                                "xAngle": {"value": 0, "confidence": 127},
                            },
                            "zAngularVelocity": {"value": 10, "confidence": "degSec-05"},
                            "lowerTriangularCorrelationMatrices": [
                                {
                                    "componentsIncludedIntheMatrix": (b"\xc0\x40", 13),
                                    "matrix": [[30, 101], [-20]],
                                }
                            ],
                            "objectAge": 1500,
                            "objectPerceptionQuality": 12,
                            "sensorIdList": [1, 2, 3],
                            "classification": [
                                {"objectClass": ("vehicleSubClass", 5), "confidence": 30},
                                {
                                    "objectClass": (
                                        "vruSubClass", ("bicyclistAndLightVruVehicle", 9),
                                    ),
                                    "confidence": 70,
                                },
                                {"objectClass": ("otherSubClass", 1), "confidence": 101},
                            ],
                        },
                        {
                            "objectId": 78,
                            "measurementDeltaTime": 0,
                            "position": {
                                "xCoordinate": {"value": 0, "confidence": 4095},
                                "yCoordinate": {"value": 100, "confidence": 1},
                                "zCoordinate": {"value": 200, "confidence": 1},
                            },
                            "acceleration": (
                                "cartesianAcceleration",
                                {
                                    "xAcceleration": {"value": 1, "confidence": 102},
                                    "yAcceleration": {"value": 1, "confidence": 102},
                                    "zAcceleration": {"value": 1, "confidence": 102},
                                },
                            ),
                            "objectDimensionX": {"value": 256, "confidence": 32},
                        },
                    ],
                },
            },
        ],
    },
}  # fmt: skip
"""What another station may send: all that is read and ours never writes."""


def check_given(got):
    assert (got.ids == [77, 78]).all()
    assert np.allclose(got.positions[0, :2], [12.335, -5.675])
    assert np.allclose(got.velocities[0, :2], [0, 10], atol=0.01)
    assert got.yaws[0] == pytest.approx(math.pi / 2, abs=1e-3) and np.isnan(got.yaws[1])
    assert np.allclose(np.sqrt(got.covariances[0].diagonal()),
                       [0.5 / 1.96, 1000, 1000, 0.5, 0.5, 50], rtol=1e-3)  # fmt: skip
    assert got.covariances[0, 0, 1] == pytest.approx(0.3 * 0.5 / 1.96 * 1000)
    assert got.covariances[0, 0, 3] == got.covariances[0, 3, 4] == 0
    assert (got.classes == [ObjectClass.CYCLIST, ObjectClass.UNKNOWN]).all()
    assert (got.measured_ns == [NOW - 120 * MS, NOW]).all()
    assert np.allclose(got.quality, [0.8, cpm.UNKNOWN_QUALITY]) and (got.sizes == 0).all()
    assert np.allclose(np.diagonal(got.covariances[1])[[0, 3]], [1e6, 2500])


def origin_envelope():
    return envelope(np.random.default_rng(0), station=9, pose=Pose(NOW, np.zeros(3), 0.0))


def test_what_others_may_send_is_read(asn1tools):
    check_given(cpm.decode(cpm_grammar.write(GIVEN), origin_envelope()))


def test_groups_maps_and_extensions_are_refused_and_the_grammar_reads_them(asn1tools):
    one = {
        "objectId": 1,
        "measurementDeltaTime": 0,
        "position": {a: {"value": 0, "confidence": 1} for a in ("xCoordinate", "yCoordinate")},
    }
    group = ("groupSubClass", {"clusterCardinalitySize": 3})
    for extra in (
        {"classification": [{"objectClass": group, "confidence": 101}]},
        {"mapPosition": {"laneId": 3}},
    ):
        content = {"numberOfPerceivedObjects": 1, "perceivedObjects": [{**one, **extra}]}
        containers = [{"containerId": 5, "containerData": content}]
        message = {**GIVEN, "payload": {**GIVEN["payload"], "cpmContainers": containers}}
        data = cpm_grammar.write(message)
        refused(data, origin_envelope())
        assert cpm_grammar.read(data)["payload"]["cpmContainers"] == containers


def test_a_value_outside_of_the_grammar_is_not_written(asn1tools):
    header = {**GIVEN["header"], "stationId": 2**32}
    with pytest.raises(InputError, match="CPM"):
        cpm_grammar.write({**GIVEN, "header": header})


def test_golden_bytes_have_not_changed():
    """given.hex: asn1tools' bytes of GIVEN. ours.hex: those of 20 made objects, which asn1tools
    reads and writes alike."""
    check_given(cpm.decode(bytes.fromhex((GOLDEN / "given.hex").read_text()), origin_envelope()))
    at, sent = fixed()
    data = bytes.fromhex((GOLDEN / "ours.hex").read_text())
    assert cpm.encode(sent, at, NOW, 9, ORIGIN) == data


def test_the_grammar_agrees_with_the_golden_bytes(asn1tools):
    assert cpm_grammar.write(GIVEN).hex() == (GOLDEN / "given.hex").read_text().strip()
    data = bytes.fromhex((GOLDEN / "ours.hex").read_text())
    assert cpm_grammar.write(cpm_grammar.read(data)) == data


def fixed():
    """A pose and 20 objects that no random generator's version changes."""
    k = np.arange(20)
    at = Pose(NOW, np.array([100.0, -50.0, 1.5]), 0.7, covariance=np.diag([0.04, 0.09, 0.25, 1e-4]))
    shape = np.eye(6) + 0.3 * np.eye(6, k=3) + 0.3 * np.eye(6, k=-3)
    return at, Objects(
        stamp_ns=NOW,
        ready_ns=NOW,
        ids=(100 + 7 * k).astype(np.int32),
        stations=np.zeros(20, np.uint32),
        positions=np.stack([100 + 4.0 * k, -50 - 3.25 * k, 0.75 + 0 * k], 1),
        velocities=np.stack([k - 10.0, 0.5 * k, 0 * k], 1),
        yaws=np.where(k % 5 == 0, np.nan, 0.25 * k),
        sizes=np.where(k[:, None] % 4 == 0, 0, np.array([4.5, 1.8, 1.5])),
        covariances=shape * (0.0625 + 0.03125 * (k % 6))[:, None, None],
        classes=(k % 10).astype(np.uint8),
        quality=(1 + k % 16) / 16,
        measured_ns=NOW - 10 * MS * k,
    )


def test_no_bytes_raise_anything_but_malformed():
    rng = np.random.default_rng(4)
    at = origin_envelope()
    texts = [bytes.fromhex((GOLDEN / f"{name}.hex").read_text()) for name in ("given", "ours")]
    for data in texts:
        for end in range(0, len(data) - 1):
            refused(data[:end], at)
    admitted = 0
    for k in range(3000):
        data = bytearray(texts[k % 2])
        for place in rng.integers(0, len(data), int(rng.integers(1, 4))):
            data[place] ^= 1 << int(rng.integers(8))
        try:
            got = cpm.decode(bytes(data), at)
        except Rejected as rejected:
            assert rejected.reason is Reason.MALFORMED
        else:
            admitted += 1
            assert len(got) == 0 or np.linalg.eigvalsh(got.covariances).min() > 0
    assert admitted > 300
    for size in (0, 1, 60, 1300):
        for _ in range(50):
            wild = bytes(rng.integers(0, 256, size, dtype=np.uint8))
            refused(b"\x02\x0e" + wild[2:], at) if size > 60 else refused(wild, at)


def test_the_grammar_refuses_hostile_bytes(asn1tools):
    rng = np.random.default_rng(5)
    data = bytes.fromhex((GOLDEN / "given.hex").read_text())
    for _ in range(150):
        wrong = bytearray(data)
        wrong[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        try:
            cpm_grammar.read(bytes(wrong[: int(rng.integers(len(data) + 1))]))
        except Rejected as rejected:
            assert rejected.reason is Reason.MALFORMED
    with pytest.raises(Rejected):
        cpm_grammar.read(bytes(70_000))


def test_without_asn1tools_the_message_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "asn1tools", None)
    cpm_grammar.grammar.cache_clear()
    with pytest.raises(InputError, match="cpm"):
        cpm_grammar.read(b"")
    cpm_grammar.grammar.cache_clear()
