"""A BOP data set of two boxes and a can, written as the official ones are: millimetres, its own frames, pixels from the
corner.
"""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

HEIGHT, WIDTH = 60, 80
K = np.array([[90.0, 0, 40.0], [0, 92.0, 30.0], [0, 0, 1]])  # counted from the corner, as BOP does
R_TILTED = np.array([[0.8, 0.0, 0.6], [0.36, 0.8, -0.48], [-0.48, 0.6, 0.64]])


def box_mesh(size_mm: tuple[float, float, float], center_mm: tuple[float, float, float]) -> tuple[NDArray, NDArray]:
    """Vertices (8, 3) and triangles (12, 3)."""
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]], np.int32)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return corners * size_mm + center_mm, faces


def write_ply(path: Path, vertices: NDArray, triangles: NDArray, layout: str = "binary_little_endian") -> None:
    header = (
        f"ply\nformat {layout} 1.0\nelement vertex {len(vertices)}\nproperty float x\nproperty float y\nproperty"
        " float z\n"
    )
    header += f"element face {len(triangles)}\nproperty list uchar int vertex_indices\nend_header\n"
    faces = np.zeros(len(triangles), np.dtype([("n", "u1"), ("i", "<i4", 3)]))
    faces["n"], faces["i"] = 3, triangles
    path.write_bytes(header.encode() + vertices.astype("<f4").tobytes() + faces.tobytes())


@pytest.fixture
def bop(tmp_path: Path) -> Path:
    return write_bop(tmp_path / "tiny")


def write_bop(root: Path) -> Path:
    """Scene 1 with images 3 (both boxes, the second behind the first; the can beside them) and 7 (one box)."""
    models, scene = root / "models_eval", root / "test" / "000001"
    models.mkdir(parents=True)
    (scene / "rgb").mkdir(parents=True)
    sizes = {1: (100.0, 60.0, 40.0), 2: (120.0, 120.0, 30.0), 5: (50.0, 50.0, 90.0)}
    info = {}
    for number, size in sizes.items():
        write_ply(
            models / f"obj_{number:06d}.ply", *box_mesh(size, (5.0, -3.0, 2.0) if number == 1 else (0.0, 0.0, 0.0))
        )
        info[str(number)] = {"diameter": float(np.linalg.norm(size)), "min_x": 0}
    info["2"]["symmetries_discrete"] = [[-1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]]
    info["5"]["symmetries_continuous"] = [{"axis": [0, 0, 1], "offset": [0, 0, 0]}]
    (models / "models_info.json").write_text(json.dumps(info))
    eye, tilted = np.eye(3).ravel().tolist(), R_TILTED.ravel().tolist()
    poses = [
        {"obj_id": 1, "cam_R_m2c": eye, "cam_t_m2c": [0, 0, 500]},
        {"obj_id": 2, "cam_R_m2c": eye, "cam_t_m2c": [30, 0, 700]},
        {"obj_id": 5, "cam_R_m2c": tilted, "cam_t_m2c": [-260, 60, 600]},
    ]
    (scene / "scene_gt.json").write_text(json.dumps({"3": poses, "7": poses[:1]}))
    (scene / "scene_camera.json").write_text(
        json.dumps({i: {"cam_K": K.ravel().tolist(), "depth_scale": 1.0} for i in ("3", "7")})
    )
    target = [{"scene_id": 1, "im_id": 3, "obj_id": number, "inst_count": 1} for number in sizes]
    (root / "test_targets_bop19.json").write_text(json.dumps(target))
    for im_id in (3, 7):
        cv2.imwrite(
            str(scene / "rgb" / f"{im_id:06d}.png"),
            np.random.default_rng(im_id).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8),
        )
    return root
