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
from .config import find_cache_folder as find_cache_folder
from .config import refuse_idle_options as refuse_idle_options
from .formats.kitti import KittiCalibration as KittiCalibration
from .formats.stadia_folder import FolderRecording as FolderRecording
from .formats.stadia_folder import StadiaFolder as StadiaFolder
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
from .image_files import check_depth_map as check_depth_map
from .image_files import check_image_size as check_image_size
from .image_files import encode_name as encode_name
from .image_files import hash_file as hash_file
from .image_files import hash_files as hash_files
from .image_files import hash_frames as hash_frames
from .image_files import join_hashes as join_hashes
from .image_files import list_images as list_images
from .image_files import read_label_png as read_label_png
from .image_files import read_raw_depth_png as read_raw_depth_png
from .image_files import read_rgb as read_rgb
from .image_files import read_rgba as read_rgba
from .image_files import split_hashes as split_hashes
from .open_dataset import DatasetFormat as DatasetFormat
from .open_dataset import TargetFrames as TargetFrames
from .open_dataset import TrainValSplit as TrainValSplit
from .open_dataset import all_frames as all_frames
from .open_dataset import detect_format as detect_format
from .open_dataset import find_held_out_split as find_held_out_split
from .open_dataset import open_recordings as open_recordings
from .open_dataset import read_named_splits as read_named_splits
from .open_dataset import read_split_file as read_split_file
from .open_dataset import sample_recordings as sample_recordings
from .open_dataset import select_names as select_names
from .open_dataset import split_blocks as split_blocks
from .recordings import CalibratedRecording as CalibratedRecording
from .recordings import CroppedRecording as CroppedRecording
from .recordings import FrameRange as FrameRange
from .recordings import FrameSelection as FrameSelection
from .recordings import FrameSelector as FrameSelector
from .recordings import ImageRecording as ImageRecording
from .recordings import crop_recording as crop_recording
from .surveys import survey_masks as survey_masks
from .text_files import FileEntry as FileEntry
from .text_files import read_rows as read_rows
from .text_files import read_typed_json as read_typed_json
from .video.video_camera import read_user_intrinsics as read_user_intrinsics
from .video.video_decoding import count_indexed_frames as count_indexed_frames
from .video.video_decoding import stream_video as stream_video
from .video.video_files import VideoSegment as VideoSegment
from .video.video_files import select_images as select_images

DATASETS: stadia.core.registry.Registry
IMAGE_LAYOUTS: stadia.core.registry.Registry
