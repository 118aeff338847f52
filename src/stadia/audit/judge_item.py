"""Judge an item of a dataset from a sample of its images: error, causes and purposes as `stadia check` gives them."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtr

from stadia.audit.image_sample import ImageSample, select_images
from stadia.audit.item_images import ItemImages, open_item
from stadia.audit.items import AuditItem
from stadia.core.config import StrictModel
from stadia.core.errors import StadiaError, mask_secrets, summarize_exception
from stadia.core.verdict import Verdict, find_worst
from stadia.data.recordings import FrameRange
from stadia.geometry.poses import find_centers
from stadia.io.atomic_files import open_atomic
from stadia.io.records.reconstruction import Reconstruction
from stadia.judge.error import QUANTITIES, Measured
from stadia.judge.finding import Severity
from stadia.judge.purposes import PURPOSES, Purpose, PurposeVerdict, find_measured
from stadia.judge.reconstructions.check_reconstruction import (
    COARSEST,
    ReconstructionVerdict,
    describe_cause,
    judge_reconstruction,
    replace_camera,
)
from stadia.judge.reconstructions.convention_search import search_conventions
from stadia.judge.reconstructions.result_convention import GIVEN
from stadia.judge.reconstructions.worst_pairs import show_worst_pairs
from stadia.judge.recordings.frame_checks import check_frames
from stadia.judge.recordings.recording_survey import RecordingSurvey
from stadia.report.reconstruction_page import PairPicture, draw_pair
from stadia.sfm.image_matches import MIN_IMAGES, ImageMatches
from stadia.sfm.match_triangulation import PosedImages, pose_images, triangulate_features, view_matches

FRAME_FINDINGS = ("D02", "D20")
"""Codes of the findings of frames that judge an item: repeated frames; black ones, a frozen feed and cuts."""

WATCHED = 16
"""Frames of each of the two stretches that are checked for repeated, black and frozen frames, and for cuts."""

MIN_OTHER_SHAPE = 0.02
"""Least difference of the ratio of width to height, as a share, with which an image has another shape."""

DIGITS = 4
"""Significant digits of measured errors, sizes of causes and certainties. Sums in another order change later ones."""

PROOF = "proof"
PROOF_WIDTH = 720
"""Width of the picture of a pair of images, pixels."""

HASH_SIDE = 8
"""Rows and columns of the differences of gray levels that identify an image."""


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """How items are judged.

    purposes: what they are to be good for; empty for all of PURPOSES.
    certainty: wanted probability, .5 to 1, that the purposes which decide the grade are judged rightly.
    images: number of images of the first sample.
    max_images: most images of an item.
    calibration: camera of all items without their own, a file or numbers; None for the ones of the results.
    proof: folder of the audit, for the pictures of the worst pair of images of items with a cause; None for none.
    """

    purposes: tuple[Purpose, ...] = ()
    certainty: float = 0.9
    images: int = 16
    max_images: int = 64
    calibration: str | None = None
    proof: Path | None = None


class ItemCause(StrictModel):
    """A cause of the error of an item; `size` and `deviation` are None without a size, and `images` is a number."""

    name: str
    what: str
    fix: str
    size: float | None = None
    deviation: float | None = None
    unit: str = ""
    images: int = 0


class ItemVerdict(StrictModel):
    """The verdict on an item: a line of the ledger.

    item: name of the item.
    state: "done", or "failed" if it could not be read.
    grade: usable, not judged, doubtful or unusable.
    is_bad: whether it is unusable, or a purpose that was asked for does not hold.
    reason: why it failed, or is not judged; "" otherwise.
    certainty: probability that the purposes which decide are judged rightly, .5 to 1; None if it is not judged.
    images, of: number of images in the sample, and of all images.
    causes: causes of its error.
    holds: whether each purpose holds by its name; None if that is open.
    frames: findings of its frames.
    error: measured errors by their name, with value and deviation.
    camera: fx, fy, cx, cy, width and height of the camera of most images, pixels.
    depth: median distance of the points of the matches, in the unit of the poses; None without poses.
    step: median distance of the positions of neighboring images, in the same unit.
    hashes: the images of the sample, which equal ones of other items have too.
    groups: its groups by their kind.
    result, source: its result and its images.
    seconds: processor time.
    """

    item: str
    state: str = "done"
    grade: str = str(Verdict.NOT_JUDGED)
    is_bad: bool = False
    reason: str = ""
    certainty: float | None = None
    images: int = 0
    of: int = 0
    causes: tuple[ItemCause, ...] = ()
    holds: dict[str, bool | None] = Field(default_factory=dict)
    frames: tuple[str, ...] = ()
    error: dict[str, tuple[float, float]] = Field(default_factory=dict)
    camera: dict[str, float] = Field(default_factory=dict)
    depth: float | None = None
    step: float | None = None
    hashes: tuple[str, ...] = ()
    groups: dict[str, str] = Field(default_factory=dict)
    result: str = ""
    source: str = ""
    seconds: float = 0.0


def make_judge(options: JudgeOptions) -> Callable[[AuditItem], ItemVerdict]:
    """Return the function that judges an item in a process."""
    cv2.setNumThreads(1)  # there is a process for each processor
    return lambda item: judge_item(item, options)


def judge_item(item: AuditItem, options: JudgeOptions) -> ItemVerdict:
    """Judge an item. Any error becomes a part of its verdict.

    item: the item.
    options: how to judge.
    """
    started_s = time.process_time()
    about = {
        "item": item.name,
        "groups": dict(item.groups),
        "result": str(item.result or ""),
        "source": str(item.images),
    }
    try:
        verdict = _judge(item, options)
    except (StadiaError, OSError, MemoryError) as error:
        reason = mask_secrets(str(error)) or type(error).__name__
        verdict = ItemVerdict(item=item.name, state="failed", grade=str(Verdict.UNUSABLE), is_bad=True, reason=reason)
    except Exception as error:  # Libraries raise errors of any class; only this item fails.
        verdict = ItemVerdict(item=item.name, state="failed", reason=f"a bug of stadia: {summarize_exception(error)}")
    return verdict.model_copy(update={**about, "seconds": round(time.process_time() - started_s, 2)})


def _judge(item: AuditItem, options: JudgeOptions) -> ItemVerdict:
    if item.problem is not None:
        raise item.problem
    images, result = open_item(item)
    findings = _check_frames(images)
    frames = tuple(dict.fromkeys(measured for _, measured in findings))  # two stretches may share frames
    is_stopped = any(severity is Severity.STOP for severity, _ in findings)
    grade = Verdict.UNUSABLE if is_stopped else Verdict.DOUBTFUL if findings else Verdict.USABLE
    about: dict[str, Any] = {"of": len(images), "frames": frames}
    verdict = ItemVerdict(item=item.name, **about, reason="no poses")
    if result is not None:
        try:
            verdict = _judge_result(item, images, result, options).model_copy(update=about)
        except StadiaError as error:  # images that do not match, or a result without a camera
            verdict = ItemVerdict(item=item.name, **about, reason=mask_secrets(str(error)))
    if not verdict.hashes:
        verdict = verdict.model_copy(update={"hashes": _hash_some(images)})
    worst = str(find_worst([Verdict(verdict.grade), grade]))
    return verdict.model_copy(update={"grade": worst, "is_bad": verdict.is_bad or is_stopped})


def _check_frames(images: ItemImages) -> list[tuple[Severity, str]]:
    """Return the findings of two stretches of frames, and of the sizes of all."""
    found = list[tuple[Severity, str]]()
    first, last = images.readable.start, images.readable.stop
    starts = {first + (last - first) // 3, max(last - (last - first) // 3 - WATCHED, first)}
    starts = starts if last - first > 2 * WATCHED else {first}
    for start in sorted(starts):
        stop = min(start + (WATCHED if len(starts) > 1 else 2 * WATCHED), last)
        survey = RecordingSurvey(FrameRange(images, start, stop))
        found += [
            (finding.severity, f"{finding.code}: {finding.measured}")
            for finding in check_frames(survey)
            if finding.code in FRAME_FINDINGS
        ]
    ratios = images.sizes[:, 0] / images.sizes[:, 1]
    other = int((np.abs(ratios / np.median(ratios) - 1) > MIN_OTHER_SHAPE).sum())
    if other:
        found.append((Severity.WARN, f"sizes: {other} of {len(images)} images have another shape than most"))
    return found


def _judge_result(item: AuditItem, images: ItemImages, result: Reconstruction, options: JudgeOptions) -> ItemVerdict:
    every = ImageMatches(images.names, images.sizes, [], images.times_s)
    camera = item.calibration or (None if result.has_camera else options.calibration)
    result = replace_camera(result, every, camera)
    posed = pose_images(result, every)
    allowed = [index for index in posed.images.tolist() if index in images.readable]
    with tempfile.TemporaryDirectory(prefix="stadia-") as folder:
        sample = ImageSample(images, Path(folder))
        count = max(options.images, MIN_IMAGES)
        while True:
            chosen = sample.choose(allowed, count)
            matches = sample.match(chosen)
            verdict, given, own = _judge_sample(result, posed, matches, chosen, options.purposes)
            certainty = find_certainty(verdict)
            if certainty >= options.certainty or len(chosen) < count or count >= options.max_images:
                break
            count = min(2 * count, options.max_images)
        if verdict.grade is not Verdict.USABLE and verdict.search.found is None:
            verdict = _search_order(result, matches, verdict)
        hashes = tuple(hash_image(images.image(index)) for index in chosen)
        if options.proof is not None and verdict.causes:
            _draw_proof(find_proof(options.proof, item.name), images, chosen, given, own)
    return _describe(item, verdict, certainty, posed, chosen, given, own, hashes)


def _judge_sample(
    result: Reconstruction,
    posed: PosedImages,
    matches: ImageMatches,
    chosen: Sequence[int],
    purposes: Sequence[Purpose],
) -> tuple[ReconstructionVerdict, Reconstruction, ImageMatches]:
    """Judge the chosen images as if they were all; return the verdict, their cameras and poses, and their matches."""
    places = np.searchsorted(posed.images, chosen)
    if posed.how == "time":
        assert posed.times_s is not None
        own, given = select_images(matches, chosen, posed.times_s[places]), result
    else:
        own = select_images(matches, chosen, None)
        given = replace(result.rows(posed.rows[places]), names=own.names, times_s=None, times_ns=None, frames=None)
    # one thread: there is a process for each processor, and sums of several threads differ in their last digits
    return judge_reconstruction(given, own, purposes, threads=1), given, own


def _search_order(
    result: Reconstruction, matches: ImageMatches, verdict: ReconstructionVerdict
) -> ReconstructionVerdict:
    """Return the verdict with the order of all poses that the matches of the sample show, if they show one.

    A list that is shifted by an image looks like scattered poses in a sample of every tenth image.
    """
    search = search_conventions(result, matches)
    if search.found is None or search.found.convention.order == GIVEN.order:
        return verdict
    cause = describe_cause(search, pose_images(result, matches))
    purposes = tuple(PurposeVerdict(one.purpose, False, "a convention is wrong") for one in verdict.purposes)
    return replace(verdict, search=search, causes=(cause,), purposes=purposes)


def find_certainty(verdict: ReconstructionVerdict) -> float:
    """Return the probability, .5 to 1, that the purposes which decide the grade are judged rightly.

    These are the purposes that were asked for, else COARSEST. A measured error counts as normally distributed.
    """
    if verdict.search.found is not None:
        return 1.0
    if not verdict.error.is_measured:
        return 0.5
    deciding = [one.purpose for one in verdict.purposes] if verdict.are_asked else [PURPOSES[COARSEST]]
    found = list[float]()
    for purpose in deciding:
        holds = 1.0
        for limit in purpose.limits:
            measured = find_measured(limit.field, verdict.error)
            if measured is not None:
                holds = min(holds, _find_probability(measured, limit.most))
            elif not limit.is_optional:
                holds = 0.5
        found.append(max(holds, 1 - holds))
    return min(found)


def _find_probability(measured: Measured, most: float) -> float:
    """Return the probability that the true error is at most a limit."""
    return float(ndtr((most - measured.value) / max(measured.deviation, 1e-12)))


def _describe(
    item: AuditItem,
    verdict: ReconstructionVerdict,
    certainty: float,
    posed: PosedImages,
    chosen: Sequence[int],
    given: Reconstruction,
    own: ImageMatches,
    hashes: tuple[str, ...],
) -> ItemVerdict:
    error = verdict.error if verdict.search.found is None else verdict.error_after_fix
    measured = {name: getattr(error, name) for name in QUANTITIES}
    if error.principal_point_px is not None:
        measured |= {
            f"principal_point_{axis}_px": one for axis, one in zip("xy", error.principal_point_px, strict=True)
        }
    depth, step = _measure_scene(given, own)
    causes = tuple(
        ItemCause(
            name=cause.name,
            what=cause.what,
            fix=cause.fix,
            size=None if cause.size is None else _round_known(cause.size.value, DIGITS),
            deviation=None if cause.size is None else _round_known(cause.size.deviation, DIGITS),
            unit=cause.unit,
            images=len(cause.images),
        )
        for cause in verdict.causes
    )
    failing = (f"not good for {one.purpose.key}: {one.reason}" for one in verdict.purposes if one.holds is False)
    reason = error.reason or (next(failing, "") if verdict.grade is not Verdict.USABLE and not causes else "")
    return ItemVerdict(
        item=item.name,
        grade=str(verdict.grade),
        is_bad=verdict.grade is Verdict.UNUSABLE
        or (verdict.are_asked and any(purpose.holds is False for purpose in verdict.purposes)),
        reason=reason,
        certainty=None if verdict.grade is Verdict.NOT_JUDGED else _round_known(certainty, DIGITS),
        images=len(chosen),
        causes=causes,
        holds={purpose.purpose.key: purpose.holds for purpose in verdict.purposes},
        error={
            name: (value, deviation)
            for name, one in measured.items()
            if one is not None
            and (value := _round_known(one.value, DIGITS)) is not None
            and (deviation := _round_known(one.deviation, DIGITS)) is not None
        },
        camera=_describe_camera(given, posed, chosen),
        depth=_round_known(depth),
        step=_round_known(step),
        hashes=hashes,
    )


def _describe_camera(given: Reconstruction, posed: PosedImages, chosen: Sequence[int]) -> dict[str, float]:
    """Return the camera of most of the chosen images, in pixels of the images as they are."""
    places = np.searchsorted(posed.images, chosen)
    K, sizes = posed.K[places], posed.sizes[places]
    cameras, counts = np.unique(np.column_stack((K.reshape(-1, 9), sizes)), axis=0, return_counts=True)
    fx, _, cx, _, fy, cy, *_, width, height = cameras[counts.argmax()].tolist()
    values = {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": width, "height": height}
    return {name: float(f"{value:.6g}") for name, value in values.items()}


def _measure_scene(given: Reconstruction, own: ImageMatches) -> tuple[float, float]:
    """Return the median distance of points, and of neighboring positions, in the unit of the poses; NaN if unknown."""
    posed = pose_images(given, own)
    sparse, _ = triangulate_features(view_matches(posed, own))
    centers = find_centers(posed.T_camera_world)
    frame, track = sparse.observed.T
    distances = np.linalg.norm(sparse.points[track] - centers[frame], axis=1)
    steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
    return float(np.median(distances)) if len(distances) else float("nan"), float(np.median(steps))


def _round_known(value: float, digits: int = 6) -> float | None:
    """Return a value with so many significant digits; None if it is not finite."""
    return float(f"{value:.{digits}g}") if np.isfinite(value) else None


def hash_image(image: NDArray[np.uint8]) -> str:
    """Return the signs of differences of gray levels of an image (H, W, 3), as text; equal for a compressed copy."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA).astype(int)
    return np.packbits(np.diff(small, axis=1) > 0).tobytes().hex()


def _hash_some(images: ItemImages) -> tuple[str, ...]:
    readable = images.readable
    spread = np.unique(np.linspace(readable.start, readable.stop - 1, 8).astype(int)).tolist()
    return tuple(hash_image(images.image(index)) for index in spread)


def find_proof(folder: Path, name: str) -> Path:
    """Return the file of the picture of an item in the folder of an audit.

    folder: folder of the audit.
    name: name of the item.
    """
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)[-120:]
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    return folder / PROOF / f"{plain}-{digest}.jpg"


def _draw_proof(
    path: Path, images: ItemImages, chosen: Sequence[int], given: Reconstruction, own: ImageMatches
) -> None:
    """Write the picture of the pair of images whose matches contradict the result most."""
    shown = show_worst_pairs(given, own, 1)
    if not shown:
        return
    pair = shown[0]
    read = [images.reader(chosen[end]) for end in (pair.first, pair.second)]

    def shrink(xy: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
        return np.asarray((xy + 0.5) / factor - 0.5)

    picture = PairPicture(
        "",
        read[0][0],
        read[1][0],
        shrink(pair.xy_first, read[0][1]),
        shrink(pair.xy_second, read[1][1]),
        pair.agrees,
        [(row, shrink(line, read[1][1])) for row, line in zip(pair.shown, pair.lines, strict=True)],
    )
    drawn = draw_pair(picture)
    height = round(drawn.shape[0] * PROOF_WIDTH / drawn.shape[1])
    encoded = cv2.imencode(".jpg", cv2.resize(drawn, (PROOF_WIDTH, height), interpolation=cv2.INTER_AREA))[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_atomic(path) as stream:
        stream.write(encoded.tobytes())
