"""Depth of an image and the camera's motion between neighbors: the networks of the recipe `selfsup`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stadia.core.types import Batch, Prediction, is_temporal
from stadia.geometry.brightness import inverse_brightness
from stadia.geometry.se3 import inverse
from stadia.models.brightness import change_of_moments
from stadia.models.config import DepthAndMotionConfig
from stadia.models.depth_net import DepthNet
from stadia.models.encoders import Encoder
from stadia.models.hub import Weights
from stadia.models.pose_net import Motion, PoseNet, Shared


class DepthAndMotion(nn.Module):
    """The depth network on the target image, the pose network on each pair of neighbors in time.

    The pose network always sees a pair in order of time; for a source before the target its answer is inverted, motion
    and brightness alike, so that one convention is learnt instead of two. A source of the rig (stereo) has its
    transform from the calibration; where brightness is asked for, the pose network sees that pair too, target first,
    and says its brightness alone.

    motion: whether there is a pose network at all; without neighbors in time nothing would train it.
    size: (height, width) of the training's images, for a pose head that is bound to them.
    """

    def __init__(
        self, config: DepthAndMotionConfig, *, motion: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.depth = DepthNet(config)
        self.pose = PoseNet(config, self.depth.encoder, size=size) if motion else None
        self.brightness = motion and config.brightness

    @property
    def weights(self) -> dict[str, Weights]:
        """What each encoder of timm's started from, by its key in the configuration."""
        encoders = {"encoder": self.depth.encoder, "pose_encoder": self.pose.encoder if self.pose else None}
        return {name: encoder.weights for name, encoder in encoders.items() if isinstance(encoder, Encoder)}

    def forward(self, batch: Batch) -> Prediction:
        """A batch to what the networks say of it: inverse depth, T_source_target, and what else the configuration asks
        for.
        """
        features = self.depth.encoder(batch.inputs.image)
        maps = self.depth.decode(features)
        T_source_target, brightness = self._transforms(batch, features)
        return Prediction(
            maps.inverse_depth, T_source_target, maps.inverse_depth_right, maps.log_uncertainty, brightness
        )

    def motion(self, earlier: Tensor, later: Tensor) -> Motion | None:
        """(B, 3, H, W) twice, in order of time; None without a pose network."""
        if self.pose is None:
            return None
        moments = change_of_moments(earlier, later) if self.brightness else None
        if isinstance(self.pose.encoder, Shared):
            earlier, later = self.depth.encoder(earlier)[-1], self.depth.encoder(later)[-1]
        motion: Motion = self.pose(earlier, later, moments)
        return motion

    def _transforms(self, batch: Batch, features: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """(B, N, 4, 4) and the brightness (B, N, 2): one pass of the pose network over all pairs of the batch that it
        is asked about.
        """
        transforms = list(batch.inputs.T_source_target_rig.unbind(1))
        brightness = []
        asked = [i for i, name in enumerate(batch.source_names) if is_temporal(name) or self.brightness]
        if asked and self.pose is not None:
            before = [batch.source_names[i].startswith("-") for i in asked]
            images = _in_order(batch.inputs.image, [batch.inputs.sources[:, i] for i in asked], before)
            moments = change_of_moments(*images) if self.brightness else None
            compared = (
                _in_order(*self._features(batch, features, asked), before)
                if isinstance(self.pose.encoder, Shared)
                else images
            )
            T_later_earlier, of_pairs = self.pose(*compared, moments)
            for i, b, T in zip(asked, before, T_later_earlier.chunk(len(asked)), strict=True):
                if is_temporal(batch.source_names[i]):
                    transforms[i] = inverse(T) if b else T
            if self.brightness:
                pairs = zip(before, of_pairs.chunk(len(asked)), strict=True)
                brightness = [inverse_brightness(of_pair) if b else of_pair for b, of_pair in pairs]
        return torch.stack(transforms, dim=1), torch.stack(brightness, dim=1) if brightness else None

    def _features(self, batch: Batch, features: list[Tensor], asked: list[int]) -> tuple[Tensor, list[Tensor]]:
        """The depth network's coarsest features of the target, and of each source asked about."""
        sources = torch.cat([batch.inputs.sources[:, i] for i in asked])
        return features[-1], list(self.depth.encoder(sources)[-1].chunk(len(asked)))


def _in_order(target: Tensor, sources: list[Tensor], before: list[bool]) -> tuple[Tensor, Tensor]:
    """(N B, ...) the earlier of each pair of target and source, and the later."""
    earlier = torch.cat([source if b else target for source, b in zip(sources, before, strict=True)])
    later = torch.cat([target if b else source for source, b in zip(sources, before, strict=True)])
    return earlier, later
