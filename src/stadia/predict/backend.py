"""Predict depth in another runtime or precision, and compare with float32."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.types import Camera, PredictedMaps, Predictor
from stadia.evaluation.backends import Backend, BackendChoice, median_relative_difference
from stadia.evaluation.frame_preparation import Frame, PreparedFrame, read_frames
from stadia.evaluation.predict_frames import DepthPredictor
from stadia.networks.depth.depth_network import compute_focal_ratio
from stadia.predict.export import NetworkExports
from stadia.predict.inputs import PredictionInput
from stadia.training.loop.checkpoint import Checkpoint

Samples = Sequence[tuple[NDArray[np.float32], NDArray[np.float64]]]
"""Images (3, H, W) of the network's size, with K (3, 3)."""

NUM_COMPARED = 16
"""This many frames of the input compare a precision with float32."""

MAX_READ_FRAMES = 1000
"""Only the first frames of a video are read, because it is decoded from its start."""

EXPORTS = "exports"
"""This folder of a run has its exported networks, which are compared before each use. You may remove it."""


class BackendPredictor(DepthPredictor):
    """A trained DepthRecipe in a backend, or in torch with another precision than float32.

    backend, motion_backend: for depth and the pose network; None is torch.
    precision_cost: as in `PredictionsRecord`.
    """

    def __init__(
        self,
        predictor: DepthPredictor,
        precision: str,
        backend: Backend | None = None,
        motion_backend: Backend | None = None,
    ) -> None:
        super().__init__(predictor.recipe, (predictor.height, predictor.width), predictor.crop, precision)
        self.backend, self.motion_backend, self.flip = backend, motion_backend, predictor.flip
        self.lens = predictor.lens  # one warning of another focal length for both
        self.precision_cost: Mapping[str, float] | None = None
        if backend is not None:
            self.move(torch.device("cpu"))

    def _predict_maps(self, image: Tensor, camera: Camera) -> PredictedMaps:
        if self.backend is None:
            return super()._predict_maps(image, camera)
        inverse_depth = torch.from_numpy(self.backend.run(image.cpu().numpy()))
        canonical = self._canonical_focal  # a graph takes no camera
        own = self._focal_ratio(camera, inverse_depth)
        ratio = own if canonical is None else compute_focal_ratio(camera, canonical)
        return PredictedMaps(inverse_depth / ratio)

    @property
    def _canonical_focal(self) -> float | None:
        return getattr(getattr(self.recipe.depth_network, "config", None), "canonical_focal", None)

    def _predict_motion(self, now: Tensor, following: Tensor) -> Tensor | None:
        net = self.recipe.depth_pose_net
        if self.motion_backend is None or net is None or net.pose is None:
            return super()._predict_motion(now, following)
        values = self.motion_backend.run(torch.cat([now, following], dim=1).cpu().numpy())
        return net.pose.transform(torch.from_numpy(values))


def open_backend(
    checkpoint: Checkpoint,
    predictor: Predictor,
    choice: BackendChoice,
    open_frames: Callable[[], Sequence[PredictionInput]],
) -> BackendPredictor:
    """Return a predictor of a checkpoint in another backend or precision.

    For other backends than torch the network is exported into the run's folder once, and compared at each use.

    predictor: of this checkpoint.
    choice: anything but torch in float32.
    open_frames: opens the input, whose frames compare the precision with float32.

    Raises StadiaError if the network cannot be exported, or float32 differs by more than TOLERANCE.
    """
    assert isinstance(predictor, DepthPredictor)
    if choice.is_torch:
        opened = BackendPredictor(predictor, choice.precision)
        opened.precision_cost = _measure_cost(predictor, opened, _sample_images(predictor, open_frames()))
        return opened
    predictor.move(torch.device("cpu"))
    with ExitStack() as files:
        folder = _find_export_folder(checkpoint)
        if not os.access(folder if folder.exists() else folder.parent, os.W_OK):
            folder = Path(files.enter_context(tempfile.TemporaryDirectory()))
        exports = NetworkExports(checkpoint, predictor, folder)
        motion = exports.open_motion(choice)
        if choice.precision == "float32":
            return BackendPredictor(predictor, choice.precision, exports.open_float32(choice.backend), motion)
        opened = BackendPredictor(predictor, choice.precision, exports.open_precision(choice), motion)
        opened.precision_cost = _measure_cost(predictor, opened, _sample_images(predictor, open_frames()))
        return opened


def _find_export_folder(checkpoint: Checkpoint) -> Path:
    run = checkpoint.run_folder
    if checkpoint.built_recipe is not None:
        return run / EXPORTS  # which cannot be written
    return (run if (run / "run.json").is_file() else checkpoint.path.parent) / EXPORTS


def _sample_images(predictor: Predictor, inputs: Sequence[PredictionInput]) -> Samples:
    most = -(-NUM_COMPARED // len(inputs))
    every = max(len(inputs) // NUM_COMPARED, 1)
    frames = (frame for given in inputs[::every] for frame in _sample_frames(given, most))
    prepared = (PreparedFrame.prepare(predictor, frame) for frame in frames)
    return [(shown.image, shown.K) for shown in prepared]


def _sample_frames(given: PredictionInput, most: int) -> Iterator[Frame]:
    if given.recording is not None:
        indices = np.unique(np.linspace(0, len(given.recording) - 1, most).round().astype(int))
        return read_frames(given.recording, indices.tolist())
    count = MAX_READ_FRAMES if given.count is None else min(given.count, MAX_READ_FRAMES)
    return islice(given.frames, 0, count, max(-(-count // most), 1))


def _measure_cost(expected: Predictor, found: Predictor, samples: Samples) -> dict[str, float]:
    differences = []
    for image, K in samples:
        batch, camera = torch.from_numpy(image)[None], Camera(torch.from_numpy(K), *image.shape[1:])
        maps = [predictor.inverse_depth(batch, camera).cpu().numpy() for predictor in (found, expected)]
        differences.append(median_relative_difference(*maps))
    return {"median_relative_difference": float(np.median(differences)), "frames": len(samples)}
