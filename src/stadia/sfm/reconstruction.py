"""Run COLMAP's incremental mapping on matched keyframes (Schonberger and Frahm, CVPR 2016).

The options suit a camera that drives forward, with small angles of triangulation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stadia.core.progress import TrackProgress, no_progress
from stadia.sfm.sparse_map import Array, LensCamera, SparseMap, from_reconstruction, import_pycolmap

START_FOVS_DEG = (45.0, 65.0, 90.0)
"""Start values of an unknown camera's horizontal field of view, degrees: the cost has several minima."""

MAX_FRAME_S = 3.0
"""Longest computing time per keyframe, seconds; without it, COLMAP adds and removes wrong matches for minutes."""

MIN_POINTS = 30
"""Fewest points of a model; a camera that rotates on the spot gives fewer."""

MAX_ERROR_PX, MAX_POSE_ERROR_PX = 1.5, 4.0
"""Largest reprojection errors, pixels: MAX_ERROR_PX of a match or point, MAX_POSE_ERROR_PX of a match that gives a new
frame its pose.

COLMAP's 4 and 12 px keep matches of traffic, which pull the trajectory of a drive 20 to 50 degrees aside.
"""

MAX_LENS = 1.0  # largest coefficient of distortion
_ROBUST_PX, _MIN_ROBUST_PX = 1.0, 0.03
NOISE_SHARE = 0.5  # A robust cost that determines a lens ends at this share of the noise.


@dataclass(frozen=True)
class Workers:
    """How COLMAP is run.

    threads: number of threads.
    track: shows progress.
    what: name of the step in the progress display.
    """

    threads: int
    track: TrackProgress = no_progress
    what: str = "mapping"

    @contextmanager
    def count_steps(self, count: int, what: str) -> Iterator[Callable[[], None]]:
        """Show the progress of `count` steps called `what`; yields a function to call after each step."""
        steps = iter(self.track(range(count + 1), count, what))
        next(steps)
        yield lambda: (next(steps, None), None)[1]
        for _ in steps:
            pass


def map_frames(
    database: Path,
    names: Sequence[str],
    camera: Any,
    *,
    refine: bool,
    workers: Workers,
    init_angle_deg: float = 2.0,
    start: Any = None,
) -> Any | None:
    """Run COLMAP's incremental mapping on some images of a database.

    database: COLMAP database with the verified matches.
    names: names of the images (8-digit frame indices).
    camera: the pycolmap.Camera to start from; it is written into the database.
    refine: whether focal length and distortion are adjusted.
    workers: number of threads, and how progress is shown.
    init_angle_deg: smallest triangulation angle of the first image pair, degrees.
    start: a pycolmap.Reconstruction of some of the images with this camera; the other images are added to it; None
        starts an empty one.

    Returns the largest pycolmap.Reconstruction; None if no two images get a pose.
    """
    pycolmap = import_pycolmap()
    with pycolmap.Database.open(str(database)) as store:
        store.update_camera(camera)
    options = pycolmap.IncrementalPipelineOptions()
    options.image_names, options.num_threads, options.random_seed = list(names), workers.threads, 0
    options.multiple_models, options.extract_colors, options.min_model_size = False, False, 3
    options.ba_refine_focal_length = options.ba_refine_extra_params = refine
    options.ba_global_frames_ratio = options.ba_global_points_ratio = 1.4
    options.ba_global_max_refinements, options.ba_global_max_num_iterations = 2, 20
    options.max_extra_param = MAX_LENS
    options.max_runtime_seconds = round(MAX_FRAME_S * len(names))
    mapper = options.mapper
    mapper.init_max_forward_motion, mapper.init_min_tri_angle, mapper.filter_min_tri_angle = 1.0, init_angle_deg, 0.4
    mapper.abs_pose_refine_focal_length = mapper.abs_pose_refine_extra_params = refine
    mapper.init_max_error = mapper.filter_max_reproj_error = MAX_ERROR_PX
    mapper.abs_pose_max_error = MAX_POSE_ERROR_PX
    options.triangulation.min_angle = 0.5
    options.triangulation.complete_max_reproj_error = options.triangulation.merge_max_reproj_error = MAX_ERROR_PX
    with tempfile.TemporaryDirectory(dir=database.parent) as folder:
        before = Path(folder, "start")
        if start is not None:
            before.mkdir()
            start.write(str(before))
        given = str(before) if start is not None else ""
        with workers.count_steps(len(names), workers.what) as step:
            models = pycolmap.incremental_mapping(
                str(database), folder, folder, options, given, next_image_callback=step
            )
    return max(models.values(), key=lambda model: model.num_reg_images(), default=None)


def map_globally(database: Path, camera: Any, *, threads: int) -> list[Any]:
    """Reconstruct each connected set of images at once (global mapping: Pan, GLOMAP, ECCV 2024).

    It passes places where incremental mapping ends, but may join parts wrongly.

    database: COLMAP database with the verified matches.
    camera: a pycolmap.Camera, which is not adjusted.
    threads: number of threads.

    Returns a pycolmap.Reconstruction of each set.
    """
    pycolmap = import_pycolmap()
    with pycolmap.Database.open(str(database)) as store:
        store.update_camera(camera)
    options = pycolmap.GlobalPipelineOptions()
    options.num_threads, options.random_seed = threads, 0
    mapper = options.mapper
    mapper.num_threads, mapper.random_seed = threads, 0
    adjustment = mapper.bundle_adjustment
    adjustment.refine_focal_length = adjustment.refine_extra_params = False
    mapper.global_positioning.use_gpu = adjustment.ceres.use_gpu = False
    with tempfile.TemporaryDirectory(dir=database.parent) as folder:
        models = pycolmap.global_mapping(str(database), folder, folder, options)
    for model in models.values():
        adjust(model, refine_focal=False, refine_lens=False, threads=threads)
    return list(models.values())


def adjust(
    model: Any,
    *,
    refine_focal: bool,
    refine_lens: bool,
    refine_center: bool = False,
    refine_poses: bool = True,
    robust_px: float = _ROBUST_PX,
    iterations: int = 30,
    threads: int = 2,
    positions: Mapping[int, Array] | None = None,
    position_deviation: float = 1.0,
) -> Any:
    """Run a bundle adjustment of the poses and points of a pycolmap.Reconstruction in place.

    refine_focal: whether to adjust the focal length.
    refine_lens: whether to adjust the distortion.
    refine_center: whether to adjust the principal point.
    refine_poses: whether to adjust the poses.
    robust_px: residual, pixels, beyond which the (Cauchy) cost grows slower than a square.
    iterations: most iterations.
    threads: number of threads.
    positions: known position (3,) of the camera of some images, by image id; they also fix the world.
    position_deviation: standard deviation of these positions.

    Returns pycolmap's bundle adjuster.
    """
    pycolmap = import_pycolmap()
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length, options.refine_principal_point = refine_focal, refine_center
    options.refine_extra_params, options.refine_rig_from_world = refine_lens, refine_poses
    options.ceres.loss_function_type, options.ceres.loss_function_scale = pycolmap.LossFunctionType.CAUCHY, robust_px
    options.ceres.solver_options.max_num_iterations = iterations
    options.ceres.solver_options.num_threads = threads
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    if positions is None:
        if refine_poses:
            config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
        adjuster = pycolmap.create_default_ceres_bundle_adjuster(options, config, model)
    else:
        known = [
            pycolmap.PosePrior(
                corr_data_id=model.images[image_id].data_id,
                position=position,
                position_covariance=position_deviation**2 * np.eye(3),
                coordinate_system=pycolmap.PosePriorCoordinateSystem.CARTESIAN,
            )
            for image_id, position in positions.items()
        ]
        prior = pycolmap.PosePriorBundleAdjustmentOptions()
        prior.alignment_ransac.random_seed = 0
        adjuster = pycolmap.create_pose_prior_bundle_adjuster(options, prior, config, known, model)
    adjuster.solve()
    return adjuster


def build_model(sparse: SparseMap, cameras: Sequence[Any]) -> Any:
    """Build a pycolmap.Reconstruction from a map.

    Image ids count from 1 in the order of the keyframes. So do the ids of the points, in their own order.

    sparse: the map; `sparse.camera` is not used.
    cameras: the pycolmap.Camera of each keyframe.
    """
    pycolmap = import_pycolmap()
    model = pycolmap.Reconstruction()
    for camera in {camera.camera_id: camera for camera in cameras}.values():
        model.add_camera_with_trivial_rig(camera)
    place = np.zeros(len(sparse.observed), np.int64)
    for row, (frame, camera) in enumerate(zip(sparse.frames.tolist(), cameras, strict=True)):
        seen = np.flatnonzero(sparse.observed[:, 0] == row)
        place[seen] = np.arange(len(seen))
        points = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in sparse.xy[seen] + 0.5])
        image = pycolmap.Image(name=f"{frame:08d}", camera_id=camera.camera_id, image_id=row + 1, points2D=points)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(sparse.T_camera_world[row, :3]))
    order = np.argsort(sparse.observed[:, 1], kind="stable")
    starts = np.searchsorted(sparse.observed[order, 1], np.arange(len(sparse.points) + 1))
    for point, (start, stop) in enumerate(pairwise(starts.tolist())):
        elements = [pycolmap.TrackElement(int(sparse.observed[at, 0]) + 1, int(place[at])) for at in order[start:stop]]
        model.add_point3D(sparse.points[point], pycolmap.Track(elements=elements))
    return model


def adjust_map(sparse: SparseMap, *, threads: int) -> SparseMap:
    """Return a map whose poses and points are adjusted for its camera and its `readout`.

    COLMAP has no rolling shutter. So it gets the pixels that a global shutter at the time of the middle row would see.

    sparse: the map.
    threads: number of threads.
    """
    xy = sparse.xy - sparse.readout * sparse.differentiate_rows()
    is_joined = sparse.track_lengths()[sparse.observed[:, 1]] > 1  # COLMAP refuses points that one image sees
    seen = replace(sparse, observed=sparse.observed[is_joined], xy=xy[is_joined])
    model = build_model(seen, [sparse.camera.to_pycolmap()] * len(sparse.frames))
    adjust(model, refine_focal=False, refine_lens=False, threads=threads)
    found = from_reconstruction(model, {})
    return replace(sparse, T_camera_world=found.T_camera_world, points=found.points)


def adjust_camera(model: Any, *, threads: int) -> None:
    """Adjust poses, points, focal length and distortion in place, first with a wide, then with a narrow robust cost.

    Wrong matches of up to a pixel outweigh the distortion, so the second cost is robust from below the noise on.
    """
    adjust(model, refine_focal=True, refine_lens=True, threads=threads)
    robust_px = NOISE_SHARE * from_reconstruction(model, {}).measure_noise_px()
    robust_px = min(max(robust_px, _MIN_ROBUST_PX), _ROBUST_PX)
    adjust(model, refine_focal=True, refine_lens=True, robust_px=robust_px, threads=threads)


def retriangulate(model: Any, database: Path, *, threads: int) -> Any:
    """Return a reconstruction with the same poses and camera, whose points are triangulated again from all matches.

    model: a pycolmap.Reconstruction.
    database: COLMAP database with the verified matches.
    threads: number of threads.
    """
    pycolmap = import_pycolmap()
    with pycolmap.Database.open(str(database)) as store:
        store.update_camera(next(iter(model.cameras.values())))
    options = pycolmap.IncrementalPipelineOptions()
    options.extract_colors, options.num_threads, options.ba_refine_focal_length = False, threads, False
    options.ba_refine_extra_params = False
    options.image_names = [model.images[image_id].name for image_id in model.reg_image_ids()]
    options.mapper.filter_min_tri_angle, options.triangulation.min_angle = 0.4, 0.5
    options.ba_global_max_refinements, options.ba_global_max_num_iterations = 2, 20
    with tempfile.TemporaryDirectory(dir=database.parent) as folder:
        return pycolmap.triangulate_points(model, str(database), folder, folder, True, options, False)


def keep_frames(model: Any, names: Sequence[str]) -> Any:
    """Return a copy of a pycolmap.Reconstruction with only the images of these names, and the points that they see."""
    kept = import_pycolmap().Reconstruction(model)
    for image_id in kept.reg_image_ids():
        if kept.images[image_id].name not in names:
            kept.deregister_frame(kept.images[image_id].frame_id)
    return kept


def change_model(model: Any, name: str) -> None:
    """Change the lens model of a reconstruction's only camera in place; coefficients that it did not have become 0.

    name: name of COLMAP's camera model, such as "RADIAL" or "OPENCV".
    """
    pycolmap = import_pycolmap()
    (camera,) = model.cameras.values()
    if camera.model_name == name:
        return
    lens = LensCamera.from_pycolmap(camera)
    new = pycolmap.Camera.create_from_model_name(camera.camera_id, name, lens.focal_px, camera.width, camera.height)
    x, y = lens.center_px[0] + 0.5, lens.center_px[1] + 0.5
    values = {"f": lens.focal_px, "fx": lens.focal_px, "fy": lens.focal_px, "cx": x, "cy": y}
    values |= dict(zip(("k1", "k2", "p1", "p2"), lens.distortion, strict=True), k=lens.distortion[0])
    new.params = [values[key.strip()] for key in new.params_info.split(",")]
    camera.model, camera.params = new.model, new.params


SMALL_PATH = 0.6
"""Extent of the camera trajectory over the median distance of the points, below which the depth-reversed scene is
tried.
"""

_MIN_IN_FRONT = 0.98  # share of the observed points before the camera
_BETTER = 0.97  # cost of the mirrored scene over that of the scene, from which it is taken


def mirror_if_better(model: Any, *, threads: int) -> Any:
    """Return the model, or the same with near and far exchanged if that explains the images better.

    If a camera moves little, the first two images can lead to the depth-reversed scene (the Necker reversal; Kanatani,
    Geometric Computation for Machine Vision, 1993). Both are adjusted with a fixed camera, and the smaller cost
    decides.

    model: a pycolmap.Reconstruction.
    threads: number of threads.
    """
    pycolmap = import_pycolmap()
    images = [model.images[image_id] for image_id in model.reg_image_ids()]
    points = np.array([point.xyz for point in model.points3D.values()])
    centers = np.array([image.projection_center() for image in images])
    if np.linalg.norm(np.ptp(centers, axis=0)) > SMALL_PATH * np.median(_depths(model)):
        return model
    mirrored = pycolmap.Reconstruction(model)
    R = images[len(images) // 2].cam_from_world().rotation.matrix()
    mirror = R.T @ np.diag([1.0, 1, -1]) @ R
    middle = np.median(points, axis=0)
    for point_id, point in model.points3D.items():
        mirrored.points3D[point_id].xyz = middle + mirror @ (point.xyz - middle)
    for image in images:
        pose = image.cam_from_world().matrix()
        turned = np.diag([1.0, 1, -1]) @ pose[:, :3] @ mirror
        moved = np.column_stack((turned, pose[:, 3] + (pose[:, :3] - turned) @ middle))
        mirrored.images[image.image_id].frame.rig_from_world = pycolmap.Rigid3d(moved)
    for tried in (model, mirrored):
        adjust(tried, refine_focal=False, refine_lens=False, threads=threads)
    is_in_front = (_depths(mirrored) > 0).mean() > _MIN_IN_FRONT
    return mirrored if is_in_front and measure_cost(mirrored) < _BETTER * measure_cost(model) else model


def _depths(model: Any) -> Array:
    return from_reconstruction(model, {}).in_camera()[:, 2]


def measure_cost(model: Any) -> float:
    """Return the mean robust reprojection cost of an observation in a pycolmap.Reconstruction, which `adjust`
    minimizes.
    """
    squared = (from_reconstruction(model, {}).residuals_px() ** 2).sum(1)
    return float(np.log1p(squared / _ROBUST_PX**2).mean())
