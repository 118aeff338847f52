"""Public names; `__init__.py` loads a module when one of its names is used."""

from .config import RoadWorldConfig as RoadWorldConfig
from .config import find_roadworld_preset as find_roadworld_preset
from .road_world import RoadRenderer as RoadRenderer
from .road_world import RoadView as RoadView
from .road_world import RoadWorld as RoadWorld
from .roadworld_writer import render_demo_worlds as render_demo_worlds
from .roadworld_writer import write_roadworld as write_roadworld
