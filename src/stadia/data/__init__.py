"""Opens dataset files and makes samples of them. Imports core and geometry."""

from stadia.core.tables import Table

# Asked in this order by `open_recordings(format="auto")`: the most particular layout first, any folder of images last.
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
