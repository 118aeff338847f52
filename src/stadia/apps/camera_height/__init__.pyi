"""Public names; `__init__.py` loads a module when one of its names is used."""

from .config import CameraHeightConfig as CameraHeightConfig
from .config import CameraHeightRequest as CameraHeightRequest
from .config import parse_camera_height_config as parse_camera_height_config
from .road_horizon import RoadHorizons as RoadHorizons
from .road_objects import RoadFrame as RoadFrame
from .road_objects import RoadObject as RoadObject
