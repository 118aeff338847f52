"""Evaluation protocols: the crops, depth caps and alignments of the benchmarks."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import ConfigError, DataError, ProtocolError
from stadia.core.registry import find_nearest_name
from stadia.core.types import DepthScale
from stadia.io.image_io import MAX_IMAGE_BYTES, PNG_SIGNATURE, decode_image
from stadia.io.input_files import read_bytes
from stadia.metrics import METRICS


class Alignment(StrEnum):
    """Name what is fitted to the ground truth of an image before predicted depth is compared with it.

    NONE ("none"): nothing.
    MEDIAN ("median"): one factor, median(truth) / median(prediction).
    SCALE ("scale"): one factor, by least squares of depth.
    LOG_SCALE ("log scale"): one factor, by least squares of the logarithm of depth.
    SCALE_SHIFT ("scale and shift"): scale and shift of inverse depth, by least squares.
    SCALE_SHIFT_DEPTH ("scale and shift of depth"): scale and shift of depth, by least squares.
    """

    NONE = "none"
    MEDIAN = "median"  # one factor an image: median(truth) / median(prediction)
    SCALE = "scale"  # one factor an image, least squares of depth
    LOG_SCALE = "log scale"  # one factor an image, least squares of the logarithm
    SCALE_SHIFT = "scale and shift"  # one scale and shift an image, least squares of inverse depth
    SCALE_SHIFT_DEPTH = "scale and shift of depth"  # one scale and shift an image, least squares of depth


@dataclass(frozen=True, slots=True)
class Crop:
    """Define the window of scored pixels, as fractions of the image's height and width.

    top: upper edge of the window, 0 at the top of the image.
    bottom: lower edge, 1 at the bottom of the image.
    left: left edge, 0 at the left side of the image.
    right: right edge, 1 at the right side of the image.

    In pixels, edges are rounded down, as in the reference scripts of KITTI.
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
"""What is fitted to the ground truth for each scale of predicted depth, unless a protocol says otherwise.

Nothing is fitted for metres; otherwise the scale, or scale and shift, that the prediction leaves unknown.
"""

EIGEN_METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "silog", "log10", "mae", "d1", "d2", "d3")
"""Metrics that papers report: the metrics of Eigen et al. 2014, with SILog, log10 and MAE."""


_KITTI_CAP = (1e-3, 80.0)
ANY_DEPTH_M = (1e-9, 1e9)  # a clamp that changes no prediction
_KITTI_IMPROVED_SHARE = 0.08  # labeled share between one LiDAR scan (.03 to .05) and annotated depth (about .16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How depth is scored.

    ground_truth: description of the ground truth that published numbers use.
    source: paper or script that defines the protocol.
    crop: row of CROPS, the window of scored pixels.
    scored_m: limits of scored ground truth in metres.
    clamp_m: clamping limits of the aligned prediction, in metres.
    alignments: what is fitted to the truth, for each depth scale. Predictions of other scales are refused.
    images: number of images of published means; None without a benchmark.
    metrics: rows of `stadia.metrics.METRICS`.
    by: parts of the image that are scored separately, of `PARTS`.
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

    def mask(self, true_m: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return which pixels the protocol scores, (H, W) bool: those in its crop with true depth inside its limits.

        true_m: (H, W) true z in metres; 0 means unknown.
        """
        near, far = self.scored_m
        inside = np.zeros(true_m.shape, np.bool_)
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
    images=652,  # 652 of the 697 images have annotated depth.
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
        clamp_m=(1 / 256, 65535 / 256),  # The uint16 PNG of a submission can hold no more.
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
    """Return the protocol with this name, or with the options in a text such as "crop=eigen,max=50,align=median".

    by: parts of the image that are scored separately, of `PARTS`.

    Raises ConfigError for an unknown name or option.

    Examples:
        >>> find_protocol("kitti-eigen").crop
        'garg'
    """
    if "=" in name:
        return replace(parse_protocol(name), by=by)
    if name not in PROTOCOLS:
        near = find_nearest_name(name, list(PROTOCOLS))
        fix = f"did you mean '{near}'?" if near else "docs/reference/protocols.md describes them"
        raise ConfigError("protocol", found=f"'{name}'", expected=f"one of {', '.join(PROTOCOLS)}", fix=fix)
    return replace(PROTOCOLS[name], by=by) if by else PROTOCOLS[name]


PROTOCOL_OPTIONS = ("crop", "min", "max", "clamp", "align")


def parse_protocol(text: str) -> Protocol:
    """Return the protocol with the options of a text.

    text: "crop=NAME,min=METRES,max=METRES,clamp=METRES,align=NAME"; each is optional. `crop` is a row of CROPS. `min`
        and `max` limit the scored true depth, by default .001 and 80; "max=inf" scores all. Predictions are clamped to
        `min` and to `clamp`, by default `max` (80 for "max=inf"); "clamp=no" does not clamp. `align` is an `Alignment`
        with hyphens for spaces, such as log-scale; by default what the depth scale leaves unknown.

    Raises ConfigError for an unknown option or a wrong value.

    Examples:
        >>> parse_protocol("crop=eigen,max=50").scored_m
        (0.001, 50.0)
    """
    given = dict[str, str]()
    for part in text.replace(" ", "").split(","):
        name, _, value = part.partition("=")
        if name not in PROTOCOL_OPTIONS or name in given:
            expected = f"each of {', '.join(PROTOCOL_OPTIONS)} at most once"
            raise ConfigError("--protocol", found=f"'{part}'", expected=expected, fix="such as crop=eigen,max=50")
        given[name] = value
    crop = _choose("crop", given.get("crop", "none"), CROPS)
    near, far = (_read_metres(name, given.get(name, default)) for name, default in (("min", "0.001"), ("max", "80")))
    clamp = given.get("clamp", f"{far if math.isfinite(far) else _KITTI_CAP[1]}")
    clamp_m = ANY_DEPTH_M if clamp == "no" else (max(near, ANY_DEPTH_M[0]), _read_metres("clamp", clamp))
    if not (near < far and clamp_m[0] < clamp_m[1]):
        raise ConfigError("--protocol", found=f"'{text}'", expected="a minimum below max and clamp")
    alignments: Mapping[DepthScale, Alignment] = ALIGNMENT_BY_SCALE
    if "align" in given:
        kinds = {str(kind).replace(" ", "-"): kind for kind in Alignment}
        wanted = kinds[_choose("align", given["align"], kinds)]
        scales = {
            Alignment.SCALE_SHIFT: DepthScale.AFFINE_INVERSE,
            Alignment.SCALE_SHIFT_DEPTH: DepthScale.AFFINE_DEPTH,
        }
        fitting = [DepthScale.METRES, *([] if wanted is Alignment.NONE else [DepthScale.UP_TO_SCALE])]
        fitting += [scales[wanted]] if wanted in scales else []
        alignments = dict.fromkeys(fitting, wanted)
    return Protocol(
        name=text,
        ground_truth="any in metres",
        source="the options of --protocol",
        crop=crop,
        scored_m=(near, far),
        clamp_m=clamp_m,
        alignments=alignments,
    )


def _choose(name: str, value: str, known: Iterable[str]) -> str:
    if value not in (names := list(known)):
        near = find_nearest_name(value, names)
        fix = f"did you mean '{near}'?" if near else "choose one of them"
        raise ConfigError(f"--protocol {name}", found=f"'{value}'", expected=f"one of {', '.join(names)}", fix=fix)
    return value


def _read_metres(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise ConfigError(f"--protocol {name}", found=f"'{text}'", expected="metres", fix=f"such as {name}=50")
    return value


DISTANCES_M = (5.0, 10.0, 20.0, 40.0, 80.0)  # limits between the parts of true depth
ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "center", "right")  # thirds of the image
MIN_PART_PIXELS = 20  # scored pixels of a part in an image
MAX_CLASSES = 64  # more are instances or depth

Labels = tuple[NDArray[np.int64], Sequence[str]]  # part of each of N pixels, and the names of the parts


def split_by_distance(true_m: NDArray[np.float64], mask: NDArray[np.bool_], classes: NDArray | None) -> Labels:
    """Divide scored pixels by their true depth; return the number of each pixel's part, (N,), and the part names.

    true_m: (N,) true depth in metres at the scored pixels.
    mask: (H, W) bool, true for the N scored pixels; not used here.
    classes: (H, W) class numbers; not used here.

    Examples:
        >>> labels, names = split_by_distance(np.array([3.0, 90.0]), np.ones((1, 2), bool), None)
        >>> [names[label] for label in labels]
        ['distance 0 to 5 m', 'distance above 80 m']
    """
    ends = (0.0, *DISTANCES_M)
    names = [f"distance {low:g} to {high:g} m" for low, high in zip(ends, DISTANCES_M, strict=False)]
    return np.digitize(true_m, DISTANCES_M), [*names, f"distance above {DISTANCES_M[-1]:g} m"]


def split_by_region(true_m: NDArray[np.float64], mask: NDArray[np.bool_], classes: NDArray | None) -> Labels:
    """Group scored pixels by the ninth of the image that contains them; return each pixel's part, (N,), and the part
    names.

    true_m: (N,) true depth in metres at the scored pixels; not used here.
    mask: (H, W) bool, true for the N scored pixels.
    classes: (H, W) class numbers; not used here.

    Examples:
        >>> labels, names = split_by_region(np.ones(9), np.ones((3, 3), bool), None)
        >>> names[labels[4]], names[labels[8]]
        ('region middle center', 'region lower right')
    """
    rows, columns = np.nonzero(mask)
    thirds = 3 * rows // mask.shape[0], 3 * columns // mask.shape[1]
    return 3 * thirds[0] + thirds[1], [f"region {row} {column}" for row in ROWS for column in COLUMNS]


def split_by_class(true_m: NDArray[np.float64], mask: NDArray[np.bool_], classes: NDArray | None) -> Labels:
    """Divide scored pixels by their class; return the number of each pixel's part, (N,), and the names of the parts.

    true_m: (N,) true depth in metres at the scored pixels; not used here.
    mask: (H, W) bool, true for the N scored pixels.
    classes: (H, W) class numbers.

    Raises ConfigError without classes.

    Examples:
        >>> labels, names = split_by_class(np.ones(2), np.ones((1, 2), bool), np.array([[7, 3]]))
        >>> [names[label] for label in labels]
        ['class 7', 'class 3']
    """
    if classes is None:
        raise ConfigError("--by class", found="no classes", expected="a class of each pixel")
    numbers, labels = np.unique(classes[mask], return_inverse=True)
    return labels.reshape(-1), [f"class {number}" for number in numbers]


PARTS: Mapping[str, Callable[[NDArray[np.float64], NDArray[np.bool_], NDArray | None], Labels]] = {
    "distance": split_by_distance,
    "region": split_by_region,
    "class": split_by_class,
}
"""Functions that divide an image into parts, by the name that `--by` accepts."""


def parse_parts(text: str | None) -> tuple[str, ...]:
    """Return the names in the text of `--by`, such as "distance,region".

    Raises ConfigError for an unknown name; the message shows the nearest name.
    """
    names = tuple(filter(None, (text or "").replace(" ", "").split(",")))
    for name in names:
        if name not in PARTS:
            near = find_nearest_name(name, list(PARTS))
            fix = f"did you mean '{near}'?" if near else "name one or more of them, with commas"
            raise ConfigError("--by", found=f"'{name}'", expected=f"some of {', '.join(PARTS)}", fix=fix)
    return tuple(dict.fromkeys(names))


def score_parts(
    depth_m: NDArray[np.float64],
    true_m: NDArray[np.float64],
    mask: NDArray[np.bool_],
    *,
    by: Iterable[str],
    metrics: Sequence[str],
    classes: NDArray | None = None,
) -> dict[str, dict[str, float]]:
    """Return the metrics and the number of pixels of each part with at least MIN_PART_PIXELS, by the name of the part.

    depth_m, true_m: (1, N) aligned prediction and truth in metres at the scored pixels, row by row.
    mask: (H, W) bool, true for the N scored pixels.
    by: names of PARTS.
    metrics: rows of `stadia.metrics.METRICS`.
    classes: (H, W) integers. The part "class" needs them.
    """
    parts: dict[str, dict[str, float]] = {}
    for name in by:
        labels, names = PARTS[name](true_m[0], mask, classes)
        for label, part in enumerate(names):
            chosen = labels == label
            if (count := int(chosen.sum())) < MIN_PART_PIXELS:
                continue
            values, every = (depth_m[:, chosen], true_m[:, chosen]), np.ones((1, count), np.bool_)
            scores = {metric: float(METRICS.load(metric)(*values, every)) for metric in metrics}
            parts[part] = {**scores, "pixels": float(count)}
    return parts


def average_parts(images: Iterable[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Average the scores of image parts over images; return the means by the name of the part and of the metric.

    Only images that show a part count for it. The result also has the numbers of pixels and of images of each part.

    images: for each image, its scores by the name of the part.
    """
    found: dict[str, list[Mapping[str, float]]] = {}
    for image in images:
        for part, scores in image.items():
            found.setdefault(part, []).append(scores)
    means = {}
    for part, scored in sorted(found.items(), key=lambda entry: _sort_key(entry[0])):
        mean = {name: float(np.mean([scores[name] for scores in scored])) for name in scored[0] if name != "pixels"}
        pixels = float(sum(scores["pixels"] for scores in scored))
        means[part] = {**mean, "pixels": pixels, "images": float(len(scored))}
    return means


def _sort_key(part: str) -> tuple[str, float, str]:
    """Return a key that sorts by kind, and by the first number of the name: "5 to 10 m" before "10 to 20 m"."""
    kind, _, rest = part.partition(" ")
    words = [word for word in rest.split() if word.replace(".", "").isdecimal()]
    if kind == "region":
        row, _, column = rest.partition(" ")
        return kind, 3 * ROWS.index(row) + COLUMNS.index(column), rest
    return kind, float(words[0]) if words else 0.0, rest


def read_classes(folder: Path, name: str, shape: tuple[int, int]) -> NDArray:
    """Return the classes (H, W) of FOLDER/NAME.png. Raises DataError if the file is missing or has another size."""
    path, expected = folder / f"{name}.png", "a PNG of one channel with a class a pixel"
    data = read_bytes(path, expected=expected, max_bytes=MAX_IMAGE_BYTES)
    fix = "write the numbers themselves, as 8 or 16 bits"
    if not data.startswith(PNG_SIGNATURE):
        raise DataError(path, found="a file without a PNG's signature", expected=expected, fix=fix)
    classes = decode_image(path, data, cv2.IMREAD_UNCHANGED, expected="a whole file", fix="write or copy it again")
    if classes.ndim != 2:
        raise DataError(path, found=f"{classes.shape[2]} channels", expected=expected, fix=fix)
    if classes.shape != shape:
        found, expected = f"{classes.shape[1]}x{classes.shape[0]}", f"{shape[1]}x{shape[0]}, as the ground truth"
        raise DataError(path, found=found, expected=expected, fix="write one class for each pixel of the ground truth")
    if (count := len(np.unique(classes))) > MAX_CLASSES:
        fix = "pass a folder of class numbers, not of instances or depth"
        raise DataError(path, found=f"{count} classes", expected=f"at most {MAX_CLASSES}", fix=fix)
    return classes


MOST_AT_CLAMP = 0.1  # largest share of an image's scored pixels at the clamp; valid predictions have at most .03
STEADY_BELOW = 0.03  # spread of the scale ratio below which a unit is wrong for all images
RATIO_WITHIN = 0.07  # difference between the logs of the ratio and of a known mistake

FACTORS = (256, 1000, 5000, 1, 4000, 10000, 6553.5, 100, 65.535)
"""Numbers of integers per metre in the depth files of known datasets.

In this order: KITTI, millimetres, TUM, metres, Matterport3D, Replica, Virtual KITTI, centimetres and PointOdyssey.
"""

MIN_SCALE_RATIO, SCALE_STEADY_BELOW = 1.3, 0.1  # ratio, or its inverse, and its spread of predictions up to scale
MIN_RANGE_SHARE, RANGE_SLOPE = 0.5, (0.6, 1.6)  # share of images with range instead of z, and the slope's size

MISTAKES: Mapping[float, str] = {
    1000 / 256: "millimetres read as value / 256",
    256 / 1000: "value / 256 read as millimetres",
    5000 / 256: "value / 5000 read as value / 256",
    256 / 5000: "value / 256 read as value / 5000",
    4000 / 256: "value / 4000 read as value / 256",
    10000 / 256: "value / 10000 read as value / 256",
    256 / 4000: "value / 256 read as value / 4000",
    256 / 10000: "value / 256 read as value / 10000",
    100 / 256: "value / 100 read as value / 256",
    256 / 100: "value / 256 read as value / 100",
    5: "value / 5000 read as millimetres",
    1 / 5: "millimetres read as value / 5000",
    256: "PNG values not divided by 256",
    5000: "PNG values not divided by 5000",
    1 / 5000: "divided by 5000 once too often",
    1 / 256: "divided by 256 once too often",
    1000: "millimetres taken as metres",
    1 / 1000: "kilometres taken as metres",
    100: "centimetres taken as metres",
    1 / 100: "metres divided by 100",
}
"""Known mistakes of the unit of depth, as text. Keys are the wrong depth over the true depth."""


TURNED_BELOW = -0.3  # median rank correlation with the truth; mean depth has .51 to .97, random numbers up to .04

FLIPS: Mapping[str, tuple[str, str]] = {
    "rows": ("upside down", "numpy.flipud of each map, as OpenGL's buffers need it"),
    "columns": ("mirrored from left to right", "numpy.fliplr of each map, as after mirrored input"),
    "both": ("turned by 180 degrees", "numpy.rot90(map, 2) of each map"),
    "left": ("turned by 90 degrees", "numpy.rot90(map) of each map"),
    "right": ("turned by 90 degrees", "numpy.rot90(map, 3) of each map"),
}
"""Description and fix of a flipped prediction."""


def note_of_clamp(at_clamp: Mapping[str, float]) -> list[str]:
    """Return a note if images have too many pixels at the protocol's clamp.

    at_clamp: share of scored pixels at the clamp, by image.
    """
    dead = {name: share for name, share in at_clamp.items() if share > MOST_AT_CLAMP}
    if not dead:
        return []
    worst = max(dead, key=lambda name: dead[name])
    which = f"{len(dead)} of {len(at_clamp)} images have more than {MOST_AT_CLAMP:.0%} of their scored pixels"
    most = f"(most '{worst}': {dead[worst]:.1%})"
    return [f"{which} at the protocol's clamp {most}: check these predictions and their unit"]


def note_of_infinity(shares: Sequence[float]) -> list[str]:
    """Return a note if predictions are infinite at some pixels.

    shares: share of infinite pixels among the scored pixels of each image.

    Examples:
        >>> note_of_infinity([0.0, 0.0])
        []
    """
    known = [share for share in shares if share]
    if not known:
        return []
    which = (
        f"{len(known)} of {len(shares)} predictions are infinite at {sum(known) / len(known):.1%} of the scored pixels"
    )
    return [f"{which}: these have no depth and are left out. Compare only with scores of the same pixels"]


def find_gain(by_alignment: Mapping[str, Mapping[str, float]]) -> tuple[float, float] | None:
    """Return AbsRel as given and after one factor an image; None if no factor makes the predictions right.

    by_alignment: scores by alignment.
    """
    if not {Alignment.NONE, Alignment.MEDIAN} <= by_alignment.keys():
        return None
    before, after = (by_alignment[one]["abs_rel"] for one in (Alignment.NONE, Alignment.MEDIAN))
    return (before, after) if after <= MAX_SCALED_ABS_REL and before >= MIN_SCALED_GAIN * after else None


MAX_SCALED_ABS_REL = 0.25
"""Largest AbsRel of predictions that are right up to a factor."""

MIN_SCALED_GAIN = 2.0
"""Smallest AbsRel as given, over AbsRel with a factor, for which the factor is named."""


def note_of_unit(
    ratio: float,
    spread: float,
    gain: tuple[float, float],
    factors: Mapping[str, float] | None = None,
    *,
    implausible: str = "",
) -> list[str]:
    """Return a note if the ratio of true to predicted depth fits a known mistake of units, such as millimetres.

    ratio: median over images of median(true depth) / median(predicted depth).
    spread: standard deviation of this ratio over images, divided by its median. A mistake of units has a small one.
    gain: AbsRel as given and after one factor an image.
    factors: integers per metre with which predictions and ground truth were read, if their files contain integers.
    implausible: "predictions" or "truth" if only its depth in metres is implausible; otherwise empty.
    """
    truth, predictions = _find_unit_mistake(ratio), _find_unit_mistake(1 / ratio)
    if truth is None or spread >= STEADY_BELOW:
        return []
    found = f"scale_ratio_median is {ratio:.4g} for nearly every image ({spread:.2g} spread): a wrong unit"
    wrong = {"predictions": f"the predictions are {predictions}", "truth": f"the ground truth is {truth}"}
    fixes: list[tuple[int, str]] = []
    for name, per_metre in (factors or {}).items():
        if implausible and implausible != {"reference_factor": "truth"}.get(name, "predictions"):
            continue
        wanted = per_metre * ratio if name == "reference_factor" else per_metre / ratio
        known = min(FACTORS, key=lambda factor: abs(math.log(wanted / factor)))
        if abs(math.log(wanted / known)) < RATIO_WITHIN:
            other = next((factor for key, factor in (factors or {}).items() if key != name), None)
            keep = f" --reference-factor {other:g}" if name == "depth_factor" and other is not None else ""
            fixes.append((FACTORS.index(known), f"--{name.replace('_', '-')} {known:g}{keep}"))
            of = {"reference_factor": "truth"}.get(name, "predictions")
            verb = "ground truth is" if of == "truth" else "predictions are"
            wrong[of] = f"the {verb} {_name_factor(known)} read as {_name_factor(per_metre)}"
    cause = wrong.get(implausible, " or ".join(reversed(wrong.values())))
    by_hand = f"divide the ground truth by {ratio:.4g}" if implausible == "truth" else f"multiply depth by {ratio:.4g}"
    fix = f"pass {' or '.join(text for _, text in sorted(fixes))}" if fixes else by_hand
    return [f"{found}: {cause}. Fix: {fix}; {describe_gain(gain)}"]


MAX_GAIN_OF_SCALES = 0.4
"""AbsRel after one factor an image, over that as given, up to which the factors explain it: networks of metres have
more.
"""


def note_of_scale(
    ratio: float, spread: float, gain: tuple[float, float], factors: Mapping[str, float] | None = None
) -> list[str]:
    """Return a note if predicted depth in metres differs from the truth by one unknown factor, or by one an image.

    ratio: median over images of median(true depth) / median(predicted depth).
    spread: standard deviation of this ratio over images, divided by its median.
    gain: AbsRel as given and after one factor an image.
    factors: integers per metre with which predictions and ground truth were read, if their files contain integers.
    """
    if spread >= SCALE_STEADY_BELOW and gain[1] <= MAX_GAIN_OF_SCALES * gain[0]:
        return [
            f"the scale of the predictions differs from image to image: scale_ratio has a spread of {spread:.2g}. With"
            f" one factor for each image, {describe_gain(gain).removeprefix('then ')}. If they are not in metres, use"
            " --protocol relative; a video needs one scale for all its frames"
        ]
    if spread >= SCALE_STEADY_BELOW or abs(math.log(ratio)) < math.log(MIN_SCALE_RATIO):
        return []
    found = f"scale_ratio_median is {ratio:.4g} for nearly every image ({spread:.2g} spread)"
    per_metre = (factors or {}).get("depth_factor")
    option = "" if per_metre is None else f" (--depth-factor {per_metre / ratio:.4g})"
    if of_truth := (factors or {}).get("reference_factor"):
        option += f", if its files have other integers a metre pass --reference-factor {of_truth * ratio:.4g}"
    return [
        f"{found}: predictions are right up to one scale. If they are not in metres, use --protocol relative; "
        f"otherwise multiply them by {ratio:.4g}{option}, or correct their focal length or baseline;"
        f" {describe_gain(gain)}"
    ]


def describe_gain(gain: tuple[float, float]) -> str:
    """Return the AbsRel before and after a factor as text."""
    return f"then abs_rel is about {gain[1]:.3f} ({gain[0]:.3g} now)"


def note_of_normalization(spans: Sequence[str | None], *, is_inverse: bool = False) -> list[str]:
    """Return a note if predictions were normalized for display.

    spans: range of each image's values, or None if it was not normalized.
    is_inverse: whether far pixels have small values.
    """
    normalized = [span for span in spans if span is not None]
    if 2 * len(normalized) <= len(spans):
        return []
    found = f"{len(normalized)} of {len(spans)} predicted maps span exactly {normalized[0]}, as display images do"
    scale = DepthScale.AFFINE_INVERSE if is_inverse else DepthScale.AFFINE_DEPTH
    fix = f"score what the network predicts (.npy, .pfm), or pass --depth-scale {scale} --protocol relative"
    return [f"{found}: their scale is lost. Fix: {fix}"]


def note_of_range(slopes: Sequence[float | None]) -> list[str]:
    """Return a note if predictions, or the ground truth, are distances along the viewing ray instead of z.

    Such distances are larger than z towards the corners of the image.

    slopes: for each image, the slope of log(prediction / truth) over log(distance along the ray / z), or None if that
        does not explain the error.
    """
    low, high = RANGE_SLOPE
    known = [slope for slope in slopes if slope is not None and low <= abs(slope) <= high]
    if len(known) < MIN_RANGE_SHARE * len(slopes) or not known:
        return []
    who = ("predictions", "the ground truth") if median(known) > 0 else ("the ground truth", "predictions")
    found = f"{who[0]} grow towards the corners compared with {who[1]}, as distance along the ray does"
    return [
        f"{found} (in {len(known)} of {len(slopes)} images). Fix: z = range / sqrt(1 + x^2 + y^2), x = (u - cx) / fx"
    ]


def note_of_flips(flips: Sequence[str]) -> list[str]:
    """Return a note if predictions fit the truth after a flip.

    flips: flip of each image, or "".
    """
    flipped = [flip for flip in flips if flip]
    if 2 * len(flipped) <= len(flips) or len(set(flipped)) > 1:
        return []
    what, fix = FLIPS[flipped[0]]
    return [f"{len(flipped)} of {len(flips)} predictions are {what} against the ground truth. Fix: {fix}"]


def note_of_order(orders: Sequence[float], depth_scale: DepthScale) -> list[str]:
    """Return a note if near and far are exchanged.

    orders: rank correlation of prediction and truth of each image; negative if near and far are exchanged.
    depth_scale: scale that was assumed for the predictions.
    """
    if not orders or (middle := median(orders)) >= TURNED_BELOW:
        return []
    assumed = "inverse depth" if depth_scale is DepthScale.AFFINE_INVERSE else "depth"
    found = f"predictions read as {assumed} are far where the truth is near (median rank correlation {middle:.2f})"
    return [f"{found}, and no other meaning of the values fits: look at some maps next to their images"]


MIN_ROW_ORDER = 0.9  # one view up or down reaches this correlation, many images do not


def measure_row_order(true_m: NDArray[np.floating]) -> float:
    """Return the rank correlation of a map's rows (their median depth) with their numbers; 0 with few labeled rows.

    true_m: (H, W) depth, 0 for unknown. It is negative in most images, since the ground is near at the bottom.
    """
    from scipy.stats import spearmanr

    known = true_m > 0
    rows = np.flatnonzero(known.mean(axis=1) > 0.05)
    if len(rows) < 16:
        return 0.0
    middles = [float(np.median(true_m[row][known[row]])) for row in rows]
    return float(np.nan_to_num(spearmanr(rows, middles).statistic)) if np.ptp(middles) > 0 else 0.0


def note_of_disparity(row_orders: Sequence[float], depth_scale: DepthScale) -> list[str]:
    """Return a note if predictions are scored as inverse depth, and the ground truth resembles disparity.

    row_orders: `measure_row_order` of each map of ground truth.
    depth_scale: scale of the predictions.
    """
    if depth_scale is not DepthScale.AFFINE_INVERSE or not row_orders or median(row_orders) < MIN_ROW_ORDER:
        return []
    found = f"the ground truth grows toward the bottom of the images (rank correlation {median(row_orders):.2f})"
    return [f"{found}, as disparity does and depth does not: if it is disparity d, these are scores of disparity."
            " Convert it to depth first, z = focal length (px) x baseline (m) / d (px), and score the predictions as"
            " what they are"]  # fmt: skip


def note_of_truth(labeled: float, protocol: Protocol) -> list[str]:
    """Return a note if the ground truth is too sparse for the protocol.

    labeled: median share of pixels with ground truth.
    """
    if labeled >= protocol.min_labeled:
        return []
    found = f"ground truth at {labeled:.1%} of the pixels, like single LiDAR scans"
    return [f"not comparable with published figures: {found}, but {protocol.name} means {protocol.ground_truth}"]


def _name_factor(per_metre: float) -> str:
    return "millimetres" if per_metre == 1000 else f"value / {per_metre:g}"


def _find_unit_mistake(factor: float) -> str | None:
    return next((what for known, what in MISTAKES.items() if abs(math.log(factor / known)) < RATIO_WITHIN), None)
