"""Public names; `__init__.py` loads a module when one of its names is used."""

from .direct_alignment import DirectAlignment as DirectAlignment
from .direct_alignment import align_direct as align_direct
from .photometric_residuals import HostPoints as HostPoints
from .photometric_residuals import Observations as Observations
from .photometric_residuals import PhotometricResiduals as PhotometricResiduals
from .photometric_residuals import VirtualStereo as VirtualStereo
from .photometric_residuals import WindowFrames as WindowFrames
from .photometric_residuals import gradient_weight as gradient_weight
from .photometric_residuals import make_host_points as make_host_points
from .photometric_residuals import select_pixels as select_pixels
from .photometric_residuals import squared_gradient as squared_gradient
from .photometric_residuals import uncertainty_weight as uncertainty_weight
from .window_solver import MarginalPrior as MarginalPrior
from .window_solver import MotionFactors as MotionFactors
from .window_solver import WindowProblem as WindowProblem
from .window_solver import compute_depth_information as compute_depth_information
from .window_solver import marginalize_oldest_frame as marginalize_oldest_frame
from .window_solver import solve_window as solve_window
