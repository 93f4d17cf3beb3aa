"""How much memory this process may still take."""

import resource
from pathlib import Path

_CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current")


def available_bytes() -> int:
    """The least of what the machine has free, what its control group leaves, and the process's own
    limits (``RLIMIT_AS``, ``RLIMIT_DATA``); where nothing is known, 2⁶²."""
    found = [1 << 62]
    machine = _fields("/proc/meminfo")
    if "MemAvailable" in machine:
        found.append(machine["MemAvailable"])
    try:
        most, used = (Path(p).read_text().strip() for p in _CGROUP)
        if most != "max":
            found.append(int(most) - int(used))
    except (OSError, ValueError):
        pass
    own = _fields("/proc/self/status")
    for kind, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY and name in own:
            found.append(limit - own[name])
    return max(0, min(found))


def _fields(path: str) -> dict[str, int]:
    """Bytes by name, of a file of lines such as ``MemAvailable: 12 kB``."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    rows = [line.replace(":", " ").split() for line in lines if line.endswith(" kB")]
    return {row[0]: int(row[1]) * 1024 for row in rows if len(row) == 3 and row[1].isdigit()}
