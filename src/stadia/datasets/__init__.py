"""Read dataset formats as recordings, and prepare samples of them."""

from __future__ import annotations

import lazy_loader

from stadia.core.registry import Registry

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# `open_recordings(format="auto")` tries them in this order: the most specific layout first, any folder of images last.
DATASETS = Registry(
    "dataset",
    {
        "stadia": "stadia.datasets.stadia_folder:StadiaFolder",
        "kitti_odometry": "stadia.datasets.kitti:KittiOdometry",
        "kitti_raw": "stadia.datasets.kitti:KittiRaw",
        "euroc": "stadia.datasets.euroc:Euroc",
        "sevenscenes": "stadia.datasets.sevenscenes:SevenScenes",
        "video": "stadia.datasets.video_files:OwnVideo",
    },
)
