"""Write depth maps as one textured mesh with cameras (.glb): each view is a surface that is cut at edges of depth."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.evaluation.depth_fusion import IN_FRONT, SAME, DepthView, lift_pixels, sample_depth, to_world
from stadia.evaluation.point_clouds import add_accessor, find_edges, pack_glb, start_glb

MAX_VIEWS = 16
"""Most views of a mesh; each has a picture as texture."""

MAX_FACE_RATIO = 1.25
"""Largest ratio of depths within a face; larger ones join two surfaces."""

MIN_CONTRADICTING = 2
"""Number of views that must see through a point to remove it."""

TEXTURE_SIDE = 1024
_UINT, _FLOAT, _TRIANGLES = 5125, 5126, 4


def choose_vertices(views: Sequence[DepthView], edge_ratio: float) -> list[NDArray[np.bool_]]:
    """Choose the pixels of each view that become vertices.

    Edges of depth are left out, and so are points through which other views see, and surfaces that an earlier view
    shows already.

    views: the views.
    edge_ratio: largest relative difference of depth to a neighboring pixel.

    Returns a mask (h, w) for each view.
    """
    masks = list[NDArray[np.bool_]]()
    for number, view in enumerate(views):
        mask = (view.depth > 0) & ~find_edges(view.depth, edge_ratio)
        rows, columns = np.nonzero(mask)
        points = to_world(view, lift_pixels(view, rows, columns))
        contradicted, is_shown = np.zeros(len(rows), int), np.zeros(len(rows), np.bool_)
        for other_number, other in enumerate(views):
            if other is view:
                continue
            seen, depth, at = sample_depth(other, points)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(seen > 0, depth / seen, np.nan)
            contradicted += ratio < 1 - IN_FRONT
            if other_number < number:
                is_shown |= (np.abs(ratio - 1) < SAME) & masks[other_number][at[1], at[0]]
        mask[rows, columns] = (contradicted < min(MIN_CONTRADICTING, max(len(views) - 1, 1))) & ~is_shown
        masks.append(mask)
    return masks


def make_faces(depth: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """Return the triangles (N, 3) of a grid as indices of its pixels, row by row, where all three are in the mask and
    of one surface.

    Examples:
        >>> make_faces(np.ones((2, 2), np.float32), np.ones((2, 2), bool)).tolist()
        [[0, 2, 1], [1, 2, 3]]
    """
    height, width = depth.shape
    index = np.arange(height * width, dtype=np.uint32).reshape(height, width)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    of_faces = depth.ravel()[faces]
    is_kept = mask.ravel()[faces].all(1) & (of_faces.max(1) < MAX_FACE_RATIO * np.maximum(of_faces.min(1), 1e-12))
    return faces[is_kept]


def encode_textured_glb(views: Sequence[DepthView], edge_ratio: float, max_vertices: int) -> bytes:
    """Return the bytes of a .glb file with the surfaces of views, their pictures as textures, and their cameras.

    The materials are unlit: they show the pictures as they are. Blender and browsers open it. Source: glTF 2.0, Khronos
    Group, sections 3.9 (materials) and 3.10 (cameras), and KHR_materials_unlit.

    views: the views; each has its own material and camera.
    edge_ratio: largest relative difference of depth to a neighboring pixel of a surface.
    max_vertices: most vertices of all views together.
    """
    document, blocks = start_glb()
    document |= {name: [] for name in ("images", "textures", "materials", "cameras")}
    document["extensionsUsed"] = ["KHR_materials_unlit"]
    masks = choose_vertices(views, edge_ratio)
    for view, mask in zip(views, masks, strict=True):
        every = max(math.ceil(math.sqrt(view.depth.size * len(views) / max_vertices)), 1)
        _add_view(document, blocks, view, mask, every)
    return pack_glb(document, blocks)


def _add_view(
    document: dict[str, Any], blocks: list[bytes], view: DepthView, mask: NDArray[np.bool_], every: int
) -> None:
    height, width = view.depth.shape
    rows, columns = np.mgrid[:height:every, :width:every]
    shape = rows.shape
    faces = make_faces(view.depth[rows, columns].reshape(shape), mask[rows, columns].reshape(shape))
    number, flip = len(document["cameras"]), np.diag([1.0, -1.0, -1.0, 1.0])
    matrix = (flip @ view.T_world_camera @ flip).T.ravel().tolist()
    fov_rad = 2 * math.atan(height / 2 / float(view.K[1, 1]))
    lens = {"yfov": fov_rad, "aspectRatio": width / height, "znear": 1e-3}
    document["cameras"].append({"name": view.name, "type": "perspective", "perspective": lens})
    node: dict[str, Any] = {"name": f"camera {view.name}", "camera": number, "matrix": matrix}
    nodes = [node]
    if len(faces):
        used, renamed = np.unique(faces, return_inverse=True)
        points = lift_pixels(view, rows.ravel()[used], columns.ravel()[used])
        positions = np.ascontiguousarray(points * (1, -1, -1), "<f4")
        uv = np.stack([(columns.ravel()[used] + 0.5) / width, (rows.ravel()[used] + 0.5) / height], 1).astype("<f4")
        about: dict[str, Any] = {"type": "VEC3", "componentType": _FLOAT, "count": len(positions)}
        about |= {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()}
        attributes = {"POSITION": add_accessor(document, blocks, positions.tobytes(), about)}
        about = {"type": "VEC2", "componentType": _FLOAT, "count": len(uv)}
        attributes["TEXCOORD_0"] = add_accessor(document, blocks, uv.tobytes(), about)
        indices = renamed.reshape(-1).astype("<u4")
        about = {"type": "SCALAR", "componentType": _UINT, "count": len(indices)}
        given = add_accessor(document, blocks, indices.tobytes(), about, is_index=True)
        primitive = {"mode": _TRIANGLES, "attributes": attributes, "indices": given}
        primitive["material"] = _add_material(document, blocks, view)
        document["meshes"].append({"name": view.name, "primitives": [primitive]})
        nodes.append({"name": view.name, "mesh": len(document["meshes"]) - 1, "matrix": matrix})
    for one in nodes:
        document["scenes"][0]["nodes"].append(len(document["nodes"]))
        document["nodes"].append(one)


def _add_material(document: dict[str, Any], blocks: list[bytes], view: DepthView) -> int:
    factor = min(TEXTURE_SIDE / max(view.image.shape[:2]), 1.0)
    image = cv2.resize(view.image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 90))[1].tobytes()
    place = {"buffer": 0, "byteOffset": sum(map(len, blocks)), "byteLength": len(data)}
    blocks.append(data + b"\0" * (-len(data) % 4))
    document["bufferViews"].append(place)
    document["images"].append({"mimeType": "image/jpeg", "bufferView": len(document["bufferViews"]) - 1})
    document["textures"].append({"source": len(document["images"]) - 1})
    texture = {"baseColorTexture": {"index": len(document["textures"]) - 1}, "metallicFactor": 0.0}
    document["materials"].append(
        {"pbrMetallicRoughness": texture, "extensions": {"KHR_materials_unlit": {}}, "doubleSided": True}
    )
    return len(document["materials"]) - 1
