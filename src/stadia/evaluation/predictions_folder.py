"""Write a folder of depth predictions with its record, predictions.json; open and check it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from stadia.core.config import StrictModel
from stadia.core.errors import DataError, ProtocolError, StadiaError
from stadia.core.types import DepthScale
from stadia.data.frame_preparation import MAX_WAITING, Listener, Network, PredictedFrame, run_behind
from stadia.evaluation import MOTIONS
from stadia.io import depth_files
from stadia.io.atomic_files import hold_folder, open_to_append, sync_later, write_json
from stadia.io.input_files import check_no_links, join_name, parse_json, read_json, read_text
from stadia.io.output_files import ANOTHER_OUT_OR_REMOVE
from stadia.io.records.trajectory import (
    TRAJECTORY,
    TRAJECTORY_TUM,
    Trajectory,
    write_kitti_trajectory,
    write_tum_trajectory,
)

log = logging.getLogger(__name__)

# -- the record, predictions.json

RECORD = "predictions.json"


class OpenedCheckpoint(Protocol):
    """The facts of an opened checkpoint that its predictions record.

    header: has the `recipe` and the `config` of the training.
    title: file name and step.
    licence: licence of the published weights, or "".
    """

    @property
    def header(self) -> Any: ...

    @property
    def title(self) -> str: ...

    @property
    def licence(self) -> str: ...


class Provenance(StrictModel):
    """The network, the settings and the measurements that a set of predictions comes from.

    checkpoint: file name and step of the checkpoint.
    motion: a name in `stadia.evaluation.MOTIONS`.
    requested_size: (height, width) of the network's input, if it is not the training size.
    backend, precision: names in the tables of `stadia.predict.backends`.
    flip: whether maps are averaged with the maps of the mirrored images.
    steady: whether maps are averaged over neighboring frames.
    licence: licence of the published weights.
    scale_from: measurement of the metric scale (`--scale-from`); None for depth as the network predicts it.
    camera_origin: origin of the camera, such as "assumed, ...".
    path_origin: where the path comes from besides `motion`: the map of a video, and what its scale comes from.
    """

    recipe: str
    config_hash: str
    checkpoint: str = ""
    motion: str = "aligned"
    requested_size: tuple[int, int] | None = None
    backend: str = "torch"
    precision: str = "float32"
    flip: bool = False
    steady: bool = False
    licence: str = ""
    scale_from: dict[str, Any] | None = None
    camera_origin: str = ""
    path_origin: str = ""

    @classmethod
    def from_checkpoint(
        cls, checkpoint: OpenedCheckpoint, motion: str = "aligned", requested_size: tuple[int, int] | None = None
    ) -> Provenance:
        """Read it from an opened checkpoint. Raises ConfigError for an unknown motion."""
        text = json.dumps(checkpoint.header.config, sort_keys=True)
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return cls(
            recipe=checkpoint.header.recipe,
            config_hash=digest,
            checkpoint=checkpoint.title,
            licence=checkpoint.licence,
            motion=MOTIONS.check(motion),
            requested_size=requested_size,
        )


class PredictionsRecord(Provenance):
    """Content of predictions.json: the provenance of predictions, and what they are.

    trust: what users may rely on.
    source, fingerprint: name and hash of the recording.
    image_size, network_size: (height, width); None if images differ.
    crop: row of `geometry.cameras.IMAGE_CROPS` that the maps cover.
    precision_cost: median relative difference from float32 on frames of this input, and the number of frames.
    trained_on: number of entries that trained the network; None if unknown.
    finished: false while predicting; an unfinished folder cannot be scored.
    entries: the frames, in order.
    has_frame_numbers: whether their names are frame numbers of a video.
    path: the entries with a pose, one row of trajectory.txt each.
    not_aligned: number of motions that no alignment confirms; None without alignment.
    path_ends: why the path ends before its last frame, or is missing.
    checks: verdict, findings and measurements; None if predictions were not checked.
    """

    format: Literal["stadia-predictions"] = "stadia-predictions"
    version: Literal[1] = 1
    depth_scale: DepthScale
    trust: str
    precision_cost: dict[str, float] | None = None
    source: str
    fingerprint: str = ""
    image_size: tuple[int, int] | None = None
    network_size: tuple[int, int] | None
    crop: str = "none"
    path: tuple[str, ...] = ()
    path_ends: str = ""
    checks: dict[str, Any] | None = None
    trained_on: int | None = None
    finished: bool = False
    entries: tuple[str, ...] = ()
    has_frame_numbers: bool = False
    not_aligned: int | None = None

    def write(self, folder: Path) -> None:
        """Write predictions.json atomically."""
        write_json(Path(folder) / RECORD, self.model_dump(mode="json"))


def read_record(folder: Path) -> PredictionsRecord | None:
    """Read predictions.json of a folder; None without one. Raises DataError."""
    path = Path(folder) / RECORD
    if not path.exists():
        return None
    return parse_record(path, read_json(path))


def parse_record(path: object, values: Any) -> PredictionsRecord:
    """Return the record of predictions from its JSON; `path` is for messages. Raises DataError."""
    try:
        return PredictionsRecord.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"
        raise DataError(path, found=problem, expected="a record that stadia wrote", fix="predict again") from error


# -- the folder

FRAME_FILES = ("depth/{}.npz", "depth/{}.png", "depth_color/{}.jpg", "images/{}.png")
EQUIRECTANGULAR = "equirectangular"
"""Value of `projection` in the npz of a panorama, whose `distance` is the distance along the ray of each pixel."""

UNFINISHED = "unfinished.jsonl"  # names of the frames that were begun, until the prediction is finished
_MAX_BEGUN_BYTES = 1 << 28  # a million names
_NOT_ENDED: Mapping[str, Any] = {
    "path": (),
    "path_ends": "",
    "entries": (),
    "has_frame_numbers": False,
    **dict.fromkeys(("image_size", "checks", "precision_cost", "trained_on", "not_aligned")),
}
SCALE_DESCRIPTIONS: Mapping[DepthScale, str] = {
    DepthScale.METRES: "metres: for images like those in the training",
    DepthScale.UP_TO_SCALE: "up to scale: no metres; ratios of depths hold within an image",
    DepthScale.AFFINE_INVERSE: "inverse depth up to scale and shift: no metres and no ratios; only the order is right",
    DepthScale.AFFINE_DEPTH: "depth up to scale and shift: no metres and no ratios; only the order is right",
}
"""What users may rely on, for each depth scale."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """An opened folder of depth predictions.

    files: depth maps by stem.
    depth_scale: scale of the maps.
    record: content of predictions.json; None for the folder of another program.
    crop: part of the image that the maps cover.
    factor: integers per metre of another program's maps; None if unknown.
    """

    folder: Path
    files: Mapping[str, depth_files.DepthFile]
    depth_scale: DepthScale
    record: PredictionsRecord | None
    crop: str = "none"
    factor: float | None = None

    @classmethod
    def open(
        cls,
        folder: Path,
        depth_scale: DepthScale | None = None,
        crop: str | None = None,
        *,
        factor: float | None = None,
    ) -> Predictions:
        """Open a folder of predictions made by stadia or by another program.

        Maps of another program are in metres and cover the whole image, unless the arguments differ.

        depth_scale: scale of another program's maps.
        crop: row of `geometry.cameras.IMAGE_CROPS` that another program's maps cover.
        factor: integers per metre of another program's maps.

        Raises DataError if the folder is empty, unfinished or incomplete, and ProtocolError if the record contradicts
        an argument.
        """
        folder = Path(folder)
        if folder.name == "depth" and (folder.resolve().parent / RECORD).exists():
            folder = folder.resolve().parent  # its record has the depth scale
        files, record = depth_files.find_depth_files(folder), read_record(folder)
        if record is None:
            return cls(folder, files, depth_scale or DepthScale.METRES, None, crop or "none", factor)
        for what, requested, recorded in (
            ("depth scale", depth_scale, record.depth_scale),
            ("crop", crop, record.crop),
        ):
            if requested not in (None, recorded):
                fix = f"leave --{what.replace(' ', '-')} out"
                expected = f"{requested}, as requested"
                raise ProtocolError(folder / RECORD, found=f"the {what} {recorded}", expected=expected, fix=fix)
        if not record.finished:
            fix = "remove it and predict again"
            raise DataError(Path(folder) / RECORD, found="an unfinished prediction", expected="all entries", fix=fix)
        if missing := [name for name in record.entries if name not in files]:
            found = f"no map for {len(missing)} of {len(record.entries)} entries, the first '{missing[0]}'"
            raise DataError(folder, found=found, expected="every entry of predictions.json", fix="predict again")
        return cls(folder, {name: files[name] for name in record.entries}, record.depth_scale, record, record.crop)

    def read(self, name: str, *, png_per_metre: float = depth_files.PNG_PER_METRE) -> NDArray[np.floating]:
        """Return the map of an entry, (h, w): depth or inverse depth, as the depth scale requires.

        png_per_metre: integers per metre of another program's PNG, if no factor is known.
        """
        unit = self.integers_per_metre(png_per_metre)
        return depth_files.read_depth_map(
            self.files[name], key=depth_files.DEPTH_KEYS[self.depth_scale], png_per_metre=unit
        )

    def integers_per_metre(self, png_per_metre: float) -> float:
        """Return the integers per metre of the PNG maps: stadia's, the known factor, or the protocol's.

        png_per_metre: integers per metre of the protocol.
        """
        return depth_files.PNG_PER_METRE if self.record is not None else self.factor or png_per_metre

    def log_uncertainty(self, name: str) -> NDArray[np.floating] | None:
        """Return the log uncertainty map of an image, (h, w), larger for less certain depth; None if it has none.

        name: name of the image.
        """
        path = self.files[name]
        return (
            depth_files.read_depth_map(path, key=depth_files.UNCERTAINTY_KEY)
            if depth_files.UNCERTAINTY_KEY in depth_files.list_arrays(path)
            else None
        )

    def check_made_by(self, provenance: Provenance, fingerprint: str, entries: Sequence[str]) -> None:
        """Raise ProtocolError if another checkpoint, configuration, recording or set of frames made the predictions."""
        record = self.record
        found = {} if record is None else record.model_dump(include={*Provenance.model_fields, "fingerprint"})
        expected = {**provenance.model_dump(), "fingerprint": fingerprint}
        if record is None or found != expected or list(record.entries) != list(entries):
            differing = [key for key, value in expected.items() if found.get(key) != value] or ["entries"]
            raise ProtocolError(
                self.folder,
                found=f"predictions of {' and '.join(_DIFFERENT.get(key, f'another {key}') for key in differing)}",
                expected="predictions of this checkpoint and these images, or an empty folder",
                fix=ANOTHER_OUT_OR_REMOVE,
            )


_DIFFERENT = {
    "fingerprint": "other images, or another camera, under the same name",
    "entries": "other frames",
    "config_hash": "another configuration",
}


class PredictionChecker(Protocol):
    """Receives each predicted frame, and evaluates all of them at the end."""

    def __call__(self, predicted: PredictedFrame) -> None: ...

    def to_json(self) -> Mapping[str, Any]:
        """Return the entry `checks` of predictions.json."""
        ...

    def describe_trust(self) -> str:
        """Return the entry `trust` of predictions.json."""
        ...


def write_predictions(
    frames: Iterable[PredictedFrame],
    network: Network,
    out: Path,
    provenance: Provenance,
    *,
    source: str,
    fingerprint: str = "",
    has_frame_numbers: bool = False,
    listeners: Sequence[Listener] = (),
    complete: Callable[[], None] = lambda: None,
    further: Collection[str] = (),
    checker: PredictionChecker | None = None,
    precision_cost: Mapping[str, float] | None = None,
    trained: Collection[str] | None = None,
    in_threads: bool = True,
) -> Predictions:
    """Write predicted frames into a folder: predictions.json, depth/, and the path as KITTI and TUM rows.

    frames: predicted frames. Prediction begins after the folder was checked.
    network: network that predicts, which gives depth scale and crop.
    out: a new or empty folder, or a folder with the same unfinished prediction.
    provenance: origin of the predictions.
    source, fingerprint: name and fingerprint of the recording.
    has_frame_numbers: whether the frames' names are frame numbers of a video.
    listeners: functions that receive every predicted frame.
    complete: function that writes the last files.
    further: names of the files that listeners and `complete` write.
    checker: evaluates the predictions.
    precision_cost: difference from float32, see `PredictionsRecord`.
    trained: names of the frames that trained the network; None if unknown.
    in_threads: write each file in a thread; False for a single photo.

    Raises StadiaError if `out` is in use, and DataError without frames or for two frames with the same name.
    """
    out = Path(out)
    record = PredictionsRecord(
        depth_scale=network.depth_scale,
        trust=SCALE_DESCRIPTIONS[network.depth_scale],
        source=source,
        fingerprint=fingerprint,
        network_size=(network.height, network.width),
        crop=network.crop,
        **provenance.model_dump(),
    )
    with hold_folder(out):
        _check_writable(out, record, further)
        record.write(out)
        taking: list[Listener] = [*listeners, *([] if checker is None else [checker])]
        with open_to_append(out / UNFINISHED) as begun, sync_later(out):
            written = _write_frames(frames, out, source, taking, begun, in_threads=in_threads)
        path_ends, path = written.path_ends, tuple(written.posed) if len(written.posed) > 1 else ()
        if path:
            _write_path(out, np.array(written.poses), written.times_s)
        elif written.posed and len(written.entries) > 1:  # Only the first frame has a pose.
            moved = f"no frame shows that the camera moved since {written.posed[0]}"
            still = f"{moved} (data.stride=1 uses every frame)"
            path_ends = f"no path: {path_ends.partition(': ')[2] or still}"
        ended: dict[str, Any] = {"path": path, "path_ends": path_ends, "image_size": written.image_size}
        ended["precision_cost"] = None if precision_cost is None else dict(precision_cost)
        ended["trained_on"] = None if trained is None else len(set(written.entries).intersection(trained))
        ended |= {"has_frame_numbers": has_frame_numbers, "not_aligned": written.not_aligned}
        complete()
        if checker is not None:
            ended |= {"checks": dict(checker.to_json()), "trust": checker.describe_trust()}
        record = record.model_copy(update={**ended, "entries": tuple(written.entries)})
        record.write(out)  # A process killed between these lines still leaves a record of each file.
        (out / UNFINISHED).unlink()
        record.model_copy(update={"finished": True}).write(out)
        files: dict[str, depth_files.DepthFile] = {name: out / "depth" / f"{name}.npz" for name in written.entries}
        return Predictions(out, files, network.depth_scale, record.model_copy(update={"finished": True}), network.crop)


@dataclass
class _WrittenFrames:
    """Names of all frames; names, poses (N, 4, 4) and times of the path; sizes of the images."""

    entries: list[str] = field(default_factory=list)
    posed: list[str] = field(default_factory=list)
    times_s: list[float | None] = field(default_factory=list)
    poses: list[NDArray[np.float64]] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    not_aligned: int | None = None
    path_ends: str = ""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """The size of all images; None if sizes differ."""
        return next(iter(self.sizes)) if len(self.sizes) == 1 else None

    def add(self, predicted: PredictedFrame) -> None:
        """Add the next frame."""
        frame, pose = predicted.frame, predicted.T_world_camera
        self.entries.append(frame.name)
        self.sizes.add(predicted.image_size)
        if predicted.starts_path:
            self.posed, self.times_s, self.poses, self.not_aligned = [], [], [], None
        if pose is not None:
            self.path_ends = ""
            self.posed.append(frame.name)
            self.times_s.append(frame.time_s)
            self.poses.append(np.array(pose, np.float64))
            if predicted.is_aligned is not None:
                self.not_aligned = (self.not_aligned or 0) + (not predicted.is_aligned)
        elif frame.on_path and self.posed and not self.path_ends:
            apart = frame.frames_since or 1
            cure = f", {apart} frames on (--every 1 compares neighbors)" if apart > 1 else ""
            self.path_ends = f"the path ends at {self.posed[-1]}: the motion to {frame.name} is unknown{cure}"


def _write_frames(
    frames: Iterable[PredictedFrame],
    out: Path,
    source: str,
    listeners: Sequence[Listener],
    begun: BinaryIO,
    *,
    in_threads: bool,
) -> _WrittenFrames:
    """Write the maps of each frame, and call the listeners, in threads. `begun` gets the name before the first file."""
    written = _WrittenFrames()
    latest: deque[str] = deque(maxlen=MAX_WAITING)  # The files of these frames may not be there yet.
    maps = str(out / "depth")
    takers: list[Listener] = [partial(_write_maps, maps), *listeners]

    def write_now(predicted: PredictedFrame) -> None:
        for take in takers:
            take(predicted)

    behind = run_behind(takers, weigh=lambda predicted: predicted.frame.image.nbytes) if in_threads else None
    with nullcontext(write_now) if behind is None else behind as write:
        for predicted in frames:
            name = predicted.frame.name
            if name in latest or os.path.exists(join_name(maps, f"{name}.npz")):  # noqa: PTH110 - no Path for a frame
                found = f"two frames called '{name}'"
                raise DataError(source, found=found, expected="one name a frame", fix="rename the images")
            begun.write(json.dumps(name).encode() + b"\n")
            begun.flush()
            latest.append(name)
            write(predicted)
            written.add(predicted)
    if not written.entries:
        raise DataError(source, found="no frame", expected="at least one image", fix="check the input")
    return written


def _write_maps(folder: str, predicted: PredictedFrame) -> None:
    affine = predicted.depth_scale.is_affine
    values = predicted.inverse_depth if affine else predicted.depth()
    if predicted.depth_scale is DepthScale.AFFINE_DEPTH:
        values = -values
    arrays: dict[str, NDArray] = {depth_files.DEPTH_KEYS[predicted.depth_scale]: values, "K": predicted.K}
    if predicted.rays is not None:  # The values are distances, so a program that reads z must find no depth.
        arrays = {depth_files.DISTANCE_KEYS[predicted.depth_scale]: values, "projection": np.array(EQUIRECTANGULAR)}
    if predicted.log_uncertainty is not None:
        arrays[depth_files.UNCERTAINTY_KEY] = predicted.log_uncertainty
    name = predicted.frame.name
    depth_files.write_depth_map(join_name(folder, f"{name}.npz"), **arrays)
    if not affine:
        depth_files.write_depth_png(join_name(folder, f"{name}.png"), predicted.depth_at_image())


def _check_writable(out: Path, record: PredictionsRecord, further: Collection[str]) -> None:
    """Remove an unfinished prediction of the same input and network. Raises StadiaError for any other content."""
    visible = {path.name for path in out.iterdir() if not path.name.startswith(".")} if out.is_dir() else set()
    if not visible and (out.is_dir() or not out.exists()):
        return
    check_no_links(out)
    there = read_record(out) if RECORD in visible else None
    begun = None if there is None else there.model_copy(update={**_NOT_ENDED, "trust": record.trust})
    kinds = {True: "a finished prediction", False: "another unfinished prediction"}
    found = f"{kinds[there.finished] if there else 'something'} in it"
    if there is not None and not there.finished and begun == record:
        names = {*there.entries, *_read_begun(out / UNFINISHED)}
        others = (RECORD, UNFINISHED, TRAJECTORY, TRAJECTORY_TUM, *further)
        recorded = {*others, *(file.format(name) for name in names for file in FRAME_FILES)}
        files = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")]
        unknown = sorted(name for path in files if (name := path.relative_to(out).as_posix()) not in recorded)
        if not unknown:
            log.warning("%s: restarting an unfinished prediction of the same input", out)
            for path in sorted(files, key=lambda path: path.name in (RECORD, UNFINISHED)):  # the records at last
                path.unlink()
            return
        found = f"an unfinished prediction, and '{unknown[0]}', which its record does not name"
    fix = "choose another --out: nothing is overwritten"
    raise StadiaError(out, found=found, expected="a new or an empty folder", fix=fix)


def _read_begun(path: Path) -> list[str]:
    """Return the names of the frames that an unfinished prediction began."""
    if not path.exists():
        return []
    lines = read_text(path, expected="names of frames", max_bytes=_MAX_BEGUN_BYTES).split("\n")
    return [str(parse_json(path, line, "the name of a frame")) for line in lines[:-1]]


def _write_path(out: Path, poses: NDArray[np.float64], times: list[float | None]) -> None:
    write_kitti_trajectory(out / TRAJECTORY, Trajectory(poses))
    if None not in times:
        write_tum_trajectory(out / TRAJECTORY_TUM, Trajectory(poses, np.array(times, np.float64)))
