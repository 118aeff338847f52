"""Configuration of composite images. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stadia.core.config import StrictModel, check_range
from stadia.datasets.config import SourceOptions, SplitConfig


class BackgroundConfig(SourceOptions):
    """Images with depth onto which cut-outs are pasted: true depth, or a teacher's.

    path, format: see `open_recordings`; null takes RoadWorld's demo worlds from the cache, rendered once.
    split_by: which images validate. Splits that a data set names stay.  sides: cameras of the rig.
    teacher: a folder that `stadia predict` wrote for these images; its depth replaces true depth.
    """

    path: str | None = None
    format: str = "auto"
    split_by: SplitConfig = SplitConfig()
    sides: Annotated[tuple[Literal["left", "right"], ...], Field(min_length=1)] = ("left",)
    teacher: str | None = None


class ForegroundConfig(StrictModel):
    """Cut-outs: PNG files with an alpha channel.

    path: FOLDER/NAME.png, or FOLDER/OBJECT/VIEW.png, or either in FOLDER/train, FOLDER/val (and test); null renders
        objects of TableWorld.
    val_share: of the objects, where the folder names no splits. All views of an object are in one split.
    """

    path: str | None = None
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.2


class PlacementConfig(StrictModel):
    """Position and size of cut-outs.

    rule: "random", or "grid": 4 rows (smaller and higher is farther) of 5 places, each as it is and mirrored.
    size: random alone: least and largest longer side, as a share of the image's shorter one.
    foot: random alone: where the lower edge may lie, as a share of the height from above.
    """

    rule: Literal["random", "grid"] = "random"
    size: Annotated[tuple[Annotated[float, Field(gt=0)], float], check_range(0)] = (0.3, 0.6)
    foot: Annotated[tuple[float, float], check_range(0, 1)] = (0.7, 1.0)

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.size[1] > 1:
            size = f"{self.size[1]:g} times its background"
            raise ValueError(f"size: a foreground of {size} is larger than it; expected at most 1")
        return self
