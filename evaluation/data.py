"""Where real data and models lie that are no part of leadsight."""

import os
from pathlib import Path


def data_root() -> Path | None:
    """The folder of ``LEADSIGHT_DATA``, else ``../shared`` beside the checkout, if it is there."""
    named = os.environ.get("LEADSIGHT_DATA")
    if named:
        return Path(named).expanduser()
    beside = Path(__file__).resolve().parents[2] / "shared"
    return beside if beside.is_dir() else None


def find_data(*parts: str) -> Path | None:
    """A file or folder under ``data_root``, None where it is missing."""
    root = data_root()
    path = root.joinpath(*parts) if root is not None else None
    return path if path is not None and path.exists() else None
