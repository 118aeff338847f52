"""Decide whether a training takes its motion from the maps beside its videos (`stadia map`), or learns it."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from stadia.core.errors import ConfigError, StadiaError
from stadia.dataloading.config import DatasetConfig
from stadia.datasets.config import POSES_OF_MAP
from stadia.datasets.open_dataset import VIDEO, detect_format
from stadia.datasets.video.video_camera import read_image_size, read_user_camera, read_user_intrinsics
from stadia.datasets.video.video_map import find_map, find_map_folder, find_map_geometry
from stadia.files.paths import expand_home
from stadia.models.depth.config import DepthModelConfig
from stadia.recipes.selfsup.config import SelfsupConfig

MIN_PLACED = 0.5  # share of the frames that a map must place
UNIT_FRAMES = 8  # frames by which the unit of a map is measured
MIN_RATIOS = 100  # points that give a unit
ROAD_AHEAD = 6.0, 20.0  # heights of the camera: the road in reach of cameras of 35 to 120 degrees
DIGITS = 3  # significant digits of the unit that is written into the configuration

DatasetT = TypeVar("DatasetT", bound=DatasetConfig)


def resolve_motion(config: SelfsupConfig, console: Console) -> SelfsupConfig:
    """Return the configuration with `motion` resolved: with "map" the data sets take the poses of their maps.

    Prints what is taken, or why a map is not. Raises ConfigError for motion=map where a data set has no usable map, and
    with a loss that gives metres: the motion of a map is in a unit of its own.
    """
    if config.motion == "network":
        return config
    wanted = config.motion == "map" or config.data.poses == POSES_OF_MAP
    metric = [f"loss.{name}" for name in ("sparse_depth", "speed") if getattr(config.loss, name)]
    if wanted and metric:
        found = f"the map's motion beside {' and '.join(metric)}, in metres"
        expected = "one unit: a map has its own"
        raise ConfigError("motion=map", found=found, expected=expected, fix=f"leave out the map, or {metric[0]}")
    reasons = {name: find_reason_against(data_set) for name, data_set in config.data.sets.items()}
    missing = next((reason for reason in reasons.values() if reason is not None), None)
    if missing is None and not metric:
        return _take_maps(config, console)
    if wanted:
        fix = f"make it: stadia map {config.data.path}; or leave motion out"
        raise ConfigError("motion=map", found=missing or "none", expected="a map of each video", fix=fix)
    if missing is None:
        missing = f"its unit is its own, and {' and '.join(metric)} gives metres"
    if missing:
        console.print(f"the map beside the video is not used: {missing}", markup=False, soft_wrap=True)
    return config.model_copy(update={"motion": "network"})


def find_reason_against(data_set: DatasetConfig) -> str | None:
    """Return why a data set does not take its motion from a map; "" where there is none to take, None where it does."""
    path = expand_home(data_set.path)
    if not data_set.offsets or data_set.stereo is True:
        return ""
    try:
        is_own = detect_format(path, data_set.format) == VIDEO
        mapped = find_map(path) if is_own else None
        if mapped is None:
            return ""
        if data_set.poses not in (None, POSES_OF_MAP):
            return f"data.poses={data_set.poses} gives the motion"
        camera = read_user_intrinsics(data_set.camera, path, *read_image_size(path))
    except StadiaError as error:
        return str(error)
    placed = sum(status != "lost" for status in mapped.status) / max(len(mapped.status), 1)
    if placed < MIN_PLACED:
        return f"{find_map_folder(path).name} places {placed:.0%} of the frames"
    return mapped.find_camera_mismatch(float(camera.select_K(0)[0, 0]) / camera.width)


def _take_maps(config: SelfsupConfig, console: Console) -> SelfsupConfig:
    names = ", ".join(find_map_folder(expand_home(data_set.path)).name for data_set in config.data.sets.values())
    line = f"motion: that of {names}, whose points are a weak label of depth (motion=network learns the motion)"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    starts_in_metres = config.model.pretrained and config.model.network.starts_in_metres and config.start_from is None

    def take(data_set: DatasetT) -> DatasetT:
        unit = data_set.map_unit_m
        if unit is None and starts_in_metres:
            unit = measure_map_unit(config.model, data_set)
        return data_set.model_copy(update={"poses": POSES_OF_MAP, "map_unit_m": unit})

    others = {name: take(data_set) for name, data_set in config.data.extra_datasets.items()}
    data = take(config.data).model_copy(update={"extra_datasets": others})
    return config.model_copy(update={"data": data, "motion": "map"})


def measure_map_unit(model: DepthModelConfig, data_set: DatasetConfig) -> float | None:
    """Return the metres of one unit of the map beside a video, by a network whose published weights predict metres.

    The training starts with depth and motion of one scale then: else it would first have to scale its network. The unit
    is the median ratio of depths in some frames, with DIGITS digits: on the road ahead where the map has one, as far
    points are beyond the reach of a small network, else at the points of the map. None where these are too few.
    """
    from stadia.evaluation.frame_preparation import Frame, PreparedFrame
    from stadia.evaluation.predict_frames import predict_inverse_depth
    from stadia.mapping.frame_stream import MAX_FRAMES, FrameStream
    from stadia.models.depth.depth_network import build_depth_network
    from stadia.recipes.base.network_recipe import make_network_recipe

    path = expand_home(data_set.path)
    mapped = find_map_geometry(path, skip_damaged=True)
    if mapped is None:
        return None
    recipe = make_network_recipe(model, build_depth_network(model).eval(), (data_set.height, data_set.width))
    predictor = recipe.predictor()
    every = max(len(mapped.row_of_name) // UNIT_FRAMES, 1)
    stream = FrameStream.open(path)
    count = stream.count()
    camera = read_user_camera(data_set.camera, path, stream.height, stream.width, frames=count)
    ratios = []
    for filmed in stream.select(range(0, count or MAX_FRAMES, every)):
        frame = Frame(filmed.name, camera.undistort(filmed.filmed), camera.intrinsics.select_K(filmed.index))
        points = mapped.find_points(frame.name, frame.K[0, 0] / frame.image.shape[1], frame.K)
        if points is None:
            continue
        prepared = PreparedFrame.prepare(predictor, frame)
        inverse = predict_inverse_depth(predictor, prepared)
        depth = prepared.predicted(predictor.depth_scale, inverse, None).depth_at_image()
        xy, z = (points.xy, points.z) if points.road is None else project_road(points.road, frame.K)
        x, y = np.floor(xy + 0.5).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < depth.shape[1]) & (y < depth.shape[0])
        ratios.append(depth[y[inside], x[inside]] / z[inside])
    measured = np.concatenate(ratios) if ratios else np.empty(0)
    measured = measured[np.isfinite(measured) & (measured > 0)]
    return float(f"{np.median(measured):.{DIGITS}g}") if len(measured) >= MIN_RATIOS else None


def project_road(road: NDArray[np.float64], K: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return pixels (M, 2) and z (M,) of a grid on the road ahead, in the unit of the plane.

    The grid is a lane, ROAD_AHEAD heights of the camera ahead.

    Args:
        road: (4,) normal n and height h in the camera's axes: n X + h = 0 on the road.
        K: (3, 3) of the image.

    Example:
        >>> K = np.array([[100.0, 0, 50], [0, 100, 50], [0, 0, 1]])
        >>> xy, z = project_road(np.array([0, -1, 0, 1.5]), K)
        >>> bool(np.allclose(xy[:, 1], 50 + 100 * 1.5 / z))
        True
    """
    ahead, aside = np.meshgrid(np.linspace(*ROAD_AHEAD, 24), np.linspace(-1, 1, 9), indexing="ij")
    z, x = ahead.ravel() * road[3], aside.ravel() * road[3]
    y = -(road[3] + road[0] * x + road[2] * z) / road[1]
    points = np.column_stack((x, y, z)) @ K.T
    return points[:, :2] / z[:, None], z
