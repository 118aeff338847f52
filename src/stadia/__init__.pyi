"""Public names; `__init__.py` loads a module when one of its names is used."""

from .adaptation.adapt import Adaptation as Adaptation
from .adaptation.adapt import adapt_network as adapt
from .core.errors import StadiaError as StadiaError
from .diagnostics.preflight.preflight_runner import check_data as check
from .launch.workflow import train as train
from .mapping.map_video import MappedVideo as MappedVideo
from .mapping.map_video import map_video as map_video
from .predict.network import Network as Network
from .predict.network import open_network as open_network
from .predict.options import EvaluateOptions as EvaluateOptions
from .predict.options import PredictOptions as PredictOptions
from .predict.prediction import Prediction as Prediction
from .predict.tasks import Evaluation as Evaluation
from .predict.tasks import evaluate as evaluate
from .recipes import configure as configure

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
    "check",
    "configure",
    "evaluate",
    "map_video",
    "open_network",
    "train",
]
