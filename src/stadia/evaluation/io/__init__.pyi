"""Public names; `__init__.py` loads a module when one of its names is used."""

from .depth_files import find_depth_files as find_depth_files
from .depth_files import read_depth_map as read_depth_map
from .image_predictions import ObjectPredictions as ObjectPredictions
from .image_predictions import ObjectPredictionsWriter as ObjectPredictionsWriter
from .image_predictions import OverlayPredictionsWriter as OverlayPredictionsWriter
from .image_predictions import read_mask_logits as read_mask_logits
from .image_predictions import resize_instances as resize_instances
from .point_clouds import PlyWriter as PlyWriter
from .point_clouds import open_point_cloud_file as open_point_cloud_file
from .point_clouds import write_cloud_sample as write_cloud_sample
from .predictions_folder import Predictions as Predictions
from .predictions_folder import write_predictions as write_predictions
from .predictions_record import PredictionsRecord as PredictionsRecord
from .predictions_record import Provenance as Provenance
from .predictions_record import read_record as read_record
from .trajectory_files import Trajectory as Trajectory
from .trajectory_files import TrajectoryFormat as TrajectoryFormat
from .trajectory_files import associate_trajectories as associate_trajectories
from .trajectory_files import read_kitti_trajectory as read_kitti_trajectory
from .trajectory_files import read_trajectory as read_trajectory
from .trajectory_files import write_kitti_trajectory as write_kitti_trajectory
from .trajectory_files import write_tum_trajectory as write_tum_trajectory
