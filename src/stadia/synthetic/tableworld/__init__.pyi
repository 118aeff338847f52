"""Public names; `__init__.py` loads a module when one of its names is used."""

from .config import CutoutConfig as CutoutConfig
from .config import TableWorldConfig as TableWorldConfig
from .config import find_tableworld_preset as find_tableworld_preset
from .table_objects import ObjectShape as ObjectShape
from .table_scene import PlacedObject as PlacedObject
from .table_scene import TableRenderer as TableRenderer
from .table_scene import TableScene as TableScene
from .table_scene import TableView as TableView
from .tableworld_writer import write_cutouts as write_cutouts
from .tableworld_writer import write_tableworld as write_tableworld
