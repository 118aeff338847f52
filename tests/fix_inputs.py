"""Small inputs that make a fix be printed, written into the current folder; tried_fixes.py names them."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import safetensors.torch
import torch
from scipy.spatial.transform import Rotation
from tests.data import mapped_images
from tests.predict.conftest import write_small_run
from tests.sfm.textured_room import HEIGHT, WIDTH, K, find_arc_pose, write_room
from tests.sound import MeanColor, export_at_training_size, run_in_this_process, write_composite_parts, write_masks
from tests.training.recipes.published_folders import write_network

from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.prediction.export import describe_export
from stadia.training.recipes.base.build_recipe import load_recipe

FOCAL = "data.camera.focal_px=120"


def write_K(path: str, fx: float, fy: float, height: int = HEIGHT, width: int = WIDTH, **others: object) -> None:
    """Write a camera file with the principal point in the middle."""
    matrix = [[fx, 0, (width - 1) / 2], [0, fy, (height - 1) / 2], [0, 0, 1]]
    Path(path).write_text(json.dumps({"K": matrix, "height": height, "width": width, **others}))


def run() -> None:
    """Write `run`, an untrained network."""
    write_small_run(Path("run"))


def masks() -> None:
    """Write `masks` and coco.json."""
    write_masks(Path())


def room() -> None:
    """Write `room`, images that can be mapped with data.camera.focal_px=300."""
    write_room(Path("room"))


def walk(**record: object) -> None:
    """Write `walk`, images with a map. record: further fields of map.json."""
    mapped_images.write_images(Path("walk"))
    mapped_images.write_map(Path("walk.map"))
    path = Path("walk.map/map.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | record))


def walk_without_motion() -> None:
    """Write `walk` with an unusable map."""
    walk(verdict={"grade": "unusable", "reasons": [{"field": "contradicted"}]})


def room_of_another_map() -> None:
    """Write `room` with the map of other images."""
    room()
    walk()
    Path("walk.map").rename("room.map")


def map_without_images() -> None:
    """Write room.map; its images are in `other`."""
    room()
    run_in_this_process(Path(), ("map", "room", "data.camera.focal_px=300"))
    Path("room").rename("other")


def squeezed_room() -> None:
    """Write `room` with pixels that are not square."""
    room()
    write_K("room/K.json", 300, 200)


def unsqueeze_room() -> None:
    """Resize its images so that they are."""
    for path in Path("room").glob("*.png"):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (WIDTH, HEIGHT * 3 // 2)))
    write_K("room/K.json", 300, 300, HEIGHT * 3 // 2)


def two_rooms() -> None:
    """Write `two`, a dataset of two recordings."""
    camera = {"K": K.tolist(), "height": HEIGHT, "width": WIDTH}
    for name in "ab":
        folder = Path("two") / name
        folder.mkdir(parents=True)
        write_room(folder / "left")
        record = {"cameras": {"left": camera}, "T_right_left": None, "frame_rate_hz": 10}
        (folder / "recording.json").write_text(json.dumps(record))
    Path("two/dataset.json").write_text(json.dumps({"format": "stadia", "version": 1, "splits": {"train": ["a", "b"]}}))


def masks_elsewhere() -> None:
    """Write coco.json without masks next to the images."""
    masks()
    Path("masks").rename("old")


def masks_and_a_missing_depth() -> None:
    """Write `masks`, and remove a depth map."""
    masks()
    Path("depth_npy/000001.npy").unlink()


def correct_predicted_depth() -> None:
    """Replace predicted depth by true depth, which agrees with the objects."""
    for path in Path("p/depth").glob("*.npz"):
        np.savez(path, depth=np.load(f"depth_npy/{path.stem}.npy"))


def damaged_shards() -> None:
    """Write `shards` with an index of nothing."""
    Path("shards").mkdir()
    Path("shards/shards.json").write_text("[]")


def folding_lens() -> None:
    """Write K.json with an impossible lens."""
    write_K("K.json", 120, 120, 96, 160, distortion={"model": "radtan", "coefficients": [50, 0, 0, 0]})


def damaged_metres() -> None:
    """Write the images' camera with metres that `stadia calibrate` did not write."""
    write_K("images/K.json", 120, 120, 96, 160, metres={"base": {"x": 1}})


def run_and_walk() -> None:
    """Write both."""
    run()
    walk()


def cropped_depth() -> None:
    """Write `whole`, ground truth of KITTI's size, and `crop`, a prediction of a part of it."""
    Path("crop").mkdir()
    Path("whole").mkdir()
    depth = np.random.default_rng(0).integers(500, 15000, (375, 1242))
    cv2.imwrite("whole/0.png", depth.astype(np.uint16))
    np.save("crop/0.npy", depth[23:, 13:1229].astype(np.float32) / 256)


def foreign_weights() -> None:
    """Write x.safetensors, of another program, and `run`."""
    run()
    safetensors.torch.save_file({"a": torch.ones(2)}, "x.safetensors")


def still() -> None:
    """Write `still`, one image repeated."""
    Path("still").mkdir()
    for index in range(6):
        shutil.copy("images/000000.png", f"still/{index:06d}.png")


def exported() -> None:
    """Write `run`, depth.onnx, and damaged.onnx without a height in its description."""
    run()
    checkpoint = Checkpoint.open(Path("run"))
    about, _ = describe_export(checkpoint, load_recipe(checkpoint))
    export_at_training_size(MeanColor(), Path("depth.onnx"), about)
    graph = onnx.load("depth.onnx")
    for entry in graph.metadata_props:
        entry.value = "x" if entry.key == "height" else entry.value
    onnx.save(graph, "damaged.onnx")


def kitti_raw() -> None:
    """Write `raw`, a drive of KITTI without scans of its LiDAR."""
    day = Path("raw/2011_09_26")
    images = day / f"{day.name}_drive_0001_sync" / "image_02" / "data"
    images.mkdir(parents=True)
    for index in range(4):
        shutil.copy(f"images/{index:06d}.png", images / f"{index:010d}.png")
    rows = [
        f"P_rect_0{side}: 120 0 77 {-60 * (side - 2)} 0 120 41 0 0 0 1 0\nS_rect_0{side}: 160 96" for side in (2, 3)
    ]
    (day / "calib_cam_to_cam.txt").write_text("\n".join([*rows, "R_rect_00: 1 0 0 0 1 0 0 0 1", ""]))


def run_and_room() -> None:
    """Write both."""
    run()
    room()


def deep_photo() -> None:
    """Write deep.tif, a picture of 32-bit numbers."""
    cv2.imwrite("deep.tif", np.random.default_rng(0).random((96, 160, 3)).astype(np.float32))


def relative_network() -> None:
    """Write `shifted`, a network whose depth has an unknown shift, and `true`, depth that agrees with its output."""
    write_network(Path("shifted"), "depth_anything")
    run_in_this_process(Path(), ("predict", "shifted", "images", "--out", "q", "--no-cloud", "--no-video", FOCAL))
    Path("true").mkdir()
    for path in Path("q/depth").glob("*.npz"):
        inverse = np.load(path)["inverse_depth"]
        np.save(Path("true") / f"{path.stem}.npy", 1 / (0.01 + 0.2 * (inverse - inverse.min()) / np.ptp(inverse)))


def linear_run() -> None:
    """Write `run`, whose pose network needs images of one size, and whose images are low."""
    write_small_run(Path("run"), settings=("data.height=32", "model.pose_head=linear"))


def cutouts_and_camera() -> None:
    """Write `cutouts`, and the camera of the images."""
    write_composite_parts(Path())
    write_K("images/K.json", 120, 120, 96, 160)


def cutouts_and_few_depths() -> None:
    """Write the same, and `p`, predictions of every second image."""
    cutouts_and_camera()
    run_in_this_process(Path(), ("predict", "base", "images", "--out", "p", "--every", "2", "--no-cloud", "--no-video"))


def composites() -> None:
    """Write `composites`."""
    write_composite_parts(Path())
    sources = ("backgrounds.path=backgrounds", "foregrounds.path=cutouts", "height=32", "width=32")
    run_in_this_process(Path(), ("data", "overlay", *sources, "--count", "2", "--val", "1", "--out", "composites"))


def colmap_of_two_cameras() -> None:
    """Write `model`, a reconstruction of images of two cameras."""
    folder = Path("model/sparse/0")
    folder.mkdir(parents=True)
    cameras = [f"{number} PINHOLE 320 200 300 300 160 100" for number in (1, 2)]
    (folder / "cameras.txt").write_text("\n".join([*cameras, ""]))
    rows = ""
    for index in range(12):
        R, center = find_arc_pose(index)
        x, y, z, w = Rotation.from_matrix(R).as_quat()
        t = -R @ center
        rows += f"{index + 1} {w} {x} {y} {z} {t[0]} {t[1]} {t[2]} {1 + index % 2} {index:06d}.png\n\n"
    (folder / "images.txt").write_text(rows)
    (folder / "points3D.txt").write_text("")
    shutil.copytree(write_room(Path("room")), "model/images")


def bent_lens() -> None:
    """Write K.json with a lens that folds the image inside."""
    write_K("K.json", 80, 80, 96, 160, distortion={"model": "equidistant", "coefficients": [-0.4, 0, 0, 0]})


def normalized_depth() -> None:
    """Write inverse depth from 0 to 1 as predictions; ground truth leaves out the farthest point."""
    for path in Path("depth_npy").glob("*.npy"):
        inverse = 1 / np.load(path)
        shown = (inverse - inverse.min()) / np.ptp(inverse)
        np.save(path, shown)
        truth = Path("depth_png") / f"{path.stem}.png"
        cv2.imwrite(str(truth), np.where(shown > 0.001, cv2.imread(str(truth), cv2.IMREAD_UNCHANGED), 0))


def two_runs() -> None:
    """Write `run`, and `cut`, which was trained on a crop of KITTI's images."""
    run()
    write_small_run(Path("cut"), settings=("data.crop=kb",))


def relative_poses() -> None:
    """Write `model`, a reconstruction of one camera, whose scale is unknown."""
    colmap_of_two_cameras()
    folder = Path("model/sparse/0")
    (folder / "cameras.txt").write_text("1 PINHOLE 320 200 300 300 160 100\n")
    (folder / "images.txt").write_text((folder / "images.txt").read_text().replace(" 2 0000", " 1 0000"))


def run_with_configuration() -> None:
    """Write `run` with config.json."""
    run()
    Path("run/config.json").write_text(json.dumps(Checkpoint.open(Path("run")).header.config))
