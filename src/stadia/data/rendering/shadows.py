"""The frame of the sun's rays, and projections to shadow maps."""

from __future__ import annotations

import numpy as np

from stadia.data.rendering.mesh import Points


def sun_frame(towards_sun: Points) -> Points:
    """Return the (4, 4) rotation T_sun_world, whose z is the direction of sunlight.

    towards_sun: (3,) unit, not vertical.
    """
    along = -towards_sun
    across = np.cross(along, (0.0, 1.0, 0.0))
    across /= np.linalg.norm(across)
    T = np.eye(4)
    T[:3, :3] = np.stack([across, np.cross(along, across), along])
    return T


def shadow_map(T_sun_world: Points, corner: Points, texel_m: float) -> Points:
    """Return (3, 4) from the world to (column, row, depth in metres) of a shadow map that begins at `corner` (2,) of
    the sun's frame.
    """
    T = T_sun_world[:3].copy()
    T[:2] /= texel_m
    T[:2, 3] = -corner / texel_m
    return T
