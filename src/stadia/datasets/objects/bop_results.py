"""Read and write estimated poses in BOP's csv: scene_id,im_id,obj_id,score,R,t,time.

R is row by row, t in millimetres, both in the frame of BOP's meshes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stadia.core.errors import DataError
from stadia.core.files import write_text
from stadia.datasets.objects.bop import BopImages
from stadia.datasets.objects.object_labels import EstimatedBox, ObjectBox, Points, check_pose, check_rotation
from stadia.datasets.text_files import read_text

HEADER = "scene_id,im_id,obj_id,score,R,t,time"
_MAX_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class BopResult:
    """One estimated object.

    T_camera_model: (4, 4) metres, of the mesh in BOP's frame.  score: higher is more certain.
    time_s: for the whole image, the same in each of its rows; -1 where it was not measured.
    """

    scene_id: int
    im_id: int
    obj_id: int
    score: float
    T_camera_model: Points
    time_s: float = -1.0


def ground_truth_results(images: BopImages, at_least_visible_px: int = 1) -> list[BopResult]:
    """Return the annotated poses as results, for objects with enough visible pixels."""
    found = []
    for index, (scene_id, im_id) in enumerate(images.ids):
        for (model, T), one in zip(images.poses(index), images.labels(index).objects, strict=True):
            if one.visible_px >= at_least_visible_px:
                found.append(BopResult(scene_id, im_id, model.obj_id, 1.0, T @ model.T_object_model))
    return found


def to_boxes(results: Iterable[BopResult], images: BopImages, what: object = "results") -> list[list[EstimatedBox]]:
    """Return the estimated boxes of each image, with the sizes of BOP's meshes.

    Raises DataError that names `what` (their file) and the numbers of unknown images or objects.
    """
    results = list(results)
    found: dict[tuple[int, int], list[EstimatedBox]] = {ids: [] for ids in images.ids}
    scenes = sorted({scene for scene, _ in found})
    _check_known(what, "scene", {one.scene_id for one in results}, scenes, f"those of {images.name}")
    for scene in scenes:
        known = [im_id for scene_id, im_id in found if scene_id == scene]
        image_ids = {one.im_id for one in results if one.scene_id == scene}
        _check_known(what, f"scene {scene}, image", image_ids, known, f"the annotated ones of {images.name}")
    _check_known(what, "object", {one.obj_id for one in results}, sorted(images.models), "the data set's own obj_id")
    for one in results:
        model = images.models[one.obj_id]
        T = one.T_camera_model @ np.linalg.inv(model.T_object_model)
        box = ObjectBox(images.classes.index(model.name), T, model.size_m, model.symmetry)
        found[one.scene_id, one.im_id].append((box, one.score))
    return list(found.values())


def _check_known(what: object, of: str, numbers: set[int], known: Sequence[int], meaning: str) -> None:
    """Raise DataError where results name numbers that the dataset does not have."""
    if unknown := sorted(numbers.difference(known)):
        own = "write the data set's numbers"
        found = f"{of} {format_numbers(unknown)}"
        fix = own if of == "object" else "pass the split of these results, or leave these rows out"
        raise DataError(what, found=found, expected=f"{meaning}: {format_numbers(known)}", fix=fix)


def format_numbers(numbers: Sequence[int], most: int = 12) -> str:
    """Format the first numbers, and how many more there are."""
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return ", ".join(str(number) for number in numbers[:most]) + more


def _format_values(values: Points) -> str:
    return " ".join(map(repr, values.ravel().tolist()))


def write_results(path: Path, results: Iterable[BopResult]) -> None:
    """Write the csv atomically. Raises DataError for values that `read_results` would refuse."""
    every = list(results)
    _check_times(path, every)
    rows = [HEADER]
    for one in every:
        what = f"{path}: scene {one.scene_id}, image {one.im_id}, object {one.obj_id}"
        T = check_pose(what, check_rotation(what, one.T_camera_model[:3, :3]), one.T_camera_model[:3, 3])
        pose = f"{_format_values(T[:3, :3])},{_format_values(1000 * T[:3, 3])}"
        score = _check_score(what, float(one.score))
        rows.append(f"{one.scene_id},{one.im_id},{one.obj_id},{score!r},{pose},{float(one.time_s)!r}")
    write_text(path, "\n".join(rows) + "\n")


def _check_times(path: Path, results: Iterable[BopResult]) -> None:
    times: dict[tuple[int, int], float] = {}
    for one in results:
        first = times.setdefault((one.scene_id, one.im_id), one.time_s)
        if not math.isclose(first, one.time_s, abs_tol=1e-3):
            where = f"{path}: scene {one.scene_id}, image {one.im_id}"
            fix = "write the time of the whole image in each row"
            raise DataError(where, found=f"time {one.time_s} beside {first}", expected="one time an image", fix=fix)


def _check_score(what: str, score: float) -> float:
    if not math.isfinite(score):
        expected = "a finite number, higher is more certain"
        raise DataError(what, found=f"score {score}", expected=expected, fix="correct it, or leave it out")
    return score


def _parse_result(what: str, line: str) -> BopResult:
    words = line.split(",")
    try:
        if len(words) != 7:
            raise ValueError(f"{len(words)} columns")
        scene_id, im_id, obj_id = (int(word) for word in words[:3])
        score, time_s = float(words[3]), float(words[6])
        R, t_mm = (np.array([float(number) for number in word.split()]) for word in words[4:6])
        if len(R) != 9 or len(t_mm) != 3:
            raise ValueError(f"{len(R)} and {len(t_mm)} numbers of a pose")
    except ValueError as error:
        expected = f"{HEADER} with 9 and 3 numbers"
        raise DataError(what, found=f"{error}", expected=expected, fix="write the file again") from error
    if not math.isfinite(time_s):
        found = f"time {time_s}"
        raise DataError(what, found=found, expected="seconds, or -1 where it was not measured", fix="correct it")
    _check_score(what, score)
    T_camera_model = check_pose(what, check_rotation(what, R.reshape(3, 3)), t_mm / 1000)
    return BopResult(scene_id, im_id, obj_id, score, T_camera_model, time_s)


def read_results(path: Path) -> list[BopResult]:
    """Read a csv with at least one estimate. Raises DataError that names the line."""
    path = Path(path)
    if path.is_dir():
        fix = f"name the file in it, such as {path / 'bop.csv'}"
        raise DataError(path, found="a folder", expected="a csv of estimates, a file", fix=fix)
    lines = read_text(path, "a csv of estimates", fix="check the path", max_bytes=_MAX_BYTES).splitlines()
    start = 1 if lines and lines[0].strip() == HEADER else 0
    rows = [(number, line) for number, line in enumerate(lines, start=1) if number > start and line.strip()]
    results = [_parse_result(f"{path}: line {number}", line) for number, line in rows]
    if not results:
        found = "no estimate, the header alone" if start else f"no estimate, {path.stat().st_size} bytes"
        raise DataError(path, found=found, expected=f"{HEADER}, a row for each object found", fix="write it again")
    _check_times(path, results)
    return results
