"""Heights of objects on roads by class, and the configuration that uses them. This module does not import torch."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from stadia.core.config import StrictModel
from stadia.core.errors import ConfigError
from stadia.data.config import Share


class HeightPrior(StrictModel):
    """The heights of the objects of one class, such as cars; a training can learn metres from them.

    mean_m: mean height in metres; for a class with a long tail (vans among cars) the median.
    spread_m: standard deviation of the heights of different objects, in metres.
    source: origin of the mean; the record of the training contains it.
    datasets: datasets that the heights were measured on. A training that uses them must not be scored there.
    """

    mean_m: float = Field(gt=0)
    spread_m: float = Field(gt=0)
    source: str = Field(min_length=1)
    datasets: tuple[str, ...] = ()


_ASSUMED = "; spread assumed"
_KITTI = "mean over the 3D boxes of KITTI's object data, drawn tight" + _ASSUMED
_MIXED = "mean over the 3D boxes of several driving sets (461 510 cars; which sets is not recorded)" + _ASSUMED


def _kitti(mean_m: float, spread_m: float) -> HeightPrior:
    return HeightPrior(mean_m=mean_m, spread_m=spread_m, source=_KITTI, datasets=("kitti",))


_DRAWN = "what RoadWorld draws its objects from, equally in all of its datasets"
PriorsName = Literal["kitti", "mixed", "roadworld"]
PRIORS: Mapping[PriorsName, Mapping[str, HeightPrior]] = {
    "kitti": {
        "car": _kitti(1.526, 0.12),
        "van": _kitti(2.205, 0.3),
        "truck": _kitti(3.252, 0.45),
        "person": _kitti(1.763, 0.12),
        "sitting person": _kitti(1.275, 0.12),
        "cyclist": _kitti(1.737, 0.12),
        "tram": _kitti(3.531, 0.2),
    },
    "mixed": {
        "car": HeightPrior(mean_m=1.710, spread_m=0.15, source=_MIXED),
        "person": HeightPrior(mean_m=1.781, spread_m=0.12, source=_MIXED),
    },
    "roadworld": {
        "car": HeightPrior(mean_m=1.504, spread_m=0.169, source=f"median of {_DRAWN}: a tenth are vans, 2 m high"),
        "person": HeightPrior(mean_m=1.72, spread_m=0.08, source=f"mean of {_DRAWN}"),
    },
}
"""Height priors by the name of the set and the name of the class."""

CLASS_ALIASES: Mapping[str, str] = {  # KITTI and Cityscapes use these names.
    "pedestrian": "person",
    "person_sitting": "sitting person",
    "rider": "cyclist",
    "train": "tram",
}


def _check_name(value: object) -> object:
    if isinstance(value, str) and value not in PRIORS:
        raise ValueError(f"expected one of {', '.join(PRIORS)}, or your own by class")
    return value


Priors = Annotated[
    Annotated[PriorsName, Tag("named")] | Annotated[dict[str, HeightPrior], Tag("own")],
    Discriminator(lambda value: "named" if isinstance(value, str) else "own"),
    BeforeValidator(_check_name),
]


def normalize_class(name: str) -> str:
    """Return the class name that `PRIORS` uses for a class of COCO, Cityscapes or KITTI.

    For example, Pedestrian becomes person.
    """
    name = name.strip().lower()
    return CLASS_ALIASES.get(name, name)


def find_prior(class_name: str, priors: Mapping[str, HeightPrior]) -> HeightPrior | None:
    """Return the height prior of a class; None for a class without a prior.

    class_name: name of the class in COCO, Cityscapes or KITTI.
    priors: height priors by class name.
    """
    name = class_name.strip().lower()
    return priors.get(name) or priors.get(normalize_class(name))


def check_scored_on(priors: Mapping[str, HeightPrior], scored_on: Iterable[str]) -> None:
    """Raise ConfigError if a height prior was measured on a dataset that will score the network.

    priors: height priors by class name.
    scored_on: names of the datasets for scores.
    """
    for scored in scored_on:
        for name, prior in priors.items():
            if any(scored == measured or scored.startswith(f"{measured}_") for measured in prior.datasets):
                found = f"{prior.mean_m:g} m from {prior.source}"
                expected = f"a source other than {scored}, which is scored"
                fix = "train with other priors, or with your own heights and their source"
                raise ConfigError(f"height of a {name}", found=found, expected=expected, fix=fix)


class RoadConfig(StrictModel):
    """Masks of road and objects, and the heights of the objects.

    masks: a folder with masks for recordings without masks (docs/how-to/metric.md).
    objects: classes whose heights give the scale. The default is only cars, because people also walk on curbs or ride.
    priors: heights of the classes: "mixed", "kitti", "roadworld", or your own by class.
    heights: "class" uses the height of the class for every object. "each" uses an object's own height from
        heights.json, if there is one.
    verdicts: camera_height.json of `stadia camera-height --out`. Objects that it rejected are not used.
    rectangle: the road as [left, top, right, bottom] in shares of the image (VADepth). null uses the road in the masks.
    min_objects: an image with fewer objects of known height gives no scale.
    cameras: which recordings share one camera height: "mount" means all, or those with the same mount if the data name
        mounts. "recording" gives each recording its own.
    min_object_share: objects with a smaller share of the image's pixels are not used.
    border_px: objects this close to the image border are not used, in pixels at the network's size.
    max_occlusion: objects are not used if a larger share of their outline is behind nearer objects.
    """

    masks: str | None = None
    objects: tuple[str, ...] = ("car",)
    priors: Priors = "mixed"
    heights: Literal["class", "each"] = "class"
    verdicts: str | None = None
    rectangle: tuple[Share, Share, Share, Share] | None = None
    min_objects: int = Field(default=1, ge=1)
    cameras: Literal["mount", "recording"] = "mount"
    min_object_share: float = Field(default=0.002, ge=0, lt=1)
    border_px: Annotated[int, Field(ge=0)] = 3
    max_occlusion: float = Field(default=0.3, ge=0, le=1)

    @property
    def height_priors(self) -> Mapping[str, HeightPrior]:
        """Return the height priors by class name that `priors` selects or contains."""
        return PRIORS[self.priors] if isinstance(self.priors, str) else self.priors

    def check_scored_on(self, formats: Iterable[str]) -> None:
        """Raise ConfigError if a used height prior was measured on a dataset that will score the network.

        formats: names of the formats of the datasets for scores.
        """
        priors = {name: prior for name in self.objects if (prior := find_prior(name, self.height_priors)) is not None}
        check_scored_on(priors, formats)
