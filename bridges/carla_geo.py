"""Where on earth a CARLA map lies, by asking it: versions compute it in several ways."""

from typing import Any

import numpy as np

from bridges.carla_frames import PROJECTIONS, GeoFrame
from pipeline.box import FloatArray

_TOLERANCE = 1e-6


def geo_frame_of(api: Any, town: Any) -> tuple[GeoFrame, str]:
    """Where a map lies, its north being our y; and what a user should know of it, or nothing."""

    def ask(x: float, y: float) -> FloatArray:
        found = town.transform_to_geolocation(api.Location(x, y, 0.0))
        return np.array([found.latitude, found.longitude, found.altitude])

    origin, there = ask(0.0, 0.0), ask(1000.0, 1000.0)
    place = float(origin[0]), float(origin[1]), float(origin[2])
    best, least = None, np.inf
    for projection in PROJECTIONS:
        for mirrored in (False, True):
            frame = GeoFrame(*place, projection=projection, mirrored=mirrored)
            off = np.abs(frame.to_wgs84(np.array([1000.0, -1000.0, 0.0])) - there).max()
            if off < least:
                best, least = frame, off
    assert best is not None
    warning = ""
    if least > _TOLERANCE:
        warning = f"CARLA places the map on earth in an unknown way ({least:.1e} degrees off ours)"
    elif best.mirrored:
        warning = "this CARLA has latitude fall toward its north; GNSS readings here do not"
    return GeoFrame(*place, projection=best.projection), warning
