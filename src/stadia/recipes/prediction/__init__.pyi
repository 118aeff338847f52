"""Public names; `__init__.py` loads a module when one of its names is used."""

from .depth_commands import DepthCommands as DepthCommands
from .depth_commands import score_recordings as score_recordings
from .predict_exported import run_predict_exported as run_predict_exported
from .prediction_inputs import PredictionInput as PredictionInput
from .prediction_inputs import open_inputs as open_inputs
from .recipe_commands import Commands as Commands
from .recipe_commands import LabeledSet as LabeledSet
from .recipe_commands import ScoreOutput as ScoreOutput
from .recipe_commands import run_evaluate as run_evaluate
from .recipe_commands import run_predict as run_predict
from .requests import EvaluateRequest as EvaluateRequest
from .requests import FormatOptions as FormatOptions
from .requests import OdometryRequest as OdometryRequest
from .requests import PredictRequest as PredictRequest
from .requests import network_size_notes as network_size_notes
from .requests import parse_data_config as parse_data_config
from .requests import parse_source_options as parse_source_options
from .requests import requested_size as requested_size
from .training_camera import add_training_options as add_training_options
