"""How an answering process is kept from taking what the tracker needs.

A large model runs under ``SCHED_IDLE``: whatever else wants the core gets it, without privileges.
A small one that answers within a millisecond runs in the normal class, since an idle one starves on
a full machine. Nothing is pinned to cores: a pinned tracker waits for whoever shares its core.
"""

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.config import Config, option
from pipeline.errors import first_line

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "GOMP_SPINCOUNT": "0",
}
"""Read by libraries when they are loaded, so a child gets them with its start."""


@dataclass(frozen=True)
class IsolationConfig(Config):
    """What an answering process or thread may take."""

    scheduling: str = option(
        "normal",
        "normal: answers within milliseconds. idle: runs only where nothing else wants the core.",
        choices=("normal", "idle"),
    )
    nice: int = option(19, "Where idle is not permitted, niceness instead.", low=0, high=19)
    memory_mb: int = option(
        0, "Memory of its own at most, without the model's file; 0 for no cap.", low=0, high=1 << 20
    )


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """A child's environment: one thread, and waiting threads sleep."""
    return {**inherited, **ONE_THREAD}


def apply(config: IsolationConfig, thread: int = 0) -> tuple[str, ...]:
    """Set scheduling of a thread (0: the caller's, and those that it will start), and the memory
    cap of the process. What could not be set is told, a line each."""
    missed = []
    if config.scheduling == "idle":
        try:
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
        except (OSError, AttributeError) as error:
            missed.append(f"SCHED_IDLE is not permitted ({first_line(error)}): nice instead")
            try:
                os.setpriority(os.PRIO_PROCESS, thread, config.nice)
            except OSError as worse:
                missed.append(f"nor is nice ({first_line(worse)}): it competes with the tracker")
    if config.memory_mb:
        # Private memory: the model's file itself is mapped, and goes when others need the room.
        missed += cap(config.memory_mb << 20)
    return tuple(missed)


def cap(most: int) -> tuple[str, ...]:
    """Limit what the process may allocate, in bytes; allocations beyond it fail."""
    try:
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    except (OSError, ValueError) as error:
        return (f"no memory cap ({first_line(error)})",)
    return ()


def first_in_line(priority: int = 10, thread: int = 0) -> str:
    """Put a thread (0: the caller's) under ``SCHED_FIFO``: for a tracker. Empty where it is done,
    else one line that says what is missing."""
    try:
        # Children must not inherit it: a model under SCHED_FIFO would stop the machine.
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(thread, policy, os.sched_param(priority))
    except (OSError, AttributeError) as error:
        return (
            f"SCHED_FIFO is not permitted ({first_line(error)}): give the process CAP_SYS_NICE, or "
            "the user an rtprio limit in /etc/security/limits.conf"
        )
    return ""


def normal(thread: int = 0) -> None:
    """Back to the normal class."""
    os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
