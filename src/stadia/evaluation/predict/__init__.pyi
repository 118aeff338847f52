"""Public names; `__init__.py` loads a module when one of its names is used."""

from .exported_network import ExportDescription as ExportDescription
from .exported_network import ExportedNetwork as ExportedNetwork
from .exported_network import check_installed as check_installed
from .exported_network import stream_exported_predictions as stream_exported_predictions
from .frame_preparation import Frame as Frame
from .frame_preparation import Listener as Listener
from .frame_preparation import Network as Network
from .frame_preparation import PredictedFrame as PredictedFrame
from .frame_preparation import PreparedFrame as PreparedFrame
from .frame_preparation import TrainingLens as TrainingLens
from .frame_preparation import frame_name as frame_name
from .frame_preparation import needs_padding as needs_padding
from .frame_preparation import pad_to_aspect as pad_to_aspect
from .frame_preparation import read_frames as read_frames
from .predict_frames import FrameTensors as FrameTensors
from .predict_frames import is_reliable as is_reliable
from .predict_frames import predict_maps as predict_maps
from .predict_frames import predict_motion as predict_motion
from .predict_frames import predict_to_folder as predict_to_folder
