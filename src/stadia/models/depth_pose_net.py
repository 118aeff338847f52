"""Depth of an image and camera motion between neighboring frames: the networks of the recipe `selfsup`."""

import torch
from torch import Tensor, nn

from stadia.core.types import Batch, Prediction, is_temporal
from stadia.geometry.se3 import inverse
from stadia.geometry.warp import invert_brightness
from stadia.models.config import DepthPoseNetConfig
from stadia.models.depth.depth_network import build_depth_network
from stadia.models.depth.unet import Unet
from stadia.models.encoders import Encoder
from stadia.models.pose_net import CorrelationPoseEncoder, PairMotion, PoseNet, SharedPoseEncoder, compare_image_moments
from stadia.models.pretrained_weights import InitialWeights


class DepthPoseNet(nn.Module):
    """Apply the depth network to the target image, and the pose network to each pair of neighboring frames.

    The pose network receives pairs in temporal order. For a source before the target its output is inverted. The motion
    of a stereo source comes from the calibration; with `brightness` the pose network predicts its brightness too.

    motion: create a pose network. Without temporal neighbors nothing would train it.
    size: (height, width) of the training images; some pose heads require it.
    """

    def __init__(self, config: DepthPoseNetConfig, *, motion: bool = True, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.config = config
        self.depth = build_depth_network(config)
        self.pose = PoseNet(config, getattr(self.depth, "encoder", None), size=size) if motion else None
        self.brightness = motion and config.brightness
        self.holds_depth = False  # the depth network stays unchanged, and needs no gradient

    @property
    def weights(self) -> dict[str, InitialWeights]:
        """Return the initial weights of the depth network and of the pose network's encoder, by name."""
        encoder = self.pose.encoder if self.pose else None
        return self.depth.weights | ({"pose_encoder": encoder.weights} if isinstance(encoder, Encoder) else {})

    def modules_to_compile(self) -> list[nn.Module]:
        """Return the modules whose forward pass a training step calls."""
        return [*self.depth.modules_to_compile(), *([] if self.pose is None else [self.pose])]

    def forward(self, batch: Batch) -> Prediction:
        """Predict inverse depth, the motions T_source_target, and the optional outputs of the configuration."""
        if self.pose is not None and isinstance(self.pose.encoder, SharedPoseEncoder):
            features = self._shared.encoder(batch.inputs.image)
            maps = self._shared.decode(features, batch.inputs.image, batch.inputs.camera)
            T_source_target, brightness = self._transforms(batch, features[-1])
        else:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.holds_depth):
                maps = self.depth(batch.inputs.image, batch.inputs.camera)
            T_source_target, brightness = self._transforms(batch)
        uncertainty = maps.log_uncertainty if self.config.network.predicts_uncertainty else None
        return Prediction(maps.inverse_depth, T_source_target, maps.inverse_depth_right, uncertainty, brightness)

    @property
    def _shared(self) -> Unet:
        assert isinstance(self.depth, Unet)
        return self.depth

    def motion(self, earlier: Tensor, later: Tensor) -> PairMotion | None:
        """Predict the motion between images (B, 3, H, W) in temporal order; None without a pose network."""
        if self.pose is None:
            return None
        moments = compare_image_moments(earlier, later) if self.brightness else None
        motion: PairMotion = self.pose(*self._pose_inputs(earlier, later), moments)
        return motion

    def motion_values(self, earlier: Tensor, later: Tensor) -> Tensor:
        """Return the pose head's output (B, n + 3) for images (B, 3, H, W) in temporal order, for `PoseNet.transform`.

        n is the number of values of a rotation. This needs a pose network.
        """
        assert self.pose is not None
        return self.pose.motion_values(*self._pose_inputs(earlier, later))

    def _pose_inputs(self, earlier: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        if self.pose is not None and isinstance(self.pose.encoder, SharedPoseEncoder):
            return self._shared.encoder(earlier)[-1], self._shared.encoder(later)[-1]
        return earlier, later

    def _transforms(self, batch: Batch, features: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return transforms (B, N, 4, 4) and brightness (B, N, 2), from one pass of the pose network over all pairs.

        features: the target's coarsest features in a shared encoder.
        """
        transforms = list(batch.inputs.T_source_target_rig.unbind(1))
        brightness = []
        indices = [i for i, name in enumerate(batch.source_names) if is_temporal(name) or self.brightness]
        if indices and self.pose is not None:
            before = [batch.source_names[i].startswith("-") for i in indices]
            images = _sort_by_time(batch.inputs.image, [batch.inputs.sources[:, i] for i in indices], before)
            moments = compare_image_moments(*images) if self.brightness else None
            inputs = images
            if features is not None:
                sources = self._shared.encoder(torch.cat([batch.inputs.sources[:, i] for i in indices]))[-1]
                inputs = _sort_by_time(features, list(sources.chunk(len(indices))), before)
            elif isinstance(self.pose.encoder, CorrelationPoseEncoder):  # the target is in every pair
                frames = [batch.inputs.image, *(batch.inputs.sources[:, i] for i in indices)]
                target, *each = self.pose.encoder.encode_frames(torch.cat(frames)).chunk(len(frames))
                inputs = _sort_by_time(target, each, before)
            T_later_earlier, pair_brightness = self.pose(*inputs, moments)
            for i, b, T in zip(indices, before, T_later_earlier.chunk(len(indices)), strict=True):
                if is_temporal(batch.source_names[i]):
                    transforms[i] = inverse(T) if b else T
            if self.brightness:
                pairs = zip(before, pair_brightness.chunk(len(indices)), strict=True)
                brightness = [invert_brightness(pair) if b else pair for b, pair in pairs]
        return torch.stack(transforms, dim=1), torch.stack(brightness, dim=1) if brightness else None


def _sort_by_time(target: Tensor, sources: list[Tensor], before: list[bool]) -> tuple[Tensor, Tensor]:
    earlier = torch.cat([source if b else target for source, b in zip(sources, before, strict=True)])
    later = torch.cat([target if b else source for source, b in zip(sources, before, strict=True)])
    return earlier, later
