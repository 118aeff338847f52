"""Affine brightness changes between images of one scene, caused by exposure (D3VO, eq. 3 to 5).

Each source has a pair (a, b): a * target + b has the source's brightness. The *target* is changed, not the source.
Otherwise a = 0 would fade a view out until its residual vanishes.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from stadia.differentiable.batch import Prediction
from stadia.losses.config import SATURATION


def find_saturated_pixels(images: Tensor, limits: tuple[float, float] = SATURATION) -> Tensor:
    """Return whether all channels of a pixel are at most limits[0], or all at least limits[1], (..., 1, H, W) bool.

    images: (..., 3, H, W) RGB in [0, 1].

    Examples:
        >>> find_saturated_pixels(torch.tensor([1.0, 0.99, 0.98]).view(3, 1, 1)).item()
        True
    """
    max_dark, min_bright = limits
    return (images.amin(dim=-3, keepdim=True) >= min_bright) | (images.amax(dim=-3, keepdim=True) <= max_dark)


def apply_brightness(
    images: Tensor, target: Tensor, brightness: Tensor, saturation: tuple[float, float] = SATURATION
) -> Tensor:
    """Return the target (B, N, 3, H, W) with the brightness of each of the N images with which it is compared.

    Pixels that are saturated in one of the two images keep the target's value.

    images: (B, N, 3, H, W), views or sources.
    target: (B, 3, H, W).
    brightness: (B, N, 2) gain and offset from the target to each image.
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
    """Return the penalty (a - 1)^2 + b^2, summed over sources and averaged over samples, a scalar (D3VO, supplement).

    brightness: (B, N, 2) gain a and offset b.

    Examples:
        >>> round(brightness_penalty(torch.tensor([[[1.1, 0.0], [1.0, 0.2]]])).item(), 4)
        0.05
    """
    gain, offset = brightness.unbind(-1)
    return ((gain - 1).square() + offset.square()).sum(dim=1).mean()


class BrightnessGate(nn.Module):
    """Keep brightness at (1, 0) until warped sources match better than unwarped ones; from then on pass the prediction.

    Between unrelated images the best gain is near 0, and then depth would never train. The gate opens as soon as the
    ratio of warped to unwarped residuals, averaged over about `STEPS` steps, is below `BEATEN`.

    from_step: the gate opens at this step at the latest; None opens it only by the ratio.
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
        """Return the prediction. While the gate is closed, its brightness is (1, 0) without gradient."""
        if prediction.brightness is None or (self.from_step is not None and step >= self.from_step):
            return prediction
        unchanged = self.unchanged.to(prediction.brightness.dtype)
        is_open = self.is_open.clone()  # `update` may change the buffer before the backward pass
        return replace(prediction, brightness=torch.where(is_open, prediction.brightness, unchanged))

    @torch.no_grad()
    def update(self, warped_over_unwarped: Tensor) -> None:
        """Update the running ratio with the scalar `LossReport.logged["warped_over_unwarped"]` of a training step."""
        self.ratio.lerp_(warped_over_unwarped.to(self.ratio.dtype), 1 / self.STEPS)
        self.is_open |= self.ratio < self.BEATEN
