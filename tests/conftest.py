"""How the tests are shared out between processes: `pytest -n … --dist loadfile`."""

import os
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several: it and what it starts keep to a core each
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests share its fixtures, so they stay together; so do those of real ROS 2 nodes,
    which would take each other's domains and time."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            ros = "tests/ros_nodes/"
            return ros if nodeid.startswith(ros) else str(super()._split_scope(nodeid))

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None
