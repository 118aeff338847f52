"""Read data sets of many formats as recordings, and prepare samples of them."""

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# `open_recordings(format="auto")` tries them in this order: the most specific layout first, any folder of images last.
DATASETS = Registry(
    "dataset",
    {
        "shards": "stadia.datasets.sharded_dataset:ShardedDataset",
        "stadia": "stadia.datasets.formats.stadia_folder:StadiaFolder",
        "kitti_odometry": "stadia.datasets.formats.kitti:KittiOdometry",
        "kitti_raw": "stadia.datasets.formats.kitti:KittiRaw",
        "euroc": "stadia.datasets.formats.euroc:Euroc",
        "sevenscenes": "stadia.datasets.formats.rgbd_cameras:SevenScenes",
        "redweb": "stadia.datasets.formats.midas_sets:ReDWeb",
        "hrwsi": "stadia.datasets.formats.midas_sets:Hrwsi",
        "blendedmvs": "stadia.datasets.formats.midas_sets:BlendedMvs",
        "tum_rgbd": "stadia.datasets.formats.rgbd_cameras:TumRgbd",
        "nerfstudio": "stadia.datasets.formats.posed_images:Nerfstudio",
        "colmap": "stadia.datasets.formats.posed_images:ColmapModel",
        "cityscapes": "stadia.datasets.formats.street_videos:Cityscapes",
        "nuscenes": "stadia.datasets.formats.nuscenes:NuScenes",
        "ddad": "stadia.datasets.formats.ddad:Ddad",
        "bdd100k": "stadia.datasets.formats.street_videos:Bdd100k",
        "waymo": "stadia.datasets.formats.waymo:Waymo",
        "rosbag": "stadia.datasets.formats.ros_bags:RosBag",
        "videos": "stadia.datasets.video.video_list:VideoList",
        "video": "stadia.datasets.video.video_files:OwnVideo",
    },
    entry_points="stadia.datasets",
)

IMAGE_LAYOUTS = Registry(
    "layout of single images",
    {
        "objectpose": "stadia.objectpose.data.open_objects:describe_layout",
        "overlay": "stadia.overlay.world.composite_files:describe_layout",
    },
)
"""Functions by recipe, for data without recordings: each maps a path to the data set there, or to None."""
