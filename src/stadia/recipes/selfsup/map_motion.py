"""Decide whether a training takes its motion from the maps beside its videos (`stadia map`), or learns it."""

from __future__ import annotations

from rich.console import Console

from stadia.core.errors import ConfigError, StadiaError
from stadia.dataloading.config import DatasetConfig
from stadia.datasets.config import POSES_OF_MAP
from stadia.datasets.open_dataset import VIDEO, detect_format
from stadia.datasets.video.video_camera import read_image_size, read_user_intrinsics
from stadia.datasets.video.video_map import find_camera_mismatch, find_map, find_map_folder
from stadia.files.paths import expand_home
from stadia.recipes.selfsup.config import SelfsupConfig

MIN_PLACED = 0.5  # share of the frames that a map must place


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
        raise ConfigError("motion=map", found=missing, expected="a map of each video", fix=fix)
    if missing is None:
        missing = f"its unit is its own, and {' and '.join(metric)} gives metres"
    if missing:
        console.print(f"the map beside the video is not used: {missing}", markup=False, soft_wrap=True)
    return config.model_copy(update={"motion": "network"})


def find_reason_against(data_set: DatasetConfig) -> str | None:
    """Return why a data set does not take its motion from a map; "" where there is none to take, None where it does."""
    path = expand_home(data_set.path)
    if data_set.poses not in (None, POSES_OF_MAP) or not data_set.offsets or data_set.stereo is True:
        return "" if data_set.poses is None else "poses of another file are given"
    try:
        is_own = detect_format(path, data_set.format) == VIDEO
        mapped = find_map(path) if is_own else None
        if mapped is None:
            return ""
        camera = read_user_intrinsics(data_set.camera, path, *read_image_size(path))
    except StadiaError as error:
        return str(error)
    placed = sum(status != "lost" for status in mapped.status) / max(len(mapped.status), 1)
    if placed < MIN_PLACED:
        return f"{find_map_folder(path).name} places {placed:.0%} of the frames"
    return find_camera_mismatch(mapped, float(camera.select_K(0)[0, 0]) / camera.width)


def _take_maps(config: SelfsupConfig, console: Console) -> SelfsupConfig:
    names = ", ".join(find_map_folder(expand_home(data_set.path)).name for data_set in config.data.sets.values())
    line = f"motion: that of {names}, whose points are a weak label of depth (motion=network learns the motion)"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    others = {
        name: data_set.model_copy(update={"poses": POSES_OF_MAP})
        for name, data_set in config.data.extra_datasets.items()
    }
    data = config.data.model_copy(update={"poses": POSES_OF_MAP, "extra_datasets": others})
    return config.model_copy(update={"data": data, "motion": "map"})
