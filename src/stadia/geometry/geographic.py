"""Convert latitude, longitude and height to local metres (WGS 84)."""

import math

import numpy as np
from numpy.typing import NDArray

EARTH_RADIUS_M = 6_378_137.0
"""Semi-major axis of the ellipsoid WGS 84."""

ECCENTRICITY_2 = 6.694_379_990_14e-3
"""Squared eccentricity of the ellipsoid WGS 84."""


def to_local_metres(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert geographic to local coordinates: metres to the east, to the north and up, from the first position.

    rows: (N, 3) latitude and longitude in degrees, altitude in metres.

    Examples:
        >>> to_local_metres(np.array([[0.0, 0, 0], [0.0, 0.001, 5.0]])).round(2).tolist()
        [[0.0, 0.0, 0.0], [111.32, 0.0, 5.0]]
    """
    latitude, longitude = np.radians(rows[:, :2]).T
    across = EARTH_RADIUS_M / np.sqrt(1 - ECCENTRICITY_2 * np.sin(latitude) ** 2)
    out = across + rows[:, 2]
    z = (across * (1 - ECCENTRICITY_2) + rows[:, 2]) * np.sin(latitude)
    fixed = np.stack([out * np.cos(latitude) * np.cos(longitude), out * np.cos(latitude) * np.sin(longitude), z], -1)
    (sin_a, cos_a), (sin_o, cos_o) = ((math.sin(angle), math.cos(angle)) for angle in (latitude[0], longitude[0]))
    axes = np.array(
        [[-sin_o, cos_o, 0.0], [-sin_a * cos_o, -sin_a * sin_o, cos_a], [cos_a * cos_o, cos_a * sin_o, sin_a]]
    )
    return np.asarray((fixed - fixed[0]) @ axes.T, np.float64)
