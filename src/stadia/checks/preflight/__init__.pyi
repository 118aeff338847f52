"""Public names; `__init__.py` loads a module when one of its names is used."""

import stadia.core.registry

from .intrinsics_checks import EpipolarComparison as EpipolarComparison
from .label_checks import check_masks as check_masks
from .preflight_runner import make_unreadable_finding as make_unreadable_finding
from .preflight_runner import run_preflight as run_preflight
from .recording_survey import RecordingSurvey as RecordingSurvey
from .scale_errors import LengthSource as LengthSource
from .scale_errors import ScaleComparison as ScaleComparison
from .split_checks import SplitFrames as SplitFrames
from .two_view_geometry import Array as Array
from .two_view_geometry import TwoViewMotion as TwoViewMotion
from .two_view_geometry import detect_features as detect_features
from .two_view_geometry import epipolar_distance_px as epipolar_distance_px
from .two_view_geometry import match_features as match_features
from .two_view_geometry import triangulate_inverse_depth as triangulate_inverse_depth

CHECKS: stadia.core.registry.Registry
SPLIT_CHECKS: stadia.core.registry.Registry
PREREQUISITES: dict[str, tuple[str, ...]]
