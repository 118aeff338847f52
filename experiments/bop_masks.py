"""Compare the masks that our rasterizer draws of a BOP data set with BOP's pixel counts, and explain the differences.

    python experiments/bop_masks.py
    python experiments/bop_masks.py --csv results
    stadia evaluate --objects results/ground-truth.csv --reference ../shared/data/bop/lmo

Prints one JSON object. BOP's own counts are in scene_gt_info.json. `px_count_all` counts an object drawn alone, from
meshes and poses. `px_count_visib` counts those of its pixels where the depth camera measured nothing nearer than 15 mm
before the object (bop_toolkit, visibility.py). Without depth images only occlusion between the annotated objects can
be drawn. The rest is split into:

    z_buffer                 the nearest annotated object is visible
    15_mm                    BOP's tolerance: a surface less than 15 mm behind another is visible as well
    within_box               ... within BOP's own box of the visible part: unannotated objects hide the rest
    ring, factor             ... less a ring along the outline, or times a factor per object, both fitted to the counts

`unhidden` are the instances without occlusion: no annotated object hides them, and no other cuts them by more than a
pixel, since their visible box is the drawn one. Their missing pixels come from sensor and pose.

--csv writes the ground truth in BOP's csv, and two wrong ones: every object turned half about its z axis, and moved 5
cm aside.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import REAL_DATA, make_parser

from stadia.io.typed_json import FileEntry
from stadia.objectpose.data.bop import PIXEL_CENTER_OFFSET, BopImages, BopResult, read_targets, write_results
from stadia.objectpose.data.bop_models import read_bop_json
from stadia.synthetic.rendering.rasterizer import Silhouette, draw_silhouette

WITHIN, TOLERANCE_M = 0.02, 0.015
HALF_TURN, ASIDE = np.diag([-1.0, -1.0, 1.0, 1.0]), np.eye(4)
ASIDE[0, 3] = 0.05

Numbers = NDArray[np.float64]


def ground_truth_results(images: BopImages, at_least_visible_px: int = 1) -> list[BopResult]:
    """Return the annotated poses of visible objects as results."""
    found = []
    for index, (scene_id, im_id) in enumerate(images.ids):
        for (model, T), label in zip(images.poses(index), images.labels(index).objects, strict=True):
            if label.visible_px >= at_least_visible_px:
                found.append(BopResult(scene_id, im_id, model.obj_id, 1.0, T @ model.T_object_model))
    return found


class BopInstanceInfo(FileEntry):
    """An instance in scene_gt_info.json: boxes x, y, width, height of the whole and the visible object, pixels."""

    bbox_obj: tuple[int, int, int, int]
    bbox_visib: tuple[int, int, int, int]
    px_count_all: int
    px_count_valid: int
    px_count_visib: int
    visib_fract: float


def read_instance_info(dataset: Path, split: str, scene_id: int) -> dict[int, list[BopInstanceInfo]]:
    """Return scene_gt_info.json of a scene: one list for each image, in the order of its poses."""
    path = dataset / split / f"{scene_id:06d}" / "scene_gt_info.json"
    return read_bop_json(path, dict[int, list[BopInstanceInfo]])


@dataclass(frozen=True)
class Drawn:
    """An instance of the benchmark's targets: our pixels and BOP's counts.

    beyond_px: covered, those beyond the image's edge too.  covered, seen, seen_15_mm, seen_in_box: within the image.
    ring: pixels of `seen_in_box` beside its outline.  same_box: whether BOP's visible box equals ours to a pixel.
    """

    obj_id: int
    info_row: BopInstanceInfo
    beyond_px: int
    covered: int
    seen: int
    seen_15_mm: int
    seen_in_box: int
    ring: int
    same_box: bool


def corner(shape: Silhouette) -> tuple[int, int]:
    """Return column and row of the top-left of the covered pixels."""
    rows, columns = np.nonzero(shape.inverse_depth)
    return int(columns.min()) + shape.left, int(rows.min()) + shape.top


def origin_shares(images: BopImages, infos: list[list[BopInstanceInfo]], shift: float) -> dict[str, float]:
    """Return the shares of boxes that start in exactly BOP's column, and row, with the principal point moved by
    `shift` pixels.
    """
    same = []
    for index, info in enumerate(infos):
        camera = images.camera(index)
        K = camera.K.numpy() + np.array([[0, 0, shift], [0, 0, shift], [0, 0, 0]])
        for (model, T), info_row in zip(images.poses(index), info, strict=True):
            vertices = model.vertices_m @ T[:3, :3].T + T[:3, 3]
            shape = draw_silhouette(vertices, model.triangles, K, camera.height, camera.width)
            same.append(np.equal(corner(shape), info_row.bbox_obj[:2]))
    column, row = np.mean(same, 0)
    return {"column": round(float(column), 4), "row": round(float(row), 4)}


def drawn(images: BopImages, infos: list[list[BopInstanceInfo]]) -> Iterable[Drawn]:
    """Return every instance of the benchmark's targets."""
    for index, info in enumerate(infos):
        camera, shapes, targets = images.camera(index), images.silhouettes(index), images.requested_counts(index)
        inverse = np.stack([one.within(camera.height, camera.width) for one in shapes])
        depth = np.where(inverse > 0, 1 / np.maximum(inverse, 1e-9), 1e9)
        nearest = depth.min(0)
        for row, ((model, _), info_row) in enumerate(zip(images.poses(index), info, strict=True)):
            if model.obj_id not in targets:
                continue
            covered, in_box = inverse[row] > 0, np.zeros(nearest.shape, bool)
            x, y, width, height = info_row.bbox_visib
            in_box[max(y, 0) : y + height, max(x, 0) : x + width] = True
            seen, close = covered & (depth[row] <= nearest), covered & (depth[row] - nearest <= TOLERANCE_M)
            shown = close & in_box
            yield Drawn(
                model.obj_id,
                info_row,
                shapes[row].full_px,
                covered=int(covered.sum()),
                seen=int(seen.sum()),
                seen_15_mm=int(close.sum()),
                seen_in_box=int(shown.sum()),
                ring=int(shown.sum() - cv2.erode(shown.astype(np.uint8), np.ones((3, 3), np.uint8)).sum()),
                same_box=same_box(seen, info_row),
            )


def same_box(seen: NDArray[np.bool_], info_row: BopInstanceInfo) -> bool:
    """Return whether each side of the visible box is within a pixel of BOP's."""
    if not seen.any():
        return False
    x, y, width, height = info_row.bbox_visib
    rows, columns = np.nonzero(seen)
    ours = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return bool(np.abs(ours - [x, y, x + width, y + height]).max() <= 1)


def share(ours: Numbers, theirs: Numbers) -> float:
    """Return the share of counts within 2 % of BOP's."""
    return round(float((np.abs(ours - theirs) <= WITHIN * theirs).mean()), 4)


def best(candidates: Iterable[Numbers], theirs: Numbers) -> Numbers:
    """Return the counts of which most are within 2 % of BOP's."""
    return max(candidates, key=lambda ours: share(ours, theirs))


def compared(instances: list[Drawn]) -> dict[str, Any]:
    """Compare our counts with BOP's."""

    def column(of: Callable[[Drawn], float]) -> Numbers:
        return np.array([of(one) for one in instances], float)

    every, valid = column(lambda o: o.info_row.px_count_all), column(lambda o: o.info_row.px_count_valid)
    visib, full, seen = (
        column(lambda o: o.info_row.px_count_visib),
        column(lambda o: o.beyond_px),
        column(lambda o: o.seen),
    )
    in_box, ring, number = column(lambda o: o.seen_in_box), column(lambda o: o.ring), column(lambda o: o.obj_id)
    per_object = in_box.copy()
    for obj_id in np.unique(number):
        rows = number == obj_id
        per_object[rows] = best([f * in_box[rows] for f in np.linspace(0.7, 1.05, 141)], visib[rows])
    unhidden = (seen >= 0.995 * column(lambda o: o.covered)) & (column(lambda o: o.same_box) > 0)
    return {
        "instances": len(instances),
        "full_within_2_percent": share(full, every),
        "full_largest_difference": round(float(np.abs(full / every - 1).max()), 4),
        "visible_within_2_percent": {
            "z_buffer": share(seen, visib),
            "15_mm": share(column(lambda o: o.seen_15_mm), visib),
            "within_box": share(in_box, visib),
            "ring": share(best([in_box - width * ring for width in np.linspace(0, 2, 81)], visib), visib),
            "factor": share(per_object, visib),
        },
        "more_visible_than_measured": int((visib > valid).sum()),
        "unhidden": {
            "instances": int(unhidden.sum()),
            "within_2_percent": share(seen[unhidden], visib[unhidden]),
            "share_seen_by_the_sensor": {
                f"p{q}": round(float(np.percentile((visib / seen)[unhidden], q)), 3) for q in (5, 25, 50, 75)
            },
        },
    }


def write_csvs(images: BopImages, out: Path) -> None:
    """Write the ground truth, and two versions that are wrong in a known way."""
    out.mkdir(parents=True, exist_ok=True)
    truth = ground_truth_results(images)
    write_results(out / "ground-truth.csv", truth)
    write_results(
        out / "half-turned.csv", [replace(one, T_camera_model=one.T_camera_model @ HALF_TURN) for one in truth]
    )
    write_results(out / "moved-5-cm.csv", [replace(one, T_camera_model=ASIDE @ one.T_camera_model) for one in truth])


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=REAL_DATA / "bop" / "lmo")
    parser.add_argument("--csv", type=Path, help="a folder for the ground truth and two wrong ones as csv")
    arguments = parser.parse_args()

    images = BopImages.open(arguments.data, only=read_targets(arguments.data))
    infos = [read_instance_info(arguments.data, "test", scene_id)[im_id] for scene_id, im_id in images.ids]
    result = {
        "images": len(images),
        **compared(list(drawn(images, infos))),
        "boxes_start_where_bops_do": origin_shares(images, infos, 0.0),
        "boxes_start_where_bops_do_with_K_as_written": origin_shares(images, infos, PIXEL_CENTER_OFFSET),
    }
    if arguments.csv is not None:
        write_csvs(images, arguments.csv)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
