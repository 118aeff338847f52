"""Brightness of images of one scene: exposure changes between them, and no depth explains that.

Here and in `Prediction.brightness` a pair (a, b) belongs to a source: a * target + b is as bright as that source. It is
the *target* that is changed, never the view painted out of the source (D3VO, arXiv 2003.01060, eq. 3 to 5): a view
could be faded out (a = 0) until nothing of it is left to be wrong. Nothing is clamped to [0, 1]: where an image is at
the end of its range, (a, b) does not hold.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from stadia.core.types import Prediction

DARK, BRIGHT = 0.02, 0.98
"""A pixel all of whose channels are at most DARK, or all at least BRIGHT, is at the end of its camera's range."""


def saturated(images: Tensor) -> Tensor:
    """(..., 3, H, W) in [0, 1] to (..., 1, H, W) bool: all channels at one end of the range, so that pure red, green
    and blue are not.
    """
    return (images.amin(dim=-3, keepdim=True) >= BRIGHT) | (images.amax(dim=-3, keepdim=True) <= DARK)


def as_bright_as(images: Tensor, target: Tensor, brightness: Tensor) -> Tensor:
    """The target as bright as each of the images that it is compared with.

    A pixel that is saturated in either keeps the target's own value: gain and offset do not hold there, and would be
    learnt wrong.

    Args:
        images: (B, N, 3, H, W), views or sources.
        target: (B, 3, H, W).
        brightness: (B, N, 2) gain and offset.

    Returns: (B, N, 3, H, W), differentiable with respect to the brightness.
    """
    gain, offset = brightness[..., None, None, None].unbind(dim=2)
    target = target[:, None]
    return torch.where(saturated(target) | saturated(images), target, gain * target + offset)


def away_from_unchanged(brightness: Tensor) -> Tensor:
    """(B, N, 2) to a scalar: the mean over samples of the sum over sources of (a - 1)^2 + b^2 (D3VO, supplement)."""
    gain, offset = brightness.unbind(-1)
    return ((gain - 1).square() + offset.square()).sum(dim=1).mean()


class BrightnessGate(nn.Module):
    """Holds brightness at (1, 0) until the warp beats the unwarped image; then lets it through for good.

    While depth and motion are wrong, view and target have nothing to do with each other, and the best gain for two
    unrelated images is near 0. A network that learns it fades the target out, and depth never comes. So brightness
    waits until the warped sources' residual, over the unwarped ones', is below `BEATEN` in the mean over about the last
    `STEPS` steps.

    What it knows is in buffers: a checkpoint holds them, a resumed run goes on with them, and all processes follow the
        first.

    Args:
        from_step: brightness is let through from this step on, whatever the ratio; None: by the ratio alone.
    """

    BEATEN, STEPS = 0.8, 100

    ratio: Tensor  # () running mean of the warped residual over the unwarped one; 1 at the start
    is_open: Tensor  # () bool
    unchanged: Tensor  # (2,) no change of brightness

    def __init__(self, from_step: int | None = None) -> None:
        super().__init__()
        self.from_step = from_step
        self.register_buffer("ratio", torch.ones(()))
        self.register_buffer("is_open", torch.zeros((), dtype=torch.bool))
        self.register_buffer("unchanged", torch.tensor([1.0, 0.0]), persistent=False)

    def forward(self, prediction: Prediction, step: int) -> Prediction:
        """The prediction, its brightness at (1, 0) and without a gradient as long as the gate is closed."""
        if prediction.brightness is None or (self.from_step is not None and step >= self.from_step):
            return prediction
        unchanged = self.unchanged.to(prediction.brightness.dtype)
        is_open = self.is_open.clone()  # `watch` may change the buffer before the slope has come back through here
        return replace(prediction, brightness=torch.where(is_open, prediction.brightness, unchanged))

    @torch.no_grad()
    def watch(self, warped_over_unwarped: Tensor) -> None:
        """Take in a training step's ratio, `LossReport.seen["warped_over_unwarped"]`."""
        self.ratio.lerp_(warped_over_unwarped.to(self.ratio.dtype), 1 / self.STEPS)
        self.is_open |= self.ratio < self.BEATEN
