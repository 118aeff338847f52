"""Public names; `__init__.py` loads a module when one of its names is used."""

from .commands import score_results as score_results
from .config import DetectionConfig as DetectionConfig
from .config import ObjectPoseConfig as ObjectPoseConfig
from .data import ObjectBatch as ObjectBatch
from .object_pose_scores import ObjectScore as ObjectScore
from .object_pose_scores import draw_labels as draw_labels
from .recipe import FoundObjects as FoundObjects
from .recipe import ObjectPoseRecipe as ObjectPoseRecipe
