"""Public names; `__init__.py` loads a module when one of its names is used."""

from .boxes import compute_box_corners as compute_box_corners
from .instances import VotedCenters as VotedCenters
from .instances import center_from_translation as center_from_translation
from .instances import group_instances as group_instances
from .instances import translation_from_center as translation_from_center
from .instances import unit_directions as unit_directions
from .instances import vote_center as vote_center
from .instances import vote_center_ransac as vote_center_ransac
from .symmetry import Symmetry as Symmetry
from .symmetry import half_angle_sin_cos as half_angle_sin_cos
from .symmetry import symmetric_angle_deg as symmetric_angle_deg
