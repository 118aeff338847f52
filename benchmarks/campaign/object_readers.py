"""The commands that read objects, masks and composite images, each with the file that is damaged."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reader:
    """A command that reads one file.

    name: of the pair.  needs: names in the sound folder.  file: the one that is damaged.  line: after `stadia`, with
    CAMERA for its options.  text: whether it is text.  changes: what the command may write.
    """

    name: str
    needs: str
    file: str
    line: str
    text: bool = False
    changes: str = ""


_CHECK_OBJECTS, _CHECK_COMPOSITES = "check objects --recipe objectpose", "check composites --recipe overlay"
_SCORE_BOP = "evaluate --objects bop.csv --reference bop"
_SCORE_KITTI = "evaluate --objects kitti_results --reference kitti_objects --split training"
_HEIGHT = "camera-height images CAMERA masks=masks horizon=given pitch_deg=0 --out out"
OBJECT_READERS = (
    *(
        Reader(f"objects/{file}", "objects", f"objects/{file}", _CHECK_OBJECTS, text)
        for file, text in {
            "dataset.json": True,
            "train-00000/scene.json": True,
            "train-00000/image/000.png": False,
            "train-00000/depth/000.npy": False,
            "train-00000/instance/000.png": False,
        }.items()
    ),
    Reader(
        "objects/show",
        "objects",
        "objects/train-00000/scene.json",
        "data show objects train --out out",
        text=True,
        changes="out",
    ),
    *(
        Reader(f"bop/{file}", "bop bop.csv", file, _SCORE_BOP, text)
        for file, text in {
            "bop.csv": True,
            "bop/test_targets_bop19.json": True,
            "bop/models_eval/models_info.json": True,
            "bop/models_eval/obj_000001.ply": True,
            "bop/test/000001/scene_gt.json": True,
            "bop/test/000001/scene_camera.json": True,
            "bop/test/000001/rgb/000003.png": False,
        }.items()
    ),
    Reader("bop/show", "bop", "bop/test/000001/rgb/000003.png", "data show bop test --out out", changes="out"),
    *(
        Reader(f"kitti_objects/{file}", "kitti_objects kitti_results", file, _SCORE_KITTI, text)
        for file, text in {
            "kitti_results/000000.txt": True,
            "kitti_objects/training/label_2/000000.txt": True,
            "kitti_objects/training/calib/000000.txt": True,
            "kitti_objects/training/image_2/000000.png": False,
        }.items()
    ),
    *(
        Reader(f"composites/{file}", "composites", f"composites/{file}", _CHECK_COMPOSITES, text)
        for file, text in {
            "dataset.json": True,
            "train/00000/samples.json": True,
            "train/00000/image/000.png": False,
            "train/00000/mask/000.png": False,
            "train/00000/depth/000.npz": False,
            "backgrounds/train/00000.png": False,
        }.items()
    ),
    Reader(
        "cutouts/png",
        "backgrounds cutouts",
        "cutouts/disc1.png",
        "data overlay backgrounds.path=backgrounds foregrounds.path=cutouts --count 2 --val 1 --out out",
        changes="out",
    ),
    *(
        Reader(f"masks/{file}", "images masks", f"masks/{file}", _HEIGHT, text, "out")
        for file, text in {
            "classes.json": True,
            "heights.json": True,
            "semantic/left/000001.png": False,
            "instance/left/000001.png": False,
        }.items()
    ),
    Reader(
        "masks/coco", "images coco.json", "coco.json", "masks images --by coco.json --out out", text=True, changes="out"
    ),
)
