"""Predict depth of a checkpoint by another runtime: export it once, calibrate int8 on the user's frames, compare."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stadia import __version__
from stadia.core.errors import StadiaError
from stadia.core.types import Camera, PredictedMaps, Predictor
from stadia.evaluation.backends import BACKENDS, PRECISIONS
from stadia.evaluation.backends.backend import Backend, BackendChoice
from stadia.evaluation.backends.export_cache import open_cached_file
from stadia.evaluation.backends.quantization import keep_float32, median_relative_difference
from stadia.evaluation.exported_network import ExportedNetwork
from stadia.evaluation.frame_preparation import Frame, PreparedFrame, read_frames
from stadia.evaluation.network_export import OPSET, TOLERANCE, compare_prediction, export_motion, export_onnx
from stadia.evaluation.onnx_graph import MOTION, OnnxGraph
from stadia.models.depth_pose_net import DepthPoseNet
from stadia.models.pose_net import PoseNet
from stadia.recipes.base.depth_recipe import DepthPredictor, DepthRecipe
from stadia.recipes.prediction.prediction_inputs import PredictionInput
from stadia.recipes.prediction.recipe_export import MotionNetwork, describe_export
from stadia.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)

Images = Sequence[NDArray[np.float32]]
"""Images (3, H, W) of the network's size."""

Samples = Sequence[tuple[NDArray[np.float32], NDArray[np.float64]]]
"""Such images, with K (3, 3)."""

NUM_CALIBRATION, NUM_COMPARED = 32, 16
"""Frames that int8 is calibrated on, and others between them on which it is compared with float32."""

MAX_READ_FRAMES = 1000
"""Of a video, which is decoded from its start."""

MAX_DIFFERENCE = 0.02
"""Median relative difference from float32, above which a note advises against a precision."""

EXPORTS = "exports"
"""Folder of a run with its exported networks. They are compared before each use; the folder may be removed."""


class BackendPredictor(DepthPredictor):
    """A trained DepthRecipe that runs by a backend, or by torch in another precision than float32.

    backend: predicts depth, on the processor; None is torch.
    motion_backend: runs the pose network; None is torch.
    precision_cost: as of `PredictionsRecord`.
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

    @property
    def runs_in_torch(self) -> bool:
        """Return whether torch runs one of the networks."""
        net = self.recipe.depth_pose_net
        return self.backend is None or (self.motion_backend is None and net is not None and net.pose is not None)

    def _predict_maps(self, image: Tensor, camera: Camera) -> PredictedMaps:
        """Predict (B, 3, H, W) to (B, 1, H, W); another backend than torch predicts inverse depth alone."""
        if self.backend is None:
            return super()._predict_maps(image, camera)
        inverse_depth = torch.from_numpy(self.backend.run(image.cpu().numpy()))
        return PredictedMaps(inverse_depth / self._focal_ratio(camera, inverse_depth))

    def _predict_motion(self, now: Tensor, following: Tensor) -> Tensor | None:
        net = self.recipe.depth_pose_net
        if self.motion_backend is None or net is None or net.pose is None:
            return super()._predict_motion(now, following)
        values = self.motion_backend.run(torch.cat([now, following], dim=1).cpu().numpy())
        return net.pose.transform(torch.from_numpy(values))


@contextmanager
def limit_torch_threads(predictor: Predictor) -> Iterator[None]:
    """Let torch compute on one thread where another runtime runs the networks on threads of its own.

    What is left to torch is small, and more of its threads would only take the processor from that runtime.
    """
    if not isinstance(predictor, BackendPredictor) or predictor.runs_in_torch:
        yield
        return
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


def open_backend(
    checkpoint: Path, predictor: Predictor, choice: BackendChoice, open_frames: Callable[[], Sequence[PredictionInput]]
) -> BackendPredictor:
    """Return a predictor of a checkpoint that runs by a backend, in a precision.

    For another backend than torch the network is exported into the run's folder EXPORTS once, and compared with the
    checkpoint at each use.

    Args:
        checkpoint: or the run's folder.
        predictor: of this checkpoint.
        choice: not torch in float32, which `predictor` is.
        open_frames: opens the input. On its frames int8 is calibrated, and other precisions are compared with float32.

    Raises StadiaError where the network cannot be exported, or float32 differs by more than TOLERANCE.
    """
    assert isinstance(predictor, DepthPredictor)
    if choice.is_torch:
        opened = BackendPredictor(predictor, choice.precision)
        opened.precision_cost = _measure_cost(predictor, opened, _sample_images(predictor, open_frames())[1])
        return opened
    predictor.move(torch.device("cpu"))
    with ExitStack() as files:
        folder = _find_export_folder(checkpoint)
        if not os.access(folder if folder.exists() else folder.parent, os.W_OK):
            folder = Path(files.enter_context(tempfile.TemporaryDirectory()))
        exporter = _Exporter(checkpoint, predictor, folder)
        motion = exporter.open_motion(choice)
        if choice.precision == "float32":
            return BackendPredictor(predictor, choice.precision, exporter.open_float32(choice.backend), motion)
        calibration, compared = _sample_images(predictor, open_frames())
        depth = exporter.open_precision(choice, [image for image, _ in calibration])
        opened = BackendPredictor(predictor, choice.precision, depth, motion)
        opened.precision_cost = _measure_cost(predictor, opened, compared)
        return opened


def describe_backend_choice(choice: BackendChoice) -> str:
    """Return the note that another runtime predicts depth, or in another precision."""
    if choice.is_torch:
        return f"note: the networks compute in {choice.precision}"
    if choice.precision == motion_precision(choice):
        return f"note: {choice.backend} runs the networks in {choice.precision}"
    depth, motion = choice.precision, motion_precision(choice)
    return f"note: {choice.backend} runs the depth network in {depth}, and the pose network in {motion}"


def motion_precision(choice: BackendChoice) -> str:
    """Return the precision of the pose network: as the depth network's, but not int8."""
    return "bf16" if choice.precision == "bf16" else "float32"


def describe_cost(precision: str, cost: Mapping[str, float] | None) -> Iterator[str]:
    """Yield what a precision costs, for people; nothing for float32."""
    if cost is None:
        return
    difference = cost["median_relative_difference"]
    frames = f"{cost['frames']:.0f} frames of this input"
    yield f"note: {precision} differs from float32 by {difference:.2%} (median over {frames})"
    if not difference <= MAX_DIFFERENCE:
        yield f"note: that is more than {MAX_DIFFERENCE:.0%}: use --precision float32 for depth that is measured by"


def _find_export_folder(checkpoint: Path) -> Path:
    """Return the run's folder for exports; for a checkpoint outside a run the one beside it."""
    path = Checkpoint.open(checkpoint).path
    run = path.parent.parent
    return (run if (run / "run.json").is_file() else path.parent) / EXPORTS


@dataclass
class _Exporter:
    """Exports the depth network of a checkpoint, or finds its export in a folder."""

    checkpoint: Path
    predictor: DepthPredictor
    folder: Path

    def __post_init__(self) -> None:
        self.about, self.network = describe_export(self.checkpoint, self.predictor.recipe)
        self.size = self.predictor.height, self.predictor.width
        opened = Checkpoint.open(self.checkpoint)
        weights = json.dumps([opened.header.config, sorted(opened.checksums.items())], sort_keys=True)
        self.fingerprint: dict[str, Any] = {
            "weights": hashlib.sha256(weights.encode()).hexdigest(),
            "description": self.about.texts(),
            "opset": OPSET,
            "size": list(self.size),
            "versions": {"stadia": __version__, "torch": torch.__version__},
        }

    def find_float32(self) -> Path:
        """Return the export in float32."""
        write = partial(export_onnx, self.network, about=self.about, size=self.size)
        return open_cached_file(self.folder, "depth-float32", self.fingerprint, write)

    def open_float32(self, backend: str) -> Backend:
        """Return a backend that predicts as the checkpoint. An export that differs is written again."""
        for is_last in (False, True):
            path = self.find_float32()
            opened = self._open(backend, path)
            image = np.random.default_rng(0).random((1, 3, *self.size), np.float32)
            compared = compare_prediction(self.network, opened.run, image)
            if compared.relative < TOLERANCE and compared.of_spread < TOLERANCE:
                return opened
            _remove_export(path, str(compared), is_last=is_last)
        found, expected = (
            f"{compared}, by {backend} and by torch",
            f"less than {TOLERANCE:g} relative and of the spread",
        )
        raise StadiaError(self.checkpoint, found=found, expected=expected, fix="leave --backend out, and report it")

    def open_precision(self, choice: BackendChoice, images: Images) -> Backend:
        """Return a backend of another precision, calibrated on images where it changes the file."""
        convert = PRECISIONS.load(choice.precision)
        if convert is keep_float32:
            return self._open(choice.backend, self.find_float32(), choice.precision)
        digest = hashlib.sha256(str([image.shape for image in images]).encode())
        for image in images:
            digest.update(image.tobytes())
        packages = {name: version(name) for name in ("onnx", "onnxruntime")}
        versions = {**self.fingerprint["versions"], **packages}
        fingerprint = {**self.fingerprint, "versions": versions, "images": digest.hexdigest()}

        def write(path: Path) -> None:
            convert(self.find_float32(), path, images)

        path = open_cached_file(self.folder, f"depth-{choice.precision}", fingerprint, write)
        return self._open(choice.backend, path, choice.precision)

    def open_motion(self, choice: BackendChoice) -> Backend | None:
        """Return a backend of the pose network; None where torch runs it.

        That is where there is none, where a class of the user's predicts motion by itself, and where the network
        cannot be exported. An export that is refused, or differs from the checkpoint, is written again.
        """
        net = self.predictor.recipe.depth_pose_net
        if net is None or net.pose is None or _has_own_motion(self.predictor.recipe, net, net.pose):
            return None
        network = MotionNetwork(net).eval()
        write = partial(export_motion, network, size=self.size)
        problem = ""
        for is_last in (False, True):
            path: Path | None = None
            try:
                path = open_cached_file(self.folder, "motion-float32", self.fingerprint, write)
                graph = self._check_motion(path, network)
                opened: Backend = BACKENDS.load(choice.backend)(graph, self.size, motion_precision(choice))
                return opened
            except StadiaError as error:
                problem = str(error)
            if path is None:
                break  # it cannot be exported
            _remove_export(path, problem, is_last=is_last)
        log.warning("note: the pose network stays in torch: %s", problem)
        return None

    def _check_motion(self, path: Path, network: MotionNetwork) -> OnnxGraph:
        """Open an export, and compare it with the checkpoint. Raises StadiaError where it differs."""
        graph = OnnxGraph(path, MOTION)
        graph.check_interface()
        pair = np.random.default_rng(0).random((1, MOTION.channels, *self.size), np.float32)
        compared = compare_prediction(network, graph.run_in_time, pair)
        if not (compared.relative < TOLERANCE and compared.of_spread < TOLERANCE):
            expected, fix = f"less than {TOLERANCE:g} relative and of the spread", "leave --backend out, and report it"
            raise StadiaError(path, found=str(compared), expected=expected, fix=fix)
        return graph

    def _open(self, backend: str, path: Path, precision: str = "float32") -> Backend:
        opened: Backend = BACKENDS.load(backend)(ExportedNetwork(path, self.size).graph, self.size, precision)
        return opened


def _remove_export(path: Path, problem: str, *, is_last: bool) -> None:
    """Remove an export that was refused, or differs from the checkpoint; log that it is written again."""
    if not is_last:
        log.warning("note: %s cannot be used, and is written again: %s", path, problem)
    path.unlink(missing_ok=True)


def _has_own_motion(recipe: DepthRecipe[Any, Any, Any, Any], net: DepthPoseNet, pose: PoseNet) -> bool:
    """Return whether a class of the user's predicts motion by more than the pose network and its transform."""
    is_of_stadia = (
        type(recipe).T_next_now is DepthRecipe.T_next_now,
        type(net).motion is DepthPoseNet.motion,
        type(pose).forward is PoseNet.forward,
    )
    return not all(is_of_stadia)


def _sample_images(predictor: Predictor, inputs: Sequence[PredictionInput]) -> tuple[Samples, Samples]:
    """Return images to calibrate on, and others between them to compare with float32; of few frames all for both."""
    most = -(-(NUM_CALIBRATION + NUM_COMPARED) // len(inputs))
    every = max(len(inputs) // (NUM_CALIBRATION + NUM_COMPARED), 1)
    frames = (frame for given in inputs[::every] for frame in _sample_frames(given, most))
    images = [(one.image, one.K) for one in (PreparedFrame.prepare(predictor, frame) for frame in frames)]
    compared = images[1::3]
    calibration = [image for number, image in enumerate(images) if number % 3 != 1]
    return (calibration, compared) if len(images) >= 6 else (images, images)


def _sample_frames(given: PredictionInput, most: int) -> Iterator[Frame]:
    """Yield at most so many frames, spread over the input; over the first MAX_READ_FRAMES of a video."""
    if given.recording is not None:
        indices = np.unique(np.linspace(0, len(given.recording) - 1, most).round().astype(int))
        return read_frames(given.recording, indices.tolist())
    count = MAX_READ_FRAMES if given.count is None else min(given.count, MAX_READ_FRAMES)
    return islice(given.frames, 0, count, max(-(-count // most), 1))


def _measure_cost(expected: Predictor, found: Predictor, samples: Samples) -> dict[str, float]:
    """Return the median relative difference of one predictor's inverse depth from another's."""
    differences = []
    for image, K in samples:
        one, camera = torch.from_numpy(image)[None], Camera(torch.from_numpy(K), *image.shape[1:])
        maps = [predictor.inverse_depth(one, camera).cpu().numpy() for predictor in (found, expected)]
        differences.append(median_relative_difference(*maps))
    return {"median_relative_difference": float(np.median(differences)), "frames": len(samples)}
