"""Read dataset formats as recordings, and prepare samples of them."""

from stadia.core.tables import Table

# `open_recordings(format="auto")` tries them in this order: the most specific layout first, any folder of images last.
DATASETS = Table(
    "dataset",
    {
        "stadia": "stadia.data.folder:StadiaFolder",
        "kitti_odometry": "stadia.data.kitti_odometry:KittiOdometry",
        "kitti_raw": "stadia.data.kitti_raw:KittiRaw",
        "euroc": "stadia.data.euroc:Euroc",
        "sevenscenes": "stadia.data.sevenscenes:SevenScenes",
        "video": "stadia.data.video:OwnVideo",
    },
)
