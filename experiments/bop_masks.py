"""How the masks that our rasteriser draws of a BOP data set compare with what BOP says of them; and its poses drawn on its pictures.

    python experiments/bop_masks.py --data ../shared/data/bop/lmo --out /tmp/bop

Prints one JSON object. BOP's own counts are in scene_gt_info.json: `px_count_all` of an object drawn alone, `px_count_visib` of what the
depth camera saw of it. The first is a matter of meshes and poses. The second also depends on what the sensor measured: on things before
the object that nobody annotated, on holes in its depth, on poses that are a centimetre off. Without depth pictures only an upper bound of
it can be drawn: what the other annotated objects leave to be seen.

Writes poses-<scene>-<image>.png (the object's box and axes: x red, y green, z blue) and ground-truth.csv, which is read back.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.data.bop import CORNER, BopPictures, InstanceInfo, read_info, read_targets
from stadia.data.bop_results import ground_truth, read_results, write_results
from stadia.data.rendering.silhouettes import Silhouette, silhouette

EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if bin(a ^ b).count("1") == 1]
WITHIN = 0.02


def corner(shape: Silhouette) -> tuple[int, int]:
    """Column and row of the top-left of what is covered."""
    rows, columns = np.nonzero(shape.inverse_depth)
    return int(columns.min()) + shape.left, int(rows.min()) + shape.top


def origin_shares(pictures: BopPictures, infos: list[list[InstanceInfo]], shift: float) -> dict[str, float]:
    """Shares of boxes that start in BOP's very column, and row, with the principal point moved by `shift` pixels."""
    same = []
    for index, info in enumerate(infos):
        camera = pictures.camera(index)
        K = camera.K.numpy() + np.array([[0, 0, shift], [0, 0, shift], [0, 0, 0]])
        for (model, T), told in zip(pictures.poses(index), info, strict=True):
            vertices = model.vertices_m @ T[:3, :3].T + T[:3, 3]
            shape = silhouette(vertices, model.triangles, K, camera.height, camera.width)
            same.append(np.equal(corner(shape), told.bbox_obj[:2]))
    column, row = np.mean(same, 0)
    return {"column": round(float(column), 4), "row": round(float(row), 4)}


def compared(pictures: BopPictures, infos: list[list[InstanceInfo]], asked: list[list[bool]]) -> dict[str, Any]:
    """Ours against BOP's, over the instances that the benchmark asks for."""
    rows = []
    for index, info in enumerate(infos):
        for one, told, wanted in zip(pictures.labels(index).objects, info, asked[index], strict=True):
            if wanted:
                rows.append((one.full_px, told.px_count_all, one.visible_px, told.px_count_visib))
    full, all_px, visible, visib = np.array(rows, float).T
    alone = visible >= 0.995 * full
    ratio = visib / np.maximum(visible, 1)
    return {
        "instances": len(rows),
        "full_within_2_percent": share(np.abs(full / all_px - 1) <= WITHIN),
        "full_largest_difference": round(float(np.abs(full / all_px - 1).max()), 4),
        "visible_within_2_percent": share(np.abs(visible - visib) <= WITHIN * visib),
        "visible_at_least_theirs_less_2_percent": share(visible >= (1 - WITHIN) * visib),
        "hidden_by_nothing_annotated": int(alone.sum()),
        "of_those_the_share_that_the_sensor_saw": {f"p{q}": round(float(np.percentile(ratio[alone], q)), 3) for q in (5, 25, 50, 75, 95)},
    }


def share(yes: NDArray[np.bool_]) -> float:
    return round(float(yes.mean()), 4)


def drawn(pictures: BopPictures, index: int) -> NDArray[np.uint8]:
    """The picture (H, W, 3) BGR with the box and the axes of every object that is seen."""
    picture = np.ascontiguousarray(pictures.image(index)[..., ::-1])
    K = pictures.camera(index).K.numpy()
    signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    for one in pictures.labels(index).objects:
        if not one.visible_px:
            continue
        points = np.vstack([signs, np.zeros((1, 3)), np.eye(3) * 0.5]) * one.size_m
        points = points @ one.T_camera_object[:3, :3].T + one.T_camera_object[:3, 3]
        pixels = [tuple(round(q * 16) for q in point[:2] / point[2] * (K[0, 0], K[1, 1]) + K[:2, 2]) for point in points]
        for a, b in EDGES:
            cv2.line(picture, pixels[a], pixels[b], (255, 255, 255), 1, cv2.LINE_AA, 4)
        for axis, colour in enumerate(((0, 0, 255), (0, 255, 0), (255, 0, 0))):
            cv2.line(picture, pixels[8], pixels[9 + axis], colour, 2, cv2.LINE_AA, 4)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bop/lmo"))
    parser.add_argument("--out", type=Path, default=None, help="where pictures and csv go; nothing is written without it")
    parser.add_argument("--pictures", type=int, default=6, help="how many are drawn")
    arguments = parser.parse_args()

    targets = read_targets(arguments.data)
    pictures = BopPictures.open(arguments.data, only=targets)
    infos = [read_info(arguments.data, "test", scene_id)[im_id] for scene_id, im_id in pictures.ids]
    asked = [[model.obj_id in targets[key] for model, _ in pictures.poses(index)] for index, key in enumerate(pictures.ids)]
    result = {
        "pictures": len(pictures),
        **compared(pictures, infos, asked),
        "boxes_start_where_bops_do": origin_shares(pictures, infos, 0.0),
        "boxes_start_where_bops_do_with_K_as_written": origin_shares(pictures, infos, CORNER),
    }
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_results(arguments.out / "ground-truth.csv", ground_truth(pictures))
        result["results_read_back"] = len(read_results(arguments.out / "ground-truth.csv"))
        for index in np.linspace(0, len(pictures) - 1, arguments.pictures).astype(int):
            scene_id, im_id = pictures.ids[index]
            cv2.imwrite(str(arguments.out / f"poses-{scene_id:06d}-{im_id:06d}.png"), drawn(pictures, int(index)))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
