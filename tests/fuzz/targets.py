"""One function for each parser of files from outside: it takes bytes, and may only return or raise StadiaError.

`check_target` runs one. It also holds what an error and a parser promise: one printable line of at most MAX_MESSAGE
characters, at most MAX_SECONDS of processor time, and at most MAX_BYTES of memory. `test_targets.py` feeds it with
`corpus/TARGET/`, from which `run_atheris.py`, a coverage-guided fuzzer, starts.
"""

import resource
import struct
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from stadia.core.errors import StadiaError
from stadia.io.array_files import list_npz_arrays, read_npy, read_npz
from stadia.io.image_io import PNG_SIGNATURE, decode_image
from stadia.io.input_files import read_csv, read_json
from stadia.io.yaml_files import read_yaml

CORPUS = Path(__file__).parent / "corpus"
MAX_MESSAGE = 2000
MAX_SECONDS, MAX_BYTES = 20.0, 1 << 30


class BrokenPromiseError(Exception):
    """A parser returned or refused, but took too much time or memory, or its error is no line to print."""


@dataclass(frozen=True, slots=True)
class Target:
    """A parser. file: the name that the bytes get.  read: takes its path.  prepare: writes what stands beside it."""

    file: str
    read: Callable[[Path], object]
    prepare: Callable[[Path], object] = Path.exists


def check_target(name: str, data: bytes, folder: Path) -> bool:
    """Run one target on `data` in a folder; return whether it was accepted.

    Raises what the parser raised beside StadiaError, and BrokenPromiseError.
    """
    target = TARGETS[name]
    path = folder / target.file
    path.write_bytes(data)
    start, before = time.process_time(), _peak_bytes()
    is_accepted = True
    try:
        target.read(path)
    except StadiaError as error:
        is_accepted = False
        _check_message(str(error))
    seconds, grown = time.process_time() - start, _peak_bytes() - before
    if seconds > MAX_SECONDS or grown > MAX_BYTES:
        raise BrokenPromiseError(f"{seconds:.1f} s and {grown >> 20} MiB for {len(data)} bytes")
    return is_accepted


def prepare_target(name: str, folder: Path) -> None:
    """Write the files that stand beside a target's input; once for a folder."""
    TARGETS[name].prepare(folder)


def _check_message(text: str) -> None:
    if "\n" in text or not text.isprintable() or len(text) > MAX_MESSAGE:
        raise BrokenPromiseError(f"an error of {len(text)} characters that is no line to print: {text[:200]!r}")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def repair_png(data: bytes) -> bytes:
    """Give every chunk of a PNG its checksum, and an end, so that damage reaches the decoder behind the checks."""
    if not data.startswith(PNG_SIGNATURE):
        data = PNG_SIGNATURE + data
    repaired, at = bytearray(PNG_SIGNATURE), len(PNG_SIGNATURE)
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        content = data[at + 4 : at + 8 + min(length, 1 << 16)]
        repaired += struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
        at += 12 + length
    return bytes(repaired) + b"\0\0\0\0IEND\xaeB`\x82"


def _read_png(path: Path) -> None:
    data = path.read_bytes()
    decode_image(path, repair_png(data), cv2.IMREAD_UNCHANGED)


def _read_image(path: Path) -> None:
    from stadia.io.image_files import check_image_ends, read_rgb

    check_image_ends(path)
    read_rgb(path)


def _read_image_header(path: Path) -> None:
    from stadia.io.image_files import read_image_header

    read_image_header(path)


def _decode(path: Path) -> None:
    decode_image(path, path.read_bytes(), cv2.IMREAD_COLOR)


def _read_npz(path: Path) -> None:
    list_npz_arrays(path)
    read_npz(path)


def _read_kitti_calibration(path: Path) -> None:
    from stadia.io.records.kitti_calibration import KittiCalibration

    calibration = KittiCalibration(path)
    calibration.projection("P2")
    calibration.rigid()


def _read_euroc_camera(path: Path) -> None:
    from stadia.data.formats.euroc import read_camera

    read_camera(path)


def _read_euroc_states(path: Path) -> None:
    from stadia.data.formats.euroc import read_states

    states = read_states(path)
    states.interpolate(np.array([0, 1403636579763555584, 2**62]))


def _read_euroc_images(path: Path) -> None:
    from stadia.data.formats.euroc import list_camera_images

    list_camera_images(path.parent)


def _read_kitti_poses(path: Path) -> None:
    from stadia.io.number_rows import read_kitti_poses

    read_kitti_poses(path, 3, [0, 1, 2])


def _read_times(path: Path) -> None:
    from stadia.io.number_rows import read_times

    read_times(path, 3, [0, 1, 2])


def _read_kitti_trajectory(path: Path) -> None:
    from stadia.io.records.read import read_kitti_trajectory

    read_kitti_trajectory(path)


def _read_tum_trajectory(path: Path) -> None:
    from stadia.io.records.formats import TrajectoryFormat
    from stadia.io.records.read import read_trajectory
    from stadia.io.records.trajectory import associate_trajectories

    read = read_trajectory(path, TrajectoryFormat.TUM, is_reference=True)
    associate_trajectories(read, read)


def _read_recording(path: Path) -> None:
    from stadia.data.config import SourceOptions
    from stadia.data.formats.stadia_folder import StadiaFolder

    for recording in StadiaFolder().open(path.parent, SourceOptions()):
        recording.camera(0)


def _read_dataset(path: Path) -> None:
    from stadia.data.config import SourceOptions
    from stadia.data.formats.stadia_folder import StadiaFolder

    StadiaFolder().open(path.parent, SourceOptions())


def _read_objects(path: Path) -> None:
    from stadia.objectpose.data.object_folder import ObjectFolder

    ObjectFolder.open(path.parent, "train")


def _read_scene(path: Path) -> None:
    from stadia.objectpose.data.object_folder import ObjectFolder

    objects = ObjectFolder.open(path.parent.parent, "train")
    if len(objects):
        objects.camera(0)
        objects.labels(0)


def _read_intrinsics(path: Path) -> None:
    from stadia.io.records.calibration import read_K

    read_K(path, 2)


def _read_calibration(path: Path) -> None:
    from stadia.io.records.calibration import read_calibration

    read_calibration(path)


def _read_predictions(path: Path) -> None:
    from stadia.evaluation.predictions_folder import read_record

    read_record(path.parent)


def _read_bop_results(path: Path) -> None:
    from stadia.objectpose.data.bop import read_results

    read_results(path)


def _read_bop_models(path: Path) -> None:
    from stadia.objectpose.data.bop_models import read_bop_model

    read_bop_model(path.parent, 1)


def _read_ply(path: Path) -> None:
    from stadia.objectpose.data.bop_models import read_ply

    read_ply(path)


def _read_boxes(path: Path) -> None:
    from stadia.data.formats.kitti_objects import read_boxes

    read_boxes(path, scored=b"scored" in path.read_bytes())


def _read_nocs_meta(path: Path) -> None:
    from stadia.objectpose.data.nocs import read_meta

    read_meta(path)


def _read_split(path: Path) -> None:
    from stadia.data.splits import read_split_file

    read_split_file(path, [])


def _read_findings(path: Path) -> None:
    from stadia.judge.finding import read_valid_findings

    for error in read_valid_findings(path)[1]:
        _check_message(str(error))


def _read_run_page(path: Path) -> None:
    from stadia.report.run_files import read_run

    for line in read_run(path.parent).unreadable:
        _check_message(" ".join(line.split()))


def _read_metrics(path: Path) -> None:
    from stadia.io.metrics_table import read_rows

    read_rows(path)
    _read_run_page(path)


def _read_checkpoint(path: Path) -> None:
    from stadia.training.loop.checkpoint import Checkpoint

    checkpoint = Checkpoint.open(path)
    checkpoint.state()
    checkpoint.weights()


def _read_study(path: Path) -> None:
    from stadia.training.studies.config import read_study

    read_study(path, {}, [])


def _read_search_space(path: Path) -> None:
    from stadia.training.studies.sweep import read_space

    read_space(path)


def _read_video(path: Path) -> None:
    from itertools import islice

    from stadia.io.video_decoding import count_indexed_frames, estimate_frame_count, stream_video

    count_indexed_frames(path)
    estimate_frame_count(path)
    for _ in islice(stream_video(path), 3):
        pass


def _read_depth_npz(path: Path) -> None:
    from stadia.io.depth_files import list_arrays, read_depth_map

    list_arrays(path)
    read_depth_map(path)


def _read_depth_png(path: Path) -> None:
    from stadia.io.depth_files import read_depth_map

    path.write_bytes(repair_png(path.read_bytes()))
    read_depth_map(path)


def _write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.arange(96, dtype=np.uint8).reshape(4, 8, 3))[1].tobytes())


def _write_recording(folder: Path) -> None:
    for side in ("left", "right"):
        _write_image(folder / side / "000000.png")


def _write_listed_image(folder: Path) -> None:
    _write_image(folder / "data" / "1403636579763555584.png")


def _write_object_images(folder: Path) -> None:
    labels = np.zeros((4, 8), np.uint8)
    labels[1:3, 2:6] = 1
    (folder / "scene" / "instance").mkdir(parents=True, exist_ok=True)
    (folder / "scene" / "instance" / "000.png").write_bytes(cv2.imencode(".png", labels)[1].tobytes())
    _write_image(folder / "scene" / "image" / "000.png")
    text = (
        '{"format": "stadia-objects", "version": 1, "classes": ["background", "mug"], "splits": {"train": ["scene"]}}'
    )
    (folder / "dataset.json").write_text(text)


def _write_bop_mesh(folder: Path) -> None:
    (folder / "obj_000001.ply").write_bytes((CORPUS / "ply" / "cube.ply").read_bytes())


def _write_run(folder: Path) -> None:
    (folder / "run.json").write_text("{}")


TARGETS: dict[str, Target] = {
    "bop_models": Target("models_info.json", _read_bop_models, _write_bop_mesh),
    "bop_results": Target("bop.csv", _read_bop_results),
    "checkpoint": Target("last.safetensors", _read_checkpoint),
    "calibration_xml": Target("pair.xml", _read_calibration),
    "calibration_yaml": Target("camchain.yaml", _read_calibration),
    "csv": Target("a.csv", lambda path: read_csv(path, expected="a table")),
    "dataset_json": Target("dataset.json", _read_dataset),
    "depth_npz": Target("000000.npz", _read_depth_npz),
    "depth_png": Target("000000.png", _read_depth_png),
    "euroc_camera": Target("sensor.yaml", _read_euroc_camera),
    "euroc_images": Target("data.csv", _read_euroc_images, _write_listed_image),
    "euroc_states": Target("data.csv", _read_euroc_states),
    "findings": Target("findings.jsonl", _read_findings),
    "histograms": Target("histograms.csv", _read_run_page, _write_run),
    "image_header": Target("a.png", _read_image_header),
    "intrinsics_json": Target("K.json", _read_intrinsics),
    "intrinsics_text": Target("K.txt", _read_intrinsics),
    "jpeg": Target("a.jpg", _decode),
    "json": Target("a.json", read_json),
    "kitti_boxes": Target("000000.txt", _read_boxes),
    "kitti_calibration": Target("calib.txt", _read_kitti_calibration),
    "kitti_poses": Target("poses.txt", _read_kitti_poses),
    "kitti_trajectory": Target("00.txt", _read_kitti_trajectory),
    "metrics": Target("metrics.csv", _read_metrics, _write_run),
    "nocs_meta": Target("0000_meta.txt", _read_nocs_meta),
    "npy": Target("a.npy", read_npy),
    "npz": Target("a.npz", _read_npz),
    "objects_json": Target("dataset.json", _read_objects),
    "ply": Target("a.ply", _read_ply),
    "png": Target("a.png", _read_png),
    "predictions_json": Target("predictions.json", _read_predictions),
    "recording_json": Target("recording.json", _read_recording, _write_recording),
    "rgb": Target("a.jpg", _read_image),
    "scene_json": Target("scene/scene.json", _read_scene, _write_object_images),
    "search_space": Target("space.yaml", _read_search_space),
    "split": Target("frames.txt", _read_split),
    "study_yaml": Target("study.yaml", _read_study),
    "times": Target("times.txt", _read_times),
    "tum_trajectory": Target("tum.txt", _read_tum_trajectory),
    "video": Target("a.mp4", _read_video),
    "yaml": Target("a.yaml", lambda path: read_yaml(path, expected="a mapping")),
}
"""Name -> parser."""
