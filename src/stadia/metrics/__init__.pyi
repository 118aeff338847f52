"""Public names; `__init__.py` loads a module when one of its names is used."""

import stadia.core.registry

from .depth_metrics import Sparsification as Sparsification
from .depth_metrics import abs_rel as abs_rel
from .depth_metrics import calibration_curve as calibration_curve
from .depth_metrics import d1 as d1
from .depth_metrics import depth_error_sums as depth_error_sums
from .depth_metrics import pooled_depth_scores as pooled_depth_scores
from .depth_metrics import rmse as rmse
from .depth_metrics import scale_ratio as scale_ratio
from .depth_metrics import sparsification as sparsification
from .depth_metrics import spearman as spearman
from .depth_metrics import sum_over_images as sum_over_images
from .statistics import Better as Better
from .statistics import Expected as Expected
from .statistics import PairedDifference as PairedDifference
from .statistics import detectable_difference as detectable_difference
from .statistics import judge_changes as judge_changes
from .statistics import paired_t_test as paired_t_test
from .statistics import sign_flip_p as sign_flip_p
from .trajectory_metrics import PathAlignment as PathAlignment
from .trajectory_metrics import align_path as align_path
from .trajectory_metrics import fit_motion_axes as fit_motion_axes
from .trajectory_metrics import length_ratio as length_ratio
from .trajectory_metrics import median_length_ratio as median_length_ratio
from .trajectory_metrics import median_translation_ratio as median_translation_ratio
from .trajectory_metrics import motion_components as motion_components
from .trajectory_metrics import path_length_m as path_length_m
from .trajectory_metrics import pose_pairs_at_interval as pose_pairs_at_interval
from .trajectory_metrics import relative_pose_errors as relative_pose_errors

METRICS: stadia.core.registry.Registry
TRAJECTORY_METRICS: stadia.core.registry.Registry
