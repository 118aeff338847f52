"""Predict depth of frames with a network, chain the motions between them to a path, and write both to a folder."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from stadia.core.floors import MissingFloorError, is_installed
from stadia.core.types import Array, Camera, MapsPredictor, PredictedMaps, Predictor
from stadia.data.frame_preparation import Frame, Listener, PredictedFrame, PreparedFrame, bound_count, run_ahead
from stadia.evaluation import MOTIONS
from stadia.evaluation.predictions_folder import Predictions, Provenance, write_predictions
from stadia.evaluation.steady_depth import steady_frames
from stadia.geometry.poses import (
    compose,
    from_rotation_translation,
    invert_pose,
    matrix_from_quaternion_wxyz,
    quaternion_wxyz_from_matrix,
)

MAX_BATCH, MAX_BATCH_PIXELS = 4, 500_000
"""Largest batches of the networks: number of video frames, and number of pixels of all of them. Larger ones gain
nothing.
"""


# -- predictions of images


def average_mirrored(predict: Callable[[Array, Camera], PredictedMaps], image: Array, camera: Camera) -> PredictedMaps:
    """Return the mean of the maps of images and of the mirrored maps of the mirrored images.

    The right view's inverse depth stays, because mirroring swaps the cameras of the rig.

    predict: returns the maps of images, arrays of NumPy or tensors of torch like the images.
    image: (B, 3, H, W) RGB in [0, 1].
    camera: camera of these images at this size.

    Source: post-processing of Godard et al., CVPR 2017, section 3.3, without its weights at the edges.
    """
    xp = array_namespace(image)
    K = xp.asarray(camera.K, copy=True)
    K[..., 0, 2] = (camera.width - 1) - K[..., 0, 2]
    maps = predict(image, camera)
    mirrored = predict(xp.flip(image, axis=-1), Camera(K, camera.height, camera.width))
    inverse_depth = (maps.inverse_depth + xp.flip(mirrored.inverse_depth, axis=-1)) / 2
    if maps.log_uncertainty is None or mirrored.log_uncertainty is None:
        return replace(maps, inverse_depth=inverse_depth)
    log_uncertainty = (maps.log_uncertainty + xp.flip(mirrored.log_uncertainty, axis=-1)) / 2
    return replace(maps, inverse_depth=inverse_depth, log_uncertainty=log_uncertainty)


# -- the depth of frames, and the motion between them


@dataclass(frozen=True, slots=True)
class FrameArrays:
    """Frames (B, 3, H, W) at the network's size, inverse depth (B, 1, H, W) if used, and K (3, 3) or (B, 3, 3)."""

    image: NDArray[np.float32]
    camera: Camera
    inverse_depth: NDArray[np.float32] | None = None

    def select(self, number: int) -> "FrameArrays":
        """Return one frame, as a batch."""
        one = slice(number, number + 1)
        inverse_depth = None if self.inverse_depth is None else self.inverse_depth[one]
        K = np.broadcast_to(self.camera.K, (len(self.image), 3, 3))[one]
        return FrameArrays(self.image[one], Camera(K, self.camera.height, self.camera.width), inverse_depth)


def predict_maps(predictor: Predictor, image: NDArray[np.float32], camera: Camera) -> PredictedMaps:
    """Predict all maps of a network (depth, and uncertainty if it has one) for a batch of images.

    predictor: the network.
    image: (B, 3, H, W) RGB in [0, 1].
    camera: camera of these images at this size.
    """
    if isinstance(predictor, MapsPredictor):
        return predictor.maps(image, camera)
    return PredictedMaps(predictor.inverse_depth(image, camera))


def predict_inverse_depth(predictor: Predictor, shown: PreparedFrame) -> NDArray[np.float32]:
    """Return the inverse depth (h, w) of one prepared frame."""
    camera = Camera(shown.K, predictor.height, predictor.width)
    return predictor.inverse_depth(shown.image[None], camera)[0, 0]


def predict_frame_depth(predictor: Predictor, frame: Frame) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the inverse depth (h, w) of a frame at the network's size, and K (3, 3) in pixels for that size."""
    prepared = PreparedFrame.prepare(predictor, frame)
    return predict_inverse_depth(predictor, prepared), prepared.K


@dataclass(frozen=True, slots=True)
class FrameMotion:
    """Hold the camera motion between two video frames.

    T_next_now: (4, 4) float64 motion, from the camera coordinates of this video frame to the camera coordinates of the
        next; None if unknown.
    is_aligned: True if direct image alignment found it, False if alignment failed; None if alignment was not used.
    """

    T_next_now: NDArray[np.float64] | None
    is_aligned: bool | None = None


Motion = Callable[[Predictor, FrameArrays, FrameArrays, NDArray[np.float64] | None], list[FrameMotion]]
"""A function like `predict_motion`."""


def align_if_installed(
    predictor: Predictor, now: FrameArrays, following: FrameArrays, T_before: NDArray[np.float64] | None
) -> list[FrameMotion]:
    """Find the camera motion of B pairs of video frames by the method "aligned", which needs the train floor.

    Without that floor, the motion is the pose network's, or unknown. Arguments as of `predict_motion`.
    """
    try:
        align: Motion = MOTIONS.load("aligned")
    except MissingFloorError:
        align = predict_motion
    return align(predictor, now, following, T_before)


def find_default_motion() -> str:
    """Return the method for the camera motion that runs by default: "aligned", or "network" without the train floor."""
    return "aligned" if is_installed("torch") else "network"


def load_motion(name: str | None) -> Motion:
    """Return the method for the camera motion between video frames; None is the best one that is installed."""
    return align_if_installed if name is None else MOTIONS.load(name)


def predict_to_folder(
    predictor: Predictor,
    frames: Iterable[Frame],
    out: Path,
    provenance: Provenance,
    *,
    source: str,
    fingerprint: str = "",
    has_frame_numbers: bool = False,
    listeners: Sequence[Listener] = (),
) -> Predictions:
    """Predict frames, and write the predictions into a folder. See `write_predictions`.

    predictor: the network.
    frames: the frames, in order.
    out: the folder.
    provenance: origin of the predictions; its `motion` is the method for the camera trajectory.
    source: name of the input in messages and records.
    fingerprint: hash of the input; "" if unknown.
    has_frame_numbers: whether the names of the frames are their numbers in a video.
    listeners: receive each predicted frame.
    """
    predicted = stream_predictions(predictor, frames, load_motion(provenance.motion))
    predicted = steady_frames(predicted) if provenance.steady else predicted
    return write_predictions(
        predicted,
        predictor,
        out,
        provenance,
        source=source,
        fingerprint=fingerprint,
        has_frame_numbers=has_frame_numbers,
        listeners=listeners,
    )


def stream_predictions(
    predictor: Predictor, frames: Iterable[Frame], motion: Motion, *, in_threads: bool = True
) -> Iterator[PredictedFrame]:
    """Predict frames with few images in memory. Poses are chained from neighbor to neighbor, from the identity.

    in_threads: prepare and predict the next frames in threads; False for a single photo.
    """
    before: FrameArrays | None = None
    T_next_now: NDArray[np.float64] | None = None
    T_world_camera: NDArray[np.float64] | None = np.eye(4)
    images = (PreparedFrame.prepare(predictor, frame) for frame in frames)
    if in_threads:
        prepared = run_ahead(images, weigh=lambda shown: shown.frame.image.nbytes)
        batches = run_ahead(
            _predict_depth(predictor, prepared),
            count=1,
            weigh=lambda batch: max(predicted.frame.image.nbytes for predicted, _ in batch),
        )
    else:
        batches = _predict_depth(predictor, images, most=1)
    for batch in batches:
        pairs = {} if T_world_camera is None else _find_pairs(before, batch)
        links = dict(zip(pairs, _link(predictor, motion, list(pairs.values()), T_next_now), strict=True))
        for number, (predicted, arrays) in enumerate(batch):
            if not predicted.frame.on_path:
                yield predicted
                continue
            if before is not None and T_world_camera is not None:
                link = links.get(number, FrameMotion(None))
                T_next_now = link.T_next_now
                T_world_camera = None if T_next_now is None else compose(T_world_camera, invert_pose(T_next_now))
                predicted = replace(predicted, is_aligned=link.is_aligned)
            before = arrays
            yield predicted if T_world_camera is None else replace(predicted, T_world_camera=T_world_camera)


_Pair = tuple[FrameArrays, FrameArrays]


def _predict_depth(
    predictor: Predictor, prepared: Iterable[PreparedFrame], most: int = MAX_BATCH
) -> Iterator[list[tuple[PredictedFrame, FrameArrays]]]:
    """Run the depth network on batches of frames."""
    height, width = predictor.height, predictor.width
    for batch in _batched(prepared, min(most, max(MAX_BATCH_PIXELS // (height * width), 1))):
        images = np.stack([shown.image for shown in batch])
        K = np.stack([shown.K for shown in batch])
        maps = predict_maps(predictor, images, Camera(K, height, width))
        done = []
        for number, shown in enumerate(batch):
            inverse_depth = maps.inverse_depth[number : number + 1]
            predicted = shown.predicted(predictor.depth_scale, inverse_depth[0, 0], None)
            if maps.log_uncertainty is not None:
                predicted = replace(predicted, log_uncertainty=maps.log_uncertainty[number, 0])
            camera = Camera(K[number : number + 1], height, width)
            done.append((predicted, FrameArrays(images[number : number + 1], camera, inverse_depth)))
        yield done


def _find_pairs(before: FrameArrays | None, batch: Sequence[tuple[PredictedFrame, FrameArrays]]) -> dict[int, _Pair]:
    """Return the pairs of neighbors on the path by the number of the later frame.

    before: the last frame on it.
    """
    pairs: dict[int, _Pair] = {}
    for number, (predicted, arrays) in enumerate(batch):
        if predicted.frame.on_path:
            if before is not None and predicted.frame.is_neighbor:
                pairs[number] = before, arrays
            before = arrays
    return pairs


def _link(
    predictor: Predictor, motion: Motion, pairs: Sequence[_Pair], T_before: NDArray[np.float64] | None
) -> list[FrameMotion]:
    """Return the motion of each pair, all at once if they have one camera."""
    views = [view for pair in pairs for view in pair]
    if pairs and all(np.array_equal(view.camera.K, views[0].camera.K) for view in views):
        now, following = (_stack(side) for side in zip(*pairs, strict=True))
        return motion(predictor, now, following, T_before)
    found: list[FrameMotion] = []
    for now, following in pairs:
        found += motion(predictor, now, following, found[-1].T_next_now if found else T_before)
    return found


def _stack(views: Sequence[FrameArrays]) -> FrameArrays:
    camera, depths = views[0].camera, [view.inverse_depth for view in views if view.inverse_depth is not None]
    K = np.concatenate([view.camera.K for view in views])
    image = np.concatenate([view.image for view in views])
    return FrameArrays(image, Camera(K, camera.height, camera.width), np.concatenate(depths) if depths else None)


def _batched(items: Iterable[PreparedFrame], most: int) -> Iterator[list[PreparedFrame]]:
    batch: list[PreparedFrame] = []
    try:
        for item in items:
            batch.append(item)
            if len(batch) >= most or len(batch) >= bound_count(most, item.frame.image.nbytes):
                yield batch
                batch = []
    except (Exception, KeyboardInterrupt):
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def predict_motion(
    predictor: Predictor, now: FrameArrays, following: FrameArrays, T_before: NDArray[np.float64] | None
) -> list[FrameMotion]:
    """Predict the camera motion of B pairs of video frames by the pose network; the motion is unknown without one.

    The rotations are orthogonal to the precision of float64.

    predictor: network with its pose network.
    now: B video frames.
    following: the B video frames that follow them.
    T_before: motion of the pair before, which this function does not use.
    """
    T_next_now = predictor.T_next_now(now.image, now.camera, following.image, following.camera)
    if T_next_now is None:
        return [FrameMotion(None)] * len(now.image)
    T = T_next_now.astype(np.float64)
    exact = from_rotation_translation(
        matrix_from_quaternion_wxyz(quaternion_wxyz_from_matrix(T[:, :3, :3])), T[:, :3, 3]
    )
    return [FrameMotion(T) for T in exact]
