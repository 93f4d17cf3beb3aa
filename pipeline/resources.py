"""Where files that are not Python (launch, config, message definitions, models) lie."""

import sys
from pathlib import Path

from pipeline.errors import InputError


def share_path(*parts: str) -> Path:
    """A file of the checkout, or of ``share/leadsight`` of the installation.

    Raises:
        InputError: it is in neither place.
    """
    root = Path(__file__).resolve().parents[1]
    installed = [
        root.parents[2] / "share" / "leadsight",  # <prefix>/lib/pythonX.Y/site-packages
        Path(sys.prefix) / "share" / "leadsight",
    ]
    for base in (root, *installed):
        path = base.joinpath(*parts)
        if path.exists() and (base != root or (root / "package.xml").exists()):
            return path
    raise InputError(
        f"{'/'.join(parts)} is not part of this installation: reinstall leadsight "
        "with `pip install .` or build it with colcon"
    )
