"""Read BOP datasets in their official layout (Hodan et al., ECCV 2018; bop_toolkit, docs/bop_datasets_format.md).

The files are in millimetres; this module returns metres. Without mask_visib/, masks are rendered from meshes and poses.
"""

import logging
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import Camera
from stadia.geometry.cameras import check_K
from stadia.geometry.poses import invert_pose
from stadia.io.atomic_files import write_text
from stadia.io.image_files import IMAGE_SUFFIXES, check_image_size, read_label_png
from stadia.io.input_files import expand_home, parse_integer, read_text
from stadia.io.typed_json import FileEntry
from stadia.objectpose.data import object_labels
from stadia.objectpose.data.bop_models import BopModel, Vector3, read_bop_json, read_bop_model
from stadia.synthetic.rendering.rasterizer import Silhouette, compute_visible_masks, draw_silhouette

log = logging.getLogger(__name__)

PIXEL_CENTER_OFFSET = 0.5
"""BOP measures pixels from the corner of the top-left pixel, stadia from its center: full masks of
Linemod-Occluded then agree with its pixel counts."""
_TO_CENTERS = np.array([[0, 0, PIXEL_CENTER_OFFSET], [0, 0, PIXEL_CENTER_OFFSET], [0, 0, 0]])  # is subtracted from K
RESULTS_HEADER = "scene_id,im_id,obj_id,score,R,t,time"
TARGETS_FILE = "test_targets_bop19.json"
Targets = dict[tuple[int, int], dict[int, int]]
_Nine = tuple[float, float, float, float, float, float, float, float, float]


class _PoseEntry(FileEntry):
    model_config = FileEntry.model_config | {"allow_inf_nan": True}  # NaN where no pose is known

    obj_id: int
    cam_R_m2c: _Nine
    cam_t_m2c: Vector3


class _BopCameraEntry(FileEntry):
    cam_K: _Nine


class _TargetEntry(FileEntry):
    scene_id: int
    im_id: int
    obj_id: int
    inst_count: int


@dataclass(frozen=True, slots=True)
class _Image:
    scene_id: int
    im_id: int
    file: Path
    K: object_labels.Points
    instances: dict[int, _PoseEntry]  # The keys are places in scene_gt.json.

    @property
    def poses(self) -> tuple[_PoseEntry, ...]:
        return tuple(self.instances.values())

    @property
    def scene_folder(self) -> Path:
        return self.file.parent.parent


def read_targets(dataset: Path) -> Targets:
    """Return the number of instances in the BOP benchmark's target list, by (scene id, image id) and then by object id.

    dataset: folder of the dataset, which contains test_targets_bop19.json.
    """
    targets: Targets = {}
    for entry in read_bop_json(dataset / TARGETS_FILE, list[_TargetEntry]):
        targets.setdefault((entry.scene_id, entry.im_id), {})[entry.obj_id] = entry.inst_count
    return targets


def _read_scene(scene: Path) -> list[_Image]:
    scene_id = parse_integer(scene.name, most=10**9)
    if scene_id is None:
        fix = "rename or move the folder"
        raise DataError(scene, found=f"the name '{scene.name}'", expected="the number of a scene (000002)", fix=fix)
    poses = read_bop_json(scene / "scene_gt.json", dict[int, list[_PoseEntry]])
    cameras = read_bop_json(scene / "scene_camera.json", dict[int, _BopCameraEntry])
    folder = next((scene / name for name in ("rgb", "gray") if (scene / name).is_dir()), scene / "rgb")
    files = {path.stem: path for path in folder.glob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
    found = []
    for im_id in sorted(poses):
        if im_id not in cameras:
            expected, fix = "each of scene_gt.json", "copy it again"
            raise DataError(scene / "scene_camera.json", found=f"no image {im_id}", expected=expected, fix=fix)
        if f"{im_id:06d}" not in files:
            missing, fix = folder / f"{im_id:06d}.png", "copy it, or remove its entry"
            raise DataError(missing, found="no such file", expected="each image of scene_gt.json", fix=fix)
        K = check_K(f"{scene / 'scene_camera.json'}: image {im_id}", np.reshape(cameras[im_id].cam_K, (3, 3)))
        instances = {number: pose for number, pose in enumerate(poses[im_id]) if _has_pose(pose)}
        found.append(_Image(scene_id, im_id, files[f"{im_id:06d}"], K - _TO_CENTERS, instances))
    if without := sum(map(len, poses.values())) - sum(len(image.instances) for image in found):
        log.warning("%s: %d objects without a pose (NaN or -1) are left out", scene / "scene_gt.json", without)
    return found


def _has_pose(pose: _PoseEntry) -> bool:
    values = np.array([*pose.cam_R_m2c, *pose.cam_t_m2c])
    return bool(np.isfinite(values).all() and np.ptp(pose.cam_R_m2c) > 0)  # HOT3D has -1 in each place


def _read_masks(files: list[Path], camera: Camera, drawn: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return (N, H, W) masks of mask_visib/; a pixel of two belongs to the object `drawn` there. Raises DataError."""
    masks = np.zeros((len(files), camera.height, camera.width), bool)
    for mask, path in zip(masks, files, strict=True):
        read = read_label_png(path)
        fix = "copy both again, or remove mask_visib/"
        check_image_size(path, read, camera.height, camera.width, like=" as its image", fix=fix)
        mask[:] = read > 0
    masks[:, masks.sum(0) > 1] &= drawn[:, masks.sum(0) > 1]
    return masks


class BopImages(object_labels.ObjectImages):
    """The annotated images of one split of a BOP dataset.

    Images are identified by (scene, image). `targets` are those that the benchmark requests.
    """

    def __init__(
        self, name: str, models: dict[int, BopModel], images: list[_Image], targets: Targets | None = None
    ) -> None:
        self.name, self.models, self._all, self.targets = name, models, images, targets
        self.ids = [(image.scene_id, image.im_id) for image in images]
        self.classes = (object_labels.BACKGROUND, *(models[number].name for number in sorted(models)))

    @classmethod
    def open(cls, dataset: Path, split: str = "test", only: Collection[tuple[int, int]] | None = None) -> "BopImages":
        """Open DATASET/SPLIT, all of it or `only` some images (scene, image).

        Raises DataError for missing or wrong files.
        """
        dataset = expand_home(dataset)
        scenes = sorted(path for path in (dataset / split).glob("[0-9]*") if path.is_dir())
        if not scenes:
            splits = sorted({scene.parent.name for scene in dataset.glob("*/[0-9]*") if scene.is_dir()})
            expected = f"a split with folders such as 000002: {', '.join(splits) or 'none'}"
            fix = "name one of these"
            if len(splits) == 1:
                fix = f"set data.train_split={splits[0]} data.val_split=null, which holds out its last images"
            raise DataError(dataset / split, found="no scene", expected=expected, fix=fix)
        images = [image for scene in scenes for image in _read_scene(scene)]
        if only is not None:
            images = [image for image in images if (image.scene_id, image.im_id) in only]
        folder = dataset / "models_eval" if (dataset / "models_eval").is_dir() else dataset / "models"
        numbers = sorted({pose.obj_id for image in images for pose in image.poses})
        targets = read_targets(dataset) if split == "test" and (dataset / TARGETS_FILE).is_file() else None
        models = {number: read_bop_model(folder, number) for number in numbers}
        return cls(f"{dataset.name}/{split}", models, images, targets)

    def label_files(self, index: int) -> list[Path]:
        one = self._all[index]
        models = [self.models[number].file for number in sorted({pose.obj_id for pose in one.poses})]
        infos = [file.with_name("models_info.json") for file in models[:1]]
        scene = [one.scene_folder / name for name in ("scene_gt.json", "scene_camera.json")]
        return [*scene, *infos, *models, *self._mask_files(index)]

    def _mask_files(self, index: int) -> list[Path]:
        one = self._all[index]
        folder = one.scene_folder / "mask_visib"
        numbers = one.instances if folder.is_dir() else ()
        return [folder / f"{one.im_id:06d}_{number:06d}.png" for number in numbers]

    def part(self, indices: Collection[int]) -> "BopImages":
        """Return only some of the images, with the same objects and classes."""
        return BopImages(self.name, self.models, [self._all[index] for index in indices], self.targets)

    def __len__(self) -> int:
        return len(self._all)

    def scene(self, index: int) -> str:
        return f"{self.name}/{self._all[index].scene_id:06d}"

    def file(self, index: int) -> Path:
        return self._all[index].file

    def camera(self, index: int) -> Camera:
        return Camera(self._all[index].K, *self.image_size(index))

    def poses(self, index: int) -> list[tuple[BopModel, object_labels.Points]]:
        """Return each annotated object of an image with its pose T_camera_object (4, 4) in metres."""
        one = self._all[index]
        found = []
        for number, pose in one.instances.items():
            path = one.scene_folder / "scene_gt.json"
            what = f"{path}: scene {one.scene_id}, image {one.im_id}, instance {number}"
            R = object_labels.check_rotation(what, np.reshape(pose.cam_R_m2c, (3, 3)))
            T_camera_model = object_labels.check_pose(what, R, np.array(pose.cam_t_m2c) / 1000)
            model = self.models[pose.obj_id]
            T = T_camera_model @ invert_pose(model.T_object_model)
            object_labels.check_visible_size(what, T, model.size_m, one.K)
            found.append((model, T))
        return found

    def requested_counts(self, index: int) -> dict[int, int]:
        """Return how many instances of each object count as targets in an image, by object id.

        These are the instances that the benchmark lists in test_targets_bop19.json. Without that file, they are the
        visible ones.

        index: index of the image.

        Raises DataError if the list contains an object that is not annotated in the image.
        """
        poses = self._all[index].poses
        if self.targets is None:
            labels = self.labels(index).objects
            return dict(Counter(pose.obj_id for pose, label in zip(poses, labels, strict=True) if label.visible_px))
        requested = self.targets.get(self.ids[index], {})
        if absent := requested.keys() - {pose.obj_id for pose in poses}:
            what = f"{TARGETS_FILE}: scene, image {self.ids[index]}"
            expected = "those of scene_gt.json"
            raise DataError(what, found=f"object {min(absent)}", expected=expected, fix="copy both again")
        return requested

    def silhouettes(self, index: int) -> list[Silhouette]:
        """Return the pixels that each object of an image covers."""
        camera = self.camera(index)
        K = camera.K
        return [
            draw_silhouette(model.vertices_m @ T[:3, :3].T + T[:3, 3], model.triangles, K, camera.height, camera.width)
            for model, T in self.poses(index)
        ]

    def labels(self, index: int) -> object_labels.ObjectLabels:
        """Return the labels of an image, with masks of mask_visib/ or rendered masks."""
        camera, shapes = self.camera(index), self.silhouettes(index)
        files = self._mask_files(index)
        drawn = compute_visible_masks(shapes, camera.height, camera.width)
        masks = _read_masks(files, camera, drawn) if files else drawn
        objects = tuple(
            object_labels.ObjectLabel(
                self.classes.index(model.name), T, model.size_m, model.symmetry, int(mask.sum()), shape.full_px
            )
            for (model, T), mask, shape in zip(self.poses(index), masks, shapes, strict=True)
        )
        return object_labels.ObjectLabels(object_labels.merge_masks(self.file(index), masks), objects)


@dataclass(frozen=True, slots=True)
class BopResult:
    """Describe one estimated object of a BOP csv file.

    scene_id: number of the scene.
    im_id: number of the image in the scene.
    obj_id: number of the object's mesh.
    score: confidence of the estimate; only the order of scores matters.
    T_camera_model: (4, 4) pose, from the coordinates of BOP's mesh to camera coordinates, in metres.
    time_s: seconds that the whole image took; -1 if unknown.
    """

    scene_id: int
    im_id: int
    obj_id: int
    score: float
    T_camera_model: object_labels.Points
    time_s: float = -1.0


def to_boxes(
    results: Iterable[BopResult], images: BopImages, what: object = "results"
) -> list[list[object_labels.EstimatedBox]]:
    """Return the estimated boxes of each image, with the sizes of BOP's meshes.

    what: name of the results, for messages.

    Raises DataError for results that do not fit the images.
    """
    results = list(results)
    found: dict[tuple[int, int], list[object_labels.EstimatedBox]] = {ids: [] for ids in images.ids}
    scenes = sorted({scene for scene, _ in found})
    _check_known(what, "scene", {result.scene_id for result in results}, scenes, f"one of {images.name}")
    for scene in scenes:
        known = [im_id for scene_id, im_id in found if scene_id == scene]
        image_ids = {result.im_id for result in results if result.scene_id == scene}
        _check_known(what, f"scene {scene}, image", image_ids, known, f"the annotated ones of {images.name}")
    _check_known(
        what, "object", {result.obj_id for result in results}, sorted(images.models), "the dataset's own obj_id"
    )
    for result in results:
        model = images.models[result.obj_id]
        T = result.T_camera_model @ invert_pose(model.T_object_model)
        box = object_labels.ObjectBox(images.classes.index(model.name), T, model.size_m, model.symmetry)
        found[result.scene_id, result.im_id].append((box, result.score))
    return list(found.values())


def _check_known(what: object, of: str, numbers: set[int], known: Sequence[int], meaning: str) -> None:
    if unknown := sorted(numbers.difference(known)):
        fix = "pass the split of these results, or leave these rows out"
        fix = "write the dataset's numbers" if of == "object" else fix
        raise DataError(
            what, found=f"{of} {format_numbers(unknown)}", expected=f"{meaning}: {format_numbers(known)}", fix=fix
        )


def format_numbers(numbers: Sequence[int], most: int = 12) -> str:
    """Return the first numbers as a text for messages, such as "1, 2, 3 and 5 more".

    numbers: the numbers.
    most: how many numbers are written out.
    """
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return ", ".join(str(number) for number in numbers[:most]) + more


def write_results(path: Path, results: Iterable[BopResult]) -> None:
    """Write the results as a BOP csv. Raises DataError for values that `read_results` would refuse."""
    every = list(results)
    rows = [RESULTS_HEADER]
    for result in every:
        what = f"{path}: scene {result.scene_id}, image {result.im_id}, object {result.obj_id}"
        T = object_labels.check_pose(
            what, object_labels.check_rotation(what, result.T_camera_model[:3, :3]), result.T_camera_model[:3, 3]
        )
        pose = ",".join(" ".join(map(repr, part.ravel().tolist())) for part in (T[:3, :3], 1000 * T[:3, 3]))
        score = _check_score(what, float(result.score))
        rows.append(f"{result.scene_id},{result.im_id},{result.obj_id},{score!r},{pose},{float(result.time_s)!r}")
    write_text(path, "\n".join(rows) + "\n")


def _check_score(what: str, score: float) -> float:
    if not math.isfinite(score):
        expected = "a finite number, higher is more certain"
        raise DataError(what, found=f"score {score}", expected=expected, fix="leave the row out")
    return score


def _parse_result(what: str, line: str) -> BopResult | None:
    """Return the estimate of a line; None without a pose: failed estimates are NaN, inf, zeros or nothing."""
    words = line.split(",")
    try:
        if len(words) != 7:
            raise ValueError(f"{len(words)} columns")
        scene_id, im_id, obj_id = (int(word) for word in words[:3])
        score, time_s = float(words[3]), float(words[6])
        R, t_mm = (np.array([float(number) for number in word.split()]) for word in words[4:6])
        if len(R) != 9 or len(t_mm) != 3:
            if not len(t_mm):
                return None
            raise ValueError(f"{len(R)} and {len(t_mm)} numbers of a pose")
    except ValueError as error:
        expected = f"{RESULTS_HEADER} with 9 and 3 numbers"
        raise DataError(what, found=f"{error}", expected=expected, fix="write the file again") from error
    if not np.isfinite([*R, *t_mm]).all() or not t_mm.any():
        return None
    if not math.isfinite(time_s):
        found = f"time {time_s}"
        raise DataError(what, found=found, expected="seconds, or -1 if it was not measured")
    _check_score(what, score)
    T_camera_model = object_labels.check_pose(what, object_labels.check_rotation(what, R.reshape(3, 3)), t_mm / 1000)
    return BopResult(scene_id, im_id, obj_id, score, T_camera_model, time_s)


def _count_header_lines(path: Path, lines: Sequence[str]) -> int:
    first = [word.strip() for word in lines[0].split(",")] if lines else []
    if first == RESULTS_HEADER.split(","):
        return 1
    if len(first) > 1 and all(re.fullmatch(r"[A-Za-z_]\w*", word) for word in first):
        fix = f"write these columns in this order, with the header {RESULTS_HEADER}"
        found = f"a header with the columns {','.join(first)[:100]}"
        raise DataError(f"{path}: line 1", found=found, expected=RESULTS_HEADER, fix=fix)
    return 0


def read_results(path: Path) -> list[BopResult]:
    """Read a BOP csv with at least one estimate. Rows without a pose are left out. Raises DataError with the line.

    path: the file.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.csv"))
        found, fix = "a folder", f"name the file in it, such as {files[0] if files else path / 'bop.csv'}"
        if not files and next(path.glob("*.txt"), None) is not None:
            found = "a folder of texts, such as a 4x4 pose for each image of FoundationPose"
            fix = f"write one csv with the header {RESULTS_HEADER}: R row by row, t in millimetres"
        raise DataError(path, found=found, expected="a csv of estimates, a file", fix=fix)
    lines = read_text(path, expected="a csv of estimates", fix="check the path").splitlines()
    start = _count_header_lines(path, lines)
    rows = ((number, line) for number, line in enumerate(lines, start=1) if number > start and line.strip())
    parsed = [_parse_result(f"{path}: line {number}", line) for number, line in rows]
    results = [result for result in parsed if result is not None]
    if without := len(parsed) - len(results):
        log.warning(
            "%s: %d of %d rows without a pose (NaN, inf, zeros or nothing) are left out", path, without, len(parsed)
        )
    if not results:
        found = "no estimate, the header alone" if start else f"no estimate, {path.stat().st_size} bytes"
        found = f"{len(parsed)} rows, each without a pose" if parsed else found
        raise DataError(path, found=found, expected=f"{RESULTS_HEADER}, a row for each object found")
    return results
