"""CPMs in ika's messages, against classes with the fields of etsi_its_cpm_ts_msgs (June 2026)."""

import sys
import types

import numpy as np
import pytest

pytest.importorskip("asn1tools", reason="asn1tools is not installed (the cpm extra)")

from comms import cpm
from comms.geodesy import Origin
from comms.reasons import Rejected
from pipeline.errors import InputError
from pipeline.objects import Objects
from pipeline.pose import Pose
from ros_nodes import etsi_messages

NOW = 1_790_000_000_123_000_000
FIELDS = """
CollectivePerceptionMessage: ItsPduHeader header, CpmPayload payload
CpmPayload: ManagementContainer management_container, ConstraintWrappedCpmContainers cpm_containers
ItsPduHeader: uint8_ protocol_version, uint8_ message_id, uint32_ station_id
ManagementContainer: uint64_ reference_time, ReferencePosition reference_position, \
MessageSegmentationInfo segmentation_info?, MessageRateRange message_rate_range?
ReferencePosition: int32_ latitude, int32_ longitude, \
PosConfidenceEllipse position_confidence_ellipse, Altitude altitude
PosConfidenceEllipse: uint16_ semi_major_confidence, uint16_ semi_minor_confidence, \
uint16_ semi_major_orientation
Altitude: int32_ altitude_value, AltitudeConfidence altitude_confidence
ConstraintWrappedCpmContainers: WrappedCpmContainers value
WrappedCpmContainers: WrappedCpmContainer[] array
WrappedCpmContainer: uint8_ container_id, \
OriginatingVehicleContainer container_data_originating_vehicle_container, \
uint8_ container_data_originating_rsu_container, \
uint8_ container_data_sensor_information_container, \
uint8_ container_data_perception_region_container, \
PerceivedObjectContainer container_data_perceived_object_container
OriginatingVehicleContainer: Measured orientation_angle, Measured pitch_angle?, \
Measured roll_angle?, uint8_ trailer_data_set?
PerceivedObjectContainer: uint8_ number_of_perceived_objects, PerceivedObjects perceived_objects
PerceivedObjects: PerceivedObject[] array
PerceivedObject: uint16_ object_id?, int16_ measurement_delta_time, Position position, \
Velocity velocity?, uint8_ acceleration?, Angles angles?, uint8_ z_angular_velocity?, \
Matrices lower_triangular_correlation_matrices?, Measured object_dimension_z?, \
Measured object_dimension_y?, Measured object_dimension_x?, int16_ object_age?, \
uint8_ object_perception_quality?, uint8_ sensor_id_list?, Classes classification?, \
uint8_ map_position?
Position: Measured x_coordinate, Measured y_coordinate, Measured z_coordinate?
Velocity: uint8 choice, uint8_ polar_velocity, Cartesian cartesian_velocity
Cartesian: Measured x_velocity, Measured y_velocity, Measured z_velocity?
Measured: int32_ value, uint16_ confidence
Angles: Measured z_angle, Measured y_angle?, Measured x_angle?
Matrices: Matrix[] array
Matrix: Components components_included_inthe_matrix, Columns matrix
Components: uint8[] value, uint8 bits_unused
Columns: Column[] array
Column: int8_[] array
Classes: ClassWithConfidence[] array
ClassWithConfidence: Class object_class, uint8_ confidence
Class: uint8 choice, uint8_ vehicle_sub_class, Vru vru_sub_class, uint8_ group_sub_class, \
uint8_ other_sub_class
Vru: uint8 choice, uint8_ pedestrian, uint8_ bicyclist_and_light_vru_vehicle, \
uint8_ motorcyclist, uint8_ animal
"""
"""Types' names matter nowhere but in lists. ``uint8_`` is any type of one number, in ``value``;
``?`` says that there is ``<name>_is_present``, too."""
CONSTANTS = {
    "Velocity": {"CHOICE_POLAR_VELOCITY": 0, "CHOICE_CARTESIAN_VELOCITY": 1},
    "Class": {
        "CHOICE_VEHICLE_SUB_CLASS": 0, "CHOICE_VRU_SUB_CLASS": 1, "CHOICE_GROUP_SUB_CLASS": 2,
        "CHOICE_OTHER_SUB_CLASS": 3,
    },
    "Vru": {
        "CHOICE_PEDESTRIAN": 0, "CHOICE_BICYCLIST_AND_LIGHT_VRU_VEHICLE": 1,
        "CHOICE_MOTORCYCLIST": 2, "CHOICE_ANIMAL": 3,
    },
    "AltitudeConfidence": {
        "ALT_000_01": 0, "ALT_000_02": 1, "ALT_000_05": 2, "ALT_000_10": 3, "ALT_000_20": 4,
        "ALT_000_50": 5, "ALT_001_00": 6, "ALT_002_00": 7, "ALT_005_00": 8, "ALT_010_00": 9,
        "ALT_020_00": 10, "ALT_050_00": 11, "ALT_100_00": 12, "ALT_200_00": 13,
        "OUT_OF_RANGE": 14, "UNAVAILABLE": 15,
    },
}  # fmt: skip


def build(name, fields, module):
    """A class that knows these fields and no others."""

    def fresh(kind):
        if kind.endswith("[]"):
            return []
        return {"bool": False, "uint8": 0}.get(kind, 0) if kind[0].islower() and not kind.endswith(
            "_"
        ) else getattr(module, kind)()  # fmt: skip

    def init(self):
        for field, kind in fields.items():
            setattr(self, field, fresh(kind))

    def described(cls):
        return {f: f"sequence<x/{k[:-2]}>" if k.endswith("[]") else k for f, k in fields.items()}

    body = {
        "__slots__": [*fields], "__init__": init,
        "get_fields_and_field_types": classmethod(described), **CONSTANTS.get(name, {}),
    }  # fmt: skip
    if name.endswith("_"):
        body["MAX"] = 0
    return type(name, (), body)


@pytest.fixture
def package(monkeypatch):
    module = types.ModuleType(etsi_messages.PACKAGE)
    table = {n: {"value": "uint8"} for n in ("AltitudeConfidence", "MessageSegmentationInfo")}
    table |= {n: {"value": "uint8"} for n in ("MessageRateRange",)}
    table |= {f"{k}_": {"value": "uint8"} for k in ("int8", "int16", "int32")}
    table |= {f"u{k}_": {"value": "uint8"} for k in ("int8", "int16", "int32", "int64")}
    for line in FIELDS.strip().splitlines():
        name, _, listed = line.partition(": ")
        table[name] = {}
        for text in listed.split(", "):
            kind, field = text.split()
            table[name][field.rstrip("?")] = kind
            if field.endswith("?"):
                table[name][field[:-1] + "_is_present"] = "bool"
    for name, fields in table.items():
        setattr(module, name, build(name, fields, module))
    monkeypatch.setitem(sys.modules, etsi_messages.PACKAGE, module)
    return module


def some(n=30):
    rng = np.random.default_rng(0)
    roots = rng.normal(0, 0.2, (n, 6, 6))
    return Objects(
        NOW, NOW, np.arange(n, dtype=np.int32) + 100, np.zeros(n, np.uint32),
        rng.uniform(-90, 90, (n, 3)), rng.uniform(-9, 9, (n, 3)),
        np.where(rng.random(n) < 0.2, np.nan, rng.uniform(-3, 3, n)),
        np.where(rng.random((n, 3)) < 0.2, 0, rng.uniform(0.5, 9, (n, 3))),
        roots @ roots.transpose(0, 2, 1) + 1e-3 * np.eye(6), (np.arange(n) % 10).astype(np.uint8),
        rng.uniform(0, 1, n), np.full(n, NOW - 50_000_000),
    )  # fmt: skip


POSE = Pose(NOW, np.zeros(3), 0.3, np.zeros(3), np.diag([0.1, 0.1, 0.2, 1e-4]))


@pytest.mark.parametrize("origin", [None, Origin(48.0, 11.0, 500.0)], ids=["no origin", "origin"])
@pytest.mark.parametrize("n", [0, 1, 30])
def test_a_cpm_is_the_same_bytes_after_the_message(package, n, origin):
    payload = cpm.encode(some(n), POSE, NOW, 7, origin)
    message = etsi_messages.cpm_message(payload)
    assert etsi_messages.cpm_payload(message) == payload


def test_the_message_says_what_the_objects_are(package):
    objects = some()
    message = etsi_messages.cpm_message(cpm.encode(objects, POSE, NOW, 7, Origin(48.0, 11.0, 9.0)))
    assert message.header.station_id.value == 7
    place = message.payload.management_container.reference_position
    assert place.latitude.value == 480_000_000
    assert place.altitude.altitude_confidence.value == package.AltitudeConfidence.ALT_001_00
    containers = message.payload.cpm_containers.value.array
    assert [c.container_id.value for c in containers] == [1, 5]
    told = containers[1].container_data_perceived_object_container.perceived_objects.array
    assert len(told) == len(objects)
    for k, each in enumerate(told):
        assert each.object_id_is_present and each.object_id.value == 100 + k
        assert each.measurement_delta_time.value == -50
        assert abs(each.position.x_coordinate.value.value / 100 - objects.positions[k, 0]) < 0.02
        assert each.angles_is_present == np.isfinite(objects.yaws[k])
        assert each.object_dimension_x_is_present == (objects.sizes[k, 0] > 0)
        assert not each.acceleration_is_present
    assert told[4].classification.array[0].object_class.vehicle_sub_class.value == 5
    kind = told[1].classification.array[0].object_class
    assert (kind.choice, kind.vru_sub_class.choice) == (1, 0)


def test_messages_that_cannot_be_are_refused(package):
    payload = cpm.encode(some(3), POSE, NOW, 7)
    with pytest.raises(Rejected):
        etsi_messages.cpm_message(payload[:20])

    def spoilt(spoil):
        message = etsi_messages.cpm_message(payload)
        spoil(message)
        with pytest.raises(InputError):
            etsi_messages.cpm_payload(message)

    def first(message):
        container = message.payload.cpm_containers.value.array[1]
        return container.container_data_perceived_object_container.perceived_objects.array[0]

    spoilt(lambda m: setattr(m.payload.cpm_containers.value.array[0].container_id, "value", 9))
    spoilt(lambda m: setattr(first(m).classification.array[0].object_class, "choice", 77))
    spoilt(lambda m: setattr(first(m).measurement_delta_time, "value", 30_000))
    spoilt(lambda m: setattr(m.payload.cpm_containers.value, "array", []))
    altitude = "altitude_confidence"
    spoilt(
        lambda m: setattr(
            getattr(m.payload.management_container.reference_position.altitude, altitude),
            "value",
            99,
        )
    )


def test_without_the_package_its_name_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, etsi_messages.PACKAGE, None)
    with pytest.raises(InputError, match="etsi_its_cpm_ts_msgs is not installed"):
        etsi_messages.cpm_message(b"")
