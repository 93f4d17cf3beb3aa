"""The ISP that the options name."""

from collections.abc import Callable
from dataclasses import replace

from isp.classical import ClassicalIsp
from isp.config import IspConfig
from isp.profile import with_profile
from isp.task_aware import GridOf, TaskAwareIsp
from pipeline.errors import InputError

Isp = ClassicalIsp | TaskAwareIsp


def make_isp(
    config: IspConfig,
    detector_grid: GridOf | None = None,
    complain: Callable[[str], None] | None = None,
) -> Isp:
    """detector_grid: from a frame's to a detector's (width, height), for a detector that shall get
    a view of its own. complain: told of a camera profile that cannot be used, in whose place the
    options as they are are taken, as fixed parameters are in place of a model, which every frame's
    ``chosen.problem`` says; without it both raise.

    Raises:
        InputError: the camera profile or the task-aware model is missing or none.
    """
    try:
        config = with_profile(config)
    except InputError as error:
        if complain is None:
            raise
        complain(f"isp.camera_profile: {error}; goes on without it")
        config = replace(config, camera_profile="")
    if config.mode == "classical":
        return ClassicalIsp(config)
    return TaskAwareIsp(config, detector_grid, forgiving=complain is not None)
