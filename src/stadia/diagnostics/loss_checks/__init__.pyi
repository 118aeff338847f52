"""Public names; `__init__.py` loads a module when one of its names is used."""

from .loss_case import ErrorAxis as ErrorAxis
from .loss_case import LossCase as LossCase
from .loss_case import Outputs as Outputs
from .loss_case import make_depth_case as make_depth_case
from .loss_case import make_overlay_case as make_overlay_case
from .loss_check_runner import check_losses as check_losses
from .loss_check_runner import check_training_start as check_training_start
from .loss_check_runner import collect_findings as collect_findings
from .loss_check_runner import stop_at as stop_at
from .training_start import TimeLimitReached as TimeLimitReached
from .training_start import TrainingStart as TrainingStart
from .training_start import take_samples as take_samples
from .video_cases import OutputSpec as OutputSpec
from .video_cases import PlaneScene as PlaneScene
from .video_cases import VideoLoss as VideoLoss
from .video_cases import make_video_case as make_video_case

MAX_BELOW_TRUTH: float
MAX_DROP_AWAY: float
MIN_EFFECT: float
MIN_COLOR_COST: float
MAX_HALVES_COST: float
MIN_RELIEF: float
MAX_RELIEF_GROWTH: float
MAX_UNIT_CHANGE: float
MIN_HALF_NOISE: float
NOISE: float
MAX_NOISE_REWARD: float
MIN_REWARD: float
MAX_EDGE_EXCESS: float
MAX_TILE_CHANGE: float
MAX_PRINCIPAL_POINT_OUTSIDE: float
MIN_FOCAL_WIDTHS: float
MIN_BATCH_SAMPLES: int
MIN_BATCH_VALUES: int
