"""How much memory a process may still take, as far as the system tells."""

from pathlib import Path

from pipeline.errors import InputError

_ROOT = Path("/")


def available_bytes(root: Path = _ROOT) -> int | None:
    """The least of what the machine has free and what the control group leaves; None: not told."""
    found = []
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except (OSError, ValueError, IndexError):
        pass
    for limit, used in (
        ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),
        (
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            found.append(int((root / limit).read_text()) - int((root / used).read_text()))
        except (OSError, ValueError):  # "max", or no such controller
            continue
    return max(0, min(found)) if found else None


def check_memory(needed: int, what: str, available: int | None) -> None:
    """
    Raises:
        InputError: not so much is left.
    """
    if available is not None and needed > available:
        raise InputError(
            f"{what}: takes about {needed >> 20} MiB and {available >> 20} MiB are left; "
            "free some or use a smaller model or context"
        )
