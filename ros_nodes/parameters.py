"""A stage's configuration as ROS parameters ``<stage>.<option>``, made from its dataclass."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter

from pipeline.config import Config, Option, from_mapping, options
from pipeline.errors import InputError

C = TypeVar("C", bound=Config)
T = TypeVar("T")

_KINDS = {
    (bool, False): Parameter.Type.BOOL,
    (int, False): Parameter.Type.INTEGER,
    (float, False): Parameter.Type.DOUBLE,
    (str, False): Parameter.Type.STRING,
    (int, True): Parameter.Type.INTEGER_ARRAY,
    (float, True): Parameter.Type.DOUBLE_ARRAY,
    (str, True): Parameter.Type.STRING_ARRAY,
}


class Live(Generic[C, T]):
    """A configuration and what is built from it, both kept in step with the node's parameters.

    A set that the configuration or ``build`` refuses is rejected with their reason and nothing
    changes. Options named in ``fixed`` can be set at start only.

    Raises:
        InputError: a value given at start is of another type, out of range or refused.
    """

    def __init__(
        self,
        node: Node,
        stage: str,
        cls: type[C],
        build: Callable[[C], T],
        fixed: Sequence[str] = (),
    ) -> None:
        self._prefix = f"{stage}."
        self._build = build
        values = {}
        for opt in options(cls):
            name = self._prefix + opt.name
            try:
                node.declare_parameter(
                    name,
                    list(opt.default) if isinstance(opt.default, tuple) else opt.default,
                    descriptor(opt, opt.name in fixed),
                )
            except ParameterException as error:
                reason = _line(error).removesuffix(f": {name}")
                raise InputError(f"{reason}. Give {_wanted(opt)}") from None
            values[opt.name] = node.get_parameter(name).value
        self.config: C = from_mapping(cls, values, self._prefix)
        self.made: T = build(self.config)
        self._next: tuple[C, T] | None = None
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._apply)

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        changes = {
            p.name.removeprefix(self._prefix): p.value
            for p in parameters
            if p.name.startswith(self._prefix)
        }
        self._next = None
        if changes:
            try:
                config = dataclasses.replace(self.config, **changes)  # type: ignore[type-var]
                self._next = config, self._build(config)
            except InputError as error:
                return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, parameters: list[Parameter]) -> None:
        if self._next is not None:
            self.config, self.made = self._next
            self._next = None


def descriptor(opt: Option, read_only: bool = False) -> ParameterDescriptor:
    """What ``ros2 param describe`` shows; rclpy itself enforces type and range of scalars."""
    found = ParameterDescriptor(
        name=opt.name,
        type=_KINDS[opt.kind, opt.is_list].value,
        description=opt.help,
        additional_constraints=opt.range_text(),
        read_only=read_only,
    )
    if opt.is_list or (opt.low is None and opt.high is None):
        return found
    low, high = opt.low, opt.high
    if opt.kind is float:
        low = -sys.float_info.max if low is None else low
        high = sys.float_info.max if high is None else high
        found.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)
        ]
    elif opt.kind is int:
        low = -(2**63) if low is None else low
        high = 2**63 - 1 if high is None else high
        found.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return found


def _wanted(opt: Option) -> str:
    kind = "number with a decimal point" if opt.kind is float else opt.kind.__name__
    allowed = f", {opt.range_text()}" if opt.range_text() else ""
    return f"{'a list of ' if opt.is_list else 'a '}{kind}{allowed}"


def _line(error: ParameterException) -> str:
    return str(error).partition("Reason: ")[2] or str(error)
