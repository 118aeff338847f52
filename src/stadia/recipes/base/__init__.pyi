"""Public names; `__init__.py` loads a module when one of its names is used."""

from .build_recipe import load_predictor as load_predictor
from .build_recipe import load_recipe as load_recipe
from .config import RecipeConfig as RecipeConfig
from .config import SelfSupervisedConfig as SelfSupervisedConfig
from .data_facts import unique_recordings as unique_recordings
from .depth_recipe import DepthPredictor as DepthPredictor
from .depth_recipe import DepthRecipe as DepthRecipe
from .self_supervised import ViewSynthesis as ViewSynthesis
from .self_supervised import check_encoders as check_encoders
from .self_supervised import make_networks as make_networks
from .training_overlap import TrainingOverlap as TrainingOverlap
from .video_data import MultiVideoData as MultiVideoData
from .video_data import VideoData as VideoData
from .video_data import make_loaders as make_loaders
from .video_data import open_data_sets as open_data_sets
from .video_data import open_video as open_video
from .workflow import train as train
