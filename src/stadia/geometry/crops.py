"""The part of an image that networks are shown: one definition for training, predicting, scoring and exporting. Imports
no torch.

A crop here is what a network sees. What a protocol scores (Garg's crop, Eigen's) is another matter:
`stadia.evaluation.protocols`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stadia.core.errors import ConfigError, GeometryError

IMAGE_CROPS: Mapping[str, tuple[int, int] | None] = {"none": None, "kb": (352, 1216)}
"""Height and width in pixels, at the bottom and in the middle of the image; None is the whole.

kb: the KITTI benchmark's, as its val_selection_cropped has it (Uhrig et al., 3DV 2017, arXiv 1708.06500): the sky is
cut off,
and KITTI's sizes (1224x370 to 1242x376) become one.
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
        """The window of an array (H, W, ...): of NumPy or of torch."""
        return array[self.rows, self.columns]


def image_box(crop: str, height: int, width: int) -> Box:
    """Where a crop of IMAGE_CROPS lies in an image: 375x1242 under "kb" gives rows 23:375, columns 13:1229.

    top = H - h, left = floor((W - w) / 2). Of an image that is such a crop already it is the whole.
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
