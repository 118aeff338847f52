"""Public names; `__init__.py` loads a module when one of its names is used."""

import stadia.core.registry

from .depth_score import DepthScore as DepthScore
from .depth_score import average_depths as average_depths
from .depth_score import collect_scores as collect_scores
from .depth_score import find_best_threshold as find_best_threshold
from .depth_score import max_channel_difference as max_channel_difference
from .depth_score import open_ground_truth_folder as open_ground_truth_folder
from .depth_score import score_depth as score_depth
from .image_score import ImageScore as ImageScore
from .image_score import score_image as score_image
from .protocols import Alignment as Alignment
from .protocols import Protocol as Protocol
from .protocols import find_protocol as find_protocol
from .recording_scores import RecordingScores as RecordingScores
from .recording_scores import TrajectoryScore as TrajectoryScore
from .recording_scores import score_trajectory as score_trajectory
from .recording_scores import write_score as write_score

MOTIONS: stadia.core.registry.Registry
