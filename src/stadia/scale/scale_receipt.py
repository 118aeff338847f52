"""Measure the scale of depth by sources of metres on frames, and record it in a "receipt"."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from stadia.core.errors import GeometryError, StadiaError
from stadia.core.verdict import Verdict, find_worst
from stadia.data.video.map_geometry import MapGeometry
from stadia.data.video.video_camera import KeptScale
from stadia.geometry.cameras import FocalEstimate
from stadia.geometry.scale_fit import FusedScale, Lengths, ScaleFit, fit_scale, fit_scale_with_shift, fuse_scales
from stadia.judge.finding import Finding
from stadia.judge.scale_verdict import check_scale_verdict, judge_scale
from stadia.scale.sources import UNKNOWN_LEAN_DEVIATION, MeasuredFrame, RoadLean, ScaleSource

MAX_FRAMES = 40
"""Number of frames of an input, evenly spread, that measure the scale."""

MAX_FUSED_DEVIATION = 0.15
"""Largest deviation of a source that is joined with surer ones: larger errors are rarely normally distributed."""

MIN_COMMON = 3
"""Fewest images that two sources must both have measured to be compared image by image."""


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
        best = min((self._judge_source(name) for name in self.fits), key=lambda verdict: verdict.rank)
        return find_worst([best, Verdict.DOUBTFUL]) if self.is_contradicted else best

    def _judge_source(self, name: str) -> Verdict:
        """Return the verdict on a source, "doubtful" at best if its road leans, or may lean on a photo."""
        found = judge_scale(self.fits[name])
        lean = self.leans.get(name)
        is_unknown = name in self.leans and lean is None and self.is_photo
        is_leaning = lean is not None and not 1 / MAX_LEAN <= lean.ratio <= MAX_LEAN
        return find_worst([found, Verdict.DOUBTFUL]) if is_unknown or is_leaning else found

    @property
    def best_fit(self) -> ScaleFit:
        """Return the first of the fits with the best verdict."""
        return self.fits[min(self.fits, key=lambda name: self._judge_source(name).rank)]

    @property
    def is_contradicted(self) -> bool:
        """Return whether two sources contradict each other."""
        return self.fused is not None and bool(self.fused.contradictions)

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
        return check_scale_verdict(
            self.verdict,
            " and ".join(self.fits),
            self.deviation,
            inliers=self.best_fit.inliers,
            is_contradicted=self.is_contradicted,
            has_map=self.has_map,
            is_photo=self.is_photo,
        )


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
    used = {name: fit for name, fit in fits.items() if fit.deviation <= MAX_FUSED_DEVIATION} or dict(fits)
    return fuse_scales(used, of_height=[name for name in used if name.partition("=")[0] in ("height", "map")])


def _find_middle(leans: Sequence[RoadLean]) -> RoadLean | None:
    if not leans:
        return None
    ratio, near_m, far_m = np.median([(lean.ratio, lean.near_m, lean.far_m) for lean in leans], axis=0).tolist()
    return RoadLean(ratio, near_m, far_m)


# -- the receipt in words

MAX_LEAN = 1.2
"""Ratio of the camera heights over the far and the near road (or its inverse) above which a warning is printed."""


def describe_receipt(receipt: ScaleReceipt) -> Iterator[str]:
    """Yield a line for each source of metres with its scale, and for each pair of sources that contradict each
    other.
    """
    for name, fit in receipt.fits.items():
        shift = "" if fit.shift is None else f", shift {fit.shift:.4g} 1/m"
        unit = "inverse depth is" if fit.shift is not None else "one unit is"
        size = f"{fit.factor:.4g} times the output" if fit.shift is not None else f"{fit.factor:.4g} m"
        yield (
            f"scale from {name}: {unit} {size}{shift}, +- {fit.deviation:.1%};"
            f" {fit.inliers:.0%} of {fit.count} measurements in {fit.images} images within 25 %,"
            f" residual {fit.residual:.1%}: {judge_scale(fit)}"
        )
        if name in receipt.notes:
            yield f"note: {name}: {receipt.notes[name]}"
        if name.startswith("point=") and len(receipt.fits) == 1:
            yield f"note: depth at one pixel is off by about {fit.deviation:.0%}. Add a source, such as another point"
        if name.startswith("distance=") and len(receipt.fits) == 1:
            yield "note: nothing checks a single length. Add a second --scale-from"
        if name in receipt.leans:
            yield from _describe_lean(name, receipt.leans[name], is_photo=receipt.is_photo)
    for name, why in receipt.missing.items():
        yield f"scale from {name}: not measured: {why}"
    if receipt.fused is not None and len(receipt.fits) > 1:
        left_out = [name for name, fit in receipt.fits.items() if fit.deviation > MAX_FUSED_DEVIATION]
        used = f"without {', '.join(left_out)}" if 0 < len(left_out) < len(receipt.fits) else "of all sources"
        yield f"scale: one unit is {receipt.factor:.4g} m, +- {receipt.fused.deviation:.1%}, {used}"
        for one, two in receipt.fused.contradictions:
            first, second = receipt.fits[one].factor, receipt.fits[two].factor
            yield (
                f"warn: {one} ({first:.4g} m) and {two} ({second:.4g} m) differ by"
                f" {abs(math.log(first / second)):.0%}. One of them or the focal length is wrong"
            )


def _describe_lean(name: str, lean: RoadLean | None, *, is_photo: bool) -> Iterator[str]:
    if lean is None:
        fix = "" if is_photo else ". A map that finds the road measures it (`stadia map VIDEO`)"
        yield (
            f"note: {name}: the horizon is unknown, so metres far ahead can be wrong by more than the deviation{fix}"
        )
    elif not 1 / MAX_LEAN <= lean.ratio <= MAX_LEAN:
        yield (
            f"warn: {name}: the predicted road leans. Its height at {lean.far_m:.0f} m is {lean.ratio:.2f} times the"
            f" height at {lean.near_m:.0f} m, so one factor cannot correct its depth"
        )
