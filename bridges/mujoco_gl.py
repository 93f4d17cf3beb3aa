"""An OpenGL context without a display, for MuJoCo: EGL or OSMesa, whichever works.

MuJoCo reads ``MUJOCO_GL`` and PyOpenGL reads ``PYOPENGL_PLATFORM`` once, when they are imported, so
one process uses one of the two for ever. Whether EGL works is tried in a process of its own, where
a driver may fail, crash or hang as it likes.
"""

import ctypes.util
import os
import subprocess
import sys
from functools import cache
from types import ModuleType
from typing import Any, Protocol

from pipeline.errors import InputError, first_line

LEAST_VERSION = (3, 4)
BACKENDS = ("auto", "egl", "osmesa")
_LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
_PACKAGES = {"egl": "libegl1 libgl1-mesa-dri", "osmesa": "libosmesa6"}
_TRY_S = 4.0
_TRIAL = "from mujoco.egl import GLContext as C; c = C(16, 16); c.make_current(); c.free()"


class Context(Protocol):
    """What MuJoCo's own contexts can do."""

    def make_current(self) -> None: ...

    def free(self) -> None: ...


def load_mujoco() -> ModuleType:
    """The module.

    Raises:
        InputError: it is not installed, or too old.
    """
    os.environ.setdefault("MUJOCO_GL", "disabled")  # no window is ever opened; see ``context``
    try:
        import mujoco
    except (ImportError, OSError) as error:
        raise InputError(
            f"MuJoCo is not installed ({first_line(error)}): pip install 'leadsight[sim]'"
        ) from None
    except RuntimeError as error:  # a value that it does not know
        raise InputError(f"MuJoCo does not load ({first_line(error)}): unset MUJOCO_GL") from None
    if tuple(int(v) for v in mujoco.__version__.split(".")[:2]) < LEAST_VERSION:
        raise InputError(
            f"MuJoCo {mujoco.__version__} is too old: pip install -U 'leadsight[sim]' for "
            f"{'.'.join(map(str, LEAST_VERSION))} or later"
        )
    module: ModuleType = mujoco
    return module


def choose(wished: str = "auto") -> str:
    """``egl`` or ``osmesa``.

    Raises:
        InputError: a library that is not there, or the other one is in use already.
    """
    there = [k for k, name in _LIBRARIES.items() if ctypes.util.find_library(name)]
    if wished != "auto" and wished not in there:
        raise InputError(
            f"no {_LIBRARIES[wished]} library to draw with: sudo apt install {_PACKAGES[wished]}, "
            "or choose another one with mujoco.gl"
        )
    used = os.environ.get("PYOPENGL_PLATFORM", "").lower()
    if used in there and wished in ("auto", used):
        return used
    if used in _LIBRARIES and wished not in ("auto", used):
        raise InputError(f"this process draws with {used} already; choose mujoco.gl: {used}")
    if wished != "auto":
        return wished
    if "egl" in there and _egl_works():
        return "egl"
    if "osmesa" in there:
        return "osmesa"
    raise InputError(
        "no library to draw without a display: "
        f"sudo apt install {_PACKAGES['egl']} (EGL), or {_PACKAGES['osmesa']} (OSMesa)"
    )


@cache
def _egl_works() -> bool:
    surroundings = {**os.environ, "MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl"}
    try:
        tried = subprocess.run(
            [sys.executable, "-c", _TRIAL], env=surroundings, capture_output=True, timeout=_TRY_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def context(wished: str, width: int, height: int) -> Context:
    """A context, current on this thread.

    Raises:
        InputError: none can be made.
    """
    chosen = choose(wished)
    load_mujoco()
    made: Any = None
    try:
        if chosen == "egl":
            from mujoco.egl import GLContext
        else:
            from mujoco.osmesa import GLContext
        made = GLContext(width, height)
        made.make_current()
    except Exception as error:  # whatever drivers and their bindings say
        raise InputError(
            f"no picture can be drawn with {chosen} ({first_line(error)}): "
            f"sudo apt install {_PACKAGES[chosen]}, or choose another one with mujoco.gl"
        ) from None
    return made  # type: ignore[no-any-return]
