"""List the items of a dataset: scenes with a result of a program, recordings of a dataset's format, and videos."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from stadia.audit.lerobot_episodes import is_lerobot, list_episode_files, read_episodes
from stadia.core.errors import DataError, StadiaError
from stadia.data import DATASETS
from stadia.io.image_files import IMAGE_SUFFIXES
from stadia.io.input_files import (
    check_path_exists,
    expand_home,
    find_glob,
    is_existing_path,
    is_glob,
    make_absolute,
    natural_sort_key,
    read_list,
)
from stadia.io.records.read import find_format
from stadia.io.video_decoding import VIDEO_SUFFIXES

GROUPS = ("camera", "day", "robot")
"""Columns of a list that group items: what items of one group share may be wrong in all of them."""

COLUMNS = ("result", "images", "name", "calibration", *GROUPS)
EXPECTED = f"a list of items with the column images or result, and optionally {', '.join(COLUMNS)}"

MAX_ITEMS = 1_000_000
MAX_DEPTH = 6
"""Levels of folders below a dataset in which items are searched."""

RECORD = "audit.json"
"""File in the folder of an audit."""

IMAGE_FOLDERS = ("images", "image", "rgb", "color", "frames", "train", "test", "val", "input", "photos")
"""Names of the folder of images in the folder of a scene, the most usual first."""

OTHER_FORMATS = ("shards", "redweb", "hrwsi", "nerfstudio", "colmap", "videos", "video")
"""Formats of `stadia.data.DATASETS` whose items are not recordings, or are found as results."""


@dataclass(frozen=True, kw_only=True)
class AuditItem:
    """A scene, recording or video of a dataset.

    name: unique name in the dataset.
    images: folder of images, a video, or the folder of a dataset in a format of `stadia.data.DATASETS`.
    result: cameras and poses of the images, in a format of `stadia.io.records.read.FORMATS`; None without.
    format: name of the dataset's format; "" for a folder of images or a video.
    recording: name of the recording in a dataset of that format.
    folder: the folder or file of that recording; other recordings may have the same one.
    calibration: camera of the images, a file or numbers; None for the one of the result.
    span_s: start and end of the item in its video, seconds; None for the whole video.
    groups: name of the item's group by the kind of group, such as {"camera": "left", "day": "2024-05-03"}.
    problem: why the items at `images` cannot be listed; None if it is one item.
    """

    name: str
    images: Path
    result: Path | None = None
    format: str = ""
    recording: str = ""
    folder: Path | None = None
    calibration: str | None = None
    span_s: tuple[float, float] | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    problem: StadiaError | None = None


def list_items(dataset: Path) -> list[AuditItem]:
    """Return the items of a dataset: a folder, a glob, or a CSV of results and images.

    Names of folders are groups too: "part 1" is the first part of an item's name, if parts are shared by items. A part
    of the dataset that cannot be listed is one item, with its problem.

    Raises DataError if there is no item, or a list is malformed, and the problem if no item is without one.
    """
    dataset = expand_home(dataset)
    if is_glob(dataset):
        paths = find_glob(dataset)
        root = _find_common(paths)
        items = [item for path in paths for item in _try_items(make_absolute(path), root, 0)]
    else:
        check_path_exists(dataset)
        dataset = make_absolute(dataset)
        if dataset.is_file() and dataset.suffix.lower() == ".csv":
            items = _read_list(dataset)
        else:
            items = list(_try_items(dataset, dataset if dataset.is_dir() else dataset.parent, MAX_DEPTH))
    if not items:
        expected = "scenes with images and poses, recordings of a known dataset, or videos"
        raise DataError(dataset, found="no item", expected=expected, fix="check the path, or pass a CSV of items")
    if all(item.problem is not None for item in items):
        raise next(item.problem for item in items if item.problem is not None)
    if len(items) > MAX_ITEMS:
        raise DataError(dataset, found=f"{len(items)} items", expected=f"at most {MAX_ITEMS}", fix="split the dataset")
    for item in items:
        if item.name.startswith("#") or not item.name.isprintable():
            found = f"the name {ascii(item.name)[:200]}"
            raise DataError(dataset, found=found, expected="names of letters, numbers and signs", fix="rename it")
    name, count = Counter(item.name for item in items).most_common(1)[0]
    if count > 1:
        raise DataError(dataset, found=f"the name '{name}' {count} times", expected="each name once", fix="rename it")
    return _add_parts(items)


def _find_common(paths: Sequence[Path]) -> Path:
    """Return the deepest folder that contains all paths."""
    absolute = [make_absolute(path) for path in paths]
    common = absolute[0].parent if absolute else Path()
    while any(common not in path.parents for path in absolute):
        common = common.parent
    return common


def _add_parts(items: Sequence[AuditItem]) -> list[AuditItem]:
    """Return items with the parts of their names as groups; a part that is equal or different in all is none."""
    parts = [item.name.split("/") for item in items if item.problem is None]
    depth = min(len(names) for names in parts)
    grouped = list(items)
    for level in range(min(depth, MAX_DEPTH)):
        values = [names[level] for names in parts]
        if 1 < len(set(values)) < len(parts):
            key = f"part {level + 1}"
            names = iter(values)
            grouped = [
                replace(item, groups={**item.groups, key: next(names)}) if item.problem is None else item
                for item in grouped
            ]
    return grouped


# -- a folder


def _try_items(path: Path, root: Path, depth: int) -> Iterator[AuditItem]:
    """Yield the items at a path; if they cannot be listed, an item with the problem follows those before it."""
    try:
        yield from _find_items(path, root, depth)
    except StadiaError as error:
        yield AuditItem(name=_name_in(path, root), images=path, problem=error)


def _name_in(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path != root else path.name


def _find_items(path: Path, root: Path, depth: int) -> Iterator[AuditItem]:
    """Yield the items at a path: the scene or video that it is, else those of its folders, `depth` levels down."""
    if (path / RECORD).is_file():  # an audit that was written into its dataset
        return
    name = _name_in(path, root)
    if path.is_file():
        if path.suffix.lower() in VIDEO_SUFFIXES:
            yield AuditItem(name=name.removesuffix(path.suffix), images=path, result=_find_result_of(path))
        return
    if is_lerobot(path):
        prefix = "" if path == root else f"{name}/"
        for file in list_episode_files(path):
            try:
                episodes = read_episodes(file, path)
            except DataError as error:
                yield AuditItem(name=f"{prefix}{file.relative_to(path).as_posix()}", images=file, problem=error)
                continue
            for episode in episodes:
                own = f"{prefix}episode_{episode.number:06d}/{episode.camera}"
                groups = {"camera": episode.camera}
                yield AuditItem(name=own, images=episode.video, span_s=episode.span_s, groups=groups)
        return
    if (format := _find_dataset(path)) is not None and not _has_other_items(path, format, depth):
        prefix = "" if path == root else f"{name}/"
        for recording, folder in DATASETS.load(format)().find_recordings(path).items():
            yield AuditItem(name=f"{prefix}{recording}", images=path, format=format, recording=recording, folder=folder)
        return
    images = _find_images(path)
    result = _find_result(path, images)
    if images is not None and (result is not None or images == path):
        yield AuditItem(name=name, images=images, result=result)
        return
    if depth > 0:
        for entry in sorted(_list_folder(path), key=natural_sort_key):
            yield from _try_items(entry, root, depth - 1)


def _list_folder(path: Path) -> list[Path]:
    with contextlib.suppress(OSError):  # unreadable folders such as lost+found
        return [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    return []


def _find_dataset(folder: Path) -> str | None:
    """Return the format of a dataset of recordings; None for other folders."""
    for name in DATASETS:
        if name not in OTHER_FORMATS:
            with contextlib.suppress(StadiaError, OSError):
                if DATASETS.load(name)().recognizes(folder):
                    return name
    return None


def _has_other_items(folder: Path, format: str, depth: int) -> bool:
    """Return whether one folder inside has all recordings of a format, and one next to it has other items."""
    inside = [entry for entry in _list_folder(folder) if entry.is_dir()]
    reader = DATASETS.load(format)()
    count = len(reader.find_recordings(folder))
    whole = [entry for entry in inside if reader.recognizes(entry) and len(reader.find_recordings(entry)) == count]
    others = [entry for entry in inside if entry not in whole]
    return bool(whole) and any(next(_try_items(entry, folder, depth - 1), None) is not None for entry in others)


def _has_images(folder: Path) -> bool:
    return any(entry.suffix.lower() in IMAGE_SUFFIXES for entry in _list_folder(folder))


def _find_images(folder: Path) -> Path | None:
    """Return the folder of images, or the only video, of a scene."""
    for name in IMAGE_FOLDERS:
        inside = folder / name
        if inside.is_dir() and (_has_images(inside) or any(_has_images(one) for one in _list_folder(inside))):
            return inside
    if _has_images(folder):
        return folder
    videos = [entry for entry in _list_folder(folder) if entry.suffix.lower() in VIDEO_SUFFIXES]
    return videos[0] if len(videos) == 1 else None


def _find_result(folder: Path, images: Path | None) -> Path | None:
    """Return the file or folder with the cameras and poses of a scene; None without."""
    if images is None:
        return None
    for path in (folder, *sorted(_list_folder(folder), key=natural_sort_key)):
        if path == images or path.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES):
            continue
        with contextlib.suppress(StadiaError, OSError):
            if find_format(path) is not None:
                return path
    return None


RESULT_SUFFIXES = (".json", ".npz", ".txt", ".tum", ".csv", ".glb")


def _find_result_of(video: Path) -> Path | None:
    """Return the file with the poses of a video, which has its name; None without."""
    for suffix in RESULT_SUFFIXES:
        file = video.with_suffix(suffix)
        with contextlib.suppress(StadiaError, OSError):
            if file.is_file() and find_format(file) is not None:
                return file
    return None


# -- a list


def _read_list(path: Path) -> list[AuditItem]:
    """Return an item for each row. One whose files are missing is an item too, which fails alone when it is judged.

    Raises DataError if no row has images that exist, since the list then belongs to another folder.
    """
    items = []
    for where, cells in read_list(path, columns=COLUMNS, expected=EXPECTED, max_rows=MAX_ITEMS):
        result, images = (path.parent / expand_home(cells[key]) if cells.get(key) else None for key in COLUMNS[:2])
        if images is None and result is not None:
            folder = result if result.is_dir() else result.parent
            images = _find_images(folder) or folder
        if images is None:
            fix = "fill the column images"
            raise DataError(where, found="no images", expected="a folder or a video", fix=fix)
        calibration = cells.get("calibration") or None
        if calibration is not None and "=" not in calibration:
            calibration = str(path.parent / expand_home(calibration))
        groups = {key: cells[key] for key in GROUPS if cells.get(key)}
        name = cells.get("name") or _name_of(result or images, path.parent)
        items.append(AuditItem(name=name, images=images, result=result, calibration=calibration, groups=groups))
    if items and not any(is_existing_path(item.images) for item in items):
        found, expected = f"no file of its rows, such as {items[0].images}", "paths relative to the list"
        raise DataError(path, found=found, expected=expected, fix="check the paths")
    return items


def _name_of(path: Path, root: Path) -> str:
    inside = path.relative_to(root) if path.is_relative_to(root) else Path(*path.parts[1:])
    return inside.as_posix()
