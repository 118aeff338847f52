"""Measure the scale of a network's depth by sources of metres, record it in a "receipt", and predict in metres
with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import GeometryError, StadiaError
from stadia.core.types import Camera, DepthScale, PredictedMaps, Predictor, Recording
from stadia.core.verdict import Verdict, find_worst
from stadia.data.frame_preparation import Frame, PreparedFrame, read_frames
from stadia.data.frame_selection import spread_indices
from stadia.data.video.map_geometry import MapGeometry
from stadia.data.video.video_camera import KeptScale
from stadia.evaluation import MOTIONS
from stadia.geometry.scale_fit import FusedScale, Lengths, ScaleFit, fit_scale, fit_scale_with_shift, fuse_scales
from stadia.judge.depth.focal_checks import FocalEstimate
from stadia.judge.finding import Finding
from stadia.judge.scale_verdict import check_scale_verdict, judge_scale
from stadia.predict.inputs import PredictionInput
from stadia.predict.predict_frames import FrameArrays, predict_maps
from stadia.scale.sources import (
    UNKNOWN_LEAN_DEVIATION,
    MeasuredFrame,
    PredictedMotion,
    RoadLean,
    ScaleSource,
    parse_scale_source,
)
from stadia.scale.video_track import SpeedTrack, make_track_source

MAX_FRAMES = 40
"""Number of frames of an input, evenly spread, that measure the scale."""

MIN_COMMON = 3
"""Fewest images that two sources must both have measured to be compared image by image."""

MAX_READ = 400
"""The measured frames are taken from this many first frames of a video file."""


@dataclass(frozen=True)
class ScaleReceipt:
    """How the scale of an input's depth was measured, and the result.

    fits: the scale by each source, by the source's text in `--scale-from`.
    missing: for each source without a measurement, why.
    fused: the scale by all sources together; None if a shift was fitted too, which uses one source.
    growing: texts of the sources whose metres grow with the assumed focal length.
    focal: focal length over image width (fx / width) of the camera that was used; None if unknown.
    by_image: for each source, metres per unit of depth by image number.
    systematic: for each source, the relative standard deviation that all its measurements share.
    leans: for each source that measures a road, how its height changes with distance; None without a known horizon.
    has_map: whether a map is next to the input.
    notes: for some sources, what else they found, such as the offset of a clock.
    is_photo: whether the input is one image.
    """

    fits: Mapping[str, ScaleFit]
    missing: Mapping[str, str]
    fused: FusedScale | None
    growing: tuple[str, ...] = ()
    focal: float | None = None
    by_image: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    systematic: Mapping[str, float] = field(default_factory=dict)
    leans: Mapping[str, RoadLean | None] = field(default_factory=dict)
    has_map: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    is_photo: bool = False

    def find_focal(self) -> FocalEstimate | None:
        """Return the focal length at which sources that grow with it agree with the other sources; None without such a
        pair.

        Sources are compared in images that both measured, so errors of the predicted depth cancel.
        """
        pairs = [
            (one, two) for one in self.growing for two in self.fits if one in self.fits and two not in self.growing
        ]
        if self.fused is None or self.focal is None or not pairs:
            return None
        estimates = []
        for one, two in pairs:
            ratio, deviation = self._compare(one, two)
            estimates.append(FocalEstimate(self.focal / ratio, f"the ratio of {one} and {two}", deviation))
        return min(estimates, key=lambda estimate: estimate.deviation)

    def _compare(self, one: str, two: str) -> tuple[float, float]:
        by_image = [self.by_image.get(name, {}) for name in (one, two)]
        common = sorted(by_image[0].keys() & by_image[1].keys())
        if len(common) < MIN_COMMON:
            fits = self.fits[one], self.fits[two]
            return fits[0].factor / fits[1].factor, math.hypot(fits[0].deviation, fits[1].deviation)
        ratios = np.log([by_image[0][image] / by_image[1][image] for image in common])
        spread = 1.4826 * float(np.median(np.abs(ratios - np.median(ratios))))
        deviation = 1.2533 * spread / math.sqrt(len(common))
        shared = [self.systematic.get(name, 0.0) for name in (one, two)]
        return float(np.exp(np.median(ratios))), math.hypot(deviation, *shared)

    @property
    def factor(self) -> float:
        """Return metres per unit of depth; if a shift was fitted, the factor on inverse depth."""
        return self.fused.factor if self.fused else next(iter(self.fits.values())).factor

    @property
    def shift(self) -> float | None:
        """Return the shift that is added to scaled inverse depth, 1/m; None if none was fitted."""
        return None if self.fused else next(iter(self.fits.values())).shift

    @property
    def verdict(self) -> Verdict:
        """Return the verdict on the scale: the best one of its sources, but "doubtful" at best if two sources
        contradict each other.
        """
        best = min(map(judge_scale, self.fits.values()), key=lambda verdict: verdict.rank)
        is_contradicted = self.fused is not None and bool(self.fused.contradictions)
        return find_worst([best, Verdict.DOUBTFUL]) if is_contradicted else best

    def to_json(self) -> dict[str, Any]:
        """Return the entry `scale_from` of predictions.json."""
        fits: dict[str, dict[str, Any]] = {
            name: {
                "factor": fit.factor,
                "shift": fit.shift,
                "relative_deviation": fit.deviation,
                "residual": fit.residual,
                "inliers": fit.inliers,
                "measurements": fit.count,
                "images": fit.images,
                "verdict": judge_scale(fit),
            }
            for name, fit in self.fits.items()
        }
        for name, about_source in self.notes.items():
            fits[name] |= {"about": about_source}
        for name, lean in self.leans.items():
            fits[name] |= {"lean": None if lean is None else asdict(lean)}
        fused = None
        if self.fused is not None:
            contradictions = [list(pair) for pair in self.fused.contradictions]
            fused = {"relative_deviation": self.fused.deviation, "contradictions": contradictions}
        about = {"factor": self.factor, "shift": self.shift, "verdict": self.verdict}
        return {**about, "sources": fits, "missing": dict(self.missing), "fused": fused}

    @property
    def deviation(self) -> float:
        """Return the relative standard deviation of `factor`."""
        return self.fused.deviation if self.fused else next(iter(self.fits.values())).deviation

    def findings(self) -> list[Finding]:
        """Return the finding that the metric scale is uncertain (M38), if the scale is not usable; otherwise an empty
        list.
        """
        sources, is_photo = " and ".join(self.fits), self.is_photo
        return check_scale_verdict(self.verdict, sources, self.deviation, has_map=self.has_map, is_photo=is_photo)


class ScaledPredictor:
    """A predictor whose inverse depth is scaled, and shifted if needed, to 1/m.

    predictor: the network.
    receipt: the measured scale.
    """

    def __init__(self, predictor: Predictor, receipt: ScaleReceipt) -> None:
        self.predictor, self.receipt = predictor, receipt
        self.depth_scale = DepthScale.METRES
        self.height, self.width, self.crop = predictor.height, predictor.width, predictor.crop
        self.precision_cost = getattr(predictor, "precision_cost", None)

    def inverse_depth(self, image: NDArray[np.float32], camera: Camera) -> NDArray[np.float32]:
        """Predict inverse depth (B, 1, H, W) in 1/m of images (B, 3, H, W)."""
        return self.maps(image, camera).inverse_depth

    def maps(self, image: NDArray[np.float32], camera: Camera) -> PredictedMaps:
        """Predict all maps of images (B, 3, H, W): inverse depth in 1/m, and uncertainty if the network has it."""
        maps = predict_maps(self.predictor, image, camera)
        if self.receipt.shift is not None:
            values = self.receipt.factor * maps.inverse_depth + self.receipt.shift
            return replace(maps, inverse_depth=values.clip(min=1e-4))
        right = None if maps.inverse_depth_right is None else maps.inverse_depth_right / self.receipt.factor
        scaled = maps.inverse_depth / self.receipt.factor
        return replace(maps, inverse_depth=scaled, inverse_depth_right=right)

    def T_next_now(
        self, now: NDArray[np.float32], camera: Camera, following: NDArray[np.float32], next_camera: Camera
    ) -> NDArray[np.floating] | None:
        """Predict the motion (B, 4, 4) from the camera of the image `now` to the camera of the image `following`,
        translation in metres.

        None if the network predicts no motion, or a shift was fitted.
        """
        T = self.predictor.T_next_now(now, camera, following, next_camera)
        if T is None or self.receipt.shift is not None:
            return None
        scaled = T.copy()
        scaled[..., :3, 3] *= self.receipt.factor
        return scaled


def measure_scale(
    predictor: Predictor,
    open_input: Callable[[], PredictionInput],
    sources: Sequence[str],
    *,
    mapped: MapGeometry | None = None,
    kept: KeptScale | None = None,
    track: SpeedTrack | None = None,
) -> ScaleReceipt:
    """Measure the metric scale of a network's depth on an input.

    predictor: the network.
    open_input: opens the input. It is called once, and the frames are read once.
    sources: texts of `--scale-from`, such as "height=1.5".
    mapped: the map next to the input, or None.
    kept: the scale that the camera's file keeps (source `camera`); or None.
    track: the speed that the video records (source `file`); or None.

    Returns the scale factor with its uncertainty and sources. Raises StadiaError if no source fits the input, or the
    kind of depth.
    """
    parsed = [
        make_track_source(text, track) if text == "file" and track is not None else parse_scale_source(text)
        for text in sources
    ]
    _refuse_unfit(parsed, predictor.depth_scale)
    further = {text: make_kept_fit(kept) for text in sources if text == "camera" and kept is not None}
    given = open_input()
    parsed = [source for source in parsed if source.text not in further]
    if not parsed:
        return replace(measure_frames((), (), further=further), is_photo=given.is_photo)
    motion_s = max((source.motion_s for source in parsed if source.motion_s is not None), default=None)
    named = {source.frame for source in parsed if source.frame is not None}
    frames = predict_measured_frames(predictor, given, motion_s, named)
    seen = (replace(frame, mapped=mapped) for frame in frames)
    receipt = measure_frames(seen, parsed, is_affine=predictor.depth_scale.is_affine, mapped=mapped, further=further)
    return replace(receipt, is_photo=given.is_photo)


def make_kept_fit(kept: KeptScale) -> ScaleFit:
    """Return the scale that a camera's file keeps, as it applies to another picture."""
    return ScaleFit(
        factor=kept.factor,
        deviation=kept.deviation,
        residual=kept.depth_deviation,
        inliers=kept.inliers,
        count=kept.measurements,
        images=kept.pictures,
    )


def measure_frames(
    frames: Iterable[MeasuredFrame],
    parsed: Sequence[ScaleSource],
    *,
    is_affine: bool = False,
    mapped: MapGeometry | None = None,
    further: Mapping[str, ScaleFit | str] | None = None,
) -> ScaleReceipt:
    """Measure the scale of depth, from a network or another program, on frames.

    frames: the frames with their depth.
    parsed: the sources of metres.
    is_affine: whether inverse depth has an unknown shift besides the scale.
    mapped: the map that the sources use, or None.
    further: for sources that need no depth, their scale, or why they have none.

    Raises StadiaError if no source gives a scale.
    """
    lengths: dict[str, list[Lengths]] = {source.text: [] for source in parsed}
    focal: float | None = None
    by_image: dict[str, dict[int, float]] = {source.text: {} for source in parsed}
    leans: dict[str, list[RoadLean]] = {source.text: [] for source in parsed if source.find_lean is not None}
    for number, frame in enumerate(frames):
        shown = frame.shown.frame
        focal = float(shown.K[0, 0]) / shown.image.shape[1] if focal is None else focal
        for source in parsed:
            if (measured := source.measure(frame)) is not None:
                lengths[source.text].append(measured)
                by_image[source.text][number] = float(np.median(measured[0] * measured[1]))
            if source.find_lean is not None and (lean := source.find_lean(frame)) is not None:
                leans[source.text].append(lean)
    systematic = {source.text: source.systematic for source in parsed}
    fits, missing = dict[str, ScaleFit](), dict[str, str]()
    notes = dict[str, str]()
    for source in parsed:
        images = lengths[source.text]
        if source.finish is not None and images:
            shared = source.finish()
            images = [] if shared is None else shared.images
            if shared is not None:
                systematic[source.text] = math.hypot(source.systematic, shared.deviation)
                notes[source.text] = shared.about
        if not images:
            missing[source.text] = source.lacking
            continue
        try:
            depths = [(1 / np.maximum(inverse, 1e-12), metres) for inverse, metres in images]
            fit = fit_scale_with_shift(images) if is_affine else fit_scale(depths)
            of_road = mapped.road_deviation if source.uses_map and mapped is not None else 0.0
            fits[source.text] = replace(fit, deviation=math.hypot(fit.deviation, systematic[source.text], of_road))
        except GeometryError as error:
            missing[source.text] = f"found {error.found}"
    for name, found_fit in (further or {}).items():
        if isinstance(found_fit, ScaleFit):
            fits[name] = found_fit
        else:
            missing[name] = found_fit
    if not fits:
        found = "; ".join(f"{name}: {why}" for name, why in missing.items())
        fix = "docs/how-to/metres.md lists what each source needs"
        raise StadiaError("--scale-from", found=found, expected="measurements in metres", fix=fix)
    middle_leans = {name: _find_middle(found) for name, found in leans.items() if name in fits}
    for name, middle in middle_leans.items():
        shape = UNKNOWN_LEAN_DEVIATION if middle is None else abs(math.log(middle.ratio)) / 2
        fits[name] = replace(fits[name], deviation=math.hypot(fits[name].deviation, shape))
    growing = tuple(source.text for source in parsed if source.grows_with_focal)
    return ScaleReceipt(
        fits,
        missing,
        None if is_affine else fuse_sure_scales(fits),
        growing=growing,
        focal=focal,
        by_image=by_image,
        systematic=systematic,
        leans=middle_leans,
        has_map=mapped is not None,
        notes=notes,
    )


def fuse_sure_scales(fits: Mapping[str, ScaleFit]) -> FusedScale:
    """Combine the scales of all sources that are not unusable; if all are unusable, of all sources.

    The sources `height` and `map` share the error of one given camera height, so they count as one source.

    Examples:
        >>> sure, unsure = ScaleFit(2.0, 0.03, 0.1, 1.0, 9, 3), ScaleFit(3.0, 0.2, 0.1, 1.0, 9, 3)
        >>> round(fuse_sure_scales({"a": sure, "b": unsure}).factor, 6)
        2.0
    """
    used = {name: fit for name, fit in fits.items() if judge_scale(fit) is not Verdict.UNUSABLE} or dict(fits)
    return fuse_scales(used, of_height=[name for name in used if name.partition("=")[0] in ("height", "map")])


def _find_middle(leans: Sequence[RoadLean]) -> RoadLean | None:
    if not leans:
        return None
    ratio, near_m, far_m = np.median([(lean.ratio, lean.near_m, lean.far_m) for lean in leans], axis=0).tolist()
    return RoadLean(ratio, near_m, far_m)


def _refuse_unfit(sources: Sequence[ScaleSource], depth_scale: DepthScale) -> None:
    if not depth_scale.is_affine:
        return
    if depth_scale is DepthScale.AFFINE_DEPTH or len(sources) > 1 or not sources[0].fits_shift:
        found = f"{', '.join(source.text for source in sources)} for {depth_scale} output"
        expected = "one source that measures points at several depths: map, lidar, reference or baseline"
        raise StadiaError("--scale-from", found=found, expected=expected)


def predict_measured_frames(
    predictor: Predictor, given: PredictionInput, motion_s: float | None = None, named: Collection[str] = ()
) -> Iterator[MeasuredFrame]:
    """Yield about MAX_FRAMES frames of an input, and the named frames of a video, with their predicted depth.

    predictor: the network.
    given: the input.
    motion_s: also estimate the motion to the first frame at least this many seconds later, by aligning both images;
        None estimates none.
    named: names of frames that are measured in any case.
    """
    for frame, following, indices in _choose_frames(given, motion_s, named):
        shown = PreparedFrame.prepare(predictor, frame)
        arrays = _predict(predictor, shown)
        motion = None
        if following is not None and not predictor.depth_scale.is_affine:
            after = PreparedFrame.prepare(predictor, following)
            (found,) = MOTIONS.load("aligned")(predictor, arrays, _predict(predictor, after), None)
            length = 0.0 if found.T_next_now is None else float(np.linalg.norm(found.T_next_now[:3, 3]))
            if found.is_aligned and length > 0:
                motion = PredictedMotion(length, _count_seconds(frame, following), indices[1])
        yield MeasuredFrame(shown, _select_map(arrays), given.recording, indices[0], motion)


def predict_frame(predictor: Predictor, frame: Frame) -> MeasuredFrame:
    """Return a frame with its predicted depth, so that lengths in it can be compared."""
    shown = PreparedFrame.prepare(predictor, frame)
    return MeasuredFrame(shown, _select_map(_predict(predictor, shown)))


def _select_map(arrays: FrameArrays) -> NDArray[np.float32]:
    assert arrays.inverse_depth is not None
    return np.asarray(arrays.inverse_depth[0, 0], np.float32)


Pair = tuple[Frame, Frame | None, tuple[int | None, int | None]]
"""A frame, a later frame or None, and the indices of both in the recording or None."""


def _choose_frames(given: PredictionInput, motion_s: float | None, named: Collection[str]) -> Iterator[Pair]:
    if given.recording is None:
        count = min(given.count or MAX_READ, MAX_READ)
        yield from _choose_of_stream(islice(given.frames, count), max(count // MAX_FRAMES, 1), motion_s, named)
        return
    recording = given.recording
    chosen = spread_indices(len(given.indices), MAX_FRAMES)
    for index in (given.indices[number] for number in chosen):
        later = None if motion_s is None else _find_following(recording, index, motion_s)
        frames = [*read_frames(recording, [index] if later is None else [index, later])]
        yield frames[0], None if later is None else frames[1], (index, later)


def _choose_of_stream(
    frames: Iterable[Frame], step: int, motion_s: float | None, named: Collection[str]
) -> Iterator[Pair]:
    """Yield every `step`-th frame, and the named ones. Frames that pass before the later one are left out, so only one
    is held.
    """
    chosen: Frame | None = None
    for number, frame in enumerate(frames):
        if chosen is not None and motion_s is not None:
            seconds = _count_seconds(chosen, frame)
            if seconds is None or seconds >= motion_s:
                yield chosen, frame, (None, None)
                chosen = None
        if motion_s is not None and number % step == 0 and chosen is None:
            chosen = frame
        elif frame.name in named or (motion_s is None and number % step == 0):
            yield frame, None, (None, None)
    if chosen is not None:
        yield chosen, None, (None, None)


def _find_following(recording: Recording, index: int, motion_s: float) -> int | None:
    """Return the next index after at least so many seconds, or the next one of a recording without times."""
    start_s = recording.timestamp_s(index)
    for later in range(index + 1, len(recording)):
        time_s = recording.timestamp_s(later)
        if start_s is None or time_s is None or time_s - start_s >= motion_s:
            return later
    return None


def _count_seconds(frame: Frame, following: Frame) -> float | None:
    return None if frame.time_s is None or following.time_s is None else following.time_s - frame.time_s


def _predict(predictor: Predictor, shown: PreparedFrame) -> FrameArrays:
    image = shown.image[None]
    camera = Camera(shown.K[None], predictor.height, predictor.width)
    return FrameArrays(image, camera, predict_maps(predictor, image, camera).inverse_depth)
