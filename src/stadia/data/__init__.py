"""Read datasets of many formats as recordings, and prepare samples of them."""

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# `open_recordings(format="auto")` tries them in this order: the most specific layout first, any folder of images last.
DATASETS = Registry(
    "dataset",
    {
        "shards": "stadia.data.sharded_dataset:ShardedDataset",
        "stadia": "stadia.data.formats.stadia_folder:StadiaFolder",
        "kitti_odometry": "stadia.data.formats.kitti:KittiOdometry",
        "kitti_raw": "stadia.data.formats.kitti:KittiRaw",
        "euroc": "stadia.data.formats.euroc:Euroc",
        "sevenscenes": "stadia.data.formats.rgbd_cameras:SevenScenes",
        "redweb": "stadia.data.formats.midas_sets:ReDWeb",
        "hrwsi": "stadia.data.formats.midas_sets:Hrwsi",
        "blendedmvs": "stadia.data.formats.midas_sets:BlendedMvs",
        "tum_rgbd": "stadia.data.formats.rgbd_cameras:TumRgbd",
        "nerfstudio": "stadia.data.formats.posed_images:Nerfstudio",
        "colmap": "stadia.data.formats.posed_images:ColmapModel",
        "cityscapes": "stadia.data.formats.street_videos:Cityscapes",
        "nuscenes": "stadia.data.formats.nuscenes:NuScenes",
        "ddad": "stadia.data.formats.ddad:Ddad",
        "bdd100k": "stadia.data.formats.street_videos:Bdd100k",
        "waymo": "stadia.data.formats.waymo:Waymo",
        "rosbag": "stadia.data.formats.ros_bags:RosBag",
        "videos": "stadia.data.video.video_list:VideoList",
        "video": "stadia.data.video.video_files:OwnVideo",
    },
    entry_points="stadia.datasets",
)

IMAGE_LAYOUTS = Registry(
    "layout of single images",
    {
        "objectpose": "stadia.objectpose.data.open_objects:describe_layout",
        "overlay": "stadia.overlay.layout:describe_layout",
    },
)
"""Functions that recognize a dataset of single images, by the recipe that trains on it.

Each function maps a path to a description of the dataset there, or to None.
"""
