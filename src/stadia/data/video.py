"""Read a user's video: a file that FFmpeg decodes, or a folder of images, with its camera (docs/own-data.md)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from stadia.core.errors import DataError
from stadia.core.files import read_json, write_json
from stadia.core.recording import LEFT, Recording, RoadMasks
from stadia.data import motion
from stadia.data.cache import (
    FrameStore,
    Progress,
    StoredRecording,
    cache_folder,
    exclusively,
    planar_bytes,
    remove_leftovers,
    store_name,
    write_store,
)
from stadia.data.config import CacheConfig, SourceOptions
from stadia.data.images import IMAGE_SUFFIXES, list_images, read_rgb
from stadia.data.motion import FrameChooser, Selection
from stadia.data.own_camera import own_intrinsics
from stadia.data.recordings import ImageRecording, Intrinsics
from stadia.data.resize import resize_image
from stadia.data.road_masks import resized_masks
from stadia.data.stream import VIDEO_SUFFIXES, expected_frames, lost_frames, stream_video
from stadia.geometry.numpy_camera import resized_K

_SAMPLED_BYTES = 1 << 20


class OwnVideo:
    """One recording from a video file, or a folder of images in natural order.

    A video file is decoded once into the cache; later openings decode nothing. Images of a folder stay in place.
    `recording.selection` lists the kept frames and the reasons for dropping others.
    """

    layout = "a video file, or a folder of png or jpg images"
    options: frozenset[str] = frozenset({"camera", "stride", "frame_rate_hz"})

    @classmethod
    def recognizes(cls, path: Path) -> bool:
        if path.is_dir():
            return any(p.suffix.lower() in IMAGE_SUFFIXES for p in path.iterdir())
        return path.suffix.lower() in VIDEO_SUFFIXES

    @classmethod
    def open(cls, path: Path, options: SourceOptions, progress: Progress | None = None) -> list[Recording]:
        if path.is_dir():
            return [_open_folder(path, options, progress)]
        return [_open_file(path, options, progress)]

    @classmethod
    def splits(cls, path: Path) -> dict[str, list[str]]:
        return {}


@dataclass(kw_only=True, eq=False, repr=False)
class FolderVideo(ImageRecording):
    """A folder of images."""

    selection: Selection


@dataclass(kw_only=True, eq=False, repr=False)
class FileVideo(StoredRecording):
    """A video file, decoded into the cache.

    filmed_size: height and width of its frames before resizing to the stored size, which may change the aspect ratio.
    """

    selection: Selection
    filmed_size: tuple[int, int]

    def masks(self, index: int, side: str = LEFT) -> RoadMasks | None:
        """Return masks at the stored size; mask files have the size of the filmed frames."""
        if self.mask_reader is None:
            return None
        height, width = self.filmed_size
        masks = self.mask_reader.read(self.stem(index, side), side, height=height, width=width)
        return None if masks is None else resized_masks(masks, self.store.height, self.store.width)


def _open_folder(path: Path, options: SourceOptions, progress: Progress | None) -> FolderVideo:
    images = list_images(path)
    frames = len(images)
    height, width = read_rgb(images[0]).shape[:2]
    name = f"video/{path.resolve().name}"
    camera = own_intrinsics(options.camera, path, height, width, frames)
    every = ImageRecording(name=name, images={LEFT: images}, intrinsics={LEFT: camera})
    selection = chosen_images(every, options.stride, options.cache, progress)
    kept = selection.kept
    return FolderVideo(
        name=name,
        images={LEFT: [images[number] for number in kept]},
        intrinsics={LEFT: of_frames(camera, kept)},
        numbers=kept,
        times_s=np.array(kept) / options.frame_rate_hz if options.frame_rate_hz else None,
        selection=selection,
    )


def chosen_images(
    every: ImageRecording, stride: int | Literal["auto"], cache: CacheConfig, progress: Progress | None = None
) -> Selection:
    """Return the selected frames. Selection by motion reads every image and is cached; a given stride reads none."""
    if stride != "auto":
        kept = list(range(0, len(every), stride))
        return Selection(kept, skipped=len(every) - len(kept))
    cached = (
        cache_folder(cache)
        / f"{store_name(every.name, 'selection', *_selection_key(stride), every.fingerprint())}.json"
    )
    with exclusively(cached):
        if not cached.exists():
            chooser = FrameChooser(stride)
            for index in range(len(every)):
                chooser.keep(every.image(index))
                if progress is not None:
                    progress(f"{every.name}: choosing frames", index + 1, len(every))
            write_json(cached, asdict(chooser.selection))
    return Selection(**read_json(cached))


def _open_file(path: Path, options: SourceOptions, progress: Progress | None) -> FileVideo:
    name = f"video/{path.stem}"
    content = _hash_video(path)
    info_file = (
        cache_folder(options.cache)
        / f"{store_name(name, 'video', *_selection_key(options.stride), options.size, content)}.json"
    )
    stored = info_file.with_suffix(".rgb")
    with exclusively(info_file):
        if not (info_file.exists() and stored.exists()):
            first = next(stream_video(path)).image
            own_intrinsics(
                options.camera, path, *first.shape[:2]
            )  # a wrong camera is reported before hours of decoding
            remove_leftovers(stored)
            write_json(info_file, _decode(path, stored, first.shape[:2], options, progress))
    info = read_json(info_file)
    selection = Selection(**info["selection"])
    kept = selection.kept
    store = FrameStore(stored, *info["stored_size"])
    if len(store) != len(kept):
        found = f"{len(store)} frames"
        raise DataError(stored, found=found, expected=f"{len(kept)}", fix="delete the file; it will be written again")
    height, width = info["decoded_size"]
    camera = of_frames(own_intrinsics(options.camera, path, height, width, selection.total), kept)
    return FileVideo(
        name=name,
        intrinsics={LEFT: resized_intrinsics(camera, *info["stored_size"])},
        numbers=kept,
        times_s=np.array(info["times_s"]),
        store=store,
        content=content,
        selection=selection,
        filmed_size=(height, width),
    )


def _decode(
    path: Path, stored: Path, decoded_size: tuple[int, int], options: SourceOptions, progress: Progress | None
) -> dict[str, object]:
    """Decode the kept frames of the video into a store; return the content of the JSON file beside it.

    Raises StadiaError before decoding where the disk cannot hold all frames that may be kept.
    """
    chooser, times_s, total = FrameChooser(options.stride), list[float](), expected_frames(path)
    selection = chooser.selection
    height, width = options.size or decoded_size

    def decode_kept() -> Iterator[bytes]:
        for frame in stream_video(path):
            if progress is not None:
                progress(f"video/{path.stem}: decoding", frame.index + 1, total)
            if chooser.keep(frame.image, frame.index):
                times_s.append(frame.time_s)
                yield planar_bytes(resize_image(frame.image, height, width))

    most_frames = -(-(total or 0) // (1 if options.stride == "auto" else options.stride))
    write_store(stored, decode_kept(), most_frames * 3 * height * width)
    selection.lost = max(selection.lost, lost_frames(path, selection.total - selection.lost))
    return {
        "decoded_size": decoded_size,
        "stored_size": (height, width),
        "times_s": times_s,
        "selection": asdict(selection),
    }


def _selection_key(stride: int | Literal["auto"]) -> tuple[object, ...]:
    """Return the parameters that determine the kept frames."""
    return (stride, motion.STANDING, motion.ENOUGH)


def of_frames(camera: Intrinsics, kept: list[int]) -> Intrinsics:
    """Return the intrinsics of these frames only, if each frame has its own."""
    return camera if camera.K.ndim == 2 else replace(camera, K=camera.K[kept])


def resized_intrinsics(camera: Intrinsics, height: int, width: int) -> Intrinsics:
    """Return the intrinsics of images resized to this size."""
    return Intrinsics(resized_K(camera.K, (camera.height, camera.width), height, width), height, width)


def _hash_video(path: Path) -> str:
    """Return a hash of the file's size and of its start, middle and end."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            digest = hashlib.blake2b(str(size).encode(), digest_size=16)
            for start in (0, size // 2, max(0, size - _SAMPLED_BYTES)):
                stream.seek(start)
                digest.update(stream.read(_SAMPLED_BYTES))
    except FileNotFoundError as error:
        raise DataError(path, found="no such file", expected="a video", fix="check the path") from error
    return digest.hexdigest()
