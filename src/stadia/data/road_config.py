"""Configure masks, object heights and cameras of road video. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field

from stadia.core.config import StrictModel
from stadia.data.height_priors import PRIORS, HeightPrior, Priors, check_scored_on, prior_of


class RoadConfig(StrictModel):
    """Masks of road and objects, and the heights of the objects.

    masks: a folder with masks of recordings that have none beside their images (docs/metric.md).
    objects: classes whose heights give the scale. People stand on curbs or ride, so the default is cars only.
    priors: heights of the classes: "mixed", "kitti", "roadworld" (`data.height_priors`), or your own by class.
    heights: "class" uses the class's height for every object; "each" an object's own from heights.json, else its
        class's.
    cameras: recordings with one camera height: "mount" all, or those of one mount if the data name mounts; "recording"
        each its own.
    least_share: smallest share of the image's pixels; a smaller object is left out.
    border_px: an object within this distance of the image border is left out, at the network's size.
    most_hidden: an object is left out where nearer ones cover a larger share of its outline.
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
        """Priors by class name."""
        return PRIORS[self.priors] if isinstance(self.priors, str) else self.priors

    def check_scored_on(self, formats: Iterable[str]) -> None:
        """Check `data.height_priors.check_scored_on` for the classes that give the scale."""
        priors = {name: prior for name in self.objects if (prior := prior_of(name, self.height_priors)) is not None}
        check_scored_on(priors, formats)
