"""Public names; `__init__.py` loads a module when one of its names is used."""

from .camera_heights import AverageHeight as AverageHeight
from .camera_heights import CameraHeights as CameraHeights
from .config import CameraHeightsConfig as CameraHeightsConfig
from .config import MetricConfig as MetricConfig
from .data import InitialHeights as InitialHeights
from .data import MultiRoadData as MultiRoadData
from .epoch_height import EpochEstimate as EpochEstimate
from .recipe import MetricRecipe as MetricRecipe
