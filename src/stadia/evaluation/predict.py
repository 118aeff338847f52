"""Predict to disk, one frame after the other: memory does not grow with the length of a video, but for its path (128 bytes a frame)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.errors import DataError, StadiaError
from stadia.core.recording import Recording
from stadia.core.types import Camera, Claim, Predictor
from stadia.evaluation import MOTIONS
from stadia.evaluation.depth_files import write_depth_png, write_map
from stadia.evaluation.motion import View
from stadia.evaluation.predictions import IN_WORDS, MAP_KEY, RECORD, Predictions, PredictionsRecord, Provenance, read_record
from stadia.evaluation.trajectory_files import Trajectory, write_kitti, write_tum
from stadia.geometry.camera import cropped, resize
from stadia.geometry.crops import Box, picture_box
from stadia.geometry.depth_maps import depth_from_inverse, resize_map
from stadia.geometry.se3 import compose, inverse

log = logging.getLogger(__name__)

TRAJECTORY, TRAJECTORY_TUM = "trajectory.txt", "trajectory_tum.txt"


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture to predict. image: (H, W, 3) uint8 RGB. camera: K (3, 3) of that size. time_s: None where unknown.

    is_neighbour: of the frame before, in time; motion is predicted between neighbours alone, which is what was trained.
    on_path: motion is predicted from one such frame to the next. False for frames of a video that a training would have left out,
        since neighbours were further apart there.
    """

    name: str
    image: NDArray[np.uint8]
    camera: Camera
    time_s: float | None = None
    is_neighbour: bool = True
    on_path: bool = True


@dataclass(frozen=True, slots=True)
class PredictedFrame:
    """A frame and what the network says of it.

    frame: as the network was shown it, cut to the predictor's crop.
    inverse_depth: (h, w) float32 at the network's size, in 1/m, up to scale, or up to scale and shift, by `claim`.
    camera: of that size.
    T_world_camera: (4, 4), the world being the first camera, in the unit of depth; None off the path, and once a motion is unknown.
    picture_size: (height, width) before the cut.
    box: where the frame lies in that picture.
    """

    frame: Frame
    claim: Claim
    inverse_depth: NDArray[np.float32]
    camera: Camera
    T_world_camera: NDArray[np.float64] | None
    picture_size: tuple[int, int]
    box: Box

    def depth_at_picture(self) -> NDArray[np.float32]:
        """(H, W): resized bilinearly in inverse depth to the size of the picture; 0 = none outside the crop."""
        values = torch.from_numpy(self.inverse_depth)[None, None]
        depth = np.zeros(self.picture_size, np.float32)
        depth[self.box.rows, self.box.columns] = 1 / resize_map(values, self.box.height, self.box.width)[0, 0].numpy()
        return depth

    def depth(self) -> NDArray[np.float32]:
        """(h, w) at the network's size: metres, or up to scale. Not for inverse depth up to scale and shift."""
        return depth_from_inverse(torch.from_numpy(self.inverse_depth)).numpy()


Listener = Callable[[PredictedFrame], None]
"""Something that takes every predicted frame as it comes: a video, a point cloud."""


def frame_name(recording: Recording, index: int) -> str:
    """What a frame is called on disk: its file's stem, or its number in the whole video, those not chosen counted."""
    file = recording.file(index)
    return file.stem if file is not None else f"{recording.number(index):06d}"


def frames_of(recording: Recording, indices: Sequence[int] | None = None) -> Iterator[Frame]:
    """Left pictures of a recording, those of rising `indices` or all, read when it is their turn."""
    before = None
    for index in range(len(recording)) if indices is None else indices:
        name, time_s = frame_name(recording, index), recording.timestamp_s(index)
        yield Frame(name, recording.image(index), recording.camera(index), time_s, is_neighbour=before in (None, index - 1))
        before = index


def _shown(frame: Frame, box: Box) -> Frame:
    """The part of a frame that the network is shown, with its camera."""
    camera = cropped(frame.camera, box.left, box.top, box.height, box.width)
    return replace(frame, image=np.ascontiguousarray(box.cut(frame.image)), camera=camera)


def _network_input(frame: Frame, predictor: Predictor) -> tuple[Tensor, Camera]:
    image = torch.from_numpy(frame.image).permute(2, 0, 1)[None].float() / 255
    return resize(image, frame.camera, predictor.height, predictor.width)


def _checked(name: str, inverse_depth: Tensor, claim: Claim) -> NDArray[np.float32]:
    """The map as numbers that can be stored, or a StadiaError: not finite, or nothing in front of the camera."""
    values = inverse_depth.float().cpu().numpy()
    if not np.isfinite(values).all() or (claim is not Claim.AFFINE_INVERSE and values.min() <= 0):
        raise StadiaError(
            f"prediction of '{name}'",
            found=f"inverse depth from {values.min()} to {values.max()}",
            expected="finite and positive values",
            cure="the network diverged or is damaged: use another checkpoint",
        )
    return values


def stream(predictor: Predictor, frames: Iterable[Frame], motion: str = "aligned") -> Iterator[PredictedFrame]:
    """Predict frame after frame, holding two pictures. Poses are chained from neighbour to neighbour, the first is the identity.

    motion: of `stadia.evaluation.MOTIONS`, how each link of the chain is made.
    """
    motion_between = MOTIONS.load(motion)
    before: View | None = None
    T_next_now: Tensor | None = None
    T_world_camera: Tensor | None = torch.eye(4, dtype=torch.float64)
    for picture in frames:
        height, width = picture.image.shape[:2]
        box = picture_box(predictor.crop, height, width)
        frame = _shown(picture, box)
        image, camera = _network_input(frame, predictor)
        inverse_depth = predictor.inverse_depth(image, camera)
        values = _checked(frame.name, inverse_depth[0, 0], predictor.claim)
        if not frame.on_path:
            yield PredictedFrame(frame, predictor.claim, values, camera, None, (height, width), box)
            continue
        now = View(image.to(inverse_depth.device), camera, inverse_depth.float())
        if before is not None and T_world_camera is not None:
            T_next_now = motion_between(predictor, before, now, T_next_now) if frame.is_neighbour else None
            T_world_camera = None if T_next_now is None else compose(T_world_camera, inverse(T_next_now))
        before = now
        pose = None if T_world_camera is None else T_world_camera.numpy()
        yield PredictedFrame(frame, predictor.claim, values, camera, pose, (height, width), box)


def _write_maps(folder: Path, predicted: PredictedFrame) -> None:
    """The map as the network said it, with its K; and for people and other programs, a PNG at the picture's size."""
    stem = folder / "depth" / predicted.frame.name
    affine = predicted.claim is Claim.AFFINE_INVERSE
    values = predicted.inverse_depth if affine else predicted.depth()
    # Suffixes are appended, not replaced: a stem may hold a dot ("frame-000000.color").
    write_map(stem.with_name(f"{stem.name}.npz"), **{MAP_KEY[predicted.claim]: values, "K": predicted.camera.K.numpy()})
    if not affine:
        write_depth_png(stem.with_name(f"{stem.name}.png"), predicted.depth_at_picture())


def _make_room(out: Path, record: PredictionsRecord) -> None:
    """An unfinished prediction of the same by the same is removed, to begin again; StadiaError where anything else is there."""
    visible = {path.name for path in out.iterdir() if not path.name.startswith(".")} if out.is_dir() else set()
    if not visible and not (out.exists() and not out.is_dir()):
        return
    there = read_record(out) if RECORD in visible else None
    if there == record and visible <= {RECORD, "depth", TRAJECTORY, TRAJECTORY_TUM}:
        log.warning("%s: an unfinished prediction of the same is there, and is begun again", out)
        for path in (*out.glob("depth/*.npz"), *out.glob("depth/*.png"), *out.glob("trajectory*.txt"), out / RECORD):
            path.unlink()
        return
    kind = "something" if there is None else "a finished prediction" if there.finished else "an unfinished prediction of something else"
    raise StadiaError(
        out, found=f"{kind} there already", expected="a new or an empty folder", cure="choose another --out: nothing is overwritten"
    )


def predict(
    predictor: Predictor,
    frames: Iterable[Frame],
    out: Path,
    provenance: Provenance,
    *,
    source: str,
    fingerprint: str = "",
    listeners: Sequence[Listener] = (),
) -> Predictions:
    """Predict every frame into a new folder (its layout: `stadia.evaluation.predictions`).

    Args:
        predictor: from `stadia.recipes.load_predictor`.
        frames: in order, neighbours in time; consumed one by one.
        out: a folder that does not exist yet, is empty, or holds the same prediction unfinished, which is begun again.
        provenance: what made these predictions.
        source: what they are of, for people; fingerprint: the same, for `Predictions.check_made_by`.
        listeners: take every predicted frame as well.

    Raises StadiaError where `out` is in use, no frame comes, two frames have one name, or the network gives no depth.
    """
    out = Path(out)
    names: dict[str, None] = {}
    poses: dict[str, NDArray[np.float64]] = {}
    ends = ""
    times: list[float | None] = []
    sizes: set[tuple[int, int]] = set()
    record = PredictionsRecord(
        claim=predictor.claim,
        trust=IN_WORDS[predictor.claim],
        source=source,
        fingerprint=fingerprint,
        network_size=(predictor.height, predictor.width),
        crop=predictor.crop,
        **provenance.model_dump(),
    )
    _make_room(out, record)
    record.write(out)
    for predicted in stream(predictor, frames, provenance.motion):
        name = predicted.frame.name
        if name in names:
            raise DataError(source, found=f"two frames called '{name}'", expected="one name a frame", cure="rename the pictures")
        _write_maps(out, predicted)
        for listener in listeners:
            listener(predicted)
        names[name] = None
        sizes.add(predicted.picture_size)
        if predicted.T_world_camera is not None:
            poses[name] = predicted.T_world_camera
            times.append(predicted.frame.time_s)
        elif predicted.frame.on_path and poses and not ends:
            ends = f"the path ends at {next(reversed(poses))}: the motion to {name} is not known"
    if not names:
        raise DataError(source, found="no frame", expected="at least one picture", cure="check the input")
    path = tuple(poses) if len(poses) > 1 else ()
    if path:
        _write_path(out, np.stack(list(poses.values())), times)
    found = {"entries": tuple(names), "path": path, "path_ends": ends if path else ""}
    record.model_copy(update={**found, "finished": True, "picture_size": sizes.pop() if len(sizes) == 1 else None}).write(out)
    return Predictions.open(out)


def _write_path(out: Path, poses: NDArray[np.float64], times: list[float | None]) -> None:
    """KITTI rows always; TUM rows too where every frame has its time."""
    write_kitti(out / TRAJECTORY, Trajectory(poses))
    known = [time for time in times if time is not None]
    if len(known) == len(poses):
        write_tum(out / TRAJECTORY_TUM, Trajectory(poses, np.array(known)))
