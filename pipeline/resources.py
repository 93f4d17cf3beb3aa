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
    if (root / "package.xml").exists():
        bases = [root]
    else:
        # A colcon prefix is where lib/pythonX.Y/site-packages lies; a venv's is sys.prefix.
        prefixes = [*root.parents[2:3], Path(sys.prefix)]
        bases = [prefix / "share" / "leadsight" for prefix in prefixes]
    for base in bases:
        path = base.joinpath(*parts)
        if path.exists():
            return path
    raise InputError(
        f"{'/'.join(parts)} is not part of this installation: reinstall leadsight "
        "with `pip install .` or build it with colcon"
    )
