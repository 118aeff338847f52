"""Configuration of what is known of a road video beside its images: masks, heights of classes, cameras. Imports no
torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field

from stadia.core.config import StrictModel
from stadia.data.height_priors import PRIORS, HeightPrior, Priors, check_scored_on, prior_of


class RoadConfig(StrictModel):
    """Masks of road and objects, and how high the objects are.

    masks: a folder with masks of recordings that have none beside their images (docs/metric.md).
    objects: classes whose heights give the scale. People stand on kerbs, and their classes ride: cars alone unless you
        know better.
    priors: heights of the classes: "mixed", "kitti", "roadworld" (`data.height_priors`), or your own by class.
    heights: "class" takes the class's for every object; "each" an object's own where heights.json has it, else its
        class's.
    cameras: whose height is one: "mount" all recordings, or those of one mount where the data tell mounts; "recording"
        each its own.
    least_share: of the image's pixels; a smaller object is left out.
    border_px: an object that comes so near to the image's edge is left out, at the network's size.
    most_hidden: an object is left out where more than this share of its outline is covered by nearer ones.
    """

    masks: str | None = None
    objects: tuple[str, ...] = ("car",)
    priors: Priors = "mixed"
    heights: Literal["class", "each"] = "class"
    cameras: Literal["mount", "recording"] = "mount"
    least_share: float = Field(default=0.002, ge=0, lt=1)
    border_px: Annotated[int, Field(ge=0)] = 3
    most_hidden: float = Field(default=0.3, ge=0, le=1)

    @property
    def height_priors(self) -> Mapping[str, HeightPrior]:
        """By class name."""
        return PRIORS[self.priors] if isinstance(self.priors, str) else self.priors

    def check_scored_on(self, formats: Iterable[str]) -> None:
        """`data.height_priors.check_scored_on` of the classes that give the scale."""
        priors = {name: prior for name in self.objects if (prior := prior_of(name, self.height_priors)) is not None}
        check_scored_on(priors, formats)
