"""Public names; `__init__.py` loads a module when one of its names is used."""

import stadia.core.registry

from .baselines import average_depths as average_depths
from .baselines import average_recordings as average_recordings
from .baselines import find_best_threshold as find_best_threshold
from .baselines import max_channel_difference as max_channel_difference
from .protocols import Alignment as Alignment
from .protocols import Protocol as Protocol
from .protocols import find_protocol as find_protocol
from .validation_metrics import MotionPairs as MotionPairs
from .validation_metrics import compute_depth_scores as compute_depth_scores
from .validation_metrics import compute_image_sums as compute_image_sums
from .validation_metrics import compute_motion_scores as compute_motion_scores
from .validation_metrics import compute_overlay_scores as compute_overlay_scores
from .validation_metrics import compute_uncertainty_scores as compute_uncertainty_scores
from .validation_metrics import weaker_scale as weaker_scale

MOTIONS: stadia.core.registry.Registry
