"""Sound inputs of every kind, which the campaign then damages: datasets, a video, a trained run, predictions."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from tests.datasets.euroc_layout import write_flat_sequence
from tests.datasets.objects.conftest import write_bop
from tests.datasets.rendered_world import HEIGHT, STEP_M, WIDTH, K, World, pose, render, rows, save

CAMERA = ("data.camera.focal_px=120",)
TINY = (
    *("--preset", "tiny-laptop", "data.height=64", "data.width=96", "model.encoder=mobilenetv3_small_050"),
    *("training.max_steps=2", "training.batch_size=2", "training.validate_every=2", "training.images_every=2"),
    *("--on-stop", "warn"),
)
STUDY = """name: two-losses
recipe: selfsup
base: [data.path=stadia, training.max_steps=4, training.validate_every=2]
changes: {smooth: optimizer.lr=1e-3}
seeds: [0, 1, 2]
metric: val/abs_rel
"""
SPACE = """optimizer.lr: {low: 1.0e-5, high: 1.0e-3, log: true}
"""


def _stadia(folder: Path, *words: str, codes: tuple[int, ...] = (0,)) -> None:
    command = [sys.executable, "-m", "stadia", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        raise RuntimeError(f"stadia {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")


def write_video(path: Path, frames: int = 12) -> None:
    """Write the rendered world's frames as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(render(index)[0], format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_datasets(folder: Path) -> None:
    """Write small datasets of other formats: EuRoC, 7-Scenes, BOP with estimates, and masks of COCO for images/."""
    write_flat_sequence(folder / "euroc")
    (folder / "seq-01").mkdir()
    for index in range(2):
        stem = folder / "seq-01" / f"frame-{index:06d}"
        cv2.imwrite(f"{stem}.color.png", np.full((480, 640, 3), 40 * index, np.uint8))
        cv2.imwrite(f"{stem}.depth.png", np.full((480, 640), 1500, np.uint16))
        np.savetxt(f"{stem}.pose.txt", np.eye(4))
    write_bop(folder / "bop")
    estimate = "scene_id,im_id,obj_id,score,R,t,time\n1,3,1,0.9,1 0 0 0 1 0 0 0 1,0 0 500,-1\n"
    (folder / "estimates.csv").write_text(estimate)
    left, right, low, high = 0.2 * WIDTH, 0.7 * WIDTH, 0.6 * HEIGHT, 0.9 * HEIGHT
    road = [[left, high, right, high, right, low, left, low]]
    runs = {"counts": [HEIGHT * WIDTH // 2, HEIGHT * 10, HEIGHT * WIDTH - HEIGHT * WIDTH // 2 - HEIGHT * 10]}
    coco = {
        "images": [{"id": i, "file_name": f"{i:06d}.png", "height": HEIGHT, "width": WIDTH} for i in range(4)],
        "categories": [{"id": 1, "name": "road"}, {"id": 3, "name": "car"}],
        "annotations": [
            *({"image_id": i, "category_id": 1, "segmentation": road} for i in range(4)),
            *({"image_id": i, "category_id": 3, "segmentation": runs | {"size": [HEIGHT, WIDTH]}} for i in range(4)),
        ],
    }
    (folder / "coco.json").write_text(json.dumps(coco))


def build(folder: Path) -> Path:
    """Write everything below `folder` (about 20 s on one core), and return it."""
    world = World()
    folder.mkdir(parents=True, exist_ok=True)
    world.dataset(folder / "stadia", {"train": ["a"], "val": ["b"], "test": ["b"]}, frames=6)
    world.kitti_odometry(folder / "kitti", frames=6)
    write_video(folder / "drive.mp4")
    write_datasets(folder)
    for index in range(4):
        image, depth = render(index)
        save(folder / "images" / f"{index:06d}.png", image)
        for kind in ("png", "npy", "npz"):
            (folder / f"depth_{kind}").mkdir(exist_ok=True)
        name = f"{index:06d}"
        cv2.imwrite(str(folder / "depth_png" / f"{name}.png"), (depth * 256).astype(np.uint16))
        np.save(folder / "depth_npy" / f"{name}.npy", depth)
        np.savez(folder / "depth_npz" / f"{name}.npz", depth_m=depth)
    cv2.imwrite(str(folder / "photo.jpg"), render(0)[0])
    (folder / "kitti.txt").write_text(rows([pose(index) for index in range(6)]))
    tum = "".join(f"{0.1 * i:.6f} 0 0 {STEP_M * i:.6f} 0 0 0 1\n" for i in range(6))
    (folder / "tum.txt").write_text(tum)
    (folder / "study.yaml").write_text(STUDY)
    (folder / "space.yaml").write_text(SPACE)
    (folder / "mine.yaml").write_text("recipe: selfsup\nname: mine\ndata: {path: stadia, height: 64, width: 96}\n")
    (folder / "frames.txt").write_text("a 0 l\na 1 l\n")
    (folder / "calib.json").write_text(json.dumps({"K": K.tolist(), "height": HEIGHT, "width": WIDTH}))
    (folder / "objects.csv").write_text(
        "scene_id,im_id,obj_id,score,R,t,time\n1,0,1,0.9,1 0 0 0 1 0 0 0 1,0 0 900,-1\n"
    )
    _stadia(folder, "train", "selfsup", "data.path=stadia", *TINY, "--out", "runs")
    (folder / "runs").rename(folder / "all")
    (run,) = (path for path in (folder / "all").iterdir() if path.is_dir())
    run.rename(folder / "run")
    (folder / "all").rmdir()
    _stadia(folder, "predict", "run", "images", *CAMERA, "--out", "predictions", "--no-video", "--no-cloud")
    _stadia(folder, "export", "run", "--out", "depth.onnx")
    return folder
