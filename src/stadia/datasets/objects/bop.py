"""Read BOP datasets in their official layout (Hodan et al., ECCV 2018; bop_toolkit, docs/bop_datasets_format.md).

DATASET/models_eval/{models_info.json, obj_000001.ply}, DATASET/SPLIT/000002/{scene_camera.json, scene_gt.json,
scene_gt_info.json, rgb/000003.png, mask_visib/000003_000000.png}. Files are in millimetres; this module returns metres.
Masks come from mask_visib/, one for each instance in the order of scene_gt.json. Without that folder they are rendered
from meshes and poses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stadia.core.errors import DataError
from stadia.core.types import Camera
from stadia.datasets.image_files import IMAGE_SUFFIXES, check_image_size, read_label_png
from stadia.datasets.objects.bop_models import BopModel, Vector3, read_bop_json, read_bop_model
from stadia.datasets.objects.object_labels import (
    BACKGROUND,
    ObjectImages,
    ObjectLabel,
    ObjectLabels,
    Points,
    check_pose,
    check_rotation,
    check_visible_size,
    merge_masks,
)
from stadia.datasets.recordings import check_K
from stadia.datasets.text_files import FileEntry
from stadia.geometry.rasterizer import Silhouette, compute_visible_masks, draw_silhouette

PIXEL_CENTER_OFFSET = 0.5
"""Offset of principal points: BOP counts pixels from the corner of the top-left pixel, stadia from its center.

The format's description does not state it. With this offset, 95 % of 285 boxes in Linemod-Occluded's scene_gt_info.json
start in the exact column and 99 % in the exact row; with K as written, 47 % and 45 % (experiments/bop_masks.py).
"""
_TO_CENTERS = np.array([[0, 0, PIXEL_CENTER_OFFSET], [0, 0, PIXEL_CENTER_OFFSET], [0, 0, 0]])
TARGETS_FILE = "test_targets_bop19.json"
Targets = dict[tuple[int, int], dict[int, int]]
_Nine = tuple[float, float, float, float, float, float, float, float, float]


class _PoseEntry(FileEntry):
    obj_id: int
    cam_R_m2c: _Nine
    cam_t_m2c: Vector3


class _BopCameraEntry(FileEntry):
    cam_K: _Nine


class BopInstanceInfo(FileEntry):
    """An instance in scene_gt_info.json: boxes x, y, width, height of the whole and the visible object, pixels."""

    bbox_obj: tuple[int, int, int, int]
    bbox_visib: tuple[int, int, int, int]
    px_count_all: int
    px_count_valid: int
    px_count_visib: int
    visib_fract: float


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
    K: Points
    poses: tuple[_PoseEntry, ...]

    @property
    def scene_folder(self) -> Path:
        return self.file.parent.parent


def read_targets(dataset: Path) -> Targets:
    """Return the number of requested instances by object, for each (scene, image) of TARGETS."""
    targets: Targets = {}
    for one in read_bop_json(dataset / TARGETS_FILE, list[_TargetEntry]):
        targets.setdefault((one.scene_id, one.im_id), {})[one.obj_id] = one.inst_count
    return targets


def read_instance_info(dataset: Path, split: str, scene_id: int) -> dict[int, list[BopInstanceInfo]]:
    """Return scene_gt_info.json of a scene: one list for each image, in the order of its poses."""
    path = dataset / split / f"{scene_id:06d}" / "scene_gt_info.json"
    info: dict[int, list[BopInstanceInfo]] = read_bop_json(path, dict[int, list[BopInstanceInfo]])
    return info


def _read_scene(scene: Path) -> list[_Image]:
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
        found.append(_Image(int(scene.name), im_id, files[f"{im_id:06d}"], K - _TO_CENTERS, tuple(poses[im_id])))
    return found


def _read_masks(files: list[Path], camera: Camera, drawn: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return (N, H, W) masks of mask_visib/, where nonzero is visible. Raises DataError for a wrong file.

    The masks were made with a depth tolerance, so two may share a pixel. It belongs to the object `drawn` there.
    """
    masks = np.zeros((len(files), camera.height, camera.width), bool)
    for mask, path in zip(masks, files, strict=True):
        read = read_label_png(path)
        fix = "copy both again, or remove mask_visib/"
        check_image_size(path, read, camera.height, camera.width, like=" as its image", fix=fix)
        mask[:] = read > 0
    masks[:, masks.sum(0) > 1] &= drawn[:, masks.sum(0) > 1]
    return masks


class BopImages(ObjectImages):
    """Annotated images of one split of a BOP dataset.

    models: by BOP's object number.  ids: (scene, image) of each image.
    targets: requested by the benchmark; None without a list.
    """

    def __init__(
        self, name: str, models: dict[int, BopModel], images: list[_Image], targets: Targets | None = None
    ) -> None:
        self.name, self.models, self._all, self.targets = name, models, images, targets
        self.ids = [(one.scene_id, one.im_id) for one in images]
        self.classes = (BACKGROUND, *(models[number].name for number in sorted(models)))

    @classmethod
    def open(cls, dataset: Path, split: str = "test", only: Collection[tuple[int, int]] | None = None) -> BopImages:
        """Open DATASET/SPLIT, all of it or `only` some (scene, image). Raises DataError that names the wrong file."""
        dataset = Path(dataset).expanduser()
        scenes = sorted(path for path in (dataset / split).glob("[0-9]*") if path.is_dir())
        if not scenes:
            splits = sorted({scene.parent.name for scene in dataset.glob("*/[0-9]*") if scene.is_dir()})
            expected = f"folders such as 000002; splits that have some: {', '.join(splits) or 'none'}"
            fix = "name one of these; to train with one alone, data.val_split=null holds the last of its images out"
            raise DataError(dataset / split, found="no scene", expected=expected, fix=fix)
        images = [one for scene in scenes for one in _read_scene(scene)]
        if only is not None:
            images = [one for one in images if (one.scene_id, one.im_id) in only]
        folder = dataset / "models_eval" if (dataset / "models_eval").is_dir() else dataset / "models"
        numbers = sorted({pose.obj_id for one in images for pose in one.poses})
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
        """Return one mask file for each instance, in order; none where the scene has no mask_visib/."""
        one = self._all[index]
        folder = one.scene_folder / "mask_visib"
        count = len(one.poses) if folder.is_dir() else 0
        return [folder / f"{one.im_id:06d}_{number:06d}.png" for number in range(count)]

    def part(self, indices: Collection[int]) -> BopImages:
        """Return some of the images, with the same objects and classes."""
        return BopImages(self.name, self.models, [self._all[index] for index in indices], self.targets)

    def __len__(self) -> int:
        return len(self._all)

    def scene(self, index: int) -> str:
        return f"{self.name}/{self._all[index].scene_id:06d}"

    def file(self, index: int) -> Path:
        return self._all[index].file

    def camera(self, index: int) -> Camera:
        return Camera(torch.from_numpy(self._all[index].K), *self.image_size(index))

    def poses(self, index: int) -> list[tuple[BopModel, Points]]:
        """Return each annotated object of an image with its T_camera_object, visible or not."""
        one = self._all[index]
        found = []
        for number, pose in enumerate(one.poses):
            path = one.scene_folder / "scene_gt.json"
            what = f"{path}: scene {one.scene_id}, image {one.im_id}, instance {number}"
            R = check_rotation(what, np.reshape(pose.cam_R_m2c, (3, 3)))
            T_camera_model = check_pose(what, R, np.array(pose.cam_t_m2c) / 1000)
            model = self.models[pose.obj_id]
            T = T_camera_model @ np.linalg.inv(model.T_object_model)
            check_visible_size(what, T, model.size_m, one.K)
            found.append((model, T))
        return found

    def requested_counts(self, index: int) -> dict[int, int]:
        """Return the instances by object that the benchmark requests; without a list, those with a visible pixel."""
        poses = self._all[index].poses
        if self.targets is None:
            labels = self.labels(index).objects
            return dict(Counter(pose.obj_id for pose, one in zip(poses, labels, strict=True) if one.visible_px))
        requested = self.targets.get(self.ids[index], {})
        if absent := requested.keys() - {pose.obj_id for pose in poses}:
            what = f"{TARGETS_FILE}: scene, image {self.ids[index]}"
            found = f"object {min(absent)}"
            raise DataError(what, found=found, expected="those of scene_gt.json", fix="copy both again")
        return requested

    def silhouettes(self, index: int) -> list[Silhouette]:
        """Return the pixels that each object of an image covers."""
        camera = self.camera(index)
        K = camera.K.numpy()
        return [
            draw_silhouette(model.vertices_m @ T[:3, :3].T + T[:3, 3], model.triangles, K, camera.height, camera.width)
            for model, T in self.poses(index)
        ]

    def labels(self, index: int) -> ObjectLabels:
        """Return labels with masks of mask_visib/, or rendered ones. Objects without annotation occlude nothing."""
        camera, shapes = self.camera(index), self.silhouettes(index)
        files = self._mask_files(index)
        drawn = compute_visible_masks(shapes, camera.height, camera.width)
        masks = _read_masks(files, camera, drawn) if files else drawn
        objects = tuple(
            ObjectLabel(self.classes.index(model.name), T, model.size_m, model.symmetry, int(mask.sum()), shape.full_px)
            for (model, T), mask, shape in zip(self.poses(index), masks, shapes, strict=True)
        )
        return ObjectLabels(merge_masks(self.file(index), masks), objects)
