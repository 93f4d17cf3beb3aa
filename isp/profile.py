"""A camera's levels from a file of its own, so that they are written down once."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

from isp.config import IspConfig
from pipeline.config import Config, from_mapping, option, read_yaml
from pipeline.errors import InputError


@dataclass(frozen=True)
class CameraProfile(Config):
    """What a profile may say; each as the ISP's option of that name, and with its ranges."""

    order: str = option("auto", "As isp.order.", choices=("auto", "rggb", "bggr", "grbg", "gbrg"))
    bits: int = option(0, "As isp.bits.", low=0, high=16)
    justified: str = option("auto", "As isp.justified.", choices=("auto", "left", "right"))
    black_level: tuple[float, ...] = option((0.0,), "As isp.black_level.", low=0, high=65534)
    white_level: float = option(0.0, "As isp.white_level.", low=0, high=65535)


def read_profile(path: Path) -> CameraProfile:
    """Read a profile, a YAML file of names and values.

    Raises:
        InputError: no such file, no YAML, an unknown name, or a value that the option refuses.
    """
    found = read_yaml(path)
    if not isinstance(found, dict):
        names = ", ".join(f.name for f in fields(CameraProfile))
        raise InputError(f"{path}: is no camera profile; give lines of <name>: <value> of {names}")
    given = {str(name): value for name, value in found.items()}
    if isinstance(given.get("black_level"), (int, float)):
        given["black_level"] = [given["black_level"]]
    profile = from_mapping(CameraProfile, given, f"{path}: ")
    try:
        replace(IspConfig(), **vars(profile))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return profile


def with_profile(config: IspConfig) -> IspConfig:
    """The options with what their camera profile says in place of those left at their defaults.

    Raises:
        InputError: the profile cannot be read, or does not fit the options that are given.
    """
    if not config.camera_profile:
        return config
    path = Path(config.camera_profile).expanduser()
    profile, default = read_profile(path), IspConfig()
    left = [
        f.name for f in fields(CameraProfile) if getattr(config, f.name) == getattr(default, f.name)
    ]
    try:
        return replace(config, **{name: getattr(profile, name) for name in left})
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
