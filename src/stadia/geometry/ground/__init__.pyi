"""Public names; `__init__.py` loads a module when one of its names is used."""

from .camera_height import BoxedObjects as BoxedObjects
from .camera_height import HeightSurvey as HeightSurvey
from .camera_height import ObjectStatus as ObjectStatus
from .camera_height import horizon_from_angles as horizon_from_angles
from .camera_height import pitch_roll_deg as pitch_roll_deg
from .camera_height import survey_camera_height as survey_camera_height
from .drive_heights import DriveHeights as DriveHeights
from .drive_heights import MountSplit as MountSplit
from .drive_heights import estimate_drive_heights as estimate_drive_heights
from .drive_heights import find_mount_split as find_mount_split
from .drive_heights import track_boxes as track_boxes
from .drive_heights import transform_box as transform_box
from .horizon import compute_horizon_ratios as compute_horizon_ratios
from .horizon import find_vanishing_point as find_vanishing_point
from .horizon import horizon_from_normal as horizon_from_normal
from .horizon import implied_camera_height as implied_camera_height
from .horizon import log_height_ratio as log_height_ratio
from .horizon import normal_from_horizon as normal_from_horizon
from .road_plane import RoadPixelHeights as RoadPixelHeights
from .road_plane import fit_inverse_depth_plane as fit_inverse_depth_plane
from .road_plane import fit_plane_ransac as fit_plane_ransac
from .road_plane import height_above_plane as height_above_plane
from .road_plane import height_from_box as height_from_box
from .road_plane import measure_silhouettes as measure_silhouettes
from .road_plane import road_pixel_heights as road_pixel_heights
