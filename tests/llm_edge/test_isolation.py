"""Isolation: what is set, on whom, and what is told where it is not permitted."""

import os
import resource
import subprocess
import sys
import threading

from llm_edge.isolation import (
    ONE_THREAD,
    IsolationConfig,
    apply,
    environment,
    first_in_line,
    normal,
)
from llm_edge.memory import available_bytes


def python(code):
    """What code prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    return done.stdout.strip()


def test_the_environment_keeps_what_was_there_and_makes_threads_one_and_patient():
    made = environment({"PATH": "/bin", "OMP_NUM_THREADS": "8"})
    assert made == {"PATH": "/bin", **ONE_THREAD}
    assert made["OMP_WAIT_POLICY"] == "passive"


def test_idle_is_the_calling_threads_class_and_nobody_elses():
    found = []

    def work():
        assert apply(IsolationConfig(scheduling="idle")) == ()
        found.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [os.SCHED_IDLE]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_where_idle_is_not_permitted_niceness_is_told_and_set(monkeypatch):
    code = (
        "import os\nfrom llm_edge.isolation import *\n"
        "def no(*_): raise PermissionError(1, 'Operation not permitted')\n"
        "os.sched_setscheduler = no\n"
        "print(*apply(IsolationConfig(scheduling='idle', nice=7)), os.nice(0))\n"
    )
    told = python(code)
    assert "SCHED_IDLE is not permitted" in told
    assert told.endswith("nice instead 7")


def test_a_memory_cap_makes_allocations_fail_and_is_seen_beforehand():
    code = (
        "from llm_edge.isolation import *\nfrom llm_edge.memory import available_bytes\n"
        "print(apply(IsolationConfig(memory_mb=300)), available_bytes() < 300 << 20)\n"
        "try:\n    bytearray(400 << 20)\n    print('got it')\n"
        "except MemoryError:\n    print('refused')\n"
    )
    assert python(code).split() == ["()", "True", "refused"]


def test_available_memory_is_what_the_machine_has_at_most():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < available_bytes() <= total
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY


def test_the_tracker_comes_first_or_it_is_told_what_is_missing():
    found = []

    def work():
        why = first_in_line(3)
        found.append((why, os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK))
        normal() if not why else None
        found.append(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    why, policy = found[0]
    assert (policy == os.SCHED_FIFO) == (why == "")
    assert why == "" or "CAP_SYS_NICE" in why
    assert found[1] == os.SCHED_OTHER
