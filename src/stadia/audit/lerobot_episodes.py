"""List the episodes of a dataset of lerobot, version 3: stretches of videos, which meta/episodes describes.

Source: https://github.com/huggingface/lerobot, LeRobotDataset v3.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stadia.core.errors import DataError, StadiaError, summarize_exception
from stadia.io.input_files import PARSER_ERRORS, check_input_file, natural_sort_key

INFO, EPISODES = Path("meta/info.json"), Path("meta/episodes")

MAX_PARQUET_BYTES = 1 << 28
EXPECTED = "episodes of lerobot, version 3"
FIX = "download meta/episodes again"

COLUMN = re.compile(r"videos/([^/]+)/from_timestamp")
"""Column with the start of an episode in the video of a camera, seconds."""


@dataclass(frozen=True)
class Episode:
    """The stretch of a video that an episode of one camera is.

    number: number of the episode.
    camera: key of the camera, such as observation.images.top.
    video: the file.
    span_s: start and end in the video, seconds.
    """

    number: int
    camera: str
    video: Path
    span_s: tuple[float, float]


def is_lerobot(folder: Path) -> bool:
    """Return whether a folder is a dataset of lerobot, version 3."""
    return (folder / INFO).is_file() and (folder / EPISODES).is_dir()


def list_episode_files(folder: Path) -> list[Path]:
    """Return the files with the episodes of a folder that `is_lerobot` recognizes, in their order."""
    return sorted((folder / EPISODES).rglob("*.parquet"), key=natural_sort_key)


def read_episodes(path: Path, folder: Path) -> list[Episode]:
    """Return the episodes of each camera that a file has.

    path: one of `list_episode_files`.
    folder: the folder of the dataset.

    Raises DataError for a damaged file, StadiaError if pyarrow is not installed.
    """
    return sorted(_read_file(path, folder), key=lambda episode: (episode.number, episode.camera))


def _read_file(path: Path, folder: Path) -> Iterator[Episode]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        fix = "pip install 'stadia[waymo]'"
        raise StadiaError(path, found="a parquet file", expected="the package pyarrow", fix=fix) from error
    check_input_file(path, expected=EXPECTED, max_bytes=MAX_PARQUET_BYTES)
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
        cameras = [match[1] for name in names if (match := COLUMN.fullmatch(name))]
        fields = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
        columns = ["episode_index", *(f"videos/{camera}/{field}" for camera in cameras for field in fields)]
        rows: list[dict[str, Any]] = parquet.read_table(path, columns=columns).to_pylist()
    except (ArrowException, OSError, *PARSER_ERRORS) as error:
        raise DataError(
            path, found=f"a damaged file ({summarize_exception(error)})", expected=EXPECTED, fix=FIX
        ) from error
    for row in rows:
        for camera in cameras:
            chunk, file_number, start_s, stop_s = (row[f"videos/{camera}/{field}"] for field in fields)
            number = row["episode_index"]
            whole = all(isinstance(value, int) and value >= 0 for value in (number, chunk, file_number))
            times = all(isinstance(value, float) and np.isfinite(value) for value in (start_s, stop_s))
            if not whole or not times or not 0 <= start_s < stop_s or camera in (".", ".."):
                found = f"episode {number} of {camera} from {start_s} to {stop_s} s in file {file_number}"
                raise DataError(path, found=found, expected=EXPECTED, fix=FIX)
            video = folder / "videos" / camera / f"chunk-{chunk:03d}" / f"file-{file_number:03d}.mp4"
            yield Episode(number, camera, video, (start_s, stop_s))
