"""Depth of a picture and the camera's motion between neighbours: the networks of the recipe `selfsup`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stadia.core.types import Batch, Prediction, is_temporal
from stadia.geometry.se3 import inverse
from stadia.models.config import DepthAndMotionConfig
from stadia.models.depth_net import DepthNet
from stadia.models.hub import Weights
from stadia.models.pose_net import PoseNet


class DepthAndMotion(nn.Module):
    """The depth network on the target picture, the pose network on each pair of neighbours in time.

    The pose network always sees a pair in order of time; for a source before the target its answer is inverted, so that
    one convention is learnt instead of two. A source of the rig (stereo) has its transform from the calibration.

    motion: whether there is a pose network at all; without neighbours in time nothing would train it.
    """

    def __init__(self, config: DepthAndMotionConfig, *, motion: bool = True) -> None:
        super().__init__()
        self.depth = DepthNet(
            config.encoder,
            pretrained=config.pretrained,
            channels=config.decoder_channels,
            min_depth_m=config.min_depth_m,
            max_depth_m=config.max_depth_m,
            start_depth_m=config.start_depth_m,
            scales=config.scales,
        )
        self.pose = _pose_net(config) if motion else None

    @property
    def weights(self) -> dict[str, Weights]:
        """What each encoder started from, by its key in the configuration."""
        encoders = {"encoder": self.depth.encoder, "pose_encoder": self.pose.encoder if self.pose else None}
        return {name: encoder.weights for name, encoder in encoders.items() if encoder}

    def forward(self, batch: Batch) -> Prediction:
        """A batch to inverse depth and T_source_target."""
        return Prediction(inverse_depth=self.depth(batch.inputs.image), T_source_target=self._transforms(batch))

    def _transforms(self, batch: Batch) -> Tensor:
        """(B, N, 4, 4): one pass of the pose network over all temporal pairs of the batch."""
        image, sources = batch.inputs.image, batch.inputs.sources
        temporal = [i for i, name in enumerate(batch.source_names) if is_temporal(name)]
        transforms = list(batch.inputs.T_source_target_rig.unbind(1))
        if temporal and self.pose is not None:
            before = [int(batch.source_names[i]) < 0 for i in temporal]
            earlier = torch.cat([sources[:, i] if b else image for i, b in zip(temporal, before, strict=True)])
            later = torch.cat([image if b else sources[:, i] for i, b in zip(temporal, before, strict=True)])
            for i, b, T_later_earlier in zip(temporal, before, self.pose(earlier, later).chunk(len(temporal)), strict=True):
                transforms[i] = inverse(T_later_earlier) if b else T_later_earlier
        return torch.stack(transforms, dim=1)


def _pose_net(config: DepthAndMotionConfig) -> PoseNet:
    return PoseNet(
        config.pose_encoder,
        pretrained=config.pretrained,
        rotation_scale=config.rotation_scale,
        translation_scale=config.translation_scale,
    )
