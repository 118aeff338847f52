"""Reconstructions of other programs: hand-written files in each program's layout, and write -> read round trips."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from stadia.core.errors import DataError, StadiaError
from stadia.io.records.colmap import ColmapCamera, convert_camera
from stadia.io.records.read import FORMATS, read_reconstruction, write_reconstruction
from stadia.io.records.reconstruction import Reconstruction, add_depth_folder, interpolate_poses, match_images_to_poses

COUNT, WIDTH, HEIGHT = 5, 64, 48
GL = np.diag([1.0, -1, -1, 1])
RANDOM = np.random.default_rng(0)


def make_poses(count: int = COUNT) -> np.ndarray:
    """Return (N, 4, 4) random T_world_camera."""
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = Rotation.random(count, random_state=1).as_matrix()
    T[:, :3, 3] = RANDOM.normal(size=(count, 3))
    return T


T = make_poses()
W2C = np.linalg.inv(T)
K = np.array([[50.0, 0, 31.25], [0, 52, 22.5], [0, 0, 1]])
KS = np.stack([K + np.diag([k, k, 0.0]) for k in range(COUNT)])
CENTERED = np.array([[50.0, 0, WIDTH / 2], [0, 50, HEIGHT / 2], [0, 0, 1]])
DEPTH = RANDOM.uniform(1, 5, (COUNT, HEIGHT, WIDTH)).astype(np.float32)
NAMES = tuple(f"frame_{k:05d}.jpg" for k in range(COUNT))
QUATERNIONS = Rotation.from_matrix(T[:, :3, :3]).as_quat()
LENS = (0.1, -0.05, 0.001, 0.002)


def write_colmap_text(folder: Path) -> Path:
    q = Rotation.from_matrix(W2C[:, :3, :3]).as_quat()[:, [3, 0, 1, 2]]
    params = " ".join(map(str, (50.0, 52.0, 31.75, 23.0, *LENS)))
    (folder / "cameras.txt").write_text(f"# Camera list\n1 OPENCV {WIDTH} {HEIGHT} {params}\n")
    lines = ["# Image list"]
    for k in range(COUNT):
        values = " ".join(map(repr, (*q[k].tolist(), *W2C[k, :3, 3].tolist())))
        lines += [f"{k + 1} {values} 1 {NAMES[k]}", "1.5 2.5 -1 3.5 4.5 7"]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    (folder / "points3D.txt").write_text("")
    return folder


def write_transforms(*, is_global: bool, is_angle: bool = False) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        frames = []
        for k in range(COUNT):
            one = K if is_global else KS[k]
            camera: dict[str, Any] = {
                "fl_x": one[0, 0],
                "fl_y": one[1, 1],
                "cx": one[0, 2] + 0.5,
                "cy": one[1, 2] + 0.5,
            }
            camera |= {"w": WIDTH, "h": HEIGHT}
            frames.append({"file_path": f"images/{NAMES[k]}", "transform_matrix": (T[k] @ GL).tolist()})
            frames[-1] |= {} if is_global else camera
        content = {"camera_model": "OPENCV", "aabb_scale": 16, **(camera if is_global else {}), "frames": frames}
        if is_angle:
            content = {"camera_angle_x": 2 * np.arctan(WIDTH / 2 / 50), "w": WIDTH, "h": HEIGHT, "frames": frames}
        path = folder / "transforms.json"
        path.write_text(json.dumps(content))
        return path

    return write


def write_polycam(folder: Path) -> Path:
    inner = folder / "keyframes" / "corrected_cameras"
    inner.mkdir(parents=True)
    for k in range(COUNT):
        values = {f"t_{row}{column}": (T[k] @ GL)[row, column] for row in range(3) for column in range(4)}
        values |= {"fx": KS[k, 0, 0], "fy": KS[k, 1, 1], "cx": K[0, 2], "cy": K[1, 2], "width": WIDTH, "height": HEIGHT}
        (inner / f"{1000 + k}.json").write_text(json.dumps({**values, "blur_score": 100.0, "timestamp": 5}))
    return folder


def write_scanner_app(folder: Path) -> Path:
    for k in range(COUNT):
        values = {
            "cameraPoseARFrame": (T[k] @ GL).ravel().tolist(),
            "intrinsics": KS[k].ravel().tolist(),
            "time": k / 10,
        }
        (folder / f"frame_{k:05d}.json").write_text(json.dumps(values))
    (folder / "info.json").write_text('{"device": "iPhone"}')
    return folder


def write_record3d(folder: Path) -> Path:
    q = Rotation.from_matrix((T @ GL)[:, :3, :3]).as_quat()
    coefficients = KS[:, [0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    content = {"poses": np.hstack([q, T[:, :3, 3]]).tolist(), "K": K.T.ravel().tolist(), "w": WIDTH, "h": HEIGHT}
    (folder / "metadata").write_text(json.dumps({**content, "fps": 60, "perFrameIntrinsicCoeffs": coefficients}))
    return folder / "metadata"


def save_npz(name: str, **arrays: np.ndarray) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
        return folder

    return write


def write_cut3r(folder: Path) -> Path:
    (folder / "camera").mkdir()
    for k in range(COUNT):
        np.savez(folder / "camera" / f"{k:06d}.npz", pose=T[k].astype(np.float32), intrinsics=KS[k])
    return folder


def write_rows(name: str, rows: np.ndarray, head: str = "", separator: str = " ") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        lines = [separator.join(repr(float(value)) for value in row) for row in rows]
        (folder / name).write_text("\n".join([head, *lines] if head else lines))
        return folder / name

    return write


def write_hololens(folder: Path) -> Path:
    write_rows("poses.txt", T.reshape(COUNT, 16))(folder)
    write_rows("K.txt", K)(folder)
    return folder


def write_scannet(folder: Path) -> Path:
    (folder / "pose").mkdir()
    (folder / "intrinsic").mkdir()
    (folder / "depth").mkdir()
    four = np.eye(4)
    four[:3, :3] = K
    np.savetxt(folder / "intrinsic" / "intrinsic_color.txt", four)
    for k in range(COUNT):
        np.savetxt(folder / "pose" / f"{k}.txt", T[k], fmt="%.17g")
        cv2.imwrite(str(folder / "depth" / f"{k}.png"), np.rint(DEPTH[k] * 1000).astype(np.uint16))
    np.savetxt(folder / "pose" / f"{COUNT}.txt", np.full((4, 4), -np.inf))
    return folder


TIMES = np.arange(COUNT) / 10 + 1
TUM = np.column_stack([TIMES, T[:, :3, 3], QUATERNIONS])
EUROC = np.column_stack([np.rint(TIMES * 1e9), T[:, :3, 3], QUATERNIONS[:, [3, 0, 1, 2]]])
EUROC_HEAD = "#timestamp [ns],p_x [m],p_y [m],p_z [m],q_w [],q_x [],q_y [],q_z []"

KINDS: dict[str, tuple[str, Callable[[Path], Path], np.ndarray | None, bool]] = {
    "COLMAP": ("colmap", write_colmap_text, K, True),
    "transforms, one camera": ("transforms", write_transforms(is_global=True), K, True),
    "transforms, own cameras": ("transforms", write_transforms(is_global=False), KS, True),
    "Polycam": ("arkit", write_polycam, None, True),
    "3D Scanner App": ("arkit", write_scanner_app, KS, True),
    "Record3D": ("record3d", write_record3d, None, True),
    "VGGT": ("npz", save_npz("predictions.npz", extrinsic=W2C[:, :3].astype(np.float32),
             depth=DEPTH[..., None],
             intrinsic=KS.astype(np.float32), images=np.zeros((COUNT, 3, HEIGHT, WIDTH), np.float32)), KS, False),
    "Depth Anything 3": ("npz", save_npz("exports/mini_npz/results.npz", depth=DEPTH, conf=DEPTH,
                         extrinsics=W2C[:, :3], intrinsics=KS), KS, False),
    "MapAnything": ("npz", save_npz("results.npz", camera_poses=T[:, None], intrinsics=KS[:, None],
                    depth_z=DEPTH[:, None, :, :, None]), KS, False),
    "DUSt3R": ("npz", save_npz("results.npz", poses=T, focals=np.full((COUNT, 1), 50.0), depthmaps=DEPTH),
               CENTERED, False),
    "MegaSaM": ("npz", save_npz("scene_droid.npz", cam_c2w=T, intrinsic=K, depths=DEPTH), K, False),
    "CUT3R": ("npz", write_cut3r, KS, True),
    "TUM": ("trajectory", write_rows("a.txt", TUM), None, False),
    "EuRoC": ("trajectory", write_rows("data.csv", EUROC, EUROC_HEAD, ","), None, False),
    "KITTI": ("trajectory", write_rows("06.txt", T[:, :3].reshape(COUNT, 12)), None, False),
    "HoloLens": ("trajectory", write_hololens, K, False),
    "ScanNet": ("poses", write_scannet, K, True),
}  # fmt: skip
"""For each program: format, function that writes its layout, K (None: absent, or checked below), has names."""


@pytest.mark.parametrize("kind", KINDS)
def test_reads_the_layout_of_each_program_and_writes_it_again(kind: str, tmp_path: Path) -> None:
    format, write, known_K, has_names = KINDS[kind]
    (tmp_path / "in").mkdir()
    first = read_reconstruction(write(tmp_path / "in"))
    assert first.format == format
    np.testing.assert_allclose(first.T_camera_world, W2C, atol=2e-6)
    if known_K is not None:
        np.testing.assert_allclose(first.K, np.broadcast_to(known_K, (COUNT, 3, 3)), rtol=1e-5)
    assert all(first.names) == has_names
    if first.depth is not None:
        np.testing.assert_allclose(first.depth(2), DEPTH[2], atol=6e-4)
    out = write_reconstruction(first, tmp_path / "out" / "fixed")
    second = read_reconstruction(out)
    assert second.format == format
    np.testing.assert_allclose(second.T_camera_world, first.T_camera_world, atol=1e-9)
    np.testing.assert_allclose(second.K, first.K, rtol=1e-9)
    np.testing.assert_allclose(second.distortion, first.distortion, atol=1e-12)
    assert [Path(name).stem for name in second.names] == [Path(name).stem for name in first.names]
    if first.times_s is not None:
        np.testing.assert_allclose(second.times_s, first.times_s, atol=1e-8)
    with pytest.raises(StadiaError):
        write_reconstruction(first, out)


@pytest.mark.parametrize(
    "kind", ["COLMAP", "transforms, own cameras", "Polycam", "Record3D", "VGGT", "MapAnything", "TUM"]
)
def test_writes_changed_poses_and_cameras(kind: str, tmp_path: Path) -> None:
    first = read_reconstruction(KINDS[kind][1](tmp_path))
    turned = Reconstruction(
        names=first.names[1:],
        T_camera_world=GL @ first.T_camera_world[:-1],
        K=2 * first.K[1:] - np.diag([0, 0, 1.0]),
        distortion=first.distortion[1:],
        sizes=2 * first.sizes[1:],
        times_s=None if first.times_s is None else first.times_s[1:] + 0.5,
        format=first.format,
        path=first.path,
    )
    second = read_reconstruction(write_reconstruction(turned, tmp_path / "fixed"))
    np.testing.assert_allclose(second.T_camera_world, turned.T_camera_world, atol=1e-6)
    np.testing.assert_allclose(second.K, turned.K, rtol=1e-6)
    assert [Path(name).name for name in second.names] == [
        Path(name).name for name in turned.names
    ] or kind == "Record3D"


def test_polycam_and_record3d_have_a_camera_for_each_image(tmp_path: Path) -> None:
    for kind in ("Polycam", "Record3D"):
        (tmp_path / kind).mkdir()
        found = read_reconstruction(KINDS[kind][1](tmp_path / kind))
        np.testing.assert_allclose(
            found.K, [[[50.0 + k, 0, 31.25], [0, 52 + k, 22.5], [0, 0, 1]] for k in range(COUNT)]
        )
        assert found.sizes.tolist() == [[WIDTH, HEIGHT]] * COUNT


def test_an_angle_of_view_is_a_focal_length(tmp_path: Path) -> None:
    found = read_reconstruction(write_transforms(is_global=True, is_angle=True)(tmp_path))
    np.testing.assert_allclose(found.K[0], [[50, 0, 31.5], [0, 50, 23.5], [0, 0, 1]], rtol=1e-9)


def test_blender_files_take_the_size_of_their_images(tmp_path: Path) -> None:
    path = write_transforms(is_global=True, is_angle=True)(tmp_path)
    content = json.loads(path.read_text())
    del content["w"], content["h"]
    content["frames"] = [{**frame, "file_path": f"./r_{k}"} for k, frame in enumerate(content["frames"])]
    path.write_text(json.dumps(content))
    assert np.isnan(read_reconstruction(path).K).all()
    for k in range(COUNT):
        cv2.imwrite(str(tmp_path / f"r_{k}.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    np.testing.assert_allclose(read_reconstruction(path).K[0, 0, 0], 50)


# -- COLMAP against pycolmap


def make_model(pycolmap: Any, model: str, *, has_rig: bool) -> Any:
    """Return a pycolmap.Reconstruction; with a rig, two cameras share each frame."""
    made = pycolmap.Reconstruction()
    cameras = []
    for number in range(1, 2 + has_rig):
        camera = pycolmap.Camera.create_from_model_name(number, model, 50.0 * number, WIDTH, HEIGHT)
        camera.camera_id = number
        made.add_camera(camera)
        cameras.append(camera)
    rig = pycolmap.Rig(rig_id=1)
    rig.add_ref_sensor(cameras[0].sensor_id)
    if has_rig:
        rig.add_sensor(cameras[1].sensor_id, pycolmap.Rigid3d(pycolmap.Rotation3d(), np.array([0.5, 0, 0])))
    made.add_rig(rig)
    for k in range(COUNT):
        frame = pycolmap.Frame(frame_id=k + 1, rig_id=1)
        frame.rig_from_world = pycolmap.Rigid3d(W2C[k, :3])
        images = []
        for camera in cameras:
            number = k * len(cameras) + camera.camera_id
            image = pycolmap.Image(name=f"c{camera.camera_id}/{NAMES[k]}", camera_id=camera.camera_id, image_id=number)
            image.frame_id = k + 1
            image.points2D = pycolmap.Point2DList([pycolmap.Point2D(np.array([1.0, 2.0]))])
            frame.add_data_id(image.data_id)
            images.append(image)
        made.add_frame(frame)
        for image in images:
            made.add_image(image)
    return made


@pytest.mark.parametrize("ending", ["text", "binary"])
@pytest.mark.parametrize(("model", "has_rig"), [("PINHOLE", False), ("SIMPLE_RADIAL", True), ("OPENCV", False)])
def test_colmap_models_agree_with_pycolmap(model: str, has_rig: bool, ending: str, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    made = make_model(pycolmap, model, has_rig=has_rig)
    folder = tmp_path / "sparse" / "0"
    folder.mkdir(parents=True)
    (made.write_text if ending == "text" else made.write_binary)(str(folder))
    found = read_reconstruction(tmp_path)
    images = {image.name: image for image in made.images.values()}
    assert sorted(found.names) == sorted(images)
    for row, name in enumerate(found.names):
        np.testing.assert_allclose(found.T_camera_world[row, :3], images[name].cam_from_world().matrix(), atol=1e-12)
        camera = made.cameras[images[name].camera_id]
        ray = np.array([0.2, -0.1])
        pixel = camera.img_from_cam(np.append(ray, 1)) - 0.5
        own = cv2.projectPoints(np.append(ray, 1)[None], np.zeros(3), np.zeros(3), found.K[row], found.distortion[row])[
            0
        ]
        np.testing.assert_allclose(own.ravel(), pixel, atol=1e-9)
    written = pycolmap.Reconstruction(str(write_reconstruction(found, tmp_path / "fixed")))
    for image in written.images.values():
        np.testing.assert_allclose(
            image.cam_from_world().matrix(), images[image.name].cam_from_world().matrix(), atol=1e-12
        )
        before = made.cameras[images[image.name].camera_id]
        assert image.camera.model == before.model
        np.testing.assert_allclose(image.camera.params, before.params)


@pytest.mark.parametrize(
    ("model", "lens"),
    [("OPENCV_FISHEYE", (0.02, -0.01, 0.003, 0.0)), ("FULL_OPENCV", (*LENS, 0.01, 0.02, 0.0, 0.0)), ("FOV", (0.6,)),
     ("RADIAL_FISHEYE", (0.02, 0.01))],
)  # fmt: skip
def test_other_lenses_are_fitted_within_the_error_that_is_stated(model: str, lens: tuple[float, ...]) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    focals = (400.0,) if model == "RADIAL_FISHEYE" else (400.0, 410.0)
    params = (*focals, 320.0, 240.0, *lens)
    K, distortion, error_px = convert_camera("camera", ColmapCamera(model, 640, 480, params))
    camera = pycolmap.Camera(model=model, width=640, height=480, params=list(params))
    pixels = RANDOM.uniform([0, 0], [640, 480], (200, 2))
    rays = np.array([np.append(camera.cam_from_img(pixel), 1) for pixel in pixels])
    own = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), K, distortion)[0][:, 0] + 0.5
    assert np.abs(own - pixels).max() < 1.1 * error_px + 0.01
    assert error_px < 5


# -- glb


def make_glb(path: Path, scene: dict[str, Any], data: bytes = b"") -> Path:
    """Write a glTF binary from its JSON and its buffer."""
    text = json.dumps({"asset": {"version": "2.0"}, **scene}).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    if data:
        chunks += struct.pack("<II", len(data), 0x004E4942) + data
    path.write_bytes(struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks)
    return path


def make_meshes(vertices: list[np.ndarray], mode: int, matrix: np.ndarray) -> tuple[dict[str, Any], bytes]:
    """Return the scene and the buffer of one mesh of float32 vertices for each camera, below nodes with a matrix."""
    size = 12 * len(vertices[0])
    scene = {
        "buffers": [{"byteLength": size * len(vertices)}],
        "bufferViews": [{"buffer": 0, "byteOffset": k * size, "byteLength": size} for k in range(len(vertices))],
        "accessors": [{"bufferView": k, "componentType": 5126, "type": "VEC3", "count": len(vertices[0])}
                      for k in range(len(vertices))],
        "meshes": [{"primitives": [{"attributes": {"POSITION": k}, "mode": mode}]} for k in range(len(vertices))],
        "nodes": [{"mesh": k, "matrix": matrix.T.ravel().tolist()} for k in range(len(vertices))],
    }  # fmt: skip
    return scene, b"".join(one.astype("<f4").tobytes() for one in vertices)


def test_glb_camera_nodes_have_the_axes_of_opengl(tmp_path: Path) -> None:
    q = Rotation.from_matrix((T @ GL)[:, :3, :3]).as_quat().tolist()
    nodes: list[dict[str, Any]] = [
        {"children": list(range(1, COUNT + 1)), "translation": [0, 0, 0], "scale": [1, 1, 1]}
    ]
    nodes += [
        {"camera": 0, "name": NAMES[k], "rotation": q[k], "translation": T[k, :3, 3].tolist()} for k in range(COUNT)
    ]
    camera = {"type": "perspective", "perspective": {"yfov": 2 * np.arctan(0.5), "aspectRatio": 2.0, "znear": 0.1}}
    found = read_reconstruction(make_glb(tmp_path / "a.glb", {"nodes": nodes, "cameras": [camera]}))
    np.testing.assert_allclose(found.T_camera_world, W2C, atol=1e-9)
    assert found.names == NAMES
    assert found.sizes[0].tolist() == [504, 252]
    assert found.K[0, 0, 0] == pytest.approx(252)
    written = read_reconstruction(write_reconstruction(found, tmp_path / "fixed"))
    assert written.format == "transforms"
    np.testing.assert_allclose(written.T_camera_world, W2C, atol=1e-9)


def test_glb_frustums_of_depth_anything_have_poses_and_intrinsics(tmp_path: Path) -> None:
    width, height = 504, 378
    camera = np.array([[400.0, 0, 250], [0, 400, 190], [0, 0, 1]])
    pixels = np.array([[0, 0, 1], [width - 1, 0, 1], [width - 1, height - 1, 1], [0, height - 1, 1.0]])
    corners = pixels @ np.linalg.inv(camera).T * 0.3
    vertices = []
    for k in range(COUNT):
        c, *p = np.vstack([np.zeros(3), corners]) @ T[k, :3, :3].T + T[k, :3, 3]
        vertices.append(np.array([c, p[0], p[0], p[1], p[1], p[2], p[2], p[3], p[3], c, c, p[1], c, p[2], p[0], p[3]]))
    found = read_reconstruction(make_glb(tmp_path / "scene.glb", *make_meshes(vertices, 1, np.eye(4))))
    np.testing.assert_allclose(found.T_camera_world, W2C, atol=1e-5)
    np.testing.assert_allclose(found.K, np.broadcast_to(camera, (COUNT, 3, 3)), atol=0.01)
    assert found.sizes[0].tolist() == [width, height]


@pytest.mark.parametrize("is_merged", [True, False])
def test_glb_cones_of_vggt_have_poses(is_merged: bool, tmp_path: Path) -> None:
    width, height = 0.15, 0.3
    cone = np.array([[0, 0, 0], [width, 0, 0], [0, 0, height], [0, width, 0], [-width, 0, 0], [0, -width, 0]])
    turned = cone @ Rotation.from_euler("z", 2, degrees=True).as_matrix().T
    combined = np.concatenate([cone, 0.95 * cone, turned])
    placed = combined @ Rotation.from_euler("z", 45, degrees=True).as_matrix().T - [0, 0, height]
    kept = [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 13, 15, 16, 17] if is_merged else list(range(18))
    vertices = [(placed[kept] * [1, -1, -1]) @ T[k, :3, :3].T + T[k, :3, 3] for k in range(COUNT)]
    world = make_poses(1)[0]
    found = read_reconstruction(make_glb(tmp_path / "glbscene.glb", *make_meshes(vertices, 4, world)))
    np.testing.assert_allclose(found.T_camera_world, np.linalg.inv(world @ T), atol=1e-5)
    assert np.isnan(found.K).all()


# -- hostile and unknown files


def write_pickle(path: Path) -> Path:
    np.savez(path, extrinsic=np.array([{"a": 1}], object))
    return path


HOSTILE: dict[str, Callable[[Path], Path]] = {
    "nothing": lambda folder: folder / "absent",
    "empty folder": lambda folder: folder,
    "pickle": lambda folder: write_pickle(folder / "a.npz"),
    "NaN poses": lambda folder: save_npz("a.npz", extrinsic=np.full((3, 3, 4), np.nan))(folder) / "a.npz",
    "wrong K": lambda folder: save_npz("a.npz", extrinsic=W2C, intrinsic=KS[:2])(folder) / "a.npz",
    "no frames": lambda folder: write_text(folder / "transforms.json", '{"frames": []}'),
    "text for numbers": lambda folder: write_text(
        folder / "transforms.json", json.dumps({"fl_x": "a", "frames": [{"transform_matrix": np.eye(4).tolist()}]})
    ),
    "truncated glb": lambda folder: write_bytes(
        folder / "a.glb", struct.pack("<IIIII", 0x46546C67, 2, 99, 99, 0x4E4F534A)
    ),
    "circle of nodes": lambda folder: make_glb(folder / "a.glb", {"nodes": [{}, {"children": [2]}, {"children": [1]}]}),
    "children that repeat": lambda folder: make_glb(folder / "a.glb", {"nodes": [{"children": [1] * 50}, {}]}),
    "cut images.bin": lambda folder: write_cut_model(folder),
    "claimed count": lambda folder: write_cut_model(folder, struct.pack("<Q", 1 << 60)),
}


def write_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def write_bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def write_cut_model(folder: Path, images: bytes = struct.pack("<Q", 1) + b"\0" * 80) -> Path:
    (folder / "cameras.bin").write_bytes(struct.pack("<QiiQQ4d", 1, 1, 1, 64, 48, 50, 50, 32, 24))
    (folder / "images.bin").write_bytes(images)
    return folder


@pytest.mark.parametrize("kind", HOSTILE)
def test_damaged_files_raise_data_errors(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        read_reconstruction(HOSTILE[kind](tmp_path))


def test_every_format_has_a_test() -> None:
    assert set(FORMATS) == {format for format, *_ in KINDS.values()} | {"glb"}


# -- images, depth and times


def test_poses_are_matched_by_name_stem_number_and_order() -> None:
    images = ["d/b/2.png", "d/b/10.png", "d/b/1.png"]
    cases: dict[str, tuple[list[str], list[int]]] = {
        "name": (["d/b/1.png", "d/b/2.png", "d/b/10.png"], [2, 0, 1]),
        "stem": (["10.jpg", "2.color.jpg", "1.jpg"], [1, 0, 2]),
        "path": (["b/1.jpg", "b/2.jpg", "b/10.jpg"], [2, 0, 1]),
        "number": (["000001", "000002", "000010"], [2, 0, 1]),
        "order": (["", "", ""], [2, 0, 1]),
    }
    for how, (names, expected) in cases.items():
        found = match_images_to_poses(names, images)
        assert (found.how, found.images.tolist()) == (how, expected)
        assert found.rows.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("names", "images"),
    [(["a.png"] * 4, ["b.png", "c.png"]), (["", ""], ["a.png", "b.png"]), ([""] * 5, ["a.png", "b.png", "c.png"])],
)
def test_fewer_than_three_matches_are_an_error(names: list[str], images: list[str]) -> None:
    with pytest.raises(DataError):
        match_images_to_poses(names, images)


def test_images_without_a_pose_are_noted() -> None:
    found = match_images_to_poses(["1.png", "2.png", "3.png", "9.png"], [f"{k}.png" for k in range(6)])
    assert found.images.tolist() == [1, 2, 3]
    assert len(found.notes) == 2


def test_poses_between_two_times_turn_and_move_uniformly() -> None:
    start, end = np.eye(4), np.eye(4)
    end[:3, :3] = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    end[:3, 3] = 1, 2, 3
    poses = np.linalg.inv(np.stack([start, end]))
    two = Reconstruction(
        ("", ""), poses, np.stack([K, 2 * K]), np.zeros((2, 4)), np.zeros((2, 2), np.int64), np.array([0.0, 1])
    )
    found = interpolate_poses(two, [0.0, 0.25, 1.0, 9.0])
    T_world_camera = np.linalg.inv(found.T_camera_world)
    np.testing.assert_allclose(T_world_camera[1, :3, 3], [0.25, 0.5, 0.75])
    angles = Rotation.from_matrix(T_world_camera[:, :3, :3]).magnitude()
    np.testing.assert_allclose(np.rad2deg(angles), [0, 22.5, 90, 90], atol=1e-9)
    assert found.K[:, 0, 0].tolist() == [50, 50, 100, 100]


def test_depth_maps_belong_to_images_of_their_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        np.save(tmp_path / f"{name}.npy", np.full((2, 2), ord(name), np.float32))
    poses = np.tile(np.eye(4), (2, 1, 1))
    camera = np.tile(K, (2, 1, 1)), np.zeros((2, 4)), np.zeros((2, 2), np.int64)
    named = add_depth_folder(Reconstruction(("x/b.png", "c.png"), poses, *camera), tmp_path)
    assert named.depth is not None
    assert named.depth(0)[0, 0] == ord("b")
    assert np.isnan(named.depth(1)).all()
    assert named.rows([1, 0]).depth(1)[0, 0] == ord("b")  # type: ignore[misc]


@pytest.mark.parametrize("format", [name for name in FORMATS if FORMATS[name].writes is not None])
def test_a_reconstruction_without_an_original_is_written_in_every_format(format: str, tmp_path: Path) -> None:
    first = Reconstruction(
        NAMES,
        W2C,
        KS,
        np.zeros((COUNT, 4)),
        np.tile([WIDTH, HEIGHT], (COUNT, 1)),
        format=format,
        path=tmp_path / "absent",
    )
    second = read_reconstruction(write_reconstruction(first, tmp_path / "new"))
    assert second.format == format
    np.testing.assert_allclose(second.T_camera_world, W2C, atol=1e-9)
    if format != "trajectory":
        np.testing.assert_allclose(second.K, KS, rtol=1e-9)
    if any(second.names):
        assert match_images_to_poses(second.names, NAMES).images.tolist() == list(range(COUNT))
