"""The pose network: two pictures in order of time to the camera's motion (Monodepth2, arXiv 1806.01260)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stadia.geometry.se3 import from_rotation_translation, so3_exp
from stadia.models.encoders import Encoder


class PoseNet(nn.Module):
    """A six-channel encoder, a small convolutional head, a mean over the picture.

    Args:
        encoder: timm model. pretrained: see Encoder.
        rotation_scale, translation_scale: multiply the head's axis-angle (radians) and translation (metres, or the depth's unit).
    """

    def __init__(self, encoder: str, *, pretrained: bool, rotation_scale: float, translation_scale: float) -> None:
        super().__init__()
        self.encoder = Encoder(encoder, pictures=2, pretrained=pretrained)
        self.head = nn.Sequential(
            nn.Conv2d(self.encoder.channels[-1], 256, 1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 6, 1),
        )
        self.rotation_scale, self.translation_scale = rotation_scale, translation_scale

    def forward(self, earlier: Tensor, later: Tensor) -> Tensor:
        """(B, 3, H, W) twice, in order of time, to T_later_earlier (B, 4, 4), float32."""
        pair = torch.cat([earlier, later], dim=1)
        motion = self.head(self.encoder(pair)[-1]).mean(dim=(2, 3)).float()
        rotation = so3_exp(self.rotation_scale * motion[:, :3])
        return from_rotation_translation(rotation, self.translation_scale * motion[:, 3:])
