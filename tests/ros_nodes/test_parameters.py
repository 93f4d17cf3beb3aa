"""Parameters are the configuration: same names, ranges, texts, and the same refusals."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("leadsight_msgs", reason="leadsight_msgs is not built")

from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from leadsight.stack import CONFIGS  # noqa: E402
from pipeline.config import Config, build, option, to_yaml  # noqa: E402
from pipeline.errors import InputError  # noqa: E402
from ros_nodes.parameters import Live  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class EarConfig(Config):
    gain: float = option(2.0, "How loud.", low=0.5, high=8)
    taps: int = option(3, "How many.", low=1)
    side: str = option("left", "Which one.", choices=("left", "right"))
    bands: tuple[float, ...] = option((1.0, 4.0), "Where.", low=0)
    on: bool = option(True, "Whether.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.taps > 5 and self.side == "right":
            raise InputError("taps: the right ear takes 5 at most")


@pytest.fixture
def context() -> Iterator[rclpy.Context]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=100)
    yield context
    context.try_shutdown()


def node_with(context: rclpy.Context, *overrides: Parameter) -> Node:
    return rclpy.create_node("ear", context=context, parameter_overrides=list(overrides))


def test_parameters_carry_default_text_and_range(context: rclpy.Context) -> None:
    node = node_with(context)
    live = Live(node, "ear", EarConfig, lambda config: config)
    assert live.config == EarConfig()
    gain = node.describe_parameter("ear.gain")
    assert gain.description == "How loud."
    assert gain.floating_point_range[0].from_value == 0.5
    assert gain.floating_point_range[0].to_value == 8.0
    assert node.describe_parameter("ear.side").additional_constraints == "left, right"
    assert {f"ear.{f.name}" for f in fields(EarConfig)} <= set(node._parameters)
    node.destroy_node()


def test_a_set_is_applied_and_what_is_built_follows(context: rclpy.Context) -> None:
    node = node_with(context)
    live = Live(node, "ear", EarConfig, lambda config: config.gain * 10)
    assert node.set_parameters([Parameter("ear.gain", value=4.0)])[0].successful
    assert (live.config.gain, live.made) == (4.0, 40.0)
    node.destroy_node()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("ear.gain", 9.0, "out of range"),
        ("ear.gain", "x", "type"),
        ("ear.side", "up", "left, right"),
        ("ear.bands", [1.0, -1.0], "out of range"),
        ("ear.taps", 6, "the right ear takes 5"),
        ("ear.on", False, "read-only"),
    ],
)
def test_a_refused_set_says_why_and_changes_nothing(
    context: rclpy.Context, name: str, value: object, reason: str
) -> None:
    node = node_with(context, Parameter("ear.side", value="right"))
    live = Live(node, "ear", EarConfig, lambda config: object(), ["on"])
    before = live.config, live.made
    result = node.set_parameters([Parameter(name, value=value)])[0]
    assert not result.successful
    assert reason in result.reason
    assert (live.config, live.made) == before
    node.destroy_node()


def test_what_cannot_be_built_is_refused(context: rclpy.Context) -> None:
    def made(config: EarConfig) -> int:
        if config.taps == 4:
            raise InputError("no file for 4 taps")
        return config.taps

    node = node_with(context)
    live = Live(node, "ear", EarConfig, made)
    result = node.set_parameters([Parameter("ear.taps", value=4)])[0]
    assert (result.successful, result.reason, live.made) == (False, "no file for 4 taps", 3)
    node.destroy_node()


@pytest.mark.parametrize(
    ("name", "value"), [("ear.gain", 9.0), ("ear.gain", 3), ("ear.side", "up"), ("ear.taps", 0)]
)
def test_a_bad_value_at_start_is_one_line_with_the_name(
    context: rclpy.Context, name: str, value: object
) -> None:
    node = node_with(context, Parameter(name, value=value))
    with pytest.raises(InputError, match=name) as error:
        Live(node, "ear", EarConfig, lambda config: config)
    assert "\n" not in str(error.value)
    node.destroy_node()


def test_the_parameter_file_holds_the_defaults_of_today() -> None:
    text = (ROOT / "config" / "leadsight.yaml").read_text()
    assert text == to_yaml(CONFIGS), "run: leadsight config > config/leadsight.yaml"


def test_the_parameter_file_of_the_world_holds_known_options() -> None:
    from bridges.vehicle_sensors import SensorsConfig
    from bridges.world import WorldConfig

    known = CONFIGS | {"sensors": SensorsConfig, "world": WorldConfig}
    found = build(known, ROOT / "config" / "sim.yaml")
    assert found["isp"].black_level == (64.0,)
