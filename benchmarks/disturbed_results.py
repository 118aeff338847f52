"""Disturb right poses of recordings on purpose, judge them, and count right causes, sizes and deviations.

    python benchmarks/disturbed_results.py [--seed 0] [--recordings drone] [--causes drift none] [--strength 1]
    python benchmarks/disturbed_results.py --rows a.json b.json

Each disturbance has three strengths. A case is right if the cause that it made is named first. It is left open if no
cause is named, and two deviations of the measured error contain 0. Its size, or else the measured error of its kind, is
right within 20 % or two deviations.
`none` judges draws without a disturbance: a part of the images, in another world.

| recording | poses | their own error |
|---|---|---|
| drone, stroll, street | rendered by RoadWorld | none |
| chair | rendered by Blender | none |
| statue, rig | published COLMAP models | unknown, below .1 degrees by agreement with a second adjustment |
| walk | a sensor's, adjusted by COLMAP to SIFT matches of all pairs | unknown |

The photos lie in ../shared, or next to the folder of STADIA_REAL_DATA. --work keeps pictures, matches and poses for the
next run. --json writes the rows; --rows prints the tables of rows that were written before.
"""

# mypy: disable-error-code="misc, no-untyped-call, no-untyped-def, var-annotated"

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from harness import REAL_DATA, make_parser, print_table, write_results
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from stadia.core.errors import StadiaError
from stadia.geometry.poses import invert_pose
from stadia.io.image_files import read_upright_size
from stadia.io.image_io import write_image
from stadia.io.records.read import read_reconstruction
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.reconstructions.check_reconstruction import judge_reconstruction
from stadia.sfm.image_matches import ImageMatches, match_images
from stadia.sfm.match_triangulation import find_image_times
from stadia.sfm.pose_error import compare_poses, measure_change

Array = NDArray[np.float64]
PUBLISHED = REAL_DATA.parent / "cases" / "round7"
"""Results as other people published them, with their photos."""


# -- Recordings -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Recording:
    """Images with right cameras and poses.

    truth: one row for each image, in the order of the images.
    matches: the images.
    is_exact: whether the truth has no error of its own.
    """

    name: str
    truth: Reconstruction
    matches: ImageMatches
    is_exact: bool

    @property
    def times_s(self) -> Array | None:
        """Return the times (N,) of the images in seconds; None if unknown."""
        return find_image_times(self.matches)


def make_reconstruction(
    names: Sequence[str], T_world_camera: Array, K: Array, size: tuple[int, int], lens: Sequence[float] = (0, 0, 0, 0)
) -> Reconstruction:
    """Return a reconstruction with one camera: T_world_camera (N, 4, 4), K (3, 3), width and height, k1 k2 p1 p2."""
    count = len(names)
    unknown = Reconstruction(
        names=tuple(names),
        T_camera_world=invert_pose(T_world_camera),
        K=np.zeros((count, 3, 3)),
        distortion=np.zeros((count, 4)),
        sizes=np.zeros((count, 2), np.int64),
    )
    return unknown.with_camera(K, lens, size)


FLIGHTS = {"drone": 40, "stroll": 40, "street": 50}
"""Rendered recordings, and their numbers of images."""

RENDERED_SIZE = (960, 540)


def render(name: str, folder: Path) -> Reconstruction:
    """Render a street into a folder, as a drone, a walker or a car sees it, and return its exact poses."""
    from stadia.synthetic.config import ROADWORLD_FULL
    from stadia.synthetic.rendering.renderer import render_image
    from stadia.synthetic.roadworld.road_world import RoadRenderer, make_world

    width, height = RENDERED_SIZE
    count = FLIGHTS[name]
    camera = {"height": height, "width": width, "stereo": False, "field_of_view_deg": (70.0,), "noise": True}
    config = ROADWORLD_FULL.model_copy(update={**camera, "frames": count, "speed_m_per_frame": (0.8, 1.0)})
    renderer = RoadRenderer(make_world(7, config), config)
    drive = renderer.world.drive.T_world_camera
    poses = {"drone": fly_around, "stroll": stroll, "street": lambda drive: drive}[name](drive)
    light = renderer.make_light(0)
    names = [f"{index:04d}.png" for index in range(count)]
    for index, T_world_camera in enumerate(poses):
        frame = index if name == "street" else 0  # cars and people stand still for a drone and a walker
        bodies = renderer.world.geometry.T_world_body[frame]
        if name == "street":
            light = renderer.make_light(frame)
        noise = np.random.default_rng(index)
        shown = render_image(
            renderer.world.geometry, np.linalg.inv(T_world_camera) @ bodies, renderer.lens, light, gain=1.0, noise=noise
        )
        write_image(folder / names[index], shown.image[..., ::-1])
    return make_reconstruction(names, poses, np.asarray(renderer.world.K, np.float64), RENDERED_SIZE)


def look_at(center: Array, target: Array) -> Array:
    """Return the pose (4, 4), camera to world, of a camera that looks at a point; y of the world is down."""
    forward = (target - center) / np.linalg.norm(target - center)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3] = np.column_stack((right, np.cross(forward, right), forward, center))
    return T


def fly_around(drive: Array) -> Array:
    """Return poses (N, 4, 4) on half a circle of changing height around the middle of a drive."""
    middle = drive[len(drive) // 2, :3, 3]
    angle = np.linspace(0, np.pi, len(drive))
    up = 14 + 4 * np.sin(2.3 * angle)
    around = np.column_stack((22 * np.cos(angle), -up, 22 * np.sin(angle)))
    return np.stack([look_at(middle + place, middle + np.array([0, 0, 0.4 * place[0]])) for place in around])


def stroll(drive: Array) -> Array:
    """Return poses (N, 4, 4) of a walker who follows a third of a drive on a wave, and looks about."""
    share = np.linspace(0, 1, len(drive))
    start, end = drive[0, :3, 3], drive[len(drive) // 3, :3, 3]
    centers = start + share[:, None] * (end - start)
    right = drive[0, :3, 0]
    centers += np.sin(2 * np.pi * share)[:, None] * 1.2 * right + np.sin(13 * share)[:, None] * [0, 0.25, 0]
    turns = np.column_stack((4 * np.sin(9 * share), 12 * np.sin(5 * share), 3 * np.sin(11 * share)))
    poses = np.tile(np.eye(4), (len(drive), 1, 1))
    poses[:, :3, :3] = drive[0, :3, :3] @ Rotation.from_euler("xyz", turns, degrees=True).as_matrix()
    poses[:, :3, 3] = centers
    return poses


def adjust_by_colmap(given: Reconstruction, images: Path, database: Path) -> Reconstruction:
    """Return poses, focal length, k1 and k2 after COLMAP's adjustment to its own SIFT matches of all pairs.

    The cost is robust. Matches are chosen again after the first round.

    given: poses near the right ones, with one camera.
    images: the folder of images.
    database: a new file.
    """
    import pycolmap

    features = pycolmap.FeatureExtractionOptions()
    features.max_image_size = 1000
    pycolmap.extract_features(
        database, images, camera_mode=pycolmap.CameraMode.SINGLE, extraction_options=features,
        reader_options=pycolmap.ImageReaderOptions(camera_model="RADIAL"),
    )  # fmt: skip
    pycolmap.match_exhaustive(database)
    K, row_of = given.K[0], {name: row for row, name in enumerate(given.names)}
    lens = [K[0, 0], K[0, 2] + 0.5, K[1, 2] + 0.5, 0.0, 0.0]
    model = pycolmap.Reconstruction()
    with pycolmap.Database.open(database) as opened:
        for camera in opened.read_all_cameras():
            camera.params = lens
            opened.update_camera(camera)
            model.add_camera(camera)
        for rig in opened.read_all_rigs():
            model.add_rig(rig)
        known = {image.image_id: image for image in opened.read_all_images()}
        for frame in opened.read_all_frames():
            image_id = next(iter(frame.data_ids)).id
            frame.rig_from_world = pycolmap.Rigid3d(given.T_camera_world[row_of[known[image_id].name], :3])
            model.add_frame(frame)
            image = pycolmap.Image(name=known[image_id].name, camera_id=known[image_id].camera_id, image_id=image_id)
            image.frame_id = frame.frame_id
            model.add_image(image)
    for gate_px in (30, 6):
        options = pycolmap.IncrementalPipelineOptions()
        options.ba_refine_focal_length = options.ba_refine_extra_params = False
        options.mapper.filter_max_reproj_error = gate_px
        gate = options.triangulation
        gate.ignore_two_view_tracks = False
        gate.create_max_angle_error = gate.continue_max_angle_error = gate_px / 8
        gate.merge_max_reproj_error = gate.complete_max_reproj_error = gate_px
        with tempfile.TemporaryDirectory() as out:
            model = pycolmap.triangulate_points(model, database, images, out, clear_points=True, options=options)
        for _ in range(2):
            options = pycolmap.BundleAdjustmentOptions()
            options.print_summary = False
            options.refine_principal_point = False
            options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
            options.ceres.loss_function_scale = 1.0
            options.ceres.solver_options.max_num_iterations = 60
            pycolmap.bundle_adjustment(model, options)
    T = given.T_camera_world.copy()
    for image in model.images.values():
        T[row_of[image.name], :3] = image.cam_from_world().matrix()
    focal_px, _, _, k1, k2 = next(iter(model.cameras.values())).params
    K = K.copy()
    K[(0, 1), (0, 1)] = focal_px
    size = (int(given.sizes[0, 0]), int(given.sizes[0, 1]))
    return replace(given, T_camera_world=T).with_camera(K, (k1, k2, 0, 0), size)


def copy_images(files: Sequence[Path], folder: Path) -> list[str]:
    """Copy images under four-digit names, and return these names."""
    names = [f"{index:04d}{file.suffix}" for index, file in enumerate(files)]
    for name, file in zip(names, files, strict=True):
        (folder / name).write_bytes(file.read_bytes())
    return names


def read_published(name: str) -> tuple[Reconstruction, Path]:
    """Return a published result without the mistake that its case is about, and its folder of images."""
    case = PUBLISHED / {"statue": "result-colmap-narrow-object", "rig": "result-two-images-swapped-usable"}[name]
    given = read_reconstruction(case / "sparse")
    if name == "rig":
        first, second = (given.names.index(f"robot/0000{number}-color.jpg") for number in (11, 25))
        given.T_camera_world[[first, second]] = given.T_camera_world[[second, first]]
    return given, case / "images"


def prepare(name: str, folder: Path) -> tuple[Reconstruction, Path]:
    """Return the right poses of a recording and its folder of images; what is made is written into a folder."""
    if name in ("statue", "rig"):
        return read_published(name)
    if name == "chair":
        case = PUBLISHED / "result-blender-ground-truth"
        return read_reconstruction(case / "transforms_test.json"), case / "test"
    images, kept = folder / "images", folder / "truth.npz"
    if not kept.is_file():
        images.mkdir(parents=True, exist_ok=True)
        if name in FLIGHTS:
            made = render(name, images)
        else:
            files = sorted((REAL_DATA / "walk" / "images").iterdir())[:150:3]
            T = np.loadtxt(REAL_DATA / "walk" / "poses.txt").reshape(-1, 4, 4)[:150:3]
            names = copy_images(files, images)
            height, width = read_upright_size(files[0])
            given = make_reconstruction(names, T, np.loadtxt(REAL_DATA / "walk" / "K.txt"), (width, height))
            with tempfile.TemporaryDirectory() as temporary:
                made = adjust_by_colmap(given, images, Path(temporary) / "matches.db")
        np.savez(kept, names=made.names, T=made.T_camera_world, K=made.K, lens=made.distortion, sizes=made.sizes)
    arrays = np.load(kept)
    truth = Reconstruction(tuple(arrays["names"].tolist()), arrays["T"], arrays["K"], arrays["lens"], arrays["sizes"])
    return truth, images


FRAME_RATES_HZ = {"street": 10.0, "walk": 5.0, "stroll": 10.0}
"""Images per second of the recordings with times; those of walk and stroll are chosen."""

RECORDINGS = ("drone", "stroll", "street", "chair", "statue", "rig", "walk")


def open_recording(name: str, work: Path) -> Recording:
    """Return a recording; pictures, matches and right poses are kept in the folder `work`."""
    truth, images = prepare(name, work / name)
    matches = match_images(images, work / name / "matches")
    stems = {Path(given).as_posix().removeprefix("./"): row for row, given in enumerate(truth.names)}
    short = {Path(given).name: row for row, given in enumerate(truth.names)}
    rows = [stems.get(image, short.get(Path(image).name, -1)) for image in matches.names]
    assert min(rows) >= 0, f"{name}: an image has no pose"
    ordered = replace(truth.rows(rows), names=matches.names, times_s=None, frames=None, depth=None, notes=())
    if name in FRAME_RATES_HZ:
        matches = replace(matches, times_s=np.arange(len(rows)) / FRAME_RATES_HZ[name])
    return Recording(name, ordered, matches, name in FLIGHTS or name == "chair")


# -- Disturbances ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Disturbed:
    """A disturbed result.

    size: true size of the disturbance in the unit of its cause; None without a size.
    images: names of the images that are wrong, if only some of them are.
    """

    result: Reconstruction
    size: float | None = None
    images: tuple[str, ...] = ()


Disturb = Callable[[Recording, float, np.random.Generator], Disturbed | None]
"""Function of recording, strength and random generator; None if the recording cannot show the disturbance."""


def measure_extent(T_world_camera: Array) -> float:
    """Return the diagonal of the box around positions."""
    return float(np.linalg.norm(np.ptp(T_world_camera[:, :3, 3], axis=0)))


def draw_directions(random: np.random.Generator, count: int) -> Array:
    """Return random unit vectors (N, 3)."""
    drawn = random.normal(size=(count, 3))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def replace_poses(result: Reconstruction, T_world_camera: Array) -> Reconstruction:
    return replace(result, T_camera_world=invert_pose(T_world_camera))


def turn_each(recording: Recording, degrees: float, random: np.random.Generator) -> Disturbed:
    T = recording.truth.T_world_camera.copy()
    T[:, :3, :3] @= Rotation.from_rotvec(np.radians(degrees) * draw_directions(random, len(T))).as_matrix()
    return Disturbed(replace_poses(recording.truth, T), degrees)


def move_each(recording: Recording, share: float, random: np.random.Generator) -> Disturbed:
    T = recording.truth.T_world_camera.copy()
    T[:, :3, 3] += share * measure_extent(T) * draw_directions(random, len(T))
    return Disturbed(replace_poses(recording.truth, T), share)


def lengthen_focal(recording: Recording, factor: float, random: np.random.Generator) -> Disturbed:
    K = recording.truth.K.copy()
    K[:, (0, 1), (0, 1)] *= factor
    return Disturbed(replace(recording.truth, K=K), factor - 1)


def squeeze(recording: Recording, factor: float, random: np.random.Generator) -> Disturbed:
    K = recording.truth.K.copy()
    K[:, 1, 1] *= factor
    return Disturbed(replace(recording.truth, K=K), factor - 1)


def bend_lens(recording: Recording, px: float, random: np.random.Generator) -> Disturbed | None:
    """Change k1 so that the middle of the longer edge moves; px: of images of 640."""
    if recording.truth.lenses is not None:
        return None
    distortion, edge = recording.truth.distortion.astype(np.float64), recording.truth.sizes.max(1) / 2
    moved_px = random.choice((-1.0, 1.0)) * px * edge / 320
    distortion[:, 0] += moved_px / edge / (edge / recording.truth.K[:, 0, 0]) ** 2
    return Disturbed(replace(recording.truth, distortion=distortion), float(np.median(moved_px)))


def drift(recording: Recording, degrees: float, random: np.random.Generator) -> Disturbed:
    """Turn the cameras in the world, from nothing at the first image to `degrees` at the last one."""
    T = recording.truth.T_world_camera.copy()
    angle = np.radians(degrees) * np.linspace(0, 1, len(T))
    T[:, :3, :3] = Rotation.from_rotvec(angle[:, None] * draw_directions(random, 1)).as_matrix() @ T[:, :3, :3]
    return Disturbed(replace_poses(recording.truth, T), degrees)


MIN_BREADTH = 0.1
"""Least spread of positions along their second axis, in that along the first, which shows a stretched axis: a straight
path that is stretched is one of another scale.
"""


def stretch(recording: Recording, factor: float, random: np.random.Generator) -> Disturbed | None:
    """Stretch the positions along their second principal axis."""
    T = recording.truth.T_world_camera.copy()
    centered = T[:, :3, 3] - T[:, :3, 3].mean(0)
    _, spread, axes = np.linalg.svd(centered, full_matrices=False)
    if spread[1] < MIN_BREADTH * spread[0]:
        return None
    T[:, :3, 3] += (factor - 1) * np.outer(centered @ axes[1], axes[1])
    return Disturbed(replace_poses(recording.truth, T), factor - 1)


def scale_along(recording: Recording, factor: float, random: np.random.Generator) -> Disturbed:
    """Let the length of steps grow along the path, from that of the truth to `factor` times as much."""
    T = recording.truth.T_world_camera.copy()
    steps = np.diff(T[:, :3, 3], axis=0) * np.linspace(1, factor, len(T) - 1)[:, None]
    T[1:, :3, 3] = T[0, :3, 3] + np.cumsum(steps, axis=0)
    return Disturbed(replace_poses(recording.truth, T), factor - 1)


def swap(recording: Recording, share: float, random: np.random.Generator) -> Disturbed:
    """Swap the poses of two images, neighbors (0) or a share of all images apart."""
    T = recording.truth.T_camera_world.copy()
    apart = max(round(share * len(T)), 1)
    first = int(random.integers(len(T) - apart))
    swapped = [first, first + apart]
    T[swapped] = T[swapped[::-1]]
    names = recording.truth.names
    return Disturbed(replace(recording.truth, T_camera_world=T), None, (names[first], names[first + apart]))


def move_one(recording: Recording, share: float, random: np.random.Generator) -> Disturbed:
    T = recording.truth.T_world_camera.copy()
    moved = int(random.integers(len(T)))
    T[moved, :3, 3] += share * measure_extent(T) * draw_directions(random, 1)[0]
    return Disturbed(replace_poses(recording.truth, T), share, (recording.truth.names[moved],))


FEW_TURN_DEG = 20.0


def turn_few(recording: Recording, count: float, random: np.random.Generator) -> Disturbed | None:
    """Turn a few images by FEW_TURN_DEG about random axes, at most a quarter of all."""
    T = recording.truth.T_world_camera.copy()
    if count > len(T) / 4:
        return None
    turned = np.sort(random.choice(len(T), int(count), replace=False))
    vectors = np.radians(FEW_TURN_DEG) * draw_directions(random, len(turned))
    T[turned, :3, :3] = T[turned, :3, :3] @ Rotation.from_rotvec(vectors).as_matrix()
    names = tuple(recording.truth.names[index] for index in turned)
    return Disturbed(replace_poses(recording.truth, T), FEW_TURN_DEG, names)


def swap_sides(recording: Recording, strength: float, random: np.random.Generator) -> Disturbed | None:
    """Write the height as the width, and the other way around."""
    sizes = recording.truth.sizes
    if (sizes[:, 0] == sizes[:, 1]).all():
        return None
    return Disturbed(replace(recording.truth, sizes=sizes[:, ::-1].copy()))


def resize_K(recording: Recording, factor: float, random: np.random.Generator) -> Disturbed:
    """Write K of images that are `factor` times as large."""
    K = recording.truth.K.copy()
    K[:, :2] *= factor
    K[:, :2, 2] += 0.5 * factor - 0.5
    return Disturbed(replace(recording.truth, K=K), factor)


def move_center(recording: Recording, px: float, random: np.random.Generator) -> Disturbed:
    """Move the principal point along a side of the image; px: of images whose shorter side is 1080."""
    K = recording.truth.K.copy()
    distance_px = px * float(recording.truth.sizes[0].min()) / 1080
    K[:, int(random.integers(2)), 2] += random.choice((-1.0, 1.0)) * distance_px
    return Disturbed(replace(recording.truth, K=K), distance_px)


def shift_part(recording: Recording, count: float, random: np.random.Generator) -> Disturbed | None:
    """Give the images from a random third of the recording on the poses of the images `count` before them."""
    T = recording.truth.T_camera_world.copy()
    by = int(count)
    if not recording.matches.is_ordered or by > len(T) / 8:
        return None
    start = int(random.integers(len(T) // 3, 2 * len(T) // 3))
    T[start:] = T[start - by : len(T) - by].copy()
    return Disturbed(replace(recording.truth, T_camera_world=T), count, recording.truth.names[start:])


def offset_times(recording: Recording, offset_s: float, random: np.random.Generator) -> Disturbed | None:
    """Write poses with the times of a clock that is late, and without the names of the images."""
    if recording.times_s is None:
        return None
    names = ("",) * len(recording.truth)
    sign = random.choice((-1.0, 1.0))
    times_s = recording.times_s + sign * offset_s
    return Disturbed(replace(recording.truth, names=names, times_s=times_s), sign * offset_s)


@dataclass(frozen=True)
class Disturbance:
    """A row of the table of disturbances.

    cause: the cause that is to be named.
    strengths: arguments of `disturb`.
    """

    cause: str
    strengths: tuple[float, ...]
    disturb: Disturb = field(repr=False)


DISTURBANCES = {
    "rotation-noise": Disturbance("rotation-noise", (0.1, 0.3, 1), turn_each),
    "position-noise": Disturbance("position-noise", (0.002, 0.01, 0.03), move_each),
    "focal-length": Disturbance("focal-length", (1.02, 1.1, 1.3), lengthen_focal),
    "aspect": Disturbance("aspect", (1.02, 1.1, 1.3), squeeze),
    "lens": Disturbance("lens", (2, 5, 15), bend_lens),
    "drift": Disturbance("drift", (1, 5, 15), drift),
    "stretched-axis": Disturbance("stretched-axis", (1.02, 1.1, 1.3), stretch),
    "scale-drift": Disturbance("scale-drift", (1.05, 1.2, 1.5), scale_along),
    "swapped-images": Disturbance("swapped-images", (0, 0.25, 0.5), swap),
    "moved-image": Disturbance("wrong-images", (0.05, 0.2, 0.5), move_one),
    "turned-images": Disturbance("wrong-images", (3, 5, 8), turn_few),
    "swapped-sides": Disturbance("swapped-sides", (1,), swap_sides),
    "size-of-k": Disturbance("size-of-k", (0.5, 2), resize_K),
    "principal-point": Disturbance("principal-point", (10, 20, 40), move_center),
    "shifted-list": Disturbance("shifted-list", (1, 2, 5), shift_part),
    "time-offset": Disturbance("time-offset", (0.1, 0.3, 0.5), offset_times),
}  # fmt: skip

UNDISTURBED_DRAWS = 10


def draw_part(recording: Recording, random: np.random.Generator) -> Recording:
    """Return successive images of a recording, two thirds of them or more."""
    count = len(recording.truth)
    kept = int(random.integers(round(count * 2 / 3), count + 1))
    start = int(random.integers(count - kept + 1))
    matches = recording.matches
    pairs = [
        replace(pair, first=pair.first - start, second=pair.second - start)
        for pair in matches.pairs
        if start <= min(pair.first, pair.second) and max(pair.first, pair.second) < start + kept
    ]
    window = slice(start, start + kept)
    part = replace(
        matches,
        names=matches.names[window],
        sizes=matches.sizes[window],
        pairs=pairs,
        times_s=None if matches.times_s is None else matches.times_s[window],
        source=None,
    )
    return replace(recording, truth=recording.truth.rows(range(start, start + kept)), matches=part)


def move_world(result: Reconstruction, random: np.random.Generator) -> Reconstruction:
    """Return the result in another world: another origin, orientation and scale."""
    T = result.T_world_camera.copy()
    R = Rotation.from_quat(random.normal(size=4)).as_matrix()
    scale = float(np.exp(random.normal()))
    T[:, :3, :3] = R @ T[:, :3, :3]
    T[:, :3, 3] = scale * T[:, :3, 3] @ R.T + random.normal(size=3)
    return replace_poses(result, T)


# -- Cases ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A disturbance and its strength, or an undisturbed draw: strength counts the draws."""

    disturbance: str
    strength: float


def list_cases(names: Sequence[str], strength: int | None) -> list[Case]:
    """Return the cases of the named disturbances, and of "none".

    strength: 0, 1 or 2 for one strength of each disturbance, or its largest if it has fewer; None for all of them.
    """
    cases = list[Case]()
    for name in names:
        values: Sequence[float] = range(UNDISTURBED_DRAWS) if name == "none" else DISTURBANCES[name].strengths
        chosen = values if strength is None or name == "none" else [values[min(strength, len(values) - 1)]]
        cases += [Case(name, value) for value in chosen]
    return cases


def measure_truth(result: Reconstruction, truth: Reconstruction) -> dict[str, float]:
    """Return the true errors of a disturbed result by the names of the measured ones, and by their definitions."""
    found = compare_poses(result.T_camera_world, truth.T_camera_world)
    kept = found.is_kept
    R_found, R_true = (T[kept, :3, :3] for T in (found.T_given, found.T_adjusted))
    steps = [R[1:] @ R[:-1].swapaxes(1, 2) for R in (R_found, R_true)]
    between_deg = np.degrees(Rotation.from_matrix(steps[0].swapaxes(1, 2) @ steps[1]).magnitude())
    in_world = np.einsum("nji,nj->ni", R_true, found.turns[kept])
    drift_rad = measure_change(in_world, np.zeros((len(in_world), 3, 0)), np.linspace(0, 1, len(kept))[kept]).value
    aspects = [one.K[:, 1, 1] / one.K[:, 0, 0] for one in (result, truth)]
    edges = [one.distortion[:, 0] * (one.sizes.max(1) / 2) ** 3 / truth.K[:, 0, 0] ** 2 for one in (result, truth)]
    offset_px = np.median(result.K[:, :2, 2] - truth.K[:, :2, 2], axis=0)
    return {
        "rotation_deg": find_rms(found.degrees[kept]),
        "neighbor_rotation_deg": find_rms(between_deg),
        "position_share": find_rms(found.shares[kept]),
        "drift_deg": float(np.degrees(drift_rad)),
        "focal_share": float(np.median(np.sqrt((result.K[:, (0, 1), (0, 1)] / truth.K[:, (0, 1), (0, 1)]).prod(1))))
        - 1,
        "aspect_share": float(np.median(aspects[0] / aspects[1])) - 1,
        "distortion_px": float(np.median(edges[0] - edges[1])),
        "principal_point_px.x": float(offset_px[0]),
        "principal_point_px.y": float(offset_px[1]),
    }


def find_rms(values: Array) -> float:
    return float(np.sqrt((values**2).mean()))


def list_measured(error: Any) -> dict[str, tuple[float, float]]:
    """Return the measured errors of a verdict: value and deviation by name."""
    found = {}
    names = ("rotation_deg", "neighbor_rotation_deg", "position_share", "focal_share", "aspect_share", "distortion_px")
    for name in (*names, "drift_deg"):
        measured = getattr(error, name)
        if measured is not None:
            found[name] = (float(measured.value), float(measured.deviation))
    if error.principal_point_px is not None:
        for axis, measured in zip("xy", error.principal_point_px, strict=True):
            found[f"principal_point_px.{axis}"] = (float(measured.value), float(measured.deviation))
    return found


SIZE_WITHIN = 0.2
SIZE_DEVIATIONS = 2.0


def is_size_right(size: float, deviation: float, true: float) -> bool:
    """Return whether a size is within SIZE_WITHIN, or within SIZE_DEVIATIONS deviations, of the true one."""
    off = abs(abs(size) - abs(true))
    return off <= max(SIZE_WITHIN * abs(true), SIZE_DEVIATIONS * deviation)


ERROR_OF = {
    "rotation-noise": "rotation_deg",
    "position-noise": "position_share",
    "focal-length": "focal_share",
    "aspect": "aspect_share",
    "lens": "distortion_px",
    "drift": "drift_deg",
}
"""Measured errors whose truth is the size of a cause."""


def is_left_open(cause: str, size: float | None, errors: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether the images leave it open that the cause is absent: two deviations of its error contain 0."""
    measured = errors.get(ERROR_OF.get(cause, ""))
    return measured is not None and size is not None and abs(measured["value"]) <= 2 * measured["deviation"]


def run_case(recording: Recording, case: Case, random: np.random.Generator) -> dict[str, Any] | None:
    """Judge a case; None if the recording cannot show the disturbance."""
    if case.disturbance == "none":
        recording = draw_part(recording, random)
        cause, disturbed = "", Disturbed(recording.truth)
    else:
        row = DISTURBANCES[case.disturbance]
        made = row.disturb(recording, case.strength, random)
        if made is None:
            return None
        cause, disturbed = row.cause, made
    truth = measure_truth(disturbed.result, recording.truth) if case.disturbance != "time-offset" else {}
    given = move_world(disturbed.result, random)
    start = time.process_time()
    record: dict[str, Any] = {
        "recording": recording.name,
        "is_exact": recording.is_exact,
        "disturbance": case.disturbance,
        "strength": case.strength,
        "cause": cause,
        "true_size": disturbed.size,
        "true_images": list(disturbed.images),
    }
    try:
        verdict = judge_reconstruction(given, recording.matches)
    except StadiaError as error:
        return {**record, "named": [], "failed": str(error), "seconds": round(time.process_time() - start, 1)}
    first = next(iter(verdict.causes), None)
    same = next((each for each in verdict.causes if each.name == cause), None)
    size = None if same is None or same.size is None else (float(same.size.value), float(same.size.deviation))
    measured = dict(list_measured(verdict.error))
    errors = {
        name: {"value": value, "deviation": deviation, "truth": truth.get(name)}
        for name, (value, deviation) in measured.items()
    }
    of_cause = size if size is not None else measured.get(ERROR_OF.get(cause, ""))
    return {
        **record,
        "named": [each.name for each in verdict.causes],
        "images": [] if first is None else list(first.images),
        "unit": None if same is None else same.unit,
        "size": size,
        "is_cause_right": (first.name if first is not None else "") == cause,
        "is_size_right": disturbed.size is None or (of_cause is not None and is_size_right(*of_cause, disturbed.size)),
        "are_images_right": first is None or not disturbed.images or set(first.images) == set(disturbed.images),
        "is_open": first is None and is_left_open(cause, disturbed.size, errors),
        "grade": str(verdict.grade),
        "errors": errors,
        "seconds": round(time.process_time() - start, 1),
    }


# -- Scores ---------------------------------------------------------------------------------------


def find_share(rows: Sequence[dict[str, Any]], name: str) -> str:
    """Return how many of the rows have a true field, as "a of b"."""
    return f"{sum(bool(row.get(name)) for row in rows)} of {len(rows)}"


def list_scores(rows: Sequence[dict[str, Any]]) -> list[dict[str, object]]:
    """Return one line for each disturbance, and one for all of them."""
    lines = list[dict[str, object]]()
    names = list(dict.fromkeys(row["disturbance"] for row in rows if row["cause"]))
    for name in [*names, "all"]:
        chosen = [row for row in rows if row["cause"] and name in (row["disturbance"], "all")]
        if not chosen:
            continue
        sized = [row for row in chosen if row["true_size"] is not None]
        imaged = [row for row in chosen if row["true_images"]]
        lines.append(
            {
                "disturbance": name,
                "cause first": find_share(chosen, "is_cause_right"),
                "left open": sum(bool(row.get("is_open")) for row in chosen),
                "size": find_share(sized, "is_size_right"),
                "images": find_share(imaged, "are_images_right"),
                "seconds": float(np.median([row["seconds"] for row in chosen])),
            }
        )
    return lines


def list_coverage(rows: Sequence[dict[str, Any]]) -> list[dict[str, object]]:
    """Return, for each measured error, how often the truth is within one and two deviations."""
    off: dict[str, list[tuple[float, bool]]] = {}
    for row in rows:
        for name, measured in row.get("errors", {}).items():
            if measured["truth"] is not None and measured["deviation"] > 0:
                distance = abs(measured["value"] - measured["truth"]) / measured["deviation"]
                off.setdefault(name, []).append((distance, row["is_exact"]))
    lines = list[dict[str, object]]()
    for name, every in [*off.items(), ("all", [entry for entries in off.values() for entry in entries])]:
        for exact in (True, False):
            distances = np.array([distance for distance, is_exact in every if is_exact == exact])
            if len(distances):
                lines.append(
                    {
                        "error": name,
                        "truth": "exact" if exact else "adjusted",
                        "cases": len(distances),
                        "within 1": f"{(distances <= 1).mean():.0%}",
                        "within 2": f"{(distances <= 2).mean():.0%}",
                        "median": float(np.median(distances)),
                    }
                )
    return lines


def list_failures(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each case whose cause, size or images are not right."""
    for row in rows:
        wrong = [name for name in ("cause", "size") if not row.get(f"is_{name}_right")]
        wrong += ["images"] if row.get("is_cause_right") and not row["are_images_right"] else []
        if not wrong:
            continue
        about = f"{row['recording']:8} {row['disturbance']:15} {row['strength']:<6g} wrong {', '.join(wrong)}: "
        if "failed" in row:
            yield about + row["failed"]
            continue
        errors = ", ".join(
            f"{name} {each['value']:.3g}+-{each['deviation']:.2g}"
            + ("" if each["truth"] is None else f" (true {each['truth']:.3g})")
            for name, each in row["errors"].items()
        )
        size = "no size" if row["size"] is None else "size {:.3g}+-{:.2g}".format(*row["size"])
        true = "" if row["true_size"] is None else f" (true {row['true_size']:.3g})"
        images = f"{row['images'][:4]} (true {row['true_images'][:4]})"
        yield f"{about}named {row['named']}, {images}, {size}{true}; {errors}"


def print_scores(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table of causes, undisturbed draws, coverage of deviations, and failures."""
    print_table(list_scores(rows))
    undisturbed = [row for row in rows if not row["cause"]]
    accused = sum(bool(row["named"]) for row in undisturbed)
    print(f"\nundisturbed: a cause named in {accused} of {len(undisturbed)}\n")
    print_table(list_coverage(rows))
    print()
    print("\n".join(list_failures(rows)))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recordings", nargs="*", choices=RECORDINGS, default=list(RECORDINGS))
    parser.add_argument("--causes", nargs="*", choices=[*DISTURBANCES, "none"], default=[*DISTURBANCES, "none"])
    parser.add_argument("--strength", type=int, choices=(0, 1, 2), help="judge one strength of each disturbance")
    parser.add_argument("--work", type=Path, help="folder for pictures, matches and right poses, which are kept")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--rows", type=Path, nargs="*", help="files of rows, whose tables are printed")
    options = parser.parse_args()
    rows = [row for file in options.rows or () for row in json.loads(file.read_text())["rows"]]
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.recordings if options.rows is None else ():
            recording = open_recording(name, options.work or Path(temporary))
            for case in list_cases(options.causes, options.strength):
                seeds = (options.seed, *name.encode(), *case.disturbance.encode(), round(1000 * case.strength))
                random = np.random.default_rng(seeds)
                row = run_case(recording, case, random)
                if row is not None:
                    rows.append(row)
                    print(json.dumps(row), flush=True)
                    if options.json is not None:
                        write_results(options.json, rows)
    print_scores(rows)


if __name__ == "__main__":
    main()
