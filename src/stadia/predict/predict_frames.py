"""Predict depth of frames with a network, chain the motions between them to a path, and write both to a folder."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.errors import CheckpointError, ConfigError
from stadia.core.types import Camera, MapsPredictor, PredictedMaps, Predictor
from stadia.data.frame_preparation import (
    Frame,
    Listener,
    PredictedFrame,
    PreparedFrame,
    TrainingLens,
    bound_count,
    run_ahead,
)
from stadia.differentiable.direct_alignment import DirectAlignment, align_direct
from stadia.differentiable.view_synthesis import depth_from_inverse, mirror
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

MIN_OVERLAP = 0.25  # smallest share of an image in the next one; with less, an alignment is unreliable
GAIN_RANGE = (0.7, 1.4)
"""Brightness gains between two video frames that are plausible, as a range.

Two unrelated images are aligned with a gain near 0, which explains one of them as a constant.
"""

MAX_BATCH, MAX_BATCH_PIXELS = 4, 500_000
"""Largest batches of the networks: number of video frames, and number of pixels of all of them. Larger ones gain
nothing.
"""


# -- the network of a recipe


class DepthPredictor:
    """A depth network with its recipe, for predictions: a `DepthRecipe`, or a `NetworkRecipe` of published weights.

    It runs on a GPU if there is one.

    With another focal length than the training's, inverse depth is scaled by the ratio (`TrainingLens`), and the pose
    network is not used.

    precision: "bf16" runs the networks under autocast; the maps are float32.
    flip: average maps with the mirrored image's (`average_mirrored`).
    """

    flip = False

    def __init__(
        self, recipe: Any, size: tuple[int, int] | None = None, crop: str | None = None, precision: str = "float32"
    ) -> None:
        self.precision = precision
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.recipe = recipe.eval().to(self.device)
        self.depth_scale, self.crop = recipe.depth_scale, crop or recipe.crop
        self.height: int
        self.width: int
        self.height, self.width = size or (recipe.height, recipe.width)
        network = recipe.depth_network
        scaled = "" if network is not None and network.uses_camera else "depth is scaled by it, and "
        self.lens = TrainingLens(recipe.focal.tolist(), f"{scaled}the pose network is not used")

    def move(self, device: torch.device) -> None:
        """Run on another device from now on."""
        self.device, self.recipe = device, self.recipe.to(device)

    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        """Predict (B, 3, H, W) to (B, 1, H, W), in the unit of `depth_scale`."""
        return self.maps(image, camera).inverse_depth

    @torch.inference_mode()
    def maps(self, image: Tensor, camera: Camera) -> PredictedMaps:
        """Predict (B, 3, H, W) to (B, 1, H, W) each; see `core.types.MapsPredictor`."""
        predict = self._predict_maps
        return average_mirrored(predict, image, camera) if self.flip else predict(image, camera)

    def _predict_maps(self, image: Tensor, camera: Camera) -> PredictedMaps:
        image = image.to(self.device)
        with self._autocast():
            predicted = self.recipe.maps(image, camera.to(self.device)).to(torch.float32)
        ratio = self._focal_ratio(camera, image)
        right = None if predicted.inverse_depth_right is None else predicted.inverse_depth_right / ratio
        return replace(predicted, inverse_depth=predicted.inverse_depth / ratio, inverse_depth_right=right)

    @torch.inference_mode()
    def T_next_now(self, now: Tensor, camera: Camera, following: Tensor, next_camera: Camera) -> Tensor | None:
        """Predict motion, (B, 3, H, W) twice to (B, 4, 4), translation in the unit of depth.

        Returns None if motion was not trained, or the focal length differs from the training's.
        """
        for lens in (camera, next_camera):  # the pose network takes no camera
            if (self.lens.ratio(lens.K.cpu().numpy(), lens.height, lens.width) != 1).any():
                return None
        return self._predict_motion(now, following)

    def _predict_motion(self, now: Tensor, following: Tensor) -> Tensor | None:
        with self._autocast():
            T = self.recipe.T_next_now(now.to(self.device), following.to(self.device))
        return None if T is None else T.float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def _focal_ratio(self, camera: Camera, image: Tensor) -> Tensor:
        """Return this camera's focal length over the training's (..., 1, 1, 1); 1 if the network uses the camera."""
        network = self.recipe.depth_network
        if network is not None and network.uses_camera:
            return torch.ones(1, 1, 1, 1).to(image)
        ratio = self.lens.ratio(camera.K.cpu().numpy(), camera.height, camera.width)
        return torch.from_numpy(ratio).to(image).reshape(-1, 1, 1, 1)


def average_mirrored(
    predict: Callable[[Tensor, Camera], PredictedMaps], image: Tensor, camera: Camera
) -> PredictedMaps:
    """Return the mean of the maps of images and of the mirrored maps of the mirrored images.

    The right view's inverse depth stays, because mirroring swaps the cameras of the rig.

    Source: post-processing of Godard et al., CVPR 2017, section 3.3, without its weights at the edges.
    """
    maps, mirrored = predict(image, camera), predict(*mirror(image, camera))
    inverse_depth = (maps.inverse_depth + mirrored.inverse_depth.flip(-1)) / 2
    if maps.log_uncertainty is None or mirrored.log_uncertainty is None:
        return replace(maps, inverse_depth=inverse_depth)
    log_uncertainty = (maps.log_uncertainty + mirrored.log_uncertainty.flip(-1)) / 2
    return replace(maps, inverse_depth=inverse_depth, log_uncertainty=log_uncertainty)


def make_predictor(recipe: Any, place: Path, size: tuple[int, int] | None = None, *, flip: bool = False) -> Predictor:
    """Return a predictor of a recipe whose weights are loaded.

    place: the path of its checkpoint, for errors.
    size: (height, width) of the network's images; None for the training's.
    flip: average the maps with the maps of mirrored images.

    Raises CheckpointError for a recipe without depth, ConfigError if it supports no such size or no flip.
    """
    predictor = recipe.predictor(size)
    if predictor is None:
        found, fix = f"a checkpoint of recipe '{recipe.recipe}'", "pass a checkpoint of a recipe that predicts depth"
        raise CheckpointError(place, found=found, expected="a recipe that predicts depth", fix=fix)
    return choose_flip(predictor, flip)


def choose_flip(predictor: Predictor, flip: bool) -> Predictor:
    """Let a predictor average its maps with mirrored images, or not; return it. Raises ConfigError if it cannot."""
    if isinstance(predictor, DepthPredictor) and type(predictor).maps is DepthPredictor.maps:
        predictor.flip = flip
    elif flip:
        found, expected = f"a {type(predictor).__name__}", "a DepthPredictor that keeps its method maps"
        raise ConfigError("--flip", found=found, expected=expected, fix="leave it out")
    return predictor


# -- the depth of frames, and the motion between them


@dataclass(frozen=True, slots=True)
class FrameTensors:
    """Frames (B, 3, H, W) at the network's size, inverse depth (B, 1, H, W) if used, and K (3, 3) or (B, 3, 3)."""

    image: Tensor
    camera: Camera
    inverse_depth: Tensor | None = None

    def select(self, number: int) -> "FrameTensors":
        """Return one frame, as a batch."""
        one, camera = slice(number, number + 1), self.camera
        inverse_depth = None if self.inverse_depth is None else self.inverse_depth[one]
        K = camera.K.expand(len(self.image), 3, 3)[one]
        return FrameTensors(self.image[one], Camera(K, camera.height, camera.width), inverse_depth)


def predict_maps(predictor: Predictor, image: Tensor, camera: Camera) -> PredictedMaps:
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
    camera = Camera(torch.from_numpy(shown.K), predictor.height, predictor.width)
    predicted = predictor.inverse_depth(torch.from_numpy(shown.image)[None], camera)
    return np.asarray(predicted[0, 0].float().cpu().numpy(), np.float32)


@dataclass(frozen=True, slots=True)
class FrameMotion:
    """Hold the camera motion between two video frames.

    T_next_now: (4, 4) float64 motion, from the camera coordinates of this video frame to the camera coordinates of the
        next; None if unknown.
    is_aligned: True if direct image alignment found it, False if alignment failed; None if alignment was not used.
    """

    T_next_now: Tensor | None
    is_aligned: bool | None = None


Motion = Callable[[Predictor, FrameTensors, FrameTensors, Tensor | None], list[FrameMotion]]  # like `predict_motion`


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
    predicted = stream_predictions(predictor, frames, MOTIONS.load(provenance.motion))
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
    before: FrameTensors | None = None
    T_next_now: Tensor | None = None
    T_world_camera: Tensor | None = torch.eye(4, dtype=torch.float64)
    images = (PreparedFrame.prepare(predictor, frame) for frame in frames)
    if in_threads:
        prepared = run_ahead(images, weigh=lambda shown: shown.frame.image.nbytes)
        batches = run_ahead(_predict_depth(predictor, prepared), count=1, weigh=_weigh_images)
    else:
        batches = _predict_depth(predictor, images, most=1)
    for batch in batches:
        pairs = {} if T_world_camera is None else _find_pairs(before, batch)
        links = dict(zip(pairs, _link(predictor, motion, list(pairs.values()), T_next_now), strict=True))
        for number, (predicted, tensors) in enumerate(batch):
            if not predicted.frame.on_path:
                yield predicted
                continue
            if before is not None and T_world_camera is not None:
                link = links.get(number, FrameMotion(None))
                T_next_now = link.T_next_now
                T_world_camera = None if T_next_now is None else compose(T_world_camera, invert_pose(T_next_now))
                predicted = replace(predicted, is_aligned=link.is_aligned)
            before = tensors
            yield predicted if T_world_camera is None else replace(predicted, T_world_camera=T_world_camera.numpy())


def _weigh_images(batch: list[tuple[PredictedFrame, FrameTensors]]) -> int:
    return max(predicted.frame.image.nbytes for predicted, _ in batch)


_Pair = tuple[FrameTensors, FrameTensors]


def _predict_depth(
    predictor: Predictor, prepared: Iterable[PreparedFrame], most: int = MAX_BATCH
) -> Iterator[list[tuple[PredictedFrame, FrameTensors]]]:
    """Run the depth network on batches of frames."""
    height, width = predictor.height, predictor.width
    for batch in _batched(prepared, min(most, max(MAX_BATCH_PIXELS // (height * width), 1))):
        images = torch.stack([torch.from_numpy(shown.image) for shown in batch])
        K = torch.stack([torch.from_numpy(shown.K) for shown in batch])
        maps = predict_maps(predictor, images, Camera(K, height, width))
        images, done = images.to(maps.inverse_depth.device), []
        for number, shown in enumerate(batch):
            inverse_depth = maps.inverse_depth[number : number + 1]
            predicted = shown.predicted(predictor.depth_scale, inverse_depth[0, 0].float().cpu().numpy(), None)
            if maps.log_uncertainty is not None:
                uncertainty = maps.log_uncertainty[number, 0].float().cpu().numpy()
                predicted = replace(predicted, log_uncertainty=uncertainty)
            camera = Camera(K[number : number + 1], height, width)
            done.append((predicted, FrameTensors(images[number : number + 1], camera, inverse_depth.float())))
        yield done


def _find_pairs(before: FrameTensors | None, batch: Sequence[tuple[PredictedFrame, FrameTensors]]) -> dict[int, _Pair]:
    """Return the pairs of neighbors on the path by the number of the later frame.

    before: the last frame on it.
    """
    pairs: dict[int, _Pair] = {}
    for number, (predicted, tensors) in enumerate(batch):
        if predicted.frame.on_path:
            if before is not None and predicted.frame.is_neighbor:
                pairs[number] = before, tensors
            before = tensors
    return pairs


def _link(predictor: Predictor, motion: Motion, pairs: Sequence[_Pair], T_before: Tensor | None) -> list[FrameMotion]:
    """Return the motion of each pair, all at once if they have one camera."""
    views = [view for pair in pairs for view in pair]
    if pairs and all(torch.equal(view.camera.K, views[0].camera.K) for view in views):
        now, following = (_stack(side) for side in zip(*pairs, strict=True))
        return motion(predictor, now, following, T_before)
    found: list[FrameMotion] = []
    for now, following in pairs:
        found += motion(predictor, now, following, found[-1].T_next_now if found else T_before)
    return found


def _stack(views: Sequence[FrameTensors]) -> FrameTensors:
    camera, depths = views[0].camera, [view.inverse_depth for view in views if view.inverse_depth is not None]
    K = torch.cat([view.camera.K for view in views])
    image = torch.cat([view.image for view in views])
    return FrameTensors(image, Camera(K, camera.height, camera.width), torch.cat(depths) if depths else None)


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


def is_reliable(found: DirectAlignment) -> bool:
    """Return whether the direct alignment of two video frames is reliable: enough overlap, and a plausible gain.

    found: the alignment.
    """
    return float(found.seen) >= MIN_OVERLAP and GAIN_RANGE[0] <= float(found.gain) <= GAIN_RANGE[1]


def _continues(found: DirectAlignment, T_before: Tensor) -> bool:
    return float(found.T_source_target[0, :3, 3].cpu() @ T_before[:3, 3]) >= 0


def _rank(found: DirectAlignment) -> tuple[bool, float]:
    """Return a key that sorts better alignments first: reliable ones, then by residual."""
    return not is_reliable(found), float(found.residual)


def predict_motion(
    predictor: Predictor, now: FrameTensors, following: FrameTensors, T_before: Tensor | None
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
    T = T_next_now.double().cpu()
    exact = from_rotation_translation(
        matrix_from_quaternion_wxyz(quaternion_wxyz_from_matrix(T[:, :3, :3])), T[:, :3, 3]
    )
    return [FrameMotion(T_next_now) for T_next_now in exact]


def align_motion(
    predictor: Predictor, now: FrameTensors, following: FrameTensors, T_before: Tensor | None
) -> list[FrameMotion]:
    """Find the camera motion of B pairs of video frames by direct image alignment with predicted depth.

    It starts from the motion of the pose network, or else from the motion of the pair before. An unreliable result is
    not taken.

    predictor: network that predicts depth, and perhaps motion.
    now: B video frames with their inverse depth.
    following: the B video frames that follow them.
    T_before: motion of the pair before, or None.
    """
    predicted = predict_motion(predictor, now, following, T_before)
    if predictor.depth_scale.is_affine:
        return predicted
    starts = [link.T_next_now for link in predicted if link.T_next_now is not None]
    together = _align(now, following, torch.stack(starts)) if len(starts) == len(predicted) else []
    motions: list[FrameMotion] = []
    for number, by_network in enumerate(predicted):
        before = motions[-1].T_next_now if motions else T_before
        pair = now.select(number), following.select(number)
        if together:
            (found,) = together[number : number + 1]
            if before is not None and not (is_reliable(found) and _continues(found, before)):
                found = min(found, *_align(*pair, before[None]), key=_rank)
        else:
            (found,) = _align(*pair, (torch.eye(4, dtype=torch.float64) if before is None else before)[None])
        if is_reliable(found):
            motions.append(FrameMotion(found.T_source_target[0].cpu(), is_aligned=True))
        else:
            motions.append(FrameMotion(by_network.T_next_now, is_aligned=False))
    return motions


def _align(now: FrameTensors, following: FrameTensors, start: Tensor) -> list[DirectAlignment]:
    """Align B pairs from `start` (B, 4, 4)."""
    assert now.inverse_depth is not None
    device = now.image.device
    views = ((view.camera, view.camera.K.to(device).expand(len(start), 3, 3)) for view in (now, following))
    cameras = [Camera(K, camera.height, camera.width) for camera, K in views]
    depth = depth_from_inverse(now.inverse_depth)
    found = align_direct(now.image, following.image, depth, *cameras, start.to(device))
    columns = (getattr(found, column.name).split(1) for column in fields(found))
    return [DirectAlignment(*values) for values in zip(*columns, strict=True)]
