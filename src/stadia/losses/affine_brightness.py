"""Affine brightness between images of one scene, for exposure changes (D3VO, eq. 3 to 5).

A source has a pair (a, b): a * target + b matches its brightness. The *target* changes, because a = 0 would fade out
a view until its residual vanishes.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from stadia.core.types import Prediction
from stadia.losses.config import SATURATION


def find_saturated_pixels(images: Tensor, limits: tuple[float, float] = SATURATION) -> Tensor:
    """Map (..., 3, H, W) in [0, 1] to (..., 1, H, W) bool: all channels at most limits[0], or all at least limits[1].

    Examples:
        >>> find_saturated_pixels(torch.tensor([1.0, 0.99, 0.98]).view(3, 1, 1)).item()
        True
    """
    max_dark, min_bright = limits
    return (images.amin(dim=-3, keepdim=True) >= min_bright) | (images.amax(dim=-3, keepdim=True) <= max_dark)


def apply_brightness(
    images: Tensor, target: Tensor, brightness: Tensor, saturation: tuple[float, float] = SATURATION
) -> Tensor:
    """Return the target (B, N, 3, H, W) with the brightness of each image that it is compared with.

    Pixels saturated in either image keep the target's value.

    images: (B, N, 3, H, W), views or sources.
    target: (B, 3, H, W).
    brightness: (B, N, 2) gain and offset.
    saturation: limits of `find_saturated_pixels`.

    Examples:
        >>> target, source = torch.full((1, 3, 1, 1), 0.4), torch.full((1, 1, 3, 1, 1), 0.8)
        >>> apply_brightness(source, target, torch.tensor([[[2.0, 0.0]]])).flatten()
        tensor([0.8000, 0.8000, 0.8000])
    """
    gain, offset = brightness[..., None, None, None].unbind(dim=2)
    target = target[:, None]
    saturated = find_saturated_pixels(target, saturation) | find_saturated_pixels(images, saturation)
    return torch.where(saturated, target, gain * target + offset)


def brightness_penalty(brightness: Tensor) -> Tensor:
    """Return the mean over samples of the sum over sources of (a - 1)^2 + b^2 (D3VO, supplement).

    Examples:
        >>> round(brightness_penalty(torch.tensor([[[1.1, 0.0], [1.0, 0.2]]])).item(), 4)
        0.05
    """
    gain, offset = brightness.unbind(-1)
    return ((gain - 1).square() + offset.square()).sum(dim=1).mean()


class BrightnessGate(nn.Module):
    """Keep brightness at (1, 0) until warped sources beat unwarped ones, then pass it.

    The best gain between unrelated images is near 0, and depth never trains with it. The gate opens once the mean ratio
    of warped to unwarped residual over about `STEPS` steps is below `BEATEN`.

    from_step: open at this step at the latest; None: only by the ratio.
    """

    BEATEN, STEPS = 0.8, 100

    ratio: Tensor  # () running mean ratio of warped to unwarped residual
    is_open: Tensor  # () bool
    unchanged: Tensor  # (2,) no change of brightness

    def __init__(self, from_step: int | None = None) -> None:
        super().__init__()
        self.from_step = from_step
        self.register_buffer("ratio", torch.ones(()))
        self.register_buffer("is_open", torch.zeros((), dtype=torch.bool))
        self.register_buffer("unchanged", torch.tensor([1.0, 0.0]), persistent=False)

    def forward(self, prediction: Prediction, step: int) -> Prediction:
        """Return the prediction, with brightness (1, 0) and no gradient while the gate is closed."""
        if prediction.brightness is None or (self.from_step is not None and step >= self.from_step):
            return prediction
        unchanged = self.unchanged.to(prediction.brightness.dtype)
        is_open = self.is_open.clone()  # `update` may change the buffer before the backward pass
        return replace(prediction, brightness=torch.where(is_open, prediction.brightness, unchanged))

    @torch.no_grad()
    def update(self, warped_over_unwarped: Tensor) -> None:
        """Update the ratio with a training step's `LossReport.logged["warped_over_unwarped"]`."""
        self.ratio.lerp_(warped_over_unwarped.to(self.ratio.dtype), 1 / self.STEPS)
        self.is_open |= self.ratio < self.BEATEN
