"""Memory left: the least that any authority tells."""

import pytest

from llm_edge.memory import available_bytes, check_memory
from pipeline.errors import InputError


def write(root, name, text):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_tightest_limit_counts(tmp_path):
    assert available_bytes(tmp_path) is None
    write(tmp_path, "proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    7000 kB\n")
    assert available_bytes(tmp_path) == 7000 * 1024
    write(tmp_path, "sys/fs/cgroup/memory.max", "max\n")
    write(tmp_path, "sys/fs/cgroup/memory.current", "5\n")
    assert available_bytes(tmp_path) == 7000 * 1024
    write(tmp_path, "sys/fs/cgroup/memory.max", "1005\n")
    assert available_bytes(tmp_path) == 1000
    write(tmp_path, "sys/fs/cgroup/memory.current", "2000\n")
    assert available_bytes(tmp_path) == 0


def test_too_much_is_told():
    check_memory(10, "m", None)
    check_memory(10, "m", 10)
    with pytest.raises(InputError, match="m: takes about 30 MiB and 2 MiB are left"):
        check_memory(30 << 20, "m", 2 << 20)
