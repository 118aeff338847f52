"""Public names; `__init__.py` loads a module when one of its names is used."""

import stadia.core.registry

from .intrinsics_checks import EpipolarComparison as EpipolarComparison
from .label_checks import check_masks as check_masks
from .preflight_runner import SplitFrames as SplitFrames
from .preflight_runner import make_unreadable_finding as make_unreadable_finding
from .preflight_runner import run_preflight as run_preflight
from .recording_survey import Array as Array
from .recording_survey import RecordingSurvey as RecordingSurvey
from .scale_comparison import LengthSource as LengthSource
from .scale_comparison import ScaleComparison as ScaleComparison

CHECKS: stadia.core.registry.Registry
SPLIT_CHECKS: stadia.core.registry.Registry
PREREQUISITES: dict[str, tuple[str, ...]]
