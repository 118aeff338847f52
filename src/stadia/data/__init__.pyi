"""Public names; `__init__.py` loads a module when one of its names is used."""

import stadia.core.registry

from .config import MAX_NETWORK_PIXELS as MAX_NETWORK_PIXELS
from .config import CacheConfig as CacheConfig
from .config import CameraConfig as CameraConfig
from .config import Matrix as Matrix
from .config import Pixels as Pixels
from .config import Share as Share
from .config import SourceOptions as SourceOptions
from .config import SplitConfig as SplitConfig
from .config import check_network_pixels as check_network_pixels
from .config import refuse_idle_options as refuse_idle_options
from .formats.stadia_folder import FolderRecording as FolderRecording
from .formats.stadia_folder import StadiaFolder as StadiaFolder
from .frame_selection import FrameSelection as FrameSelection
from .frame_selection import FrameSelector as FrameSelector
from .frame_store import FrameStore as FrameStore
from .frame_store import ReportProgress as ReportProgress
from .frame_store import StoredRecording as StoredRecording
from .frame_store import fill_frame_store as fill_frame_store
from .frame_store import lock_beside as lock_beside
from .frame_store import make_store_stem as make_store_stem
from .frame_store import open_frame_store as open_frame_store
from .frame_store import read_resized_frame as read_resized_frame
from .frame_store import resize_depth as resize_depth
from .frame_store import resize_image as resize_image
from .frame_store import resize_sparse_depth as resize_sparse_depth
from .frame_store import to_planar_bytes as to_planar_bytes
from .frame_store import write_frame_store as write_frame_store
from .open_dataset import DatasetFormat as DatasetFormat
from .open_dataset import detect_format as detect_format
from .open_dataset import find_held_out_split as find_held_out_split
from .open_dataset import open_recordings as open_recordings
from .open_dataset import read_named_splits as read_named_splits
from .open_dataset import sample_recordings as sample_recordings
from .open_dataset import select_names as select_names
from .recordings import CalibratedRecording as CalibratedRecording
from .recordings import CroppedRecording as CroppedRecording
from .recordings import FrameRange as FrameRange
from .recordings import ImageRecording as ImageRecording
from .recordings import crop_recording as crop_recording
from .splits import TargetFrames as TargetFrames
from .splits import TrainValSplit as TrainValSplit
from .splits import all_frames as all_frames
from .splits import read_split_file as read_split_file
from .splits import split_blocks as split_blocks
from .surveys import survey_masks as survey_masks
from .video.video_camera import read_user_intrinsics as read_user_intrinsics
from .video.video_files import VideoSegment as VideoSegment
from .video.video_files import select_images as select_images

DATASETS: stadia.core.registry.Registry
IMAGE_LAYOUTS: stadia.core.registry.Registry
