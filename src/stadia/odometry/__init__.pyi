"""Public names; `__init__.py` loads a module when one of its names is used."""

import stadia.core.registry

from .sliding_window_ba import MapPoints as MapPoints
from .visual_odometry import CameraPath as CameraPath
from .visual_odometry import track_camera as track_camera

ODOMETRY_METHODS: stadia.core.registry.Registry
