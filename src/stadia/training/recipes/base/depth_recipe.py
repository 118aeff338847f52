"""`DepthRecipe`: a recipe that learns depth from recordings. `DepthPredictor`: its trained network."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import TypeVar

from stadia.core.errors import ConfigError
from stadia.core.types import LEFT, Camera, DepthScale, PredictedMaps, Predictor, Recording
from stadia.data.config import STRIDE, DataConfig
from stadia.data.ignored_regions import IgnoringRecording
from stadia.data.recordings import CalibratedRecording, FrameRange
from stadia.data.video.video_files import FileVideo
from stadia.differentiable.batch import Batch, Inputs, Targets
from stadia.evaluation.plots.colormaps import color_heat, color_inverse_depth, describe_depth_range, to_uint8
from stadia.io.run_facts import RecipeFacts, TrainedCamera
from stadia.losses.loss_report import LossReport
from stadia.networks import DEPTH_NETWORKS
from stadia.networks.config import DepthModelConfig
from stadia.networks.depth.depth_network import AffineDepthNetwork, DepthNetwork, find_depth_range
from stadia.networks.encoders import check_encoder
from stadia.networks.pose_net import DepthPoseNet
from stadia.training.loop.batches import select_device
from stadia.training.loop.recipe import Groups, HasOptimizer, Recipe, group_parameters
from stadia.training.recipes.base.depth_predictor import DepthPredictor
from stadia.training.recipes.base.video_data import VideoData

log = logging.getLogger(__name__)

VideoDataT = TypeVar("VideoDataT", bound=VideoData, default=VideoData)
VideoInputsT = TypeVar("VideoInputsT", bound=Inputs, default=Inputs)
VideoTargetsT = TypeVar("VideoTargetsT", bound=Targets, default=Targets)


class HasVideo(HasOptimizer, Protocol):
    """Configuration of a recipe that learns from video."""

    @property
    def data(self) -> DataConfig:
        """Return the configuration of the data."""


VideoConfigT = TypeVar("VideoConfigT", bound=HasVideo)

ALIGNMENTS = {
    DepthScale.METRES: "metres, unaligned",
    DepthScale.UP_TO_SCALE: "median scaling",
    DepthScale.AFFINE_INVERSE: "scale and shift fitted",
    DepthScale.AFFINE_DEPTH: "scale and shift of depth fitted",
}
"""Validations print this alignment of depth to the truth."""


BACKBONE_LR_FACTOR = 0.1
"""A backbone whose weights predict depth learns more slowly (DPT, section 4: 1e-5 and 1e-4)."""

STARTED_IMAGES = 16
"""The median output for this many training images sets the scale of published weights."""

START_FAR = 20.0
"""The farthest depth, at an output of 0, is this many times the initial one."""


class DepthRecipe(
    Recipe[VideoConfigT, VideoDataT, VideoInputsT, VideoTargetsT],
    Generic[VideoConfigT, VideoDataT, VideoInputsT, VideoTargetsT],
):
    """Learn from frames of recordings, with or without source frames (`data.offsets=[]`); predict depth of an image.

    A recipe defines its `depth_scale`, and `inverse_depth` unless its `model` is a `DepthNetwork` or a `DepthPoseNet`.

    config: configuration with every "auto" resolved. `data.height` and `data.width` are the size of the network's
        images, `data.crop` the part of each image for the network.
    """

    training_camera: TrainedCamera | None = None
    """The camera of the images that trained; None if there are several."""

    focal: Tensor
    """fx / width () of the cameras that trained, (n,) with several datasets; 0 before training."""

    def __init__(self, config: VideoConfigT) -> None:
        super().__init__(config)
        data = config.data
        self.height, self.width, self.crop = data.height, data.width, data.crop
        sets = len(data.sets)
        self.register_buffer("focal", torch.zeros(()) if sets == 1 else torch.zeros(sets))

    # -- defined by a recipe

    @property
    def depth_scale(self) -> DepthScale:
        """Return the scale of its depth: metres, or less."""
        raise NotImplementedError(f"{type(self).__name__} defines no depth_scale")

    def inverse_depth(self, image: Tensor, camera: Camera | None = None) -> Tensor:
        """Predict inverse depth, (B, 3, H, W) to (B, 1, H, W), with the training camera in 1/m, see `depth_scale`."""
        if self.depth_network is None:
            raise NotImplementedError(f"{type(self).__name__} predicts no depth")
        return self.maps(image, camera).inverse_depth

    def maps(self, image: Tensor, camera: Camera | None = None) -> PredictedMaps:
        """Predict all output maps of images (B, 3, H, W).

        camera: camera of the images, for networks that use it.
        """
        if self.depth_network is None:
            return PredictedMaps(self.inverse_depth(image))
        left, _, log_uncertainty = self.depth_network(image, camera)
        is_trained = self.depth_network.config.predicts_uncertainty
        return PredictedMaps(left[0], None, log_uncertainty[0] if log_uncertainty and is_trained else None)

    def T_next_now(self, now: Tensor, following: Tensor) -> Tensor | None:
        """Predict motion between neighbors in time: (B, 3, H, W) twice to (B, 4, 4); None if not trained."""
        motion = None if self.depth_pose_net is None else self.depth_pose_net.motion(now, following)
        return None if motion is None else motion.T_later_earlier

    def check_size(self, height: int, width: int) -> None:
        """Raise ConfigError if the networks do not support this image size."""
        net, network = self.depth_pose_net, self.depth_network
        is_fixed = network is None or (net is not None and net.pose is not None and net.config.pose_head == "linear")
        if is_fixed and (height, width) != (self.height, self.width):
            raise ConfigError(
                f"size of '{self.recipe}'",
                found=f"{width}x{height}",
                expected=f"{self.width}x{self.height}, the training's",
                fix="leave --size out",
            )
        if network is not None:
            network.check_config(network.config, height=height, width=width)
        if net is not None and net.pose is not None and net.config.pose_net == "resnet":
            check_encoder(net.config.pose_encoder, height=height, width=width)

    @property
    def depth_network(self) -> DepthNetwork | None:
        """Return the depth network; None for a recipe that predicts depth by other means."""
        model = getattr(self, "model", None)
        network = model.depth if isinstance(model, DepthPoseNet) else model
        return network if isinstance(network, DepthNetwork) else None

    @property
    def depth_pose_net(self) -> DepthPoseNet | None:
        """Return the networks of depth and motion; None for a recipe with other networks."""
        model = getattr(self, "model", None)
        return model if isinstance(model, DepthPoseNet) else None

    @property
    def weights(self) -> Mapping[str, str]:
        model = self.depth_pose_net or self.depth_network
        return {} if model is None else model.weights

    def depth_range_m(self, camera: Camera) -> tuple[float, float] | None:
        limits = None if self.depth_network is None else find_depth_range(self.depth_network.config, camera)
        return None if limits is None else (float(limits[0].median()), float(limits[1].median()))

    @property
    def stride(self) -> int:
        """Return the number that divides both sides of its network images."""
        return STRIDE if self.depth_network is None else self.depth_network.config.size_multiple

    @property
    def backbone_lr_factor(self) -> float:
        """Return the learning rate of the depth network's backbone over its head's."""
        factor = getattr(self.config, "backbone_lr_factor", None)
        if factor is not None:
            return float(factor)
        network = self.depth_network
        if getattr(getattr(self.config, "model", None), "trained", "all") == "adapters":
            return 1.0
        is_published = isinstance(network, AffineDepthNetwork) or (network is not None and network.has_depth_weights)
        starts_from_depth = self.starts_from_published_depth or bool(self.started_from or self.has_start)
        return BACKBONE_LR_FACTOR if starts_from_depth and is_published else 1.0

    @property
    def has_start(self) -> bool:
        """Return whether it starts from another training (`start_from`)."""
        return getattr(self.config, "start_from", None) is not None

    @property
    def starts_from_published_depth(self) -> bool:
        """Return whether published weights predict depth before the first step of the training."""
        network = self.depth_network
        if network is None:
            return False
        return network.predicts_depth_at_start or (self.resumed_pretrained and network.has_depth_weights)

    def keeps_start(self, metric: str) -> bool:
        return metric == "val/abs_rel" and self.starts_from_published_depth and not self.has_start

    @property
    def depth_from_step(self) -> int:
        """Return the step before which the depth network stays unchanged."""
        return 0

    @property
    def holds_depth(self) -> bool:
        """Return whether depth needs no gradient in this step; several processes must agree."""
        return self.global_step < self.depth_from_step and not torch.distributed.is_initialized()

    def parameter_groups(self) -> Groups:
        network, factor, held = self.depth_network, self.backbone_lr_factor, self.depth_from_step
        if network is None or (factor == 1 and not held):
            return super().parameter_groups()
        lr, decay = self.config.optimizer.lr, self.config.optimizer.weight_decay
        backbone, of_depth = ({id(p) for p in part} for part in (network.backbone_parameters(), network.parameters()))
        parts: tuple[list[nn.Parameter], ...] = ([], [], [])
        for parameter in self.parameters():
            is_depth, is_backbone = id(parameter) in of_depth, factor != 1 and id(parameter) in backbone
            parts[2 if is_backbone else 1 if is_depth and held else 0].append(parameter)
        wait = {"from_step": held} if held else {}
        options: tuple[dict[str, Any], ...] = ({}, wait, {**wait, "lr": lr * factor})
        return [
            {**group, **option}
            for part, option in zip(parts, options, strict=True)
            for group in group_parameters(part, decay)
        ]

    def describe_score(self, name: str) -> str:
        if name == "val/abs_rel":
            has_several = self.focal.ndim > 0  # datasets, which may have different scales
            return "AbsRel (mean of the datasets)" if has_several else f"AbsRel ({ALIGNMENTS[self.depth_scale]})"
        return "photometric residual" if name == "val/residual" else super().describe_score(name)

    def modules_to_compile(self) -> Iterable[nn.Module]:
        model = self.depth_pose_net or self.depth_network
        return super().modules_to_compile() if model is None else model.modules_to_compile()

    @classmethod
    def check_init_weights(cls, config: VideoConfigT) -> None:
        model = getattr(config, "model", None)
        if isinstance(model, DepthModelConfig) and model.pretrained:
            DEPTH_NETWORKS.load(model.network.name).check_weights(model.network)

    # -- shared by all

    def save_data_stats(self, data: VideoDataT) -> None:
        data_sets = list(data.data_sets.values()) if self.focal.ndim else [data]
        medians = []
        for data_set in data_sets:
            cameras = [recording.camera(0) for recording in data_set.recordings["train"]]
            medians.append(np.quantile([camera.fx / camera.width for camera in cameras], 0.5, method="lower"))
        self.focal.copy_(torch.tensor(medians).reshape(self.focal.shape))
        recordings = [recording for data_set in data_sets for recording in data_set.recordings["train"]]
        self.training_camera = _find_common_camera(recordings)

    @property
    def run_metadata(self) -> RecipeFacts:
        network = self.depth_network
        licence = None if network is None else network.licence or None
        return RecipeFacts(depth_scale=str(self.depth_scale), camera=self.training_camera, licence=licence)

    @torch.no_grad()
    def start_at_initial_depth(self, data: VideoDataT) -> None:
        """Scale published weights that predict no metres: the median depth is `init_depth_m`.

        Inverse depth up to scale and shift gets a shift too.
        """
        network = self.depth_network
        if not isinstance(network, AffineDepthNetwork) or not network.predicts_depth_at_start:
            return
        if network.output is DepthScale.METRES:
            return
        if getattr(network.config, "scale", None) is not None:
            return
        raw = [output.median() for output, _ in self.predict_raw(network, data, STARTED_IMAGES)]
        median = float(torch.stack(raw).median())
        inverse_m = 1 / network.config.start_m
        shift = inverse_m / START_FAR if network.output.is_affine else 0.0
        network.calibrate((inverse_m - shift) / max(median, 1e-6), shift)
        log.warning("inverse depth starts at %.3g times the network's output plus %.3g", network.scale, network.shift)

    @torch.no_grad()
    def predict_raw(
        self, network: AffineDepthNetwork, data: VideoDataT, count: int
    ) -> Iterator[tuple[Tensor, Batch[VideoInputsT, VideoTargetsT]]]:
        """Yield the raw output (1, 1, H, W) of evenly spaced training images, and their batch."""
        samples, was_training = data.train.samples, network.training
        network.eval().to(select_device())
        for index in np.unique(np.linspace(0, len(samples) - 1, count).astype(int)):
            batch: Any = samples.unpack(samples.stack([samples.packed((0, int(index)))]), network.scale.device)
            yield network.raw(batch.inputs.image), batch
        network.cpu().train(was_training)

    def predictor(self, size: tuple[int, int] | None = None) -> Predictor:
        if size is not None:
            self.check_size(*size)
        return DepthPredictor(self, size)

    @torch.no_grad()
    def images(self, batch: Batch[VideoInputsT, VideoTargetsT], report: LossReport) -> Mapping[str, NDArray[np.uint8]]:
        was_training = self.training
        maps = self.eval().maps(batch.inputs.image[:1])
        self.train(was_training)
        inverse_depth = maps.inverse_depth[0, 0].float().cpu().numpy()
        extent = ""
        if self.depth_scale in (DepthScale.METRES, DepthScale.UP_TO_SCALE):
            is_metric = self.depth_scale is DepthScale.METRES
            extent = f": {describe_depth_range(inverse_depth, is_metric=is_metric)}"
        shown = {
            "input, mirrored" if batch.meta[0].mirrored else "input": to_uint8(batch.inputs.image[0]),
            f"inverse depth{extent}": color_inverse_depth(inverse_depth),
        }
        if maps.inverse_depth_right is not None:
            shown["inverse depth of the right view"] = color_inverse_depth(maps.inverse_depth_right[0, 0])
        if maps.log_uncertainty is not None:
            shown["uncertainty"] = color_heat(maps.log_uncertainty[0, 0].exp())
        return shown


def _find_common_camera(recordings: Sequence[Recording]) -> TrainedCamera | None:
    cameras = []
    for recording in recordings:
        whole = recording
        while isinstance(whole, FrameRange | IgnoringRecording):
            whole = whole.recording
        camera = whole.intrinsics[LEFT] if isinstance(whole, CalibratedRecording) else None
        if camera is None or camera.K.ndim == 3:
            return None
        cameras.append(camera.resized(*whole.filmed_size) if isinstance(whole, FileVideo) else camera)
    first = cameras[0]
    size = (first.height, first.width)
    if any((camera.height, camera.width) != size or not np.allclose(camera.K, first.K) for camera in cameras):
        return None
    fx_row, fy_row, last_row = ((float(a), float(b), float(c)) for a, b, c in first.K)
    return TrainedCamera(K=(fx_row, fy_row, last_row), size=(first.height, first.width))
