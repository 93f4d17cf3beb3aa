import os
from pathlib import Path

import pytest


@pytest.fixture
def isp_data():
    """The folder with real RAW files, or a skip that names it."""
    root = Path(os.environ.get("LEADSIGHT_DATA") or Path(__file__).parents[3] / "shared")
    folder = root / "data" / "isp"
    if not folder.is_dir():
        pytest.skip(f"no RAW files in {folder}; set LEADSIGHT_DATA")
    return folder


@pytest.fixture
def pack():
    return _pack


def _pack(values, bits, step):
    """MIPI CSI-2 RAW10/RAW12, one byte at a time, rows padded with 0xEE up to step."""
    rows = []
    for row in values.tolist():
        packed = bytearray()
        group = 4 if bits == 10 else 2
        for i in range(0, len(row), group):
            low = 0
            for k, value in enumerate(row[i : i + group]):
                packed.append(value >> (bits - 8))
                low |= (value & ((1 << (bits - 8)) - 1)) << (k * (bits - 8))
            packed.append(low)
        rows.append(bytes(packed) + b"\xee" * (step - len(packed)))
    return b"".join(rows)
