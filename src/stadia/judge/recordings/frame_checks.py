"""Check the frames of a recording: types, sizes, duplicates, a static camera, timestamps, black bars, exposure."""

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real

import cv2
import numpy as np
from numpy.typing import NDArray

from stadia.core.errors import StadiaError, summarize_exception
from stadia.core.types import LEFT, RIGHT, Camera, Recording
from stadia.data.frame_selection import FLOW_WIDTH, FrameSelection, shrink_to_gray
from stadia.geometry.image_features import gray, median_flow_px
from stadia.geometry.two_views import pixel_rays
from stadia.io.image_files import read_image_header
from stadia.io.image_io import compose_image_sheet, read_image
from stadia.judge.catalog import NotChecked, make_finding
from stadia.judge.finding import Finding, Severity
from stadia.judge.limits import RECORDING_LIMITS
from stadia.judge.recordings.image_residuals import plane_sweep
from stadia.judge.recordings.recording_survey import Array, RecordingSurvey
from stadia.judge.recordings.sequence_checks import WatchedFrame, check_sequence

SAME_SHAPE = 0.02  # relative difference of the aspect ratios of one image at two sizes
MAX_FRAMES = 120  # frames of a recording that are read
WINDOWS = 4  # stretches of consecutive frames in a long recording
MAX_FRAME_SECONDS = 12.0  # time limit for all these frames
STATIC_FLOW_PX = 0.1  # median flow of corners at FLOW_WIDTH of a static pair
MAX_SHOWN_FRAMES = 8  # frames in the evidence
MIN_INTERVAL_S = 0.0005  # interval between frames of a video: shorter ones are in another unit
MAX_INTERVAL_S = 5.0  # interval between frames of a video: longer ones are in another unit, or not a video

UNITS_PER_SECOND = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
MAX_OF_FEW_BITS = 4096  # greatest 12-bit value: in 16 bits it is sixteen times too dark
MAX_BLACK = 20  # gray levels of a black bar
MAX_BAR_RANGE = 4  # range of the gray levels of a bar over all images
MIN_BAR_SHARE = 0.02  # share of the image side for one bar
BLUR_PX = 2  # rows by which a codec blurs the edge of a bar

QUANTILES = (0.25, 0.5, 0.75, 0.9)  # of gray values, whose ratio between two images is their change of brightness

NOTE_BRIGHTNESS_CHANGE = 0.105  # median factor less 1; clean recordings have .02


@dataclass(frozen=True, slots=True)
class InterfaceCheck:
    """A value that a Recording must return: how to read it for a frame and side, and whether it is valid."""

    name: str
    read: Callable[[RecordingSurvey, int, str], object]
    is_valid: Callable[[object], bool]
    expected: str
    fix: str


def _is_array(value: object, shape: tuple[int | None, ...], dtype: type = np.floating) -> bool:
    """Return whether the value is an array of this type and shape; None is any size."""
    if not isinstance(value, np.ndarray) or not np.issubdtype(value.dtype, dtype) or value.ndim != len(shape):
        return False
    return all(wanted in (None, size) for wanted, size in zip(shape, value.shape, strict=True))


INTERFACE = (  # checked for each sampled frame and side
    InterfaceCheck(
        "image",
        lambda s, i, side: s.image(i, side),
        lambda value: _is_array(value, (None, None, 3), np.uint8),
        "(H, W, 3) uint8, RGB",
        "convert it in Recording.image",
    ),
    InterfaceCheck(
        "camera",
        lambda s, i, side: s.recording.camera(i, side),
        lambda value: not isinstance(value, Camera) or _is_array(value.K, (3, 3)),  # K01 reports another type
        "a Camera with an array K of shape (3, 3)",
        "give K as a NumPy array without further axes in Recording.camera",
    ),
    InterfaceCheck(
        "depth_m",
        lambda s, i, side: s.recording.depth_m(i, side),
        lambda value: value is None or _is_array(value, (None, None)),
        "(H, W) float32 in metres, or None",
        "convert it in Recording.depth_m, without an axis for the channel",
    ),
    InterfaceCheck(
        "T_world_camera",
        lambda s, i, side: s.recording.T_world_camera(i, side),
        lambda value: value is None or _is_array(value, (4, 4)),
        "(4, 4) float64, or None",
        "give all of the matrix in Recording.T_world_camera: of [R | t] add the row (0, 0, 0, 1)",
    ),
    InterfaceCheck(
        "timestamp_s",
        lambda s, i, _: s.recording.timestamp_s(i),
        lambda value: value is None or (isinstance(value, Real) and math.isfinite(value)),
        "a finite number of seconds, or None",
        "give None in Recording.timestamp_s if you do not know the time",
    ),
)

RIG = InterfaceCheck(  # checked once per recording
    "T_right_left",
    lambda s, *_: s.recording.T_right_left,
    lambda value: value is None or _is_array(value, (4, 4)),
    "(4, 4) float64, or None",
    "set self.T_right_left in the Recording's __init__: not as a method",
)


def check_interface(survey: RecordingSurvey) -> Finding | None:
    """Return the first invalid value at the sampled frames (D01), otherwise the first image of another size (K04)."""
    frames = [(index, side) for index in survey.anchors for side in survey.recording.sides]
    checks = [(RIG, "T_right_left", frames[0])]
    checks += [(check, f"{check.name} of frame {i}, {side}", (i, side)) for check in INTERFACE for i, side in frames]
    for check, what, frame in checks:
        try:
            value = check.read(survey, *frame)
            problem = "" if check.is_valid(value) else _describe(value)
        except (StadiaError, OSError):
            continue
        except Exception as error:
            problem = f"it raised {summarize_exception(error)}"
        if problem:
            measured, values = f"{what}: {problem}", {"method": check.name, "fix": check.fix}
            return make_finding("D01", Severity.STOP, measured, check.expected, case="interface", values=values)
    return next((wrong for frame in frames if (wrong := _check_size(survey, *frame)) is not None), None)


def _describe(value: object) -> str:
    if isinstance(value, Camera):
        return f"K of shape {tuple(value.K.shape)}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return str(value) if isinstance(value, Real) else type(value).__name__


def _check_size(survey: RecordingSurvey, index: int, side: str) -> Finding | None:
    try:
        (height, width), camera = survey.image(index, side).shape[:2], survey.recording.camera(index, side)
    except Exception:
        return None
    if not isinstance(camera, Camera) or (height, width) == (camera.height, camera.width):
        return None
    x, y = width / camera.width, height / camera.height
    measured = f"the image of frame {index}, {side}, is {width}x{height}, "
    measured += f"and its camera is for {camera.width}x{camera.height}"
    expected = "one size: K counts the pixels of its own image"
    case = "resized" if abs(math.log(x / y)) < SAME_SHAPE else "cropped"
    evidence = {"side": side, "frame": index, "image": f"{width}x{height}", "size_of_K": [camera.width, camera.height]}
    values = {"factor": f"{x:.4f}"}
    return make_finding("K04", Severity.STOP, measured, expected, case=case, values=values, evidence=evidence)


def split_into_windows(length: int) -> list[range]:
    """Return all frames of a short recording, otherwise WINDOWS evenly spread stretches of consecutive frames."""
    if length <= MAX_FRAMES:
        return [range(length)]
    size = MAX_FRAMES // WINDOWS
    return [range(int(start), int(start) + size) for start in np.linspace(0, length - size, WINDOWS)]


def image_digest(image: NDArray[np.uint8]) -> bytes:
    """Return a digest of 16 bytes of the pixels of an image (H, W, 3)."""
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()


def check_frames(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report repeated frames (D02), a static camera (D03), identical left and right images (D04), and frames that
    break the sequence (D20).
    """
    yield from _check_same_sides(survey)
    yield from _check_bits(survey)
    if survey.length == 1:
        raise NotChecked("one frame: nothing to compare it with")
    first_index: dict[bytes, int] = {}
    repeated: list[tuple[int, int]] = []
    flows: dict[int, float] = {}
    checked = 0
    stretches = split_into_windows(survey.length)
    watched = list[list[WatchedFrame]]()
    for window in stretches:
        watched.append([])
        before: NDArray[np.uint8] | None = None
        until = time.monotonic() + MAX_FRAME_SECONDS / len(stretches)
        for i in window:
            if before is not None and time.monotonic() > until:
                break
            image = survey.recording.image(i)
            checked += 1
            original, gray_image = first_index.setdefault(image_digest(image), i), shrink_to_gray(image)
            frame = WatchedFrame(i, gray_image)
            watched[-1].append(frame)
            if original != i and not frame.is_black:
                repeated.append((i, original))
            elif before is not None and before.shape == gray_image.shape:  # photos may have several shapes
                flow = median_flow_px(before, gray_image)
                flows.update({} if flow is None else {i: flow})
            before = gray_image
    if (share := len(repeated) / checked) >= RECORDING_LIMITS["repeated"].doubtful:
        measured = f"{len(repeated)} of {checked} {'sampled ' if checked < survey.length else ''}frames "
        measured += "show exactly what an earlier one shows"
        frames, originals = (list(column) for column in zip(*repeated[:MAX_SHOWN_FRAMES], strict=True))
        severity, evidence = (
            Severity.stop_if(share >= RECORDING_LIMITS["repeated"].unusable),
            {"frame": frames, "same as": originals},
        )
        yield make_finding("D02", severity, measured, "distinct frames", evidence=evidence)
    yield from check_sequence(survey.recording, watched)
    yield from _check_static(survey, flows)


def _check_static(survey: RecordingSurvey, flows: dict[int, float]) -> Iterator[Finding]:
    """Report a static camera (D03), from the optical flow by the later frame of each pair."""
    selection = getattr(survey.recording, "selection", None)
    if selection is not None and (every := _find_repeated_step(selection)):
        measured = (
            f"{selection.standing} of {selection.total} frames of the video show what the frame before shows and "
        )
        measured += f"are left out: one of {every} is new"
        yield make_finding("D02", Severity.WARN, measured, "distinct frames")
        return
    if selection is not None and selection.standing >= RECORDING_LIMITS["standing"].doubtful * selection.total:
        measured = f"{selection.standing} of {selection.total} frames of the video show no motion and are left out: "
        measured += "the camera stands, or a car's hood or a time stamp fills most of the image"
        fix = "film with a moving camera; look at the images: a hood that fills most of them hides the motion"
        yield make_finding(
            "D03", Severity.WARN, measured, f"fewer than {RECORDING_LIMITS['standing'].doubtful:.0%}", fix=fix
        )
        return
    still = [i for i, flow in flows.items() if flow < STATIC_FLOW_PX]
    if len(flows) < 3 or len(still) / len(flows) < RECORDING_LIMITS["static"].doubtful:
        return
    severity = Severity.stop_if(len(still) / len(flows) >= RECORDING_LIMITS["static"].unusable and not survey.stereo)
    measured = f"{len(still)} of {len(flows)} neighboring pairs move "
    measured += f"less than {STATIC_FLOW_PX} px at {FLOW_WIDTH} px width"
    shown = still[:MAX_SHOWN_FRAMES]
    pairs = {"first": [i - 1 for i in shown], "second": shown, "flow_px": [flows[i] for i in shown]}
    evidence = {"median_flow_px": float(np.median(list(flows.values()))), "pairs": pairs}
    yield make_finding(
        "D03", severity, measured, f"fewer than {RECORDING_LIMITS['static'].doubtful:.0%}", evidence=evidence
    )


MIN_EVEN_STEPS = 0.9
"""Least share of the steps between kept frames that are equal if a video was stored at a higher frame rate."""


def _find_repeated_step(selection: FrameSelection) -> int:
    """Return how many frames of a video show one image each time; 0 if frames without motion have no such rhythm."""
    steps = np.diff(selection.kept)
    if len(steps) < 5 or selection.standing < RECORDING_LIMITS["repeated"].doubtful * selection.total:
        return 0
    step = int(np.median(steps))
    left_out = (step - 1) * len(selection.kept)
    is_even = step > 1 and np.mean(steps == step) >= MIN_EVEN_STEPS
    if step > 1 and not is_even and selection.copies >= MIN_EVEN_STEPS * selection.standing:
        # A variable frame rate, such as a phone's, was made constant. A camera that stands has longer pauses.
        return step if steps.max() <= 2 * step else 0
    return step if is_even and selection.standing >= MIN_EVEN_STEPS * left_out else 0


def _check_bits(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report 16-bit images that use few of their bits, because they have no contrast (D19)."""
    most, files, ends = 0, list[str](), list[NDArray[np.float64]]()
    for i in survey.anchors:
        file = survey.recording.file(i, LEFT)
        header = None if file is None else read_image_header(file)
        if file is None or header is None or header.bits != 16:
            return
        values = read_image(file, cv2.IMREAD_UNCHANGED)
        most = max(most, int(values.max()))
        ends.append(np.percentile(values, (0.5, 99.5)))
        files.append(file.name)
    if not ends or not most:
        return
    low, high = float(np.min(ends, 0)[0]), float(np.max(ends, 0)[1])
    if most < MAX_OF_FEW_BITS:
        bits = max(most.bit_length(), 8)
        measured = f"the greatest value of {len(files)} 16-bit images is {most}"
        expected = f"above {MAX_OF_FEW_BITS}"
        case, numbers = "known_bits", {"bits": bits, "factor": 1 << (16 - bits)}
    elif high - low < MAX_OF_FEW_BITS:
        measured = f"99 % of the values of {len(files)} 16-bit images are between {low:.0f} and {high:.0f}"
        expected = f"a range above {MAX_OF_FEW_BITS}"
        case, numbers = "narrow", {"levels": int((high - low) / 256) + 1, "low": round(low), "high": round(high)}
    else:
        return
    evidence = {"images": files, "greatest": most, "low": low, "high": high}
    yield make_finding("D19", Severity.WARN, measured, expected, case=case, values=numbers, evidence=evidence)


def _check_same_sides(survey: RecordingSurvey) -> Iterator[Finding]:
    if RIGHT not in survey.recording.sides:
        return
    same = [i for i in survey.anchors if image_digest(survey.image(i, LEFT)) == image_digest(survey.image(i, RIGHT))]
    if same:
        measured = f"left and right images are identical in {len(same)} of {len(survey.anchors)} sampled frames"
        expected = "two images, apart by the baseline"
        yield make_finding("D04", Severity.STOP, measured, expected, evidence={"frame": same})


def check_timestamps(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report timestamps that do not increase (D15), or else timestamps in another unit (D16).

    Frames without timestamps are skipped.
    """
    pairs = [(i, i + 1) for window in split_into_windows(survey.length) for i in window[:-1]]
    known = [(i, j, survey.recording.timestamp_s(i), survey.recording.timestamp_s(j)) for i, j in pairs]
    steps = [(i, j, after - before) for i, j, before, after in known if before is not None and after is not None]
    if not steps:
        return
    step_s = float(np.median([step for *_, step in steps]))
    back = [(i, j, step) for i, j, step in steps if not step > 0]  # The comparison also catches NaN.
    if back:
        severity = Severity.stop_if(len(back) / len(steps) >= RECORDING_LIMITS["backward"].unusable)
        measured = f"{len(back)} of {len(steps)} frames are not later than the frame before, such as "
        measured += f"{back[0][1]}, by {back[0][2]:.3g} s"
        columns = zip(*back[:MAX_SHOWN_FRAMES], strict=True)
        table = {name: list(column) for name, column in zip(("first", "second", "step_s"), columns, strict=True)}
        evidence = {"median_step_s": step_s, "pairs": table}
        yield make_finding("D15", severity, measured, "times that rise from frame to frame", evidence=evidence)
    elif not MIN_INTERVAL_S <= step_s < MAX_INTERVAL_S:
        yield _report_time_unit(step_s, len(steps))


def _report_time_unit(step_s: float, count: int) -> Finding:
    """Create the finding D16 with the units that the median interval could have."""
    units = UNITS_PER_SECOND.items()
    likely = [(name, in_a_second) for name, in_a_second in units if MIN_INTERVAL_S <= step_s / in_a_second <= 1]
    names = " or ".join(f"{name}, {step_s / in_a_second:.3g} s apart then" for name, in_a_second in likely)
    divisors = " or ".join(f"{in_a_second:.0f}" for _, in_a_second in likely)
    measured = f"frames are {step_s:.4g} s apart (the median of {count})"
    expected = f"{MIN_INTERVAL_S:g} to {MAX_INTERVAL_S:g} s"
    case, values = "known_unit" if likely else "", {"units": names, "divisors": divisors}
    evidence = {"median_step_s": step_s}
    return make_finding("D16", Severity.WARN, measured, expected, case=case, values=values, evidence=evidence)


def check_black_bars(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report black bars at the image edges (D14)."""
    height, width = survey.image(survey.anchors[0]).shape[:2]
    ranges = [_measure_ranges(survey.image(i)) for i in survey.anchors]  # one image at a time: eight may fill memory
    rows, columns = zip(*ranges, strict=True)
    px = dict(zip(("top", "bottom"), _measure_bars(rows), strict=True))
    px |= zip(("left", "right"), _measure_bars(columns), strict=True)
    sides = {"top": height, "bottom": height, "left": width, "right": width}
    wide = [f"{count} px {name}" for name, count in px.items() if count >= max(2, MIN_BAR_SHARE * sides[name])]
    if not wide:
        return
    measured = f"black bars in all of {len(ranges)} images: {', '.join(wide)}, of {width}x{height}"
    evidence = {f"{name}_px": count for name, count in px.items()}
    yield make_finding("D14", Severity.WARN, measured, "a scene that fills the image", evidence=evidence)


Range = tuple[NDArray[np.int_], NDArray[np.int_]]


def _measure_ranges(image: NDArray[np.uint8]) -> tuple[Range, Range]:
    """Return the least and the largest value of each row, and of each column, of (H, W, 3)."""
    rows, columns = (
        (image.min(axis=others).astype(int), image.max(axis=others).astype(int)) for others in ((1, 2), (0, 2))
    )
    return rows, columns


def _measure_bars(ranges: Sequence[Range]) -> tuple[int, int]:
    """Count the lines of a bar at either end; 0 for a black image."""
    low = np.min([low for low, _ in ranges], axis=0)
    high = np.max([high for _, high in ranges], axis=0)
    return _count_bar_lines(low, high), _count_bar_lines(low[::-1], high[::-1])


def _count_bar_lines(low: NDArray[np.int_], high: NDArray[np.int_]) -> int:
    flat = (high <= MAX_BLACK) & (high - low <= MAX_BAR_RANGE)
    count = len(flat) if flat.all() else int(np.argmin(flat))
    if count in (0, len(flat)) or np.ptp([low[:count].min(), high[:count].max()]) > MAX_BAR_RANGE:
        return 0
    return count if high[min(count + BLUR_PX, len(high) - 1)] > MAX_BLACK + MAX_BAR_RANGE else 0


def check_exposure(survey: RecordingSurvey) -> Iterator[Finding]:
    """Report brightness that differs between consecutive frames, or between left and right (B03)."""
    last = survey.length - 1
    pairs = {"to the next image": [((i, LEFT), (i + 1, LEFT)) for i in survey.anchors if i < last]}
    if RIGHT in survey.recording.sides:
        pairs["from left to right"] = [((i, LEFT), (i, RIGHT)) for i in survey.anchors]
    gains = {
        name: [brightness_gain(survey.image(*first), survey.image(*second)) for first, second in frames]
        for name, frames in pairs.items()
        if frames
    }
    if not gains:
        raise NotChecked("one image of one camera")
    factors = {name: [max(gain, 1 / gain) for gain in listed] for name, listed in gains.items()}
    change, name = max((float(np.median(listed)) - 1, name) for name, listed in factors.items())
    if change <= NOTE_BRIGHTNESS_CHANGE:
        return
    severity = Severity.WARN if change > RECORDING_LIMITS["brightness_change"].doubtful else Severity.NOTE
    measured = f"{name} brightness changes by {change:.0%} (the median of {len(factors[name])} pairs)"
    evidence = {"gains": {"pair": list(range(len(factors[name]))), "times": factors[name]}}
    yield make_finding("B03", severity, measured, f"at most {NOTE_BRIGHTNESS_CHANGE:.0%}", evidence=evidence)


def brightness_gain(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Return the brightness factor between two (H, W, 3) images of nearly the same view: the median over quantiles."""
    # + 1: black is as bright as black
    quantiles = (np.quantile(gray(image), QUANTILES) + 1 for image in (second, first))
    return float(np.exp(np.median(np.log(np.divide(*quantiles)))))


log = logging.getLogger(__name__)

Image = NDArray[np.uint8]
Tiles = dict[str, Image]  # images by their labels
TILE_WIDTH = 640  # pixels of an image in a drawing
MAX_MARKS = 15  # matches that are drawn in an image
GREEN = (60, 220, 90)  # RGB of matches that agree
RED = (255, 70, 60)  # RGB of matches that contradict
DIFFERENCE_TOP = 64  # difference in gray levels that is drawn brightest


def draw_finding(finding: Finding, survey: RecordingSurvey) -> bytes:
    """Return a PNG for a finding of this recording; empty if numbers suffice."""
    return _encode_png(DRAWN[finding.code](finding, survey)) if finding.code in DRAWN else b""


def draw_frames(frames: Mapping[str, tuple[Recording, int]]) -> bytes:
    """Return a PNG of frames of several splits."""
    return _encode_png(
        {
            f"{split}, frame {index}": _resize_to_tile(recording.image(index))
            for split, (recording, index) in frames.items()
        }
    )


def draw_ignored_regions(recordings: Sequence[Recording]) -> list[tuple[float, bytes]]:
    """Return for each different ignored region its share of the image and a PNG that shows it in red."""
    drawn = dict[bytes, tuple[float, bytes]]()
    for recording in recordings:
        region = recording.ignored() if len(recording) else None
        if region is None or not region.any() or (key := np.packbits(region).tobytes()) in drawn:
            continue
        image = recording.image(len(recording) // 2).copy()
        image[region] = (0.4 * image[region] + 0.6 * np.array(RED)).astype(np.uint8)
        tile = {f"{recording.name}: {region.mean():.1%} ignored": _resize_to_tile(image)}
        drawn[key] = float(region.mean()), _encode_png(tile)
    return list(drawn.values())


def add_image(finding: Finding, draw: Callable[[], bytes]) -> Finding:
    """Add the image to a finding; a drawing that fails must not lose the finding."""
    try:
        return replace(finding, image=draw())
    except Exception as error:
        log.warning("%s has no image (%s: %s)", finding.code, type(error).__name__, error)
        return finding


def _encode_png(tiles: Tiles) -> bytes:
    if not tiles:
        return b""
    sheet = compose_image_sheet({label.encode("ascii", "replace").decode(): tile for label, tile in tiles.items()})
    return cv2.imencode(".png", sheet[..., ::-1])[1].tobytes()


def _resize_to_tile(image: NDArray[np.uint8], width: int = TILE_WIDTH) -> Image:
    image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image
    size = (width, max(1, round(image.shape[0] * width / image.shape[1])))
    method = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def _place_side_by_side(*images: NDArray[np.uint8]) -> Image:
    return np.hstack([_resize_to_tile(image, TILE_WIDTH * 3 // 4) for image in images])


def _heat_map(share: NDArray[np.floating]) -> Image:
    levels = (np.clip(share, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1], np.uint8)


def _draw_difference(first: Image, second: Image) -> Image:
    first, second = (gray(image) if image.ndim == 3 else image for image in (first, second))
    return _heat_map(cv2.absdiff(first, second).astype(np.float32) / DIFFERENCE_TOP)


def _draw_two_images(finding: Finding, survey: RecordingSurvey) -> Tiles:
    evidence = finding.evidence
    if finding.code in ("D02", "D03") and not evidence:  # frames that were left out have no images
        return {}
    if finding.code in ("D04", "E12"):
        index = evidence["frame"][0] if finding.code == "D04" else survey.anchors[len(survey.anchors) // 2]
        images = {side: survey.image(index, side) for side in (LEFT, RIGHT)}
    else:
        pairs = evidence.get("pairs", {"first": evidence.get("same as"), "second": evidence.get("frame")})
        images = {f"frame {column[0]}": survey.image(column[0]) for column in (pairs["first"], pairs["second"])}
    first, second = images.values()
    if first.shape == second.shape:
        images["difference"] = _draw_difference(first, second)
    return {name: _resize_to_tile(image) for name, image in images.items()}


def _draw_ground_truth(finding: Finding, survey: RecordingSurvey) -> Tiles:
    named = finding.evidence.get("frame")
    if isinstance(named, list | tuple):
        shares = finding.evidence.get("share_of_pixels_with_depth")
        named = named[int(np.argmin(shares))] if shares else named[len(named) // 2]
    index = survey.anchors[len(survey.anchors) // 2] if named is None else int(named)
    depth = survey.recording.depth_m(index, LEFT)
    if depth is None:
        return {}
    known = np.isfinite(depth) & (depth > 0)
    inverse = np.divide(1, depth, out=np.zeros(depth.shape, np.float32), where=known)
    if 0 < known.mean() < 0.3:
        inverse = cv2.dilate(inverse, np.ones((3, 3)))  # single LiDAR returns would vanish
    extent = f"{depth[known].min():.3g} to {depth[known].max():.3g} m (bright: small)" if known.any() else "empty"
    top = float(np.percentile(inverse[inverse > 0], 95)) if known.any() else 1.0
    return {
        f"frame {index}": _resize_to_tile(survey.image(index)),
        f"its ground truth: {extent}": _resize_to_tile(_heat_map(inverse / top)),
    }


def _draw_sides(finding: Finding, survey: RecordingSurvey) -> Tiles:
    index = survey.anchors[len(survey.anchors) // 2]
    left, right = survey.image(index), survey.image(index, RIGHT)
    if left.shape != right.shape:
        return {}
    sign = -1 if finding.evidence["t_x"] > 0 else 1
    given, inverse = (plane_sweep(gray(left), gray(right), s) for s in (sign, -sign))
    tiles = {"left, right": _place_side_by_side(given.left, given.right)}
    for name, sweep in (("as given", given), ("the other way round", inverse)):
        label = f"{name}: right warped to left, difference (residual {sweep.residual:.3f})"
        tiles[label] = _place_side_by_side(sweep.warped, _draw_difference(sweep.left, sweep.warped))
    return tiles


def _draw_epipolar_lines(finding: Finding, survey: RecordingSurvey) -> Tiles:
    pair = max(survey.pairs, key=lambda p: len(p.matches))
    image = survey.image(pair.index, RIGHT).copy()
    T, K, K_right = survey.T_right_left, survey.K(pair.index), survey.K(pair.index, RIGHT)
    for row in np.linspace(0, len(pair.matches) - 1, MAX_MARKS).astype(int) if len(pair.matches) else ():
        direction = pixel_rays(pair.matches.first_px[row : row + 1], K)[0]
        ends = [K_right @ (T[:3, :3] @ direction * z + T[:3, 3]) for z in (1e-3, 1e6)]
        if all(abs(end[2]) > 1e-9 for end in ends):
            _draw_line(image, ends[0][:2] / ends[0][2], ends[1][:2] / ends[1][2], RED)
        _draw_dot(image, pair.matches.second_px[row], GREEN)
    return {"right image; green: matches of the left one, red: epipolar lines of the rig": _resize_to_tile(image)}


def _draw_line(image: Image, first: Array, second: Array, color: tuple[int, int, int]) -> None:
    """Draw a line that may end far outside the image."""
    start, end = (np.clip(point, -30_000, 30_000).astype(int).tolist() for point in (first, second))
    cv2.line(image, start, end, color, max(1, image.shape[1] // 500), cv2.LINE_AA)


def _draw_dot(image: Image, at: Array, color: tuple[int, int, int]) -> None:
    cv2.circle(image, (round(at[0]), round(at[1])), max(2, image.shape[1] // 250), color, -1, cv2.LINE_AA)


DRAWN: dict[str, Callable[[Finding, RecordingSurvey], Tiles]] = {
    "D02": _draw_two_images,
    "D03": _draw_two_images,
    "D04": _draw_two_images,
    "D05": _draw_ground_truth,
    "D06": _draw_ground_truth,
    "D07": _draw_ground_truth,
    "D08": _draw_ground_truth,
    "D18": _draw_two_images,
    "E01": _draw_sides,
    "E02": _draw_sides,
    "E04": _draw_epipolar_lines,
    "E10": _draw_epipolar_lines,
    "E12": _draw_two_images,
}
