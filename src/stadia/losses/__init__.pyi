"""Public names; `__init__.py` loads a module when one of its names is used."""

import stadia.core.registry

from .affine_brightness import BrightnessGate as BrightnessGate
from .config import MetricScaleConfig as MetricScaleConfig
from .config import SelfSupervisedLossConfig as SelfSupervisedLossConfig
from .config import SparseDepthConfig as SparseDepthConfig
from .cpu.fused_reprojector import FusedReprojector as FusedReprojector
from .loss_report import LossReport as LossReport
from .loss_report import average_count_over_processes as average_count_over_processes
from .loss_report import check_loss as check_loss
from .loss_report import combine_losses as combine_losses
from .loss_report import divide_sum as divide_sum
from .loss_report import find_loss_errors as find_loss_errors
from .loss_report import masked_mean as masked_mean
from .metric_scale import KnownHeights as KnownHeights
from .metric_scale import MetricScaleLoss as MetricScaleLoss
from .reprojection import MinimumReprojection as MinimumReprojection
from .reprojection import Reprojection as Reprojection
from .reprojection import ReprojectionInputs as ReprojectionInputs
from .reprojection import Reprojector as Reprojector
from .reprojection import TorchReprojector as TorchReprojector
from .reprojection import find_masked_pixels as find_masked_pixels
from .reprojection import identity_reprojection as identity_reprojection
from .reprojection import window_statistics as window_statistics
from .selfsup_loss import SelfSupervisedLoss as SelfSupervisedLoss
from .sparse_depth import LabeledDepth as LabeledDepth
from .sparse_depth import SparseDepthLoss as SparseDepthLoss

LOSSES: stadia.core.registry.Registry
RESIDUALS: stadia.core.registry.Registry
SMOOTHNESS: stadia.core.registry.Registry
SPARSE_DEPTH_LOSSES: stadia.core.registry.Registry
