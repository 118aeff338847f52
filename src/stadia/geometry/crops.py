"""The part of an image that networks see: one definition for training, predicting, scoring and exporting. Imports no
torch.

The crops of evaluation protocols (Garg, Eigen) are in `stadia.evaluation.protocols`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stadia.core.errors import ConfigError, GeometryError

IMAGE_CROPS: Mapping[str, tuple[int, int] | None] = {"none": None, "kb": (352, 1216)}
"""Height and width in pixels, at the bottom and in the middle of the image; None is the whole.

kb: the crop of the KITTI benchmark, as of its val_selection_cropped (Uhrig et al., 3DV 2017, arXiv 1708.06500): it
    removes the sky, and gives KITTI's sizes (1224x370 to 1242x376) one size.
"""


@dataclass(frozen=True, slots=True)
class Box:
    """A window of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.width)

    def cut(self, array: Any) -> Any:
        """Return the window of an array (H, W, ...) of NumPy or torch."""
        return array[self.rows, self.columns]


def image_box(crop: str, height: int, width: int) -> Box:
    """Return the window of a crop of IMAGE_CROPS: for 375x1242 and "kb" rows 23:375, columns 13:1229.

    top = H - h, left = floor((W - w) / 2). For an image that is already cropped so it is the whole.
    Raises GeometryError where the image is smaller, ConfigError for an unknown crop.
    """
    if crop not in IMAGE_CROPS:
        raise ConfigError(
            "crop", found=f"'{crop}'", expected=f"one of {', '.join(IMAGE_CROPS)}", fix="choose one of them"
        )
    h, w = IMAGE_CROPS[crop] or (height, width)
    if height < h or width < w:
        raise GeometryError(
            f"crop '{crop}'",
            found=f"an image of {width}x{height}",
            expected=f"at least {w}x{h} pixels, which this crop keeps",
            fix="use images at KITTI's own size, or crop=none (a video file is decoded to data.size)",
        )
    return Box(height - h, (width - w) // 2, h, w)
