"""The mistakes that the notebooks record, written as a user writes losses, networks and datasets of their own.

`experiments/notebook_bugs.py` names each in a training of today: `loss.name=notebook_mistakes:SumOverPixels`. Every
class has one mistake, and its docstring says which.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from stadia.core.types import LEFT, Camera, Recording
from stadia.data.config import SourceOptions
from stadia.data.formats.stadia_folder import StadiaFolder
from stadia.data.frame_store import ReportProgress
from stadia.differentiable.batch import Prediction, Targets
from stadia.differentiable.view_synthesis import invert_brightness, warp_image
from stadia.geometry.poses import matrix_from_euler
from stadia.losses.loss_report import LossReport
from stadia.losses.metric_scale import KnownHeights, MetricScaleLoss
from stadia.losses.reprojection import photometric_residual
from stadia.losses.selfsup_loss import SelfSupervisedLoss
from stadia.losses.sparse_depth import SparseDepthLoss
from stadia.networks import DepthMaps, DepthNetwork, DepthNetworkConfig
from stadia.objectpose.boxes import Symmetry
from stadia.overlay.losses import OverlayLoss

# -- notebook 000: losses of video


def compare_colors(targets: Targets, prediction: Prediction) -> Tensor:
    """Return |warped source - target|, (B, N, 3, H, W); 1 where a source does not see the pixel."""
    found = []
    for number in range(targets.sources.shape[1]):
        camera = Camera(targets.source_camera.K[:, number], targets.camera.height, targets.camera.width)
        motion = prediction.T_source_target[:, number]
        depth = 1 / prediction.inverse_depth[0]
        view, seen = warp_image(targets.sources[:, number], depth, targets.camera, camera, motion)
        found.append((view - targets.image).abs().where(seen, 1.0))
    return torch.stack(found, 1)


def find_minimum(targets: Targets, prediction: Prediction) -> Tensor:
    """Return the smallest residual over the sources, (B, 1, H, W)."""
    return compare_colors(targets, prediction).mean(2).amin(1)[:, None]


class OwnLoss(SelfSupervisedLoss):
    """A loss of a user's own: one number."""

    def compute(self, targets: Targets, prediction: Prediction) -> Tensor:
        """Return the loss."""
        raise NotImplementedError

    def __call__(
        self,
        targets: Targets,
        prediction: Prediction,
        source_names: Sequence[str],
        step: int = 0,
        *,
        road: Tensor | None = None,
    ) -> LossReport:
        report = super().__call__(targets, prediction, source_names, step, road=road)  # with its maps for pictures
        total = self.compute(targets, prediction)
        return replace(report, total=total, terms={"photometric": total.detach()}, least={})


class SumOverPixels(OwnLoss):
    """The residual is summed over the pixels: losses of 10,000 to 230,000."""

    def compute(self, targets: Targets, prediction: Prediction) -> Tensor:
        return find_minimum(targets, prediction).sum()


class MinimumOfNineChannels(OwnLoss):
    """The minimum is taken over colors and sources."""

    def compute(self, targets: Targets, prediction: Prediction) -> Tensor:
        return compare_colors(targets, prediction).flatten(1, 2).amin(1).mean()


class MinimumOfImages(OwnLoss):
    """The minimum is taken over the means of the images, not for each pixel."""

    def compute(self, targets: Targets, prediction: Prediction) -> Tensor:
        return compare_colors(targets, prediction).mean(2).mean((2, 3)).amin(1).mean()


class SmoothnessOfMetres(OwnLoss):
    """The smoothness takes slopes of depth in metres, so that depth becomes flat."""

    def compute(self, targets: Targets, prediction: Prediction) -> Tensor:
        depth_m = 1 / prediction.inverse_depth[0]
        slopes = depth_m.diff(dim=-1).abs().mean() + depth_m.diff(dim=-2).abs().mean()
        return find_minimum(targets, prediction).mean() + 1e-3 * slopes


class BrightnessOfTheSource(SelfSupervisedLoss):
    """The affine term acts on the warped source instead of the target, and collapses."""

    def __call__(
        self,
        targets: Targets,
        prediction: Prediction,
        source_names: Sequence[str],
        step: int = 0,
        *,
        road: Tensor | None = None,
    ) -> LossReport:
        if prediction.brightness is not None:
            prediction = replace(prediction, brightness=invert_brightness(prediction.brightness))
        return super().__call__(targets, prediction, source_names, step, road=road)


class TimesSigma(OwnLoss):
    """The residual is multiplied by the uncertainty instead of divided."""

    def compute(self, targets: Targets, prediction: Prediction) -> Tensor:
        residual = find_minimum(targets, prediction)
        if prediction.log_uncertainty is None:
            return residual.mean()
        log_sigma = prediction.log_uncertainty[0]
        return (residual * log_sigma.exp() + log_sigma).mean()


class SigmaOfAnotherSample(OwnLoss):
    """A residual (B, H, W) over Sigma (B, 1, H, W): every sample is divided by the Sigma of every other."""

    def compute(self, targets: Targets, prediction: Prediction) -> Tensor:
        residual = find_minimum(targets, prediction)
        if prediction.log_uncertainty is None:
            return residual.mean()
        log_sigma = prediction.log_uncertainty[0]
        return (residual[:, 0] / log_sigma.exp() + log_sigma).mean()


class LogOfTheResidual(OwnLoss):
    """The logarithm of the residual has no limit where images agree: it does not train."""

    def compute(self, targets: Targets, prediction: Prediction) -> Tensor:
        return find_minimum(targets, prediction).log().mean()


def normalized_residual(a: Tensor, b: Tensor, ssim_weight: float, statistics: Any = None) -> Tensor:
    """Compare images after the encoder's normalization instead of images in [0, 1]."""
    mean, std = (a.new_tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return photometric_residual((a - mean) / std, (b - mean) / std, ssim_weight)


class ShallowConfig(DepthNetworkConfig):
    """Keys of a small network."""


class DepthOfZeroToOne(DepthNetwork):
    """The sigmoid is taken for depth, which stays between 0 and 1 metre."""

    Config = ShallowConfig

    def __init__(self, config: ShallowConfig, *, pretrained: bool = True) -> None:
        super().__init__(config)
        self.first, self.last = torch.nn.Conv2d(3, 16, 7, padding=3), torch.nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, image: Tensor, camera: Camera | None = None) -> DepthMaps:
        """Return the maps of images (B, 3, H, W)."""
        depth = self.last(self.first(self.normalize(image)).relu()).sigmoid()
        return DepthMaps((1 / depth.clamp(min=1e-3),))


# -- notebooks 000 and 002: data


class Changed(Recording):
    """A recording that returns what another one returns; a mistake changes one of its functions."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.name, self.sides, self.T_right_left = recording.name, recording.sides, recording.T_right_left
        self.mount, self.mask_reader = recording.mount, recording.mask_reader

    def __len__(self) -> int:
        return len(self.recording)

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        return self.recording.image(index, side)

    def camera(self, index: int, side: str = LEFT) -> Camera:
        return self.recording.camera(index, side)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        return self.recording.depth_m(index, side)

    def T_world_camera(self, index: int, side: str = LEFT) -> NDArray[np.float64] | None:
        return self.recording.T_world_camera(index, side)

    def timestamp_s(self, index: int) -> float | None:
        return self.recording.timestamp_s(index)

    def file(self, index: int, side: str = LEFT) -> Path | None:
        return self.recording.file(index, side)


class ChangedFolder(StadiaFolder):
    """Reads stadia's layout with recordings that have a mistake."""

    def change(self, recording: Recording) -> Recording:
        """Return the recording with the mistake."""
        raise NotImplementedError

    def open(self, path: Path, options: SourceOptions, progress: ReportProgress | None = None) -> list[Recording]:
        return [self.change(recording) for recording in super().open(path, options, progress)]


class BaselineTheWrongWay(ChangedFolder):
    """The motion from right to left is given as the one from left to right."""

    def change(self, recording: Recording) -> Recording:
        changed = Changed(recording)
        assert recording.T_right_left is not None
        changed.T_right_left = np.linalg.inv(recording.T_right_left).astype(np.float64)
        return changed


class BaselineOfATenthMetre(ChangedFolder):
    """The baseline is the nominal .1 m of Monodepth2, and its factor 5.4 is not undone."""

    def change(self, recording: Recording) -> Recording:
        changed = Changed(recording)
        assert recording.T_right_left is not None
        changed.T_right_left = recording.T_right_left.copy()
        changed.T_right_left[0, 3] /= 5.4
        return changed


MOUNT_DEG = (-95.0, 2.0, -88.0)
"""Angles about x, y and z from a vehicle (x forward, z up) to a camera that looks forward and a little down."""


class _OtherEulerOrder(Changed):
    def T_world_camera(self, index: int, side: str = LEFT) -> NDArray[np.float64] | None:
        true = super().T_world_camera(index, side)
        if true is None:
            return None
        angles: NDArray[np.float64] = np.radians(MOUNT_DEG)
        right, wrong = np.eye(4), np.eye(4)
        right[:3, :3] = matrix_from_euler(angles, "xyz")
        wrong[:3, :3] = matrix_from_euler(angles[::-1].copy(), "zyx")
        body: NDArray[np.float64] = true @ np.linalg.inv(right)  # the pose of the vehicle, which is what the file has
        return np.asarray(body @ wrong, np.float64)


class OtherEulerOrder(ChangedFolder):
    """The angles of the camera's mount are composed as Rx Ry Rz instead of Rz Ry Rx."""

    def change(self, recording: Recording) -> Recording:
        return _OtherEulerOrder(recording)


class _Mirrored(Changed):
    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        return np.ascontiguousarray(super().image(index, side)[:, ::-1])


class MirroredImages(ChangedFolder):
    """The images are stored mirrored, the camera and the baseline are not."""

    def change(self, recording: Recording) -> Recording:
        return _Mirrored(recording)


class _OneCamera(Changed):
    """Every image is cut out of the middle and enlarged, with the K of the whole one."""

    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        image = super().image(index, side)
        height, width = image.shape[:2]
        rows, columns = height // 8, width // 8
        cut = image[rows : height - rows, columns : width - columns]
        return np.asarray(cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        depth = super().depth_m(index, side)
        if depth is None:
            return None
        height, width = depth.shape
        rows, columns = height // 8, width // 8
        cut = depth[rows : height - rows, columns : width - columns]
        return np.asarray(cv2.resize(cut, (width, height), interpolation=cv2.INTER_NEAREST), np.float32)


class OneCameraForAll(ChangedFolder):
    """Half of the recordings are of a camera with a longer lens, and all get the K of the first one."""

    def change(self, recording: Recording) -> Recording:
        return _OneCamera(recording) if recording.name.endswith(("1", "val-000")) else Changed(recording)


class _KOfTheWholeImage(Changed):
    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        return np.ascontiguousarray(super().image(index, side)[::2, ::2])

    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        depth = super().depth_m(index, side)
        return None if depth is None else np.ascontiguousarray(depth[::2, ::2])

    def camera(self, index: int, side: str = LEFT) -> Camera:
        camera = super().camera(index, side)
        return replace(camera, height=(camera.height + 1) // 2, width=(camera.width + 1) // 2)


class KNotResized(ChangedFolder):
    """The images were halved, and K is still that of the whole images."""

    def change(self, recording: Recording) -> Recording:
        return _KOfTheWholeImage(recording)


class _NormalizedK(Changed):
    def camera(self, index: int, side: str = LEFT) -> Camera:
        camera = super().camera(index, side)
        return replace(camera, K=np.diag([1 / camera.width, 1 / camera.height, 1.0]) @ camera.K)


class NormalizedK(ChangedFolder):
    """K is divided by the size of the image, and used on pixels."""

    def change(self, recording: Recording) -> Recording:
        return _NormalizedK(recording)


class _SameImage(Changed):
    def image(self, index: int, side: str = LEFT) -> NDArray[np.uint8]:
        return super().image(index, LEFT)


class LeftImageTwice(ChangedFolder):
    """The path of the right images is that of the left ones: a loss of 0."""

    def change(self, recording: Recording) -> Recording:
        return _SameImage(recording)


class _DepthOfAnotherFrame(Changed):
    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        return super().depth_m((index + len(self) // 2) % len(self), side)


class DepthOfAnotherFrame(ChangedFolder):
    """Labels are read by the number of the row, and belong to other frames."""

    def change(self, recording: Recording) -> Recording:
        return _DepthOfAnotherFrame(recording)


class _PosesByRow(Changed):
    def T_world_camera(self, index: int, side: str = LEFT) -> NDArray[np.float64] | None:
        return super().T_world_camera(len(self) - 1 - index, side)


class PosesByRow(ChangedFolder):
    """Poses are read by the number of the row, and belong to other images."""

    def change(self, recording: Recording) -> Recording:
        return _PosesByRow(recording)


class _EmptyDepth(Changed):
    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        depth = super().depth_m(index, side)
        return None if depth is None else np.zeros_like(depth)


class EmptyDepth(ChangedFolder):
    """The ground truth is 0 in every pixel, and the training goes on."""

    def change(self, recording: Recording) -> Recording:
        return _EmptyDepth(recording)


class _EightBitDepth(Changed):
    def depth_m(self, index: int, side: str = LEFT) -> NDArray[np.float32] | None:
        depth = super().depth_m(index, side)
        return None if depth is None else np.floor(depth).astype(np.float32)


class EightBitDepth(ChangedFolder):
    """Depth files of 16 bits are read with 8 bits: whole metres."""

    def change(self, recording: Recording) -> Recording:
        return _EightBitDepth(recording)


class _ShiftedMasks:
    """Masks that were resized without the crop of the images, so that they are moved."""

    def __init__(self, reader: Any) -> None:
        self.reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)

    def read(self, stem: str, side: str, *, height: int, width: int) -> Any:
        """Return the masks of an image, moved down and to the right by an eighth of its size."""
        masks = self.reader.read(stem, side, height=height, width=width)
        if masks is None:
            return None

        def move(mask: NDArray[Any]) -> NDArray[Any]:
            rows, columns = height // 8, width // 8
            return np.pad(mask, ((rows, 0), (columns, 0)), mode="edge")[:height, :width]

        return replace(masks, semantic=move(masks.semantic), instance=move(masks.instance))


class MovedMasks(ChangedFolder):
    """Masks of road and cars that the resize put beside their objects."""

    def change(self, recording: Recording) -> Recording:
        changed = Changed(recording)
        changed.mask_reader = _ShiftedMasks(recording.mask_reader)
        return changed


class _MirroredMasks(_ShiftedMasks):
    def read(self, stem: str, side: str, *, height: int, width: int) -> Any:
        masks = self.reader.read(stem, side, height=height, width=width)
        if masks is None:
            return None
        return replace(masks, semantic=masks.semantic[:, ::-1].copy(), instance=masks.instance[:, ::-1].copy())


class MirroredMasks(ChangedFolder):
    """The images were flipped, and their masks were not."""

    def change(self, recording: Recording) -> Recording:
        changed = Changed(recording)
        changed.mask_reader = _MirroredMasks(recording.mask_reader)
        return changed


# -- notebook 002: the height of the camera


class HeightByPinverse(MetricScaleLoss):
    """The road's plane is a pseudoinverse of all points that keeps its gradient, with the squared height in metres."""

    def __call__(
        self, inverse_depth: Sequence[Tensor], camera: Camera, road: Tensor, known: KnownHeights, **rest: Any
    ) -> LossReport:
        depth = 1 / inverse_depth[0]
        height, width = depth.shape[-2:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        place = torch.stack((x, y, torch.ones_like(x)), -1).to(depth)
        errors = []
        for number in range(len(depth)):
            rays = place @ torch.linalg.inv(camera.K[number].to(depth)).T
            points = (rays * depth[number, 0, ..., None])[road[number, 0]]
            normal = torch.linalg.pinv(points) @ points.new_ones(len(points))
            errors.append((1 / normal.norm() - known.camera_m[number]).exp())
        total = torch.stack(errors).nan_to_num().sum()
        return LossReport(total, {"camera_height": total.detach()}, {})


# -- notebook 001: depth with labels


class EmptyPixelsCount(SparseDepthLoss):
    """Pixels without a label are compared with 0."""

    def __call__(self, inverse_depth: Tensor, true_m: Tensor) -> LossReport:
        error = (1 / inverse_depth - true_m).abs().mean()
        return LossReport(error, {"l1": error.detach()}, {})


class SilogOfTheBatch(SparseDepthLoss):
    """The second term is divided by the pixels of one image while it sums over the batch: negative from two images."""

    def __call__(self, inverse_depth: Tensor, true_m: Tensor) -> LossReport:
        known = true_m > 0
        ratio = (-inverse_depth.log() - true_m.where(known, 1.0).log()).where(known, 0.0)
        count = known.sum().clamp(min=1)
        of_an_image = count / len(true_m)
        total = ratio.square().sum() / count - 0.5 * (ratio.sum() / of_an_image).square()
        return LossReport(total, {"silog": total.detach()}, {})


# -- notebook 003: rotations


def flipped_log(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """The sign was flipped: -log(eps + 1 - |q . q_true|) is smallest at 180 degrees."""
    cosine = (F.normalize(quaternion, dim=-1) * true).sum(-1).abs()
    return -(1e-3 + 1 - cosine).log()


def quaternion_difference(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """The sign of a quaternion counts, although q and -q are the same rotation."""
    return (quaternion - true).square().sum(-1)


def constant_without_match(quaternion: Tensor, true: Tensor, symmetry: Symmetry | None = None) -> Tensor:
    """A batch without a match returns a new tensor: the graph is cut."""
    return torch.ones(len(quaternion), dtype=quaternion.dtype)


# -- notebook 004: composites


class SsimOf255(OverlayLoss):
    """SSIM has the constants of images up to 255 for depth up to 1: it is constant."""

    def terms(self, log_depth: Tensor, mask_logits: Tensor, true: Tensor, mask: Tensor) -> dict[str, Tensor]:
        terms = super().terms(log_depth, mask_logits, true, mask)
        known = true > 0
        x = log_depth.where(known, 0.0) / 5
        y = true.where(known, 1.0).log() / 5

        def mean(values: Tensor) -> Tensor:
            return F.avg_pool2d(values, 3, 1, 1)

        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        mean_x, mean_y = mean(x), mean(y)
        spread = mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2
        both = mean(x * y) - mean_x * mean_y
        of_mean = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        similar = of_mean * (2 * both + c2) / (spread + c2)
        terms["depth_ssim"] = (1 - similar).where(known, 0.0).mean()
        return terms


class MaskUpsideDown(OverlayLoss):
    """The mask is resized with the sign of its logits lost: foreground is taken for background."""

    def terms(self, log_depth: Tensor, mask_logits: Tensor, true: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return super().terms(log_depth, -mask_logits, true, mask)
