"""Files of rendered datasets: splits and presets, scene jobs that resume, PNG files and contact sheets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, as_completed, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError, DataError
from stadia.core.files import atomic_write, read_json
from stadia.core.registry import find_nearest_name

SPLITS = ("train", "val", "test")

Config = TypeVar("Config")
Item = TypeVar("Item")
Result = TypeVar("Result")
Image = NDArray[np.uint8]


def _check_odd(samples: int) -> int:
    if samples % 2 == 0:
        raise ValueError("must be odd: the middle sample is the pixel's center")
    return samples


Supersampling = Annotated[int, Field(ge=1, le=9), AfterValidator(_check_odd)]
"""N for N x N samples a pixel."""


def find_preset(presets: Mapping[str, Config], name: str) -> Config:
    """Return the preset of this name. Raises ConfigError with the nearest name."""
    if name not in presets:
        near = find_nearest_name(name, list(presets))
        fix = f"did you mean '{near}'?" if near else "choose one of them"
        raise ConfigError("preset", found=f"'{name}'", expected=f"one of {', '.join(presets)}", fix=fix)
    return presets[name]


def count_cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# -- A dataset is one folder a scene, complete or absent, so that an interrupted rendering resumes.


@dataclass(frozen=True, slots=True)
class SceneJob:
    """One scene to be rendered. name: its folder."""

    name: str
    split: str
    index: int
    seed: int

    def origin(self, config: StrictModel, version: int) -> dict[str, Any]:
        """Return what defines the scene's images, without the number of scenes: equal origins mean equal images."""
        settings = config.model_dump(mode="json", exclude=set(SPLITS))
        return {"version": version, "split": self.split, "index": self.index, "seed": self.seed, "config": settings}


def list_jobs(
    counts: Mapping[str, int], derive: Callable[[str, int], int], name: Callable[[str, int, int], str]
) -> list[SceneJob]:
    """List the scenes of each split in order. derive: seed of (split, index).  name: of (split, index, seed)."""
    seeds = ((split, index, derive(split, index)) for split, count in counts.items() for index in range(count))
    return [SceneJob(name(split, index, seed), split, index, seed) for split, index, seed in seeds]


def is_finished(record: Path, key: str, origin: dict[str, Any]) -> bool:
    """Return whether a scene exists with this origin. Raises DataError where the folder holds another one."""
    if not record.parent.exists():
        return False
    found = read_json(record)
    if not isinstance(found, dict) or found.get(key) != origin:
        fix = "choose another --out, or delete it"
        raise DataError(record.parent, found="one that was made with other settings", expected="the same ones", fix=fix)
    return True


def find_unfinished(
    jobs: Iterable[SceneJob], record: Callable[[SceneJob], Path], key: str, config: StrictModel, version: int
) -> list[SceneJob]:
    """Return the jobs without a finished scene, see `is_finished`."""
    return [job for job in jobs if not is_finished(record(job), key, job.origin(config, version))]


def group_names_by_split(jobs: Iterable[SceneJob]) -> dict[str, list[str]]:
    """Return the folders of each split in order."""
    every = list(jobs)
    return {split: [job.name for job in every if job.split == split] for split in SPLITS}


def run_jobs(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], done: Callable[[Result], object]
) -> None:
    """Run `work` for each item on the threads of a pool; `done` gets each result as it completes.

    When this returns or raises, no thread is still writing.
    """
    futures = [pool.submit(work, item) for item in items]
    try:
        for future in as_completed(futures):
            done(future.result())
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


# -- PNG files and contact sheets. OpenCV is imported when the first is drawn: `stadia --help` needs SPLITS only.


def write_png(path: Path, image: NDArray) -> None:
    """Write an image losslessly; three channels are BGR as in OpenCV."""
    import cv2

    done, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not done:
        raise DataError(path, found=f"{image.dtype} {image.shape}", expected="an image", fix="report this")
    path.write_bytes(data.tobytes())


def colorize_depth(depth_m: NDArray[np.float32], near_m: float, far_m: float) -> Image:
    """Color depth as (H, W, 3) RGB on a logarithmic scale: near is bright, far is dark, none is black."""
    import cv2

    share = np.log(np.clip(depth_m, near_m, far_m) / near_m) / np.log(far_m / near_m)
    image = cv2.applyColorMap((255 * (1 - share)).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.where(depth_m[..., None] > 0, image, 0).astype(np.uint8)


def draw_caption(text: str, width: int) -> Image:
    """Draw a white bar with a line of text, (18, W, 3), at least as wide as the text."""
    import cv2

    font = cv2.FONT_HERSHEY_SIMPLEX, 0.4
    bar = np.full((18, max(width, int(cv2.getTextSize(text, *font, 1)[0][0]) + 4), 3), 255, np.uint8)
    return np.asarray(cv2.putText(bar, text, (2, 13), *font, (40, 40, 40), 1, cv2.LINE_AA), np.uint8)


def stack_tiles(tiles: list[Image], columns: int) -> Image:
    """Join tiles of one size row by row; the rest of the last row is black."""
    missing = -len(tiles) % columns
    tiles = tiles + [np.zeros_like(tiles[0])] * missing
    return np.vstack([np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)])


def write_contact_sheet(path: Path, sheet: Image) -> Path:
    """Write a sheet in RGB. Returns its path."""
    import cv2

    with atomic_write(path) as temporary:
        cv2.imwrite(str(temporary), sheet[..., ::-1])
    return path
