"""The local frame on the earth: WGS84 to x east, y north, z up and back, through pymap3d."""

from dataclasses import dataclass

import numpy as np
import pymap3d

from pipeline.box import FloatArray
from pipeline.errors import InputError


@dataclass(frozen=True)
class Origin:
    """Where the local frame touches the WGS84 ellipsoid.

    latitude, longitude: deg. altitude: m above the ellipsoid.

    Raises:
        InputError: out of range or not finite.
    """

    latitude: float
    longitude: float
    altitude: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("latitude", 90), ("longitude", 180), ("altitude", 10_000)):
            if not abs(getattr(self, name)) <= most:
                raise InputError(f"origin: {name} {getattr(self, name)} is not in ±{most}")

    def to_wgs84(self, positions: FloatArray) -> FloatArray:
        """(…, 3) m east, north, up → (…, 3) latitude and longitude in deg, altitude in m."""
        east, north, up = np.moveaxis(positions, -1, 0)
        found = pymap3d.enu2geodetic(east, north, up, self.latitude, self.longitude, self.altitude)
        return np.stack(np.broadcast_arrays(*found), axis=-1).astype(np.float64)

    def to_local(self, points: FloatArray) -> FloatArray:
        """(…, 3) latitude and longitude in deg, altitude in m → (…, 3) m east, north, up."""
        latitude, longitude, altitude = np.moveaxis(points, -1, 0)
        found = pymap3d.geodetic2enu(
            latitude, longitude, altitude, self.latitude, self.longitude, self.altitude
        )
        return np.stack(np.broadcast_arrays(*found), axis=-1).astype(np.float64)
