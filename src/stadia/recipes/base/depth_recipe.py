"""`DepthRecipe`: a recipe that learns depth from recordings, and its predictor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import TypeVar

from stadia.core.errors import ConfigError
from stadia.core.recording import LEFT, Recording
from stadia.core.types import Batch, Camera, DepthScale, Inputs, PredictedMaps, Predictor, Targets
from stadia.dataloading.config import STRIDE, DataConfig
from stadia.datasets.recordings import CalibratedRecording, FrameRange
from stadia.datasets.video.video_files import FileVideo
from stadia.evaluation.frame_preparation import TrainingLens
from stadia.evaluation.plots.colormaps import color_heat, color_inverse_depth, describe_depth_range, to_uint8
from stadia.losses.loss_report import LossReport
from stadia.models.depth_pose_net import DepthPoseNet
from stadia.models.encoders import check_encoder
from stadia.recipes.base.mirrored_average import average_mirrored
from stadia.recipes.base.video_data import VideoData
from stadia.training.batches import select_device
from stadia.training.recipe import HasOptimizer, Recipe

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
}
"""Alignment of depth to the truth in validations (`evaluation.validation_metrics`), as it is printed."""


class DepthRecipe(
    Recipe[VideoConfigT, VideoDataT, VideoInputsT, VideoTargetsT],
    Generic[VideoConfigT, VideoDataT, VideoInputsT, VideoTargetsT],
):
    """Learns from frames of recordings, with or without source frames (`data.offsets=[]`); predicts depth of an image.

    A recipe defines its `depth_scale`. If its `model` is a `DepthPoseNet`, that predicts; else it defines
    `inverse_depth`. Focal length correction and predictor are shared.

    Args:
        config: with every "auto" resolved. `data.height` and `data.width` are the size of the network's images,
            `data.crop` the part of each image that the network gets; predictions have the same crop.
    """

    training_camera: Mapping[str, Any] | None = None
    """K and size (height, width) of the images that trained, for `run.json`; None where they have several cameras."""

    focal: Tensor
    """() fx / width of the cameras that trained, with several data sets (n,) one for each; 0 before training."""

    def __init__(self, config: VideoConfigT) -> None:
        super().__init__(config)
        data = config.data
        self.height, self.width, self.crop = data.height, data.width, data.crop
        sets = len(data.sets)
        self.register_buffer("focal", torch.zeros(()) if sets == 1 else torch.zeros(sets))

    # -- defined by a recipe

    @property
    def depth_scale(self) -> DepthScale:
        """Return the scale of its depth: metres, or less. Report, predictions and protocols use it."""
        raise NotImplementedError(f"{type(self).__name__} defines no depth_scale")

    def inverse_depth(self, image: Tensor) -> Tensor:
        """Predict inverse depth, (B, 3, H, W) to (B, 1, H, W), for the training camera in 1/m, see `depth_scale`."""
        if self.depth_pose_net is None:
            raise NotImplementedError(f"{type(self).__name__} predicts no depth")
        return self.maps(image).inverse_depth

    def maps(self, image: Tensor) -> PredictedMaps:
        """Predict all output maps of images (B, 3, H, W) in one pass."""
        if self.depth_pose_net is None:
            return PredictedMaps(self.inverse_depth(image))
        left, _, log_uncertainty = self.depth_pose_net.depth(image)
        return PredictedMaps(left[0], None, log_uncertainty and log_uncertainty[0])

    def T_next_now(self, now: Tensor, following: Tensor) -> Tensor | None:
        """Predict motion between neighbors in time: (B, 3, H, W) twice to (B, 4, 4), in the unit of depth.

        Returns None if motion was not trained.
        """
        motion = None if self.depth_pose_net is None else self.depth_pose_net.motion(now, following)
        return None if motion is None else motion.T_later_earlier

    def check_size(self, height: int, width: int) -> None:
        """Raise ConfigError if the networks do not support this image size.

        A `DepthPoseNet` supports any size that suits its encoders; with a linear pose head, as other networks by
        default, only the training size.
        """
        net = self.depth_pose_net
        is_fixed = net is None or (net.pose is not None and net.config.pose_head == "linear")
        if is_fixed and (height, width) != (self.height, self.width):
            raise ConfigError(
                f"size of '{self.recipe}'",
                found=f"{width}x{height}",
                expected=f"{self.width}x{self.height}, the training's",
                fix="leave --size out",
            )
        if net is not None:
            for name in net.config.encoders(motion=net.pose is not None):
                check_encoder(name, height=height, width=width)

    @property
    def depth_pose_net(self) -> DepthPoseNet | None:
        """Return the networks of depth and motion; None for a recipe with other networks."""
        model = getattr(self, "model", None)
        return model if isinstance(model, DepthPoseNet) else None

    @property
    def weights(self) -> Mapping[str, str]:
        return {} if self.depth_pose_net is None else self.depth_pose_net.weights

    @property
    def depth_range_m(self) -> tuple[float, float] | None:
        net = self.depth_pose_net
        return None if net is None else (net.config.min_depth_m, net.config.max_depth_m)

    @property
    def stride(self) -> int:
        """Return the number that divides both sides of its network images."""
        return STRIDE

    def describe_score(self, name: str) -> str:
        if name == "val/abs_rel":
            has_several = self.focal.ndim > 0  # data sets, which may have different scales
            return "AbsRel (mean of the data sets)" if has_several else f"AbsRel ({ALIGNMENTS[self.depth_scale]})"
        return "photometric residual" if name == "val/residual" else super().describe_score(name)

    def modules_to_compile(self) -> Iterable[nn.Module]:
        net = self.depth_pose_net
        return super().modules_to_compile() if net is None else net.modules_to_compile()

    # -- shared by all

    def save_data_stats(self, data: VideoDataT) -> None:
        """Keep the median focal length over the training recordings, one for each data set."""
        each = (
            [one.recordings["train"] for one in data.each.values()] if self.focal.ndim else [data.recordings["train"]]
        )
        cameras = [[recording.camera(0) for recording in recordings] for recordings in each]
        medians = [torch.stack([camera.fx / camera.width for camera in some]).median() for some in cameras]
        self.focal.copy_(torch.stack(medians).reshape(self.focal.shape))
        self.training_camera = _find_common_camera([recording for some in each for recording in some])

    @property
    def run_metadata(self) -> Mapping[str, object]:
        """Return its depth scale, which the report shows even without scores, and the one camera that trained it."""
        camera = {} if self.training_camera is None else {"camera": self.training_camera}
        return {"depth_scale": str(self.depth_scale), **camera}

    def predictor(self, size: tuple[int, int] | None = None) -> Predictor:
        if size is not None:
            self.check_size(*size)
        return DepthPredictor(self, size)

    @torch.no_grad()
    def images(self, batch: Batch[VideoInputsT, VideoTargetsT], report: LossReport) -> Mapping[str, NDArray[np.uint8]]:
        """Draw the first sample: input and predicted maps, with the depths of the scale.

        Uncertainty has the colors of residuals.
        """
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


def _find_common_camera(recordings: Sequence[Recording]) -> dict[str, Any] | None:
    """Return K and size (height, width) of the left images of all recordings; None where they differ."""
    known = []
    for recording in recordings:
        whole = recording.recording if isinstance(recording, FrameRange) else recording
        one = whole.intrinsics[LEFT] if isinstance(whole, CalibratedRecording) else None
        if one is None or one.K.ndim == 3:
            return None
        known.append(one.resized(*whole.filmed_size) if isinstance(whole, FileVideo) else one)
    first = known[0]
    if any((one.height, one.width) != (first.height, first.width) or not np.allclose(one.K, first.K) for one in known):
        return None
    return {"K": first.K.tolist(), "size": [first.height, first.width]}


class DepthPredictor:
    """A trained DepthRecipe for evaluation. Runs on a GPU if there is one.

    With another focal length than the training's, inverse depth is scaled by the ratio of focal lengths
    (`TrainingLens`). That ratio scales the image motion of rotations but not of translations, so the pose network is
    not used then.

    precision: "bf16" runs the networks under torch's autocast; what they predict is float32 all the same.
    flip: whether maps are averaged with those of the mirrored image (`average_mirrored`).
    """

    flip = False

    def __init__(
        self,
        recipe: DepthRecipe[Any, Any, Any, Any],
        size: tuple[int, int] | None = None,
        crop: str | None = None,
        precision: str = "float32",
    ) -> None:
        self.precision = precision
        self.device = select_device()
        self.recipe = recipe.eval().to(self.device)
        self.depth_scale, self.crop = recipe.depth_scale, crop or recipe.crop
        self.height, self.width = size or (recipe.height, recipe.width)
        self.lens = TrainingLens(recipe.focal.tolist(), "depth is scaled by it, and the pose network is not used")

    def move(self, device: torch.device) -> None:
        """Run on another device from now on."""
        self.device, self.recipe = device, self.recipe.to(device)

    def inverse_depth(self, image: Tensor, camera: Camera) -> Tensor:
        """Predict (B, 3, H, W) to (B, 1, H, W), in 1/m or less by `depth_scale`."""
        return self.maps(image, camera).inverse_depth

    @torch.inference_mode()
    def maps(self, image: Tensor, camera: Camera) -> PredictedMaps:
        """Predict (B, 3, H, W) to (B, 1, H, W) each; see `core.types.MapsPredictor`."""
        predict = self._predict_maps
        return average_mirrored(predict, image, camera) if self.flip else predict(image, camera)

    def _predict_maps(self, image: Tensor, camera: Camera) -> PredictedMaps:
        image = image.to(self.device)
        with self._autocast():
            predicted = self.recipe.maps(image).to(torch.float32)
        ratio = self._focal_ratio(camera, image)
        right = None if predicted.inverse_depth_right is None else predicted.inverse_depth_right / ratio
        return replace(predicted, inverse_depth=predicted.inverse_depth / ratio, inverse_depth_right=right)

    @torch.inference_mode()
    def T_next_now(self, now: Tensor, camera: Camera, following: Tensor, next_camera: Camera) -> Tensor | None:
        """Predict motion, (B, 3, H, W) twice to (B, 4, 4), translation in the unit of depth.

        Returns None if motion was not trained, or the focal length is another than in training.
        """
        if any(bool((self._focal_ratio(each, now) != 1).any()) for each in (camera, next_camera)):
            return None
        return self._predict_motion(now, following)

    def _predict_motion(self, now: Tensor, following: Tensor) -> Tensor | None:
        with self._autocast():
            T = self.recipe.T_next_now(now.to(self.device), following.to(self.device))
        return None if T is None else T.float()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def _focal_ratio(self, camera: Camera, image: Tensor) -> Tensor:
        """Return (..., 1, 1, 1): this camera's focal length over the training's; 1 within the tolerance."""
        ratio = self.lens.ratio(camera.K.cpu().numpy(), camera.height, camera.width)
        return torch.from_numpy(ratio).to(image).reshape(-1, 1, 1, 1)


def choose_flip(predictor: Predictor, flip: bool) -> Predictor:
    """Let a predictor average its maps with those of mirrored images, or not; return it.

    Raises ConfigError where it is to, and is of another class than `DepthPredictor`, or replaces its `maps`.
    """
    if isinstance(predictor, DepthPredictor) and type(predictor).maps is DepthPredictor.maps:
        predictor.flip = flip
    elif flip:
        found, expected = f"a {type(predictor).__name__}", "a DepthPredictor that keeps its method maps"
        raise ConfigError("--flip", found=found, expected=expected, fix="leave it out")
    return predictor
