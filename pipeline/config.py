"""Configuration: one frozen dataclass a stage, from which everything else is made.

A stage writes its options once::

    @dataclass(frozen=True)
    class TrackerConfig(Config):
        name: str = option("nanotrack", "Which tracker answers.", choices=("nanotrack", "csrt"))
        lost_score: float = option(0.5, "Score under which a target counts as lost.", low=0, high=1)

ROS parameters, the YAML file and ``--set`` on the command line are read off the class, under the
name ``<stage>.<option>`` everywhere, so they cannot disagree. Units stand in the option's name.
"""

import dataclasses
import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pipeline.errors import InputError, first_line

Value = bool | int | float | str | tuple[float, ...] | tuple[str, ...]
_SCALARS = (bool, int, float, str)
_MAX_FILE_BYTES = 1 << 20
_MAX_SCALAR = 4096


@dataclass(frozen=True)
class Option:
    """One field of a stage's configuration. ``kind`` is the scalar type, of each item if a list."""

    name: str
    kind: type
    is_list: bool
    default: Value
    help: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]

    def check(self, value: object) -> Value:
        """The value in the field's own type.

        Raises:
            InputError: of another type, not finite, or out of range; the text says what is allowed.
        """
        if not self.is_list:
            return self._scalar(value)  # type: ignore[no-any-return]
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            raise InputError(f"{self.name}: {_shown(value)} is no list of {self.kind.__name__}")
        return tuple(self._scalar(v) for v in value)

    def _scalar(self, value: Any) -> Any:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind is float and number:
            try:
                value = float(value)
            except OverflowError:
                value = math.inf
        elif self.kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not self.kind:
            raise InputError(
                f"{self.name}: {_shown(value)} is no {self.kind.__name__}; {self.help}"
            )
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise InputError(f"{self.name}: {_shown(value)} takes more than 64 bits; {self.help}")
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{self.name}: {value} is not finite; {self.help}")
        value = typing.cast(Any, value)
        if (self.low is not None and value < self.low) or (
            self.high is not None and value > self.high
        ):
            raise InputError(
                f"{self.name}: {value} is out of range, allowed is {self.range_text()}"
            )
        if self.choices and value not in self.choices:
            raise InputError(f"{self.name}: {_shown(value)} is none of {', '.join(self.choices)}")
        return value

    def range_text(self) -> str:
        """For messages and ``--help``: "0 to 1", "at least 0", or the choices."""
        if self.choices:
            return ", ".join(self.choices)
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        if self.low is not None:
            return f"at least {self.low:g}"
        return f"at most {self.high:g}" if self.high is not None else ""


def _shown(value: object) -> str:
    """A value in a message: never the text of something large."""
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    if value is None or isinstance(value, (int, float)):
        return repr(value)
    return f"a {type(value).__name__}"


def option(
    default: Value,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with a sentence and a range."""
    return dataclasses.field(
        default=default, metadata={"help": help, "low": low, "high": high, "choices": choices}
    )


class Config:
    """Base of every stage's configuration: checks each field against its range when made."""

    def __post_init__(self) -> None:
        for opt in options(type(self)):
            object.__setattr__(self, opt.name, opt.check(getattr(self, opt.name)))


C = TypeVar("C", bound=Config)


def options(cls: type[Config]) -> tuple[Option, ...]:
    """The fields of a configuration class, in order."""
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        hint = hints[field.name]
        is_list = typing.get_origin(hint) is tuple
        kind = typing.get_args(hint)[0] if is_list else hint
        if kind not in _SCALARS:
            raise TypeError(f"{cls.__name__}.{field.name}: {hint} is no scalar or tuple of them")
        default: Any = field.default
        found.append(Option(field.name, kind, is_list, default, **field.metadata))
    return tuple(found)


def from_mapping(cls: type[C], values: Mapping[str, object], where: str = "") -> C:
    """Make a configuration from names and values.

    Raises:
        InputError: an unknown name, or a value that the field refuses.
    """
    known = [opt.name for opt in options(cls)]
    for name in values:
        if name not in known:
            raise InputError(f"{where}{name:.60}: no such option; known are {', '.join(known)}")
    try:
        return cls(**values)
    except InputError as error:
        raise InputError(f"{where}{error}") from None


class _Loader(yaml.SafeLoader):
    """YAML without what unfolds to any size: aliases, and scalars longer than any path."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        problem = ""
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases are not allowed"
        elif isinstance(event, yaml.ScalarEvent) and len(event.value) > _MAX_SCALAR:
            problem = f"a value of over {_MAX_SCALAR} characters"
        if problem:
            mark: Any = event.start_mark
            raise yaml.YAMLError(f"line {mark.line + 1}: {problem}")
        return super().compose_node(parent, index)


def _parse(text: str) -> Any:
    """Raises YAMLError, also for the impossible dates and the depths that PyYAML trips over."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except ValueError as error:
        raise yaml.YAMLError(first_line(error)) from None


def read_yaml(path: Path) -> Any:
    """What a YAML file from anywhere holds, read without what unfolds to any size.

    Raises:
        InputError: no such file, too large a one, or no YAML.
    """
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InputError(f"{path}: over {_MAX_FILE_BYTES} bytes is no parameter file")
        return _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no YAML ({first_line(error)})") from None


def load_yaml(path: Path) -> dict[str, dict[str, object]]:
    """Read a ROS 2 parameter file whose section ``/**`` holds ``<stage>: {<option>: value}``.

    Raises:
        InputError: no such file, no YAML, or another shape.
    """
    document = read_yaml(path)
    try:
        stages = document["/**"]["ros__parameters"]
        return {
            str(stage): {str(name): value for name, value in values.items()}
            for stage, values in stages.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"{path}: needs the shape '/**: ros__parameters: <stage>: <option>: value' "
            "(`leadsight config` prints one)"
        ) from None


def parse_assignment(text: str) -> tuple[str, str, object]:
    """``stage.option=value`` of the command line → stage, option, value (read as YAML).

    Raises:
        InputError: another shape.
    """
    name, equals, value = text.partition("=")
    stage, dot, opt = name.strip().partition(".")
    if not (equals and dot and stage and opt):
        raise InputError(f"--set {text:.60}: write stage.option=value, for example isp.gamma=2.2")
    try:
        return stage, opt, _parse(value)
    except yaml.YAMLError:
        raise InputError(f"--set {text:.60}: the value is no YAML scalar or list") from None


def build(
    classes: Mapping[str, type[Config]],
    file: Path | None = None,
    assignments: Iterable[str] = (),
) -> dict[str, Any]:
    """Each stage's configuration: defaults, then a file, then assignments.

    Raises:
        InputError: an unknown stage or option, or a refused value.
    """
    values: dict[str, dict[str, object]] = {stage: {} for stage in classes}

    def place(stage: str, name: str, value: object, where: str) -> None:
        if stage not in classes:
            raise InputError(f"{where}{stage:.60}: no such stage; known are {', '.join(classes)}")
        values[stage][name] = value

    if file is not None:
        for stage, given in load_yaml(file).items():
            for name, value in given.items():
                place(stage, name, value, f"{file}: ")
    for text in assignments:
        place(*parse_assignment(text), "--set ")
    return {stage: from_mapping(cls, values[stage], f"{stage}.") for stage, cls in classes.items()}


def to_yaml(classes: Mapping[str, type[Config]]) -> str:
    """A commented ROS 2 parameter file with every stage's defaults."""
    lines = ["/**:", "  ros__parameters:"]
    for stage, cls in classes.items():
        lines.append(f"    {stage}:")
        for opt in options(cls):
            allowed = opt.range_text()
            lines.append(f"      # {opt.help}" + (f" [{allowed}]" if allowed else ""))
            default = list(opt.default) if isinstance(opt.default, tuple) else opt.default
            text = yaml.safe_dump(default, default_flow_style=True, width=10_000)
            lines.append(f"      {opt.name}: {text.removesuffix('...' + chr(10)).strip()}")
    return "\n".join(lines) + "\n"
