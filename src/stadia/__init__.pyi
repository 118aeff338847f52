"""Public names; `__init__.py` loads a module when one of its names is used."""

from .core.errors import StadiaError as StadiaError
from .judge.reconstructions.check_reconstruction import check_reconstruction as check_reconstruction
from .judge.reconstructions.pose_assertion import assert_poses as assert_poses
from .judge.reconstructions.refine_reconstruction import refine_reconstruction as refine_reconstruction
from .judge.recordings.preflight_runner import check_data as check
from .predict.network import Network as Network
from .predict.network import open_network as open_network
from .predict.options import EvaluateOptions as EvaluateOptions
from .predict.options import PredictOptions as PredictOptions
from .predict.prediction import Prediction as Prediction
from .predict.tasks import Evaluation as Evaluation
from .predict.tasks import evaluate as evaluate
from .sfm.map_video import MappedVideo as MappedVideo
from .sfm.map_video import map_video as map_video
from .training.adapt import Adaptation as Adaptation
from .training.adapt import adapt_network as adapt
from .training.recipes import configure as configure
from .training.workflow import train as train

__version__: str
NAMES: dict[str, str]
__all__ = [
    "Adaptation",
    "EvaluateOptions",
    "Evaluation",
    "MappedVideo",
    "Network",
    "PredictOptions",
    "Prediction",
    "StadiaError",
    "adapt",
    "assert_poses",
    "check",
    "check_reconstruction",
    "configure",
    "evaluate",
    "map_video",
    "open_network",
    "refine_reconstruction",
    "train",
]
