"""Evaluation protocols: the crops, depth caps and alignments of the benchmarks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import torch
from torch import Tensor

from stadia.core.errors import ConfigError, ProtocolError
from stadia.core.registry import find_nearest_name
from stadia.core.types import DepthScale


class Alignment(StrEnum):
    """What is fitted to the ground truth before the prediction is compared with it."""

    NONE = "none"
    MEDIAN = "median"  # one factor an image: median(truth) / median(prediction)
    SCALE_SHIFT = "scale and shift"  # of inverse depth, least squares, an image
    SCALE_SHIFT_DEPTH = "scale and shift of depth"  # least squares, an image


@dataclass(frozen=True, slots=True)
class Crop:
    """A window in fractions of the image's height and width.

    Rows and columns are rounded down, as in the reference scripts.
    """

    top: float
    bottom: float
    left: float
    right: float

    def box(self, height: int, width: int) -> tuple[slice, slice]:
        """Return the rows and columns of the window. Garg's crop of 375x1242 has rows 153:371 and columns 44:1197."""
        rows = slice(int(self.top * height), int(self.bottom * height))
        return rows, slice(int(self.left * width), int(self.right * width))


CROPS: Mapping[str, Crop] = {
    "none": Crop(0, 1, 0, 1),
    "garg": Crop(0.40810811, 0.99189189, 0.03594771, 0.96405229),  # Garg et al., ECCV 2016, arXiv 1603.04992
    "eigen": Crop(0.3324324, 0.91351351, 0.0359477, 0.96405229),  # Eigen et al., NeurIPS 2014, arXiv 1406.2283
    "nyu": Crop(45 / 480, 471 / 480, 41 / 640, 601 / 640),  # the same toolbox, inside the white border of 480x640
}

ALIGNMENT_BY_SCALE: Mapping[DepthScale, Alignment] = {
    DepthScale.METRES: Alignment.NONE,
    DepthScale.UP_TO_SCALE: Alignment.MEDIAN,
    DepthScale.AFFINE_INVERSE: Alignment.SCALE_SHIFT,
    DepthScale.AFFINE_DEPTH: Alignment.SCALE_SHIFT_DEPTH,
}
"""Default alignment for each depth scale: it fits what the scale leaves unknown."""

EIGEN_METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "log10", "mae", "d1", "d2", "d3")
"""Metrics that papers report: those of Eigen et al. 2014, with SILog, log10 and MAE."""


_KITTI_CAP = (1e-3, 80.0)
_KITTI_IMPROVED_SHARE = 0.08  # between one LiDAR scan (.03 to .05 of the pixels) and annotated depth (about .16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How depth is scored.

    ground_truth: description of the ground truth that published numbers use.
    source: paper or script that defines the protocol.
    crop: row of CROPS, the window of scored pixels.
    scored_m: limits of scored ground truth in metres.
    clamp_m: limits to which the aligned prediction is clamped, in metres.
    alignments: what is fitted to the truth, for each depth scale. Predictions of other scales are refused.
    images: number of images of published means; None if there is no benchmark.
    metrics: rows of `stadia.metrics.METRICS`.
    by: parts of the image that are scored separately, of `score_parts.PARTS`.
    png_per_metre: integers per metre of uint16 PNG.
    min_labeled: smallest accepted median share of pixels with ground truth.
    """

    name: str
    ground_truth: str
    source: str
    crop: str = "none"
    scored_m: tuple[float, float] = _KITTI_CAP
    clamp_m: tuple[float, float] = _KITTI_CAP
    alignments: Mapping[DepthScale, Alignment] = field(default_factory=lambda: ALIGNMENT_BY_SCALE)
    images: int | None = None
    metrics: tuple[str, ...] = EIGEN_METRICS
    by: tuple[str, ...] = ()
    png_per_metre: float = 256.0
    min_labeled: float = 0.0

    def alignment(self, depth_scale: DepthScale) -> Alignment:
        """Return what is fitted for this depth scale. Raises ProtocolError if the protocol refuses the scale."""
        if depth_scale not in self.alignments:
            fix = "use a protocol for this scale, such as 'relative'"
            found = f"depth scale {depth_scale}"
            raise ProtocolError(f"protocol '{self.name}'", found=found, expected=" or ".join(self.alignments), fix=fix)
        return self.alignments[depth_scale]

    def mask(self, true_m: Tensor) -> Tensor:
        """Return the scored pixels, (H, W) bool, of true depth (H, W) in metres; 0 means unknown."""
        near, far = self.scored_m
        inside = torch.zeros_like(true_m, dtype=torch.bool)
        inside[CROPS[self.crop].box(*true_m.shape)] = True
        return inside & (true_m > near) & (true_m < far)


_EIGEN = "Eigen et al., NeurIPS 2014, arXiv 1406.2283"
_MONODEPTH2 = "Godard et al., ICCV 2019, arXiv 1806.01260"
_UHRIG = "Uhrig et al., 3DV 2017, arXiv 1708.06500"
_ADABINS = "Bhat et al., CVPR 2021, arXiv 2011.14141"
_IMPROVED = "the annotated depth of Uhrig et al., uint16 PNG / 256"
_METRES = {DepthScale.METRES: Alignment.NONE}

_KITTI_EIGEN = Protocol(
    name="kitti-eigen",
    crop="garg",
    ground_truth=(
        "single LiDAR scans projected into camera 2, camera z (scripts that store the scanner's x are .27 m too far)"
    ),
    images=697,  # the lines of Eigen's list of test frames
    source=_MONODEPTH2,
)
_KITTI_IMPROVED = Protocol(
    name="kitti-eigen-improved",
    scored_m=(0.0, math.inf),
    ground_truth=_IMPROVED,
    min_labeled=_KITTI_IMPROVED_SHARE,
    images=652,  # of the 697, those that have annotated depth
    source=f"{_MONODEPTH2}; {_UHRIG}",
)
_SENSOR = Protocol(
    name="sevenscenes",
    scored_m=(1e-3, 10.0),
    clamp_m=(1e-3, 10.0),
    ground_truth="the sensor's depth, uint16 PNG in millimetres, 0 and 65535 none",
    source="stadia: Shotton et al., CVPR 2013, publish no depth protocol; the cap is the sensor's range",
    png_per_metre=1000.0,
)

_ALL = (
    Protocol(
        name="metric",
        alignments=_METRES,
        ground_truth="any in metres",
        source="stadia: metres without alignment; other scales are refused",
    ),
    Protocol(
        name="relative",
        alignments={**ALIGNMENT_BY_SCALE, DepthScale.METRES: Alignment.MEDIAN},
        ground_truth="any in metres",
        source="stadia: relative depth; metres are scaled by the median too",
    ),
    _KITTI_EIGEN,
    replace(_KITTI_EIGEN, name="kitti-eigen-eigen-crop", crop="eigen", source=_EIGEN),
    _KITTI_IMPROVED,
    replace(
        _KITTI_IMPROVED,
        name="kitti-eigen-improved-garg",
        crop="garg",
        scored_m=_KITTI_CAP,
        source=f"as supervised methods report it: {_ADABINS}",
    ),
    replace(
        _KITTI_IMPROVED,
        name="kitti-eigen-improved-eigen-crop",
        crop="eigen",
        scored_m=_KITTI_CAP,
        source=f"the same with the crop of {_EIGEN}",
    ),
    Protocol(
        name="kitti-benchmark",
        scored_m=(0.0, math.inf),
        clamp_m=(1 / 256, 65535 / 256),  # what the uint16 PNG of a submission can hold
        alignments=_METRES,
        ground_truth=(
            f"{_IMPROVED}, such as the 1000 of val_selection_cropped; only the server has the benchmark's own"
        ),
        min_labeled=_KITTI_IMPROVED_SHARE,
        images=500,
        metrics=("silog", "sq_error_rel_percent", "abs_error_rel_percent", "irmse_per_km"),
        source=f"{_UHRIG}; the development kit of cvlibs.net/datasets/kitti/eval_depth.php?benchmark=depth_prediction",
    ),
    replace(
        _SENSOR,
        name="nyu",
        crop="nyu",
        ground_truth="the sensor's depth of NYU Depth v2's test images, uint16 PNG in millimetres, 0 none",
        images=654,
        source=f"{_EIGEN}, as supervised methods report it: {_ADABINS}",
    ),
    _SENSOR,
)

PROTOCOLS: Mapping[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def find_protocol(name: str, by: tuple[str, ...] = ()) -> Protocol:
    """Return the protocol with this name.

    by: parts of the image that are scored separately, of `score_parts.PARTS`.

    Raises ConfigError for an unknown name.

    Examples:
        >>> find_protocol("kitti-eigen").crop
        'garg'
    """
    if name not in PROTOCOLS:
        near = find_nearest_name(name, list(PROTOCOLS))
        fix = f"did you mean '{near}'?" if near else "docs/reference/protocols.md describes them"
        raise ConfigError("protocol", found=f"'{name}'", expected=f"one of {', '.join(PROTOCOLS)}", fix=fix)
    return replace(PROTOCOLS[name], by=by) if by else PROTOCOLS[name]
