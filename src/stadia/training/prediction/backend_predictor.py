"""Predict depth in another runtime (backend) than PyTorch or in another precision, and compare it with PyTorch in
float32.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia.core.types import Camera, PredictedMaps, Predictor
from stadia.data.frame_preparation import Frame, PreparedFrame, read_frames
from stadia.data.frame_selection import spread_indices
from stadia.differentiable.number_rates import note_slow_bf16
from stadia.io.input_files import find_cache_folder
from stadia.networks.depth.depth_network import compute_focal_ratio
from stadia.predict.backends import Backend, BackendChoice, median_relative_difference
from stadia.predict.inputs import PredictionInput
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.prediction.export import NetworkExports
from stadia.training.recipes.base.depth_predictor import DepthPredictor

Samples = Sequence[tuple[NDArray[np.float32], NDArray[np.float64]]]
"""A sequence of images (3, H, W) of the network's size, each with its K (3, 3)."""

NUM_COMPARED = 16
"""Number of frames of the input in a comparison of another precision with float32."""

MAX_READ_FRAMES = 1000
"""Only this many first frames of a video are read for the comparison, because a video is decoded from its start."""

EXPORTS = "exports"
"""Name of the folder in a run or in the cache that keeps exported networks. They are compared before each use, and you
may remove it.
"""


class BackendPredictor(DepthPredictor):
    """A trained depth network that runs in another backend, or in PyTorch with another precision than float32.

    backend: runs the depth network; None is PyTorch.
    motion_backend: runs the pose network; None is PyTorch.
    precision_cost: how much this precision changes depth: the median relative difference from float32 and the number of
        compared frames; None if it was not measured.
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
    """Open a trained network in another backend or precision.

    For other backends than PyTorch the network is exported once (`find_export_folder`), and compared at each use.

    checkpoint: the trained network's file.
    predictor: the predictor of this checkpoint in PyTorch and float32.
    choice: the backend and precision, other than PyTorch in float32.
    open_frames: opens the input, on whose frames the precision is compared with float32.

    Raises StadiaError if the network cannot be exported, or its export in float32 differs from PyTorch by more than
    TOLERANCE.
    """
    assert isinstance(predictor, DepthPredictor)
    if choice.precision == "bf16" and (not choice.is_torch or predictor.device.type == "cpu"):
        note_slow_bf16("--precision bf16", "leave it out")
    if choice.is_torch:
        opened = BackendPredictor(predictor, choice.precision)
        opened.precision_cost = _measure_cost(predictor, opened, _sample_images(predictor, open_frames()))
        return opened
    predictor.move(torch.device("cpu"))
    with ExitStack() as files:
        folder = find_export_folder(checkpoint)
        if folder is None:
            folder = Path(files.enter_context(tempfile.TemporaryDirectory()))
        exports = NetworkExports(checkpoint, predictor, folder)
        motion = exports.open_motion(choice)
        if choice.precision == "float32":
            return BackendPredictor(predictor, choice.precision, exports.open_float32(choice.backend), motion)
        opened = BackendPredictor(predictor, choice.precision, exports.open_precision(choice), motion)
        opened.precision_cost = _measure_cost(predictor, opened, _sample_images(predictor, open_frames()))
        return opened


def find_export_folder(checkpoint: Checkpoint) -> Path | None:
    """Return the folder that keeps a network's exports: RUN/exports, or that of the cache; None if it has none.

    A network without a run has its exports in the cache, and a run whose folder cannot be written too.

    checkpoint: the network's file.
    """
    run = checkpoint.run_folder
    folders = [find_cache_folder() / EXPORTS]
    if checkpoint.built_recipe is None:
        folders.insert(0, (run if (run / "run.json").is_file() else checkpoint.path.parent) / EXPORTS)
    for folder in folders:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    return None


def _sample_images(predictor: Predictor, inputs: Sequence[PredictionInput]) -> Samples:
    most = -(-NUM_COMPARED // len(inputs))
    every = max(len(inputs) // NUM_COMPARED, 1)
    frames = (frame for given in inputs[::every] for frame in _sample_frames(given, most))
    prepared = (PreparedFrame.prepare(predictor, frame) for frame in frames)
    return [(shown.image, shown.K) for shown in prepared]


def _sample_frames(given: PredictionInput, most: int) -> Iterator[Frame]:
    if given.recording is not None:
        indices = spread_indices(len(given.recording), most)
        return read_frames(given.recording, indices)
    count = MAX_READ_FRAMES if given.count is None else min(given.count, MAX_READ_FRAMES)
    return islice(given.frames, 0, count, max(-(-count // most), 1))


def _measure_cost(expected: Predictor, found: Predictor, samples: Samples) -> dict[str, float]:
    differences = []
    for image, K in samples:
        camera = Camera(K, *image.shape[1:])
        maps = [predictor.inverse_depth(image[None], camera) for predictor in (found, expected)]
        differences.append(median_relative_difference(*maps))
    return {"median_relative_difference": float(np.median(differences)), "frames": len(samples)}
