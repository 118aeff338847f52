"""Public names; `__init__.py` loads a module when one of its names is used."""

from .depth_score import DepthScore as DepthScore
from .depth_score import ImageScore as ImageScore
from .depth_score import collect_scores as collect_scores
from .depth_score import open_ground_truth_folder as open_ground_truth_folder
from .depth_score import score_depth as score_depth
from .depth_score import score_image as score_image
from .recording_scores import RecordingScores as RecordingScores
from .recording_scores import TrajectoryScore as TrajectoryScore
from .recording_scores import evaluate_recordings as evaluate_recordings
from .recording_scores import has_ground_truth as has_ground_truth
from .recording_scores import score_trajectory as score_trajectory
from .recording_scores import write_score as write_score
