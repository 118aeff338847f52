"""Export a trained depth network to a file, or into the run's folder for another backend."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from stadia import __version__
from stadia.core.errors import CheckpointError, ConfigError, StadiaError
from stadia.core.terminal import Terminal, announce_step
from stadia.core.types import DepthScale
from stadia.data.video.video_camera import KeptScale
from stadia.evaluation.predictions_folder import Provenance
from stadia.io.atomic_files import atomic_write
from stadia.io.input_files import check_no_links
from stadia.io.output_files import check_replaceable
from stadia.networks.pose_net import DepthPoseNet, PoseNet
from stadia.predict.backends import BACKENDS, Backend, BackendChoice
from stadia.predict.exported_network import MOTION, ExportDescription, ExportedNetwork, OnnxGraph, TrainingCamera
from stadia.predict.inputs import find_training_camera
from stadia.predict.networks import NETWORK_RECIPE
from stadia.predict.verdict import find_recorded_verdict
from stadia.training.loop.checkpoint import Checkpoint
from stadia.training.prediction.network_export import (
    OPSET,
    TOLERANCE,
    ExportComparison,
    compare_prediction,
    export_motion,
    export_onnx,
    export_torch,
)
from stadia.training.recipes.base.build_recipe import NetworkRecipe, load_recipe
from stadia.training.recipes.base.depth_predictor import DepthPredictor
from stadia.training.recipes.base.depth_recipe import DepthRecipe

log = logging.getLogger(__name__)

T = TypeVar("T")

_DIGITS = 16  # digits of a hash in a file's name


class InverseDepthNetwork(nn.Module):
    """The inverse depth of a trained recipe as a module without a camera input, which can be exported."""

    def __init__(self, recipe: DepthRecipe[Any, Any, Any, Any] | NetworkRecipe, factor: float = 1.0) -> None:
        super().__init__()
        self.recipe = recipe
        self.factor = factor

    def forward(self, image: Tensor) -> Tensor:
        """Predict inverse depth (B, 1, H, W) of images (B, 3, H, W) with the focal length of the training."""
        inverse_depth = self.recipe.inverse_depth(image)
        return inverse_depth if self.factor == 1 else inverse_depth / self.factor


class MotionNetwork(nn.Module):
    """The pose network of a trained recipe up to the six numbers of its output, which can be exported."""

    def __init__(self, net: DepthPoseNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, pair: Tensor) -> Tensor:
        """Return (B, 6) numbers, which `PoseNet.transform` turns into a motion, from two images (B, 6, H, W) in order
        of time.
        """
        earlier, later = pair.chunk(2, dim=1)
        return self.net.motion_values(earlier, later)


def describe_export(
    checkpoint: Checkpoint, recipe: object, kept: KeptScale | None = None
) -> tuple[ExportDescription, InverseDepthNetwork]:
    """Return the description that is stored in an exported file, and the network to export.

    checkpoint: the trained network's file.
    recipe: the recipe with the weights of the checkpoint.
    kept: the scale that a camera's file keeps, which becomes part of the network; or None.

    Raises CheckpointError for a recipe that predicts no depth or was never trained.
    """
    made_by = Provenance.from_checkpoint(checkpoint)
    if not isinstance(recipe, DepthRecipe | NetworkRecipe):
        found = f"a checkpoint of '{made_by.recipe}', which predicts no depth"
        raise CheckpointError(checkpoint.path, found=found, expected="a network that predicts depth")
    package = getattr(getattr(recipe.depth_network, "config", None), "package", "")
    if package:
        found, fix = f"a network of the package {package}", "distill it into a small one and export that"
        raise CheckpointError(checkpoint.path, found=found, expected="a network of torch alone", fix=fix)
    canonical = getattr(getattr(recipe.depth_network, "config", None), "canonical_focal", None)
    focal = 0.0 if canonical else float(recipe.focal.flatten()[0])  # the first of several datasets
    if not (canonical or focal > 0) and checkpoint.header.recipe != NETWORK_RECIPE:
        found, expected = "a network that was never trained", "the lens of its training"
        raise CheckpointError(
            checkpoint.path, found=found, expected=expected, fix="train the network first, or pass a trained one"
        )
    if kept is not None and recipe.depth_scale.is_affine:
        found, fix = f"depth {recipe.depth_scale}", "leave --camera out"
        raise ConfigError("--camera", found=found, expected="depth up to a factor", fix=fix)
    scale_from = checkpoint.header.scale_from
    if kept is not None:
        scale_from = f"{kept.measurements} lengths by tape measure, +- {kept.depth_deviation:.0%}"
    known = find_training_camera(checkpoint)
    about = ExportDescription.from_provenance(
        made_by,
        recipe.depth_scale if kept is None else DepthScale.METRES,
        focal=focal or None,
        canonical_focal=canonical,
        scale_from=scale_from,
        camera=None if known is None else TrainingCamera.model_validate(known.model_dump(include={"K", "size"})),
        height=recipe.height,
        width=recipe.width,
        crop=recipe.crop,
        stride=recipe.stride,
    )
    return about, InverseDepthNetwork(recipe, 1.0 if kept is None else kept.factor).eval()


def export_checkpoint(
    checkpoint: Checkpoint,
    out: Path,
    on_step: Callable[[str], object] = lambda step: None,
    *,
    force: bool = False,
    kept: KeptScale | None = None,
) -> tuple[ExportDescription, list[ExportComparison]]:
    """Export a checkpoint to a file, and compare the file's predictions with the checkpoint's before it is kept.

    checkpoint: the trained network's file.
    out: the new file: .onnx, or .pt2 for torch.export; an earlier export is replaced.
    on_step: called with a line of text before each slow step.
    force: whether any other file is replaced, too.
    kept: the scale that a camera's file keeps, which becomes part of the network; or None.

    Returns the description in the file, and its differences from the checkpoint at two image sizes.

    Raises ConfigError for another suffix or a missing package; CheckpointError if the checkpoint cannot be loaded or
    predicts no depth; StadiaError if `out` cannot be written, or the file predicts differently.
    """
    out, formats = Path(out), {".onnx": export_onnx, ".pt2": export_torch}
    if out.suffix not in formats:
        found = f"the suffix '{out.suffix}'" if out.suffix else "a name without a suffix"
        raise ConfigError("--out", found=found, expected=" or ".join(formats), fix="for example --out model.onnx")
    out = check_replaceable(out, "exported network", inputs=[checkpoint.path], force=force)
    on_step(f"reading {checkpoint.path}")
    about, network = describe_export(checkpoint, load_recipe(checkpoint), kept)
    recorded = find_recorded_verdict(checkpoint.run_folder)
    if recorded is not None:
        about = about.model_copy(update={"verdict": str(recorded[0]), "verdict_codes": ", ".join(recorded[1])})
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    on_step(f"exporting {millions:.1f} M parameters and comparing the file with the checkpoint (up to a few minutes)")
    one_size = recipe_exports_one_size(network.recipe)
    size = (about.height, about.width) if one_size else None
    return about, formats[out.suffix](network, out, about, size, one_image=one_size)


def recipe_exports_one_size(recipe: DepthRecipe[Any, Any, Any, Any] | NetworkRecipe) -> bool:
    """Return whether an export of this recipe's network takes only one image size, and one image at a time."""
    return recipe.depth_network is not None and recipe.depth_network.exports_one_size


class NetworkExports:
    """The exported networks of a checkpoint in a folder: each is written once, and compared with PyTorch at each use.

    An export that is damaged or predicts differently is written again.

    checkpoint: the trained network's file.
    predictor: its predictor in PyTorch, whose image size is exported.
    folder: folder for the exports.
    """

    def __init__(self, checkpoint: Checkpoint, predictor: DepthPredictor, folder: Path) -> None:
        self.checkpoint, self.predictor, self.folder = checkpoint, predictor, folder
        self.about, self.network = describe_export(checkpoint, predictor.recipe)
        self.size = predictor.height, predictor.width
        checksum = checkpoint.checksum or _hash_weights(self.network)
        weights = json.dumps([checkpoint.header.config, checksum], sort_keys=True)
        self.fingerprint: dict[str, Any] = {
            "weights": hashlib.sha256(weights.encode()).hexdigest(),
            "description": self.about.texts(),
            "opset": OPSET,
            "size": list(self.size),
            "versions": {"stadia": __version__, "torch": torch.__version__},
        }

    def open_float32(self, backend: str) -> Backend:
        """Open the depth network in a backend, in float32.

        backend: name of the backend.

        Raises StadiaError if even a new export predicts differently from PyTorch.
        """

        def open_file(path: Path) -> Backend:
            opened = self._open_depth(backend, path, "float32")
            image = np.random.default_rng(0).random((1, 3, *self.size), np.float32)
            _check_close(path, compare_prediction(self.network, opened.run, image))
            return opened

        return self._open_export("depth-float32", self.fingerprint, self._write_float32, open_file)

    def open_precision(self, choice: BackendChoice) -> Backend:
        """Open the depth network in a backend, in another precision.

        choice: names of the backend and of the precision.
        """

        def open_file(path: Path) -> Backend:
            return self._open_depth(choice.backend, path, choice.precision)

        return self._open_export("depth-float32", self.fingerprint, self._write_float32, open_file)

    def open_motion(self, choice: BackendChoice) -> Backend | None:
        """Open the pose network in a backend.

        Returns None if PyTorch must run it: if your own class predicts motion, or it cannot be exported exactly.
        """
        net = self.predictor.recipe.depth_pose_net
        if net is None or net.pose is None or _has_own_motion(self.predictor.recipe, net, net.pose):
            return None
        network = MotionNetwork(net).eval()

        def open_file(path: Path) -> Backend:
            graph = OnnxGraph(path, MOTION)
            graph.check_interface()
            pair = np.random.default_rng(0).random((1, MOTION.channels, *self.size), np.float32)
            _check_close(path, compare_prediction(network, graph.run, pair))
            opened: Backend = BACKENDS.load(choice.backend)(graph, self.size, choice.precision)
            return opened

        try:
            write = partial(export_motion, network, size=self.size)
            return self._open_export("motion-float32", self.fingerprint, write, open_file)
        except StadiaError as error:
            log.warning("note: torch runs the pose network: %s", error)
            return None

    def _write_float32(self, path: Path) -> None:
        one_image = recipe_exports_one_size(self.network.recipe)
        export_onnx(self.network, path, self.about, self.size, one_image=one_image)

    def _open_depth(self, backend: str, path: Path, precision: str) -> Backend:
        opened: Backend = BACKENDS.load(backend)(ExportedNetwork(path, self.size).graph, self.size, precision)
        return opened

    def _open_export(
        self, name: str, fingerprint: Mapping[str, Any], write: Callable[[Path], object], open_file: Callable[[Path], T]
    ) -> T:
        """Open FOLDER/NAME-DIGITS.onnx; write it if it is missing or refused. DIGITS are a hash of the fingerprint.

        fingerprint: JSON values that determine the file.
        open_file: opens and checks the file. Raises StadiaError to refuse it.
        """
        digits = hashlib.sha256(json.dumps(dict(fingerprint), sort_keys=True).encode()).hexdigest()[:_DIGITS]
        path = self.folder / f"{name}-{digits}.onnx"
        if self.folder.exists():
            check_no_links(self.folder)
        if path.is_file():
            try:
                return open_file(path)
            except StadiaError as error:
                log.warning("note: writing %s again: %s", path, error)
        with announce_step(Terminal(stderr=True), f"exporting {path}, once"), atomic_write(path) as temporary:
            write(temporary)
        try:
            return open_file(path)
        except StadiaError:
            path.unlink()
            raise


def _hash_weights(network: nn.Module) -> str:
    """Return the SHA-256 of all weights, with their names."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check_close(path: Path, compared: ExportComparison) -> None:
    if not compared.is_close:
        expected = f"a difference below {TOLERANCE:g} from torch"
        raise StadiaError(path, found=str(compared), expected=expected, fix="leave --backend out and report this")


def _has_own_motion(recipe: DepthRecipe[Any, Any, Any, Any], net: DepthPoseNet, pose: PoseNet) -> bool:
    is_of_stadia = (
        type(recipe).T_next_now is DepthRecipe.T_next_now,
        type(net).motion is DepthPoseNet.motion,
        type(pose).forward is PoseNet.forward,
    )
    return not all(is_of_stadia)
