"""Public names; `__init__.py` loads a module when one of its names is used."""

from .decode import count_indexed_frames as count_indexed_frames
from .decode import stream_video as stream_video
from .frame_selection import FrameSelection as FrameSelection
from .frame_selection import FrameSelector as FrameSelector
from .user_camera import read_user_intrinsics as read_user_intrinsics
from .video_files import VideoSegment as VideoSegment
from .video_files import select_images as select_images
