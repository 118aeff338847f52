"""Sound inputs of every kind, which the campaign then damages: data sets, a video, a trained run, predictions."""

import json
import warnings
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from fractions import Fraction
from functools import partial
from io import StringIO
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from benchmarks.campaign.harness import Server
from tests.data.euroc_layout import write_flat_sequence
from tests.data.rendered_world import HEIGHT, STEP_M, WIDTH, K, World, pose, render, rows, save
from tests.objectpose.data.conftest import write_bop
from torch import nn

from stadia.cli.main import run as run_command_line
from stadia.predict.exported_network import ExportDescription
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.prediction.export import describe_export
from stadia.training.prediction.network_export import ExportComparison, export_onnx
from stadia.training.recipes.base.build_recipe import load_recipe

CAMERA = ("data.camera.focal_px=120",)
TINY = (
    *("--preset", "tiny-laptop", "data.height=64", "data.width=96", "model.network.encoder=test_efficientnet"),
    *("model.network.decoder_channels=[8,16,24,32,64]", "model.network.scales=1"),
    *("model.pose_net=resnet", "model.pose_encoder=test_efficientnet", "model.pretrained=false"),
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


Run = Callable[[Path, tuple[str, ...]], None]
"""Runs `stadia WORDS...` in a folder; raises where it fails."""


def run_in_this_process(folder: Path, words: tuple[str, ...], codes: tuple[int, ...] = (0,)) -> None:
    """Run a line here, where everything is imported already. codes: those of success."""
    output = StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("default")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.chdir(folder)
        with redirect_stdout(output), redirect_stderr(output), pytest.raises(SystemExit) as ending:
            run_command_line(list(words))
    if ending.value.code not in codes:
        raise RuntimeError(f"stadia {' '.join(words)} ended with {ending.value.code}: {output.getvalue()[-2000:]}")


def _run_in_server(server: Server, folder: Path, words: tuple[str, ...]) -> None:
    output = folder.with_name(f"{folder.name}.output")
    limits = {"seconds": 3600.0, "max_bytes": 4 << 30}
    env = {"CUDA_VISIBLE_DEVICES": ""}
    outcome = server.run_job({"argv": words, "cwd": str(folder), "env": env, "out": str(output), **limits})
    text = output.read_text(encoding="utf-8", errors="replace")
    output.unlink()
    if outcome["code"]:
        raise RuntimeError(f"stadia {' '.join(words)} ended with {outcome['code']}: {text[-2000:]}")


class MeanColor(nn.Module):
    """A network of two operations, which is exported in a second: readers refuse a damaged file of any size."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean(1, keepdim=True) + 0.1


def export_at_training_size(
    network: nn.Module, path: Path, about: ExportDescription, *given: object, **options: bool
) -> list[ExportComparison]:
    """Export as `export_onnx`, for the training size alone: that is traced in a fraction of the time.

    tests/predict/test_export.py and tests/networks/test_dpt_export.py export for every size.
    """
    return export_onnx(network, path, about, (about.height, about.width), **options)


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


def write_large_video(path: Path, frames: int) -> None:
    """Write 8K frames of noise, which move by 16 pixels each, as H.264."""
    width, height = 7680, 4320
    coarse = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8 + 2 * frames, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            part = np.ascontiguousarray(coarse[:, 2 * index : 2 * index + width // 8])
            frame = av.VideoFrame.from_ndarray(cv2.resize(part, (width, height)), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_datasets(folder: Path) -> None:
    """Write small datasets of other formats: EuRoC and 7-Scenes."""
    write_flat_sequence(folder / "euroc")
    (folder / "seq-01").mkdir()
    for index in range(2):
        stem = folder / "seq-01" / f"frame-{index:06d}"
        cv2.imwrite(f"{stem}.color.png", np.full((480, 640, 3), 40 * index, np.uint8))
        cv2.imwrite(f"{stem}.depth.png", np.full((480, 640), 1500, np.uint16))
        np.savetxt(f"{stem}.pose.txt", np.eye(4))


PROJECTION = "700 0 300 42 0 700 90 0 0 0 1 0"
CAR = "Car 0.00 0 0.10 100 50 200 90 1.50 1.60 4.00 2.00 1.65 10.00 0.30"


def _write_kitti_objects(folder: Path) -> None:
    """Write two images with a car each in KITTI's layout, and results of them beside it."""
    for kind in ("image_2", "label_2", "calib"):
        (folder / "kitti_objects" / "training" / kind).mkdir(parents=True)
    (folder / "kitti_results").mkdir()
    for name in ("000000", "000001"):
        training = folder / "kitti_objects" / "training"
        save(training / "image_2" / f"{name}.png", np.full((180, 600, 3), 90, np.uint8))
        (training / "label_2" / f"{name}.txt").write_text(f"{CAR}\n")
        (training / "calib" / f"{name}.txt").write_text(f"P0: {PROJECTION.replace('42', '0')}\nP2: {PROJECTION}\n")
        (folder / "kitti_results" / f"{name}.txt").write_text(f"{CAR} 0.9\n")


def write_masks(folder: Path) -> None:
    """Write masks of `images`, as a folder of `stadia masks` and as COCO polygons: road, and two cars."""
    cars = [(30, 40, 60, 70), (100, 45, 140, 75)]  # left, top, right, bottom
    images, annotations = [], []
    for index in range(4):
        name = f"{index:06d}"
        semantic, instance = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint16)
        semantic[60:] = 1
        road = [0, 60, WIDTH, 60, WIDTH, HEIGHT, 0, HEIGHT]
        annotations.append({"image_id": index, "category_id": 1, "segmentation": [road]})
        for number, (left, top, right, bottom) in enumerate(cars, start=1):
            semantic[top:bottom, left:right], instance[top:bottom, left:right] = 2, number
            corners = [left, top, right, top, right, bottom, left, bottom]
            annotations.append({"image_id": index, "category_id": 2, "segmentation": [corners]})
        images.append({"id": index, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH})
        for kind, values in (("semantic", semantic), ("instance", instance)):
            (folder / "masks" / kind / "left").mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / "masks" / kind / "left" / f"{name}.png"), values)
    (folder / "masks" / "classes.json").write_text('{"1": "road", "2": "car"}')
    (folder / "masks" / "heights.json").write_text('{"left/000000": {"1": [1.5, 0.1]}}')
    categories = [{"id": 1, "name": "road"}, {"id": 2, "name": "car"}]
    coco = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "coco.json").write_text(json.dumps(coco))


def write_composite_parts(folder: Path) -> None:
    """Write backgrounds with depth, other ones to validate, and four discs with an alpha channel."""
    World().dataset(folder / "backgrounds", {"train": ["a"], "val": ["b"]}, frames=3)
    for path in (folder / "backgrounds" / "b").rglob("*.png"):
        cv2.imwrite(str(path), cv2.imread(str(path))[:, ::-1])
    (folder / "cutouts").mkdir()
    y, x = np.mgrid[:32, :32] - 15.5
    for number in range(4):
        image = np.full((32, 32, 4), 40 * number, np.uint8)
        image[..., 3] = np.where(np.hypot(x, y) < 10 + number, 255, 0)
        cv2.imwrite(str(folder / "cutouts" / f"disc{number}.png"), image)


def _write_objects(folder: Path, run: Run) -> None:
    """Write images of objects in every layout, masks, and composite images."""
    write_bop(folder / "bop")
    row = "1,3,{},0.9,1 0 0 0 1 0 0 0 1,{},-1\n"
    results = row.format(1, "0 0 500") + row.format(2, "30 0 700")
    (folder / "bop.csv").write_text(f"scene_id,im_id,obj_id,score,R,t,time\n{results}")
    _write_kitti_objects(folder)
    write_masks(folder)
    write_composite_parts(folder)
    tables = ("--preset", "tiny", "--tables", "1,1,1", "views=1", "height=64", "width=80", "supersampling=1")
    run(folder, ("data", "tableworld", *tables, "--out", "objects"))
    sources = ("backgrounds.path=backgrounds", "foregrounds.path=cutouts", "height=32", "width=32")
    run(folder, ("data", "overlay", *sources, "--count", "2", "--val", "1", "--out", "composites"))


def write_files(folder: Path) -> Path:
    """Write the inputs that need no command below `folder` (a second), and return it."""
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
    return folder


def build(folder: Path, run: Run | None = None) -> Path:
    """Write everything below `folder` (about 30 s on one core), and return it. Lines run in a server by default."""
    write_files(folder)
    with ExitStack() as stack:
        run = run or partial(_run_in_server, stack.enter_context(Server()))
        _write_objects(folder, run)
        _write_run(folder, run)
    return folder


def _write_run(folder: Path, run: Run) -> None:
    """Write a trained run, its predictions, and an ONNX file with the description of its network."""
    run(folder, ("train", "selfsup", "data.path=stadia", *TINY, "--out", "runs"))
    (folder / "runs").rename(folder / "all")
    (trained,) = (path for path in (folder / "all").iterdir() if path.is_dir())
    trained.rename(folder / "run")
    (folder / "all").rmdir()
    run(folder, ("predict", "run", "images", *CAMERA, "--out", "predictions", "--no-video", "--no-cloud"))
    checkpoint = Checkpoint.open(folder / "run")
    about, _ = describe_export(checkpoint, load_recipe(checkpoint))
    export_at_training_size(MeanColor(), folder / "depth.onnx", about)
