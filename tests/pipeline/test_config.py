from dataclasses import dataclass

import pytest
import yaml

from isp.config import IspConfig
from pipeline.config import Config, build, from_mapping, option, options, to_yaml
from pipeline.errors import InputError


@dataclass(frozen=True)
class CameraConfig(Config):
    rate_hz: float = option(30.0, "Frames a second.", low=1, high=240)
    width_px: int = option(640, "Width of a picture.", low=2)
    mode: str = option("day", "Which light.", choices=("day", "night"))
    mirror: bool = option(False, "Whether to flip.")
    gains: tuple[float, ...] = option((1.0, 2.0), "Gains.", low=0.5, high=8)


@dataclass(frozen=True)
class LensConfig(Config):
    k1: float = option(0.25, "Distortion.", high=1)


CLASSES = {"camera": CameraConfig, "lens": LensConfig}


def write(path, text):
    path.write_text(text)
    return path


def test_the_file_that_is_printed_reads_back_as_the_defaults(tmp_path):
    classes = {**CLASSES, "isp": IspConfig}
    text = to_yaml(classes)
    assert build(classes, write(tmp_path / "p.yaml", text)) == build(classes)
    assert "# Frames a second. [1 to 240]" in text
    assert "# Which light. [day, night]" in text


def test_a_file_goes_before_the_default_and_an_assignment_before_the_file(tmp_path):
    file = write(
        tmp_path / "p.yaml",
        "/**:\n  ros__parameters:\n    camera: {rate_hz: 15, width_px: 320, gains: [3, 4.5]}\n",
    )
    made = build(CLASSES, file, ["camera.rate_hz=60", "lens.k1=-2", "camera.mode=night"])
    assert made["camera"] == CameraConfig(60.0, 320, "night", False, (3.0, 4.5))
    assert isinstance(made["camera"].rate_hz, float)
    assert made["lens"].k1 == -2.0


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"rate_hz": 0.5}, "rate_hz: 0.5 is out of range, allowed is 1 to 240"),
        ({"rate_hz": float("nan")}, "not finite"),
        ({"rate_hz": float("inf")}, "not finite"),
        ({"rate_hz": "fast"}, "'fast' is no float"),
        ({"rate_hz": True}, "True is no float"),
        ({"rate_hz": None}, "None is no float"),
        ({"width_px": 1.5}, "1.5 is no int"),
        ({"width_px": 1}, "allowed is at least 2"),
        ({"mode": "dusk"}, "'dusk' is none of day, night"),
        ({"mirror": 1}, "1 is no bool"),
        ({"gains": 3.0}, "3.0 is no list of float"),
        ({"gains": "1,2"}, "'1,2' is no list of float"),
        ({"gains": [1.0, 9.0]}, "gains: 9.0 is out of range"),
        ({"gains": [1.0, [2.0]]}, "is no float"),
        ({"rate": 3}, "rate: no such option; known are rate_hz, width_px"),
    ],
)
def test_a_refused_value_names_the_option_and_what_is_allowed(values, text):
    with pytest.raises(InputError, match=text) as caught:
        from_mapping(CameraConfig, values, "camera.")
    assert str(caught.value).startswith("camera.")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "text"),
    [
        ("camera.rate_hz", "write stage.option=value"),
        ("rate_hz=3", "write stage.option=value"),
        ("camera.=3", "write stage.option=value"),
        ("camera.gains=[1, 2", "no YAML"),
        ("engine.k=1", "engine: no such stage; known are camera, lens"),
        ("lens.k2=1", r"lens\.k2: no such option"),
        ("lens.k1=2", r"lens\.k1: 2.0 is out of range, allowed is at most 1"),
        ("lens.k1=!!python/object/apply:os.getcwd []", "no YAML"),
        ("lens.k1=[&a 1, *a]", "no YAML"),
        ("lens.k1=" + "[" * 5000, "no YAML"),
        ("lens.k1=2024-99-99", "no YAML"),
        ("lens.k1=" + "9" * 5000, "no YAML"),
        ("lens.k1=" + "9" * 400, r"lens\.k1: inf is not finite"),
        ("lens.k1=0x" + "9" * 4000, r"lens\.k1: inf is not finite"),
        ("camera.width_px=" + "9" * 400, "a number of 1329 bits takes more than 64 bits"),
        ("camera.width_px=0x" + "9" * 4000, "takes more than 64 bits"),
        ("camera.mode=0x" + "9" * 4000, "a number of 16000 bits is no str"),
        ("camera.mode=" + "[" * 90 + "]" * 90, "mode: a list is no str"),
        ("camera.mode=" + "x" * 2000, "'x{60}' is none of"),
        ("x" * 2000 + ".k=1", "^--set x{60}: no such stage"),
    ],
)
def test_a_bad_assignment_is_named(assignment, text):
    with pytest.raises(InputError, match=text) as caught:
        build(CLASSES, None, [assignment])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


BOMB = "a0: &a0 [x]\n" + "".join(f"a{k}: &a{k} [{f'*a{k - 1},' * 9}]\n" for k in range(1, 12))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("camera: {rate_hz: 3}\n", "needs the shape"),
        ("", "needs the shape"),
        ("[1, 2]\n", "needs the shape"),
        ("/**: {ros__parameters: {camera: 3}}\n", "needs the shape"),
        ("/**: {ros__parameters: [", "is no YAML"),
        ("!!python/object/apply:os.getcwd []", "is no YAML"),
        ("/**: {ros__parameters: {engine: {k: 1}}}\n", "engine: no such stage"),
        (BOMB, "is no YAML .*line 2: aliases"),
        ("[" * 100_000, "is no YAML .*deeply"),
        ("/**: 2024-02-31\n", "is no YAML"),
        ("/**: " + "9:" * 50_000 + "9\n", "is no YAML .*4096 characters"),
        ("#" * ((1 << 20) + 1), "is no parameter file"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, text):
    with pytest.raises(InputError, match=text) as caught:
        build(CLASSES, write(tmp_path / "bad.yaml", content))
    assert "bad.yaml" in str(caught.value)


def test_a_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        build(CLASSES, tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match=r"b\.yaml: is no YAML"):
        build(CLASSES, tmp_path / "b.yaml")


def test_options_describe_every_field():
    found = {opt.name: opt for opt in options(CameraConfig)}
    assert list(found) == ["rate_hz", "width_px", "mode", "mirror", "gains"]
    assert (found["gains"].kind, found["gains"].is_list) == (float, True)
    assert found["width_px"].range_text() == "at least 2"
    for opt in options(IspConfig):
        assert opt.help.endswith(".") and opt.check(opt.default) == opt.default


def test_the_printed_file_is_a_ros_2_parameter_file():
    document = yaml.safe_load(to_yaml({"isp": IspConfig}))
    values = document["/**"]["ros__parameters"]["isp"]
    for name, value in values.items():
        assert value != [], f"{name}: ROS 2 cannot tell the type of an empty list"
