"""The ISP that the options name."""

from isp.classical import ClassicalIsp
from isp.config import IspConfig
from isp.task_aware import GridOf, TaskAwareIsp

Isp = ClassicalIsp | TaskAwareIsp


def make_isp(config: IspConfig, detector_grid: GridOf | None = None) -> Isp:
    """detector_grid: from a frame's to a detector's (width, height), for a detector that shall get
    a view of its own.

    Raises:
        InputError: the task-aware model is missing or none.
    """
    if config.mode == "classical":
        return ClassicalIsp(config)
    return TaskAwareIsp(config, detector_grid)
