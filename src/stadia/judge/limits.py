"""The limits by which results are judged: one table for each kind of evidence.

A limit has the name of the field of the evidence that it is compared with, the bounds, why the field matters, and where
its bounds come from. Verdicts read the limits from here, and so do texts that quote them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from stadia.core.verdict import Verdict, find_worst
from stadia.judge.purposes import MAX_DEPTH_SHARE


@dataclass(frozen=True, slots=True)
class Bounds:
    """The values from which a result is no longer usable.

    values: for each verdict, the bound beyond which a result gets it at best.
    is_upper: whether larger values are worse; else smaller ones are.
    is_factor: whether a value and its inverse are equally bad, as for a ratio; 1 is best.
    """

    values: Mapping[Verdict, float]
    is_upper: bool
    is_factor: bool = False

    def measure(self, value: float) -> float:
        """Return the number that is compared with the bounds: the value, or of a ratio the factor that is above 1."""
        return max(value, 1 / value) if self.is_factor else value

    def judge(self, value: float) -> Verdict:
        """Return the worst verdict whose bound the value exceeds; `usable` for none, and for NaN.

        Examples:
            >>> bounds = below(doubtful=0.8, unusable=0.5)
            >>> [str(bounds.judge(value)) for value in (0.9, 0.8, 0.6, 0.4)]
            ['usable', 'usable', 'doubtful', 'unusable']
            >>> str(beyond_factor(doubtful=2.0).judge(0.4))
            'doubtful'
        """
        measured = self.measure(value)
        sign = 1 if self.is_upper else -1
        return find_worst(verdict for verdict, bound in self.values.items() if sign * measured > sign * bound)


def above(*, doubtful: float | None = None, unusable: float | None = None, not_judged: float | None = None) -> Bounds:
    """Return bounds above which a value makes a result doubtful, unusable or not judged."""
    return Bounds(_select(doubtful, unusable, not_judged), is_upper=True)


def below(*, doubtful: float | None = None, unusable: float | None = None, not_judged: float | None = None) -> Bounds:
    """Return bounds below which a value makes a result doubtful, unusable or not judged."""
    return Bounds(_select(doubtful, unusable, not_judged), is_upper=False)


def beyond_factor(*, doubtful: float | None = None, unusable: float | None = None) -> Bounds:
    """Return bounds on a ratio: beyond this factor, up or down, it makes a result doubtful or unusable."""
    return Bounds(_select(doubtful, unusable, None), is_upper=True, is_factor=True)


def _select(doubtful: float | None, unusable: float | None, not_judged: float | None) -> dict[Verdict, float]:
    bounds = {Verdict.DOUBTFUL: doubtful, Verdict.UNUSABLE: unusable, Verdict.NOT_JUDGED: not_judged}
    return {verdict: bound for verdict, bound in bounds.items() if bound is not None}


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of one measurement.

    field: name of the field of the evidence.
    bounds: the values from which a result is no longer usable.
    reason: why a value beyond them speaks against the result.
    source: the measurements that the bounds come from.
    """

    field: str
    bounds: Bounds
    reason: str
    source: str

    def judge(self, value: float) -> Verdict:
        """Return the verdict that a measurement allows at best."""
        return self.bounds.judge(value)

    @property
    def doubtful(self) -> float:
        """The bound beyond which a result is doubtful at best. Raises KeyError without one."""
        return self.bounds.values[Verdict.DOUBTFUL]

    @property
    def unusable(self) -> float:
        """The bound beyond which a result is unusable. Raises KeyError without one."""
        return self.bounds.values[Verdict.UNUSABLE]

    @property
    def not_judged(self) -> float:
        """The bound beyond which the question cannot be judged. Raises KeyError without one."""
        return self.bounds.values[Verdict.NOT_JUDGED]


def _make_table(*limits: Limit) -> dict[str, Limit]:
    return {limit.field: limit for limit in limits}


_CHOSEN = "chosen, not measured"
_CLIPS_OF_MAPS = "checked on clips whose answer is known (benchmarks/map_clips.py)"

MAP_LIMITS = _make_table(
    Limit("placed", below(doubtful=0.5, unusable=0.1), "few frames have a pose", _CLIPS_OF_MAPS),
    Limit(
        "covered",
        below(unusable=0.2),
        "too few frames have a pose to tell a path from things that move",
        "a standing camera, a pan and a camera that follows a car have .11 to .195; a right part of a drive has .23",
    ),
    Limit(
        "road_drift",
        beyond_factor(doubtful=1.15),
        "the lens zooms, or the scale drifts",
        "KITTI 06 has 1.01; a lens that zooms by 1.5 on a straight drive has 1.3, and fits its matches by .4 px",
    ),
    Limit(
        "open_focal",
        above(unusable=0.25),
        "a camera that pans over one plane fits its matches as well as one that moves beside it",
        "four pans have .6, .7 and, with an assumed focal length, 1; orbits over a table or a mat, whose maps are "
        "right, up to .025",
    ),
    Limit("zoomed", above(unusable=0.9), "a zoom without motion explains the matches", _CLIPS_OF_MAPS),
    Limit("standing", above(unusable=0.5), "the camera stands", _CLIPS_OF_MAPS),
)
"""Limits beyond which the images of a map show no path, by the fields of `map_verdict.MapEvidence`.

Reasons are named in this order.
"""

MAP_CAMERA_LIMITS = _make_table(
    Limit("planar", above(doubtful=0.95), "one plane does not show the camera", _CLIPS_OF_MAPS),
    Limit(
        "view_turn_deg",
        below(doubtful=30.0),
        "a plane that is seen from several sides shows the camera",
        "Triggs, Autocalibration from planar scenes, ECCV 1998",
    ),
    Limit(
        "focal_error",
        above(doubtful=0.04),
        "held-out matches show another focal length",
        "the largest deviation of a focal length that a map claims",
    ),
)
"""Limits of the camera of a map. One that the user did not give is doubtful beyond `planar` and `view_turn_deg`."""

PANORAMA_LIMITS = _make_table(
    Limit("within", below(doubtful=0.8, unusable=0.5), "held-out matches contradict the map", _CHOSEN),
    Limit("placed", below(doubtful=0.8), "few frames have a pose", _CHOSEN),
    Limit("angle_deg", below(doubtful=2.0), "the camera hardly moved, so the depth of points is open", _CHOSEN),
)
"""Limits of the map of a panoramic video, by the fields of `panorama_map.PanoramaEvidence`."""

_RESULTS = "checked on 80 maps in files of other programs, and by benchmarks/check_conventions.py"

RESULT_LIMITS = _make_table(
    Limit(
        "depth_error",
        above(unusable=MAX_DEPTH_SHARE),
        "the median relative error of depth maps at triangulated points, up to one factor",
        _RESULTS,
    ),
    Limit("depth_unit", beyond_factor(doubtful=1.1), "depth maps are in another unit than the poses", _RESULTS),
)
"""Limits of another program's result, by what `check_reconstruction` measures; its path is judged by `purposes`."""

SCALE_LIMITS = _make_table(
    Limit(
        "deviation",
        above(doubtful=MAX_DEPTH_SHARE, unusable=0.5),
        "the relative standard deviation of metres",
        "doubtful as in `purposes`; beyond .5, two deviations reach 0 metres",
    ),
    Limit("inliers", below(doubtful=0.5), "most measurements contradict the scale", _CHOSEN),
)
"""Limits of a measured scale, by the fields of `geometry.scale_fit.ScaleFit`."""

_CLIPS = "set on 52 clips and tested on 25 others (docs/explanation/verdict.md)"

DEPTH_LIMITS = _make_table(
    Limit("match_pairs", below(not_judged=4), "too few pairs of frames with motion show the error of depth", _CLIPS),
    Limit(
        "matches",
        below(not_judged=500),
        "too few matches, over all pairs, show the error of depth",
        "a highway with 409, most of them on cars that overtake, contradicted right depth",
    ),
    Limit(
        "match_deviation",
        above(not_judged=0.4),
        "the standard deviation of the error of matches decides nothing",
        _CLIPS,
    ),
    Limit(
        "match_error",
        above(doubtful=0.75, unusable=1.0),
        "the error of matches over the error of constant depth: above 1, depth explains no motion",
        _CLIPS,
    ),
    Limit(
        "mean_map_error",
        above(doubtful=0.95),
        "the error of matches or points over the error of the mean map: depth adds nothing to it",
        _CLIPS,
    ),
    Limit(
        "row_error",
        above(doubtful=0.95),
        "the error of matches or points over the error of the row means: depth adds nothing to them",
        _CLIPS,
    ),
    Limit(
        "spread",
        below(doubtful=1.3),
        "the 95 % over the 5 % quantile of depth in an image: the maps are flat",
        "learned maps have 5.2 to 11.6, others 1.0 to 1.2",
    ),
    Limit(
        "change",
        below(doubtful=0.055, unusable=0.01),
        "the share of a map's variance that is not in the mean map, if the images differ: one map for all images",
        _CLIPS,
    ),
    Limit("sky_nearer", above(doubtful=0.5), "in most frames with sky it is nearer than the lowest rows", _CHOSEN),
)
"""Limits of predicted depth, by the fields of `depth.frame_measurements.FrameMeasurements`."""

POINT_LIMITS = _make_table(
    Limit(
        "relative_error",
        above(doubtful=MAX_DEPTH_SHARE),
        "the median relative error of depth at a map's points, after median scaling",
        "as in `purposes`",
    ),
    Limit(
        "error",
        above(doubtful=0.75, unusable=0.95),
        "the error of ln depth at a map's points over the error of constant depth",
        _CLIPS,
    ),
    Limit(
        "correlation",
        below(doubtful=0.6, unusable=0.3),
        "the rank correlation with the depth of a map's points",
        _CLIPS,
    ),
    Limit(
        "side_ratio",
        beyond_factor(doubtful=1.55, unusable=2.0),
        "the scales of the left and the right side differ, by the points of a map",
        _CLIPS,
    ),
    Limit(
        "range_ratio", beyond_factor(doubtful=1.55), "the scales of near and far differ, by the points of a map", _CLIPS
    ),
    Limit("behind_road", above(unusable=0.03), "a share of the road is predicted behind it", _CLIPS),
    Limit(
        "road_error", above(doubtful=0.75), "the error of ln depth on the road over the error of constant depth", _CLIPS
    ),
    Limit(
        "hole_share",
        above(doubtful=0.045),
        "a share of image parts is predicted much too far",
        "edges of depth may cause one of 30",
    ),
)
"""Limits of predicted depth at the points of a map, by the fields of `depth.frame_measurements.PointMeasurements`."""

TRAINING_LIMITS = _make_table(
    Limit("steps", below(doubtful=100), "the weights were hardly updated", _CHOSEN),
    Limit(
        "warped_over_unwarped",
        above(doubtful=0.9),
        "depth and motion hardly reduce the residual of training images",
        "learning .27 to .90",
    ),
    Limit(
        "validation_warped",
        above(doubtful=1.2),
        "depth and motion increase the residual of validation images",
        "good .23 to .63, bad 2.2 and 2.8",
    ),
    Limit(
        "turn_deg",
        above(doubtful=10.0),
        "the predicted rotation to the next image is no video's",
        "training runs have at most 1.9, useless paths 2 to 76",
    ),
    Limit(
        "motion_over_depth",
        above(doubtful=0.5),
        "the predicted motion to the next image over depth is no video's",
        "training runs have at most .09, useless paths from .99",
    ),
)
"""Limits of a training, by the fields of `depth.training_record.TrainingRecord`."""

CAMERA_LIMITS = _make_table(
    Limit(
        "trained_ratio",
        beyond_factor(doubtful=1.15),
        "the focal length over the image width differs from that of the training's cameras",
        _CHOSEN,
    ),
    Limit(
        "estimated_ratio",
        beyond_factor(doubtful=1.2),
        "the focal length differs from an independent estimate",
        "networks for the field of view err by 5 to 10 %",
    ),
)
"""Limits of a given camera, by ratios of focal lengths."""

RECORDING_LIMITS = _make_table(
    Limit(
        "repeated",
        above(doubtful=0.02, unusable=0.1),
        "a share of the frames repeats an earlier one, from which a training learns zero motion",
        _CHOSEN,
    ),
    Limit(
        "static",
        above(doubtful=1 / 3, unusable=0.9),
        "a share of the pairs of frames shows no motion, so neighbors in time teach nothing",
        _CHOSEN,
    ),
    Limit(
        "standing", above(doubtful=0.5), "a share of a video's frames is left out because they show no motion", _CHOSEN
    ),
    Limit("backward", above(unusable=0.1), "the time of a share of the frames does not rise", _CHOSEN),
    Limit(
        "brightness_change",
        above(doubtful=0.285),
        "the brightness changes from frame to frame",
        "random gains of .5 to 1.4 have .35 and more",
    ),
    Limit(
        "short_focal",
        below(doubtful=0.3, unusable=0.15),
        "fx over the width is that of no pinhole camera: 118 degrees, and 147 without a fisheye",
        _CHOSEN,
    ),
    Limit(
        "long_focal",
        above(doubtful=1.6, unusable=6.0),
        "fx over the width is that of no usual camera: 35 degrees, and 10 for any",
        _CHOSEN,
    ),
    Limit(
        "focal_by_rotation",
        beyond_factor(doubtful=1.4, unusable=1.7),
        "the rotation of the camera shows another focal length",
        "clean data have .99 to 1.23; a doubled fx has 2.1 to 2.2",
    ),
    Limit(
        "pose_direction_deg",
        above(doubtful=30.0, unusable=60.0),
        "the motion by the poses points elsewhere than the motion in the images",
        "clean data have .1 to .5, 7-Scenes 8; wrong conventions have 88 to 180",
    ),
    Limit(
        "pose_rotation_error",
        above(unusable=0.8),
        "the rotation error of the poses, over the rotation",
        "correct poses have .3, poses that turn the other way 2",
    ),
    Limit("shared_frames", above(unusable=0.01), "a share of the held-out frames are training frames", _CHOSEN),
    Limit("near_frames", above(doubtful=0.25), "a share of the held-out frames has a near training frame", _CHOSEN),
    Limit(
        "length_by_rig",
        above(doubtful=0.05, unusable=0.08),
        "the logarithm of the ratio of two lengths, one of them by the rig",
        "clean data have ratios of .994 to 1.016; a nominal baseline of KITTI has .88",
    ),
    Limit(
        "length",
        above(doubtful=0.15, unusable=0.3),
        "the logarithm of the ratio of two lengths, by poses and by ground truth of other sensors",
        "clean data have ratios of .975 to 1.052",
    ),
    Limit(
        "epipolar",
        above(doubtful=0.001, unusable=0.002),
        "the median distance of stereo matches from their rows, as a share of the width",
        "clean data have .0001 to .0003; broken rigs .008 to .012",
    ),
    Limit("empty_depth", above(unusable=0.5), "a share of the sampled maps has no depth", _CHOSEN),
    Limit(
        "depth_explained",
        below(doubtful=0.45, unusable=0.35),
        "one motion and the ground truth explain few matches",
        "clean data have .61; inverse depth has 0 to .3",
    ),
    Limit(
        "depth_residual",
        above(doubtful=1.05, unusable=1.15),
        "the residual of warping by ground truth over that by a flat plane",
        "clean data have .20 to .84; inverse depth has 1.2 to 1.5",
    ),
)
"""Limits of a recording, by what its checks measure. Beyond `doubtful` a check warns, beyond `unusable` it stops."""
